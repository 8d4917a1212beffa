"""Where jobs run: processes of joblib's loky, a Ray cluster, or a Dask one."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from ppl_vae import checks
from ppl_vae.inference.saving.interruption import raise_if_stopped
from ppl_vae.sweeping.parents import end_with

Row = Mapping[str, Any]
Work = Callable[[Any], Row]
Submit = Callable[[Work, Any], Future[Row]]
Pool = tuple[Submit, float]  # and how many jobs it is given at a time
_LOOK = 0.2  # seconds between looks for a signal


@contextmanager
def _loky(num_workers: int) -> Iterator[Pool]:
    from joblib.externals.loky import ProcessPoolExecutor

    pool = ProcessPoolExecutor(num_workers, initializer=end_with, initargs=(os.getpid(),))
    try:
        # No more than can run, to know which ran when it breaks.
        yield pool.submit, num_workers
    finally:
        pool.shutdown(kill_workers=True)


@contextmanager
def _ray(num_workers: int) -> Iterator[Pool]:
    """Run on the cluster that RAY_ADDRESS names, or on one of this machine."""
    import torch

    ray: Any = import_module("ray")
    local: dict[str, Any] = {"num_cpus": num_workers, "include_dashboard": False}
    given = {} if os.environ.get("RAY_ADDRESS") else local
    ray.init(log_to_driver=False, logging_level=logging.ERROR, **given)
    on_gpu: Any = {"num_gpus": 1} if torch.cuda.is_available() else {}
    call = ray.remote(max_retries=0, **on_gpu)(_call)
    try:
        yield lambda work, job: call.remote(work, job).future(), math.inf
    finally:
        ray.shutdown()


def _call(work: Work, job: Any) -> Row:  # noqa: ANN401
    return work(job)


@contextmanager
def _dask(num_workers: int) -> Iterator[Pool]:
    """Run on the cluster that DASK_SCHEDULER_ADDRESS names, or on one of this machine."""
    dask, distributed = import_module("dask"), import_module("distributed")
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        if dask.config.get("scheduler-address", None):
            cluster = None
        else:
            cluster = distributed.LocalCluster(
                n_workers=num_workers,
                threads_per_worker=1,
                dashboard_address=":0",
                silence_logs=logging.CRITICAL,
            )
        try:
            with distributed.Client(cluster) as client:
                # A job that waits on a worker that dies would count as dead too.
                slots = sum(client.nthreads().values())
                yield client.get_executor(pure=False).submit, max(slots, num_workers)
        finally:
            if cluster is not None:
                cluster.close()


# By name: how it is opened, and the module and the extra that it needs.
ENGINES: dict[str, tuple[Callable[[int], AbstractContextManager[Pool]], str]] = {
    "loky": (_loky, "joblib"),
    "ray": (_ray, "ray"),
    "dask": (_dask, "distributed"),
}


def require_installed(backend: str) -> None:
    """Raise unless a backend is known and its library is there.

    Raises:
        ImportError: the extra of the backend is not installed.
        ValueError: no backend has this name.
    """
    _, module = ENGINES[checks.name("--backend", backend, ENGINES)]
    if find_spec(module) is None:
        raise checks.extra(backend, module)


def outcomes(
    backend: str, num_workers: int, work: Work, jobs: Mapping[str, Any]
) -> Iterator[tuple[str, Row | BaseException]]:
    """Yield what `work` returns for each job, under its key, as they finish.

    A job whose process died has the error instead. One that runs beside others when loky's pool
    breaks is run again by itself, which shows whether it was the reason.

    Args:
        backend: one of `ENGINES`.
        num_workers: jobs at a time, unless the backend's cluster is there already.
        work: a function of a module, of one job.
        jobs: by key.
    """
    left = dict(jobs)
    while left:
        started: list[str] = []
        try:
            for key, outcome in _through_one_pool(backend, num_workers, work, left, started):
                del left[key]
                yield key, outcome
        except BrokenExecutor as death:
            for key in [key for key in started if key in left]:
                job = left.pop(key)
                if num_workers == 1:
                    yield key, death
                else:
                    yield from outcomes(backend, 1, work, {key: job})


def _through_one_pool(
    backend: str, num_workers: int, work: Work, jobs: Mapping[str, Any], started: list[str]
) -> Iterator[tuple[str, Row | BaseException]]:
    """Yield outcomes, and write into `started` which jobs were submitted.

    Raises:
        BrokenExecutor: a process died, and with it the pool.
    """
    waiting = iter(list(jobs.items()))
    running: dict[Future[Row], str] = {}
    with ENGINES[backend][0](num_workers) as (submit, at_once):
        while len(started) < len(jobs) or running:
            while len(running) < at_once and len(started) < len(jobs):
                key, job = next(waiting)
                started.append(key)
                running[submit(work, job)] = key
            done, _ = wait(running, timeout=_LOOK, return_when=FIRST_COMPLETED)
            raise_if_stopped()
            for future in done:
                error = future.exception()
                if isinstance(error, (BrokenExecutor, KeyboardInterrupt, SystemExit)):
                    raise error
                yield running.pop(future), error or future.result()
