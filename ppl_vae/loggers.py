"""Where each epoch's numbers go besides the run folder: TensorBoard, MLflow, Weights & Biases.

A log is any function of the epoch and its numbers. The ones here adapt a library that is an extra
of its own. They open at the first epoch and close when training ends; an epoch after the first
opens what is there, so that a resumed run goes on in the log that it began.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ppl_vae import checks

__all__ = ["MLflowLog", "TensorBoardLog", "WandbLog"]


class _Log:
    """Opens at the first call and closes once; a subclass says how."""

    module = ""  # the library, and the extra that it comes with

    def __init__(self) -> None:
        if find_spec(self.module) is None:
            raise checks.extra(self.module, self.module)
        self._run: Any = None

    def _library(self) -> Any:  # noqa: ANN401
        return import_module(self.module)

    def __call__(self, epoch: int, numbers: Mapping[str, float]) -> None:
        """Write the numbers of an epoch, counted from 1; NaN and infinities are written too."""
        if self._run is None:
            self._run = self._open(epoch)
        self._write(epoch, {name: float(number) for name, number in numbers.items()})

    def close(self) -> None:
        """Write what is left and let go. A later call opens again."""
        if self._run is not None:
            self._end()
            self._run = None

    def _open(self, epoch: int) -> Any:  # noqa: ANN401
        raise NotImplementedError

    def _write(self, epoch: int, numbers: dict[str, float]) -> None:
        raise NotImplementedError

    def _end(self) -> None:
        raise NotImplementedError


class TensorBoardLog(_Log):
    """Writes each epoch's numbers as TensorBoard scalars, the epoch as their step.

    Opened again, it adds a file to the folder and hides what was there of this epoch and later
    ones: a new run in the same folder takes the place of the old. Each epoch is on disk at once.

    Args:
        dir: the folder of this run; ``tensorboard --logdir`` takes it, or one above it.

    Raises:
        ImportError: the extra ``tensorboard`` is not installed.

    Example:
        ``fit(pair, x, log=[TensorBoardLog("runs/first")])``
    """

    module = "tensorboard"

    def __init__(self, dir: str | Path) -> None:
        super().__init__()
        self.dir = Path(dir)

    def _open(self, epoch: int) -> Any:  # noqa: ANN401
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self.dir), purge_step=epoch)

    def _write(self, epoch: int, numbers: dict[str, float]) -> None:
        for name, number in numbers.items():
            self._run.add_scalar(name, number, epoch)
        self._run.flush()

    def _end(self) -> None:
        self._run.close()


class MLflowLog(_Log):
    """Writes each epoch's numbers as the metrics of an MLflow run, the epoch as their step.

    MLflow's own active run, tracking address and experiment stay as they are. In the names of
    metrics what MLflow does not take becomes an underscore. Its databases have no infinity: they
    hold the largest float for it.

    Args:
        experiment: made if it is not there.
        run_name: a run that starts with epoch 1 is a new one; a later epoch goes on with the
            newest run of this name, if there is one.
        tracking_uri: of the store, such as ``sqlite:///mlflow.db`` or a server's address; None is
            MLflow's own.

    Raises:
        ImportError: the extra ``mlflow`` is not installed.

    Example:
        ``fit(pair, x, log=[MLflowLog(experiment="digits", run_name="first")])``
    """

    module = "mlflow"

    def __init__(self, *, experiment: str, run_name: str, tracking_uri: str | None = None) -> None:
        super().__init__()
        self.experiment, self.run_name, self.tracking_uri = experiment, run_name, tracking_uri

    def _open(self, epoch: int) -> Any:  # noqa: ANN401
        self._client = client = self._library().MlflowClient(tracking_uri=self.tracking_uri)
        found = client.get_experiment_by_name(self.experiment)
        experiment = found.experiment_id if found else client.create_experiment(self.experiment)
        if epoch > 1:
            for run in client.search_runs([experiment], order_by=["attributes.start_time DESC"]):
                if run.info.run_name == self.run_name:
                    client.update_run(run.info.run_id, status="RUNNING")
                    return run.info.run_id
        return client.create_run(experiment, run_name=self.run_name).info.run_id

    def _write(self, epoch: int, numbers: dict[str, float]) -> None:
        metric, now = self._library().entities.Metric, int(1000 * time.time())
        metrics = [
            metric(re.sub(r"[^\w\-. :/]", "_", name), number, now, epoch)
            for name, number in numbers.items()
        ]
        self._client.log_batch(self._run, metrics=metrics)

    def _end(self) -> None:
        self._client.set_terminated(self._run)


class WandbLog(_Log):
    """Writes each epoch's numbers to a run of Weights & Biases, the epoch as its step.

    A run that starts with epoch 1 is a new one; a later epoch goes on with the newest run in the
    folder, if there is one. Offline, that is a second part of the same id; ``wandb sync`` puts
    the parts together.

    Args:
        project: its name.
        mode: ``offline`` sends nothing until ``wandb sync``; ``online`` needs an account.
        dir: the folder that gets a folder ``wandb``: of this run alone, where it is to be resumed.

    Raises:
        ImportError: the extra ``wandb`` is not installed.
        ValueError: an unknown mode.

    Example:
        ``fit(pair, x, log=[WandbLog(project="digits", dir="runs/first")])``
    """

    module = "wandb"

    def __init__(self, *, project: str, mode: str = "offline", dir: str | Path = ".") -> None:
        super().__init__()
        self.mode = checks.name("mode", mode, ("offline", "online"))
        self.project, self.dir = project, Path(dir)

    def _open(self, epoch: int) -> Any:  # noqa: ANN401
        wandb = self._library()
        self.dir.mkdir(parents=True, exist_ok=True)
        earlier = (re.search(r"run-(\d+_\d+)-(.+)", p.name) for p in self.dir.glob("wandb/*"))
        runs = sorted(found.groups() for found in earlier if found)
        return wandb.init(
            project=self.project,
            mode=self.mode,
            dir=str(self.dir),
            id=runs[-1][1] if runs and epoch > 1 else None,
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(silent=self.mode == "offline", console="off"),
        )

    def _write(self, epoch: int, numbers: dict[str, float]) -> None:
        self._run.log(numbers, step=epoch)

    def _end(self) -> None:
        self._run.finish()
