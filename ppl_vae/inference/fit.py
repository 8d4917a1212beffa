"""The training loop."""

from __future__ import annotations

import copy
import math
import time
from pathlib import Path

import pyro
import torch
from pyro.infer import ELBO

from ppl_vae import checks, devices, elbos
from ppl_vae.batch import Data
from ppl_vae.elbos.pathwise import Program
from ppl_vae.elbos.serving import choose, require_served
from ppl_vae.inference.batches import (
    DataLike,
    DataSource,
    as_batches,
    describe,
    first_examples,
    shuffled,
)
from ppl_vae.inference.compilation.epoch import CompiledEpochs, check_compile
from ppl_vae.inference.failure import NonFiniteLossError, first_bad_site
from ppl_vae.inference.history import History
from ppl_vae.inference.interruption import raise_if_stopped, run_scope
from ppl_vae.inference.loaders import LoaderBatches
from ppl_vae.inference.optimizers import OptimizerLike, Updater
from ppl_vae.inference.pictures import draw_run
from ppl_vae.inference.progress import reporter
from ppl_vae.inference.run_folder import RunFolder
from ppl_vae.inference.step import Step
from ppl_vae.inference.validation import evaluate_auxiliary, evaluate_elbo
from ppl_vae.pair import Pair, leaving_no_params
from ppl_vae.seeding import derive, seeded, set_streams, streams


@checks.own_words()
@run_scope()
def fit(
    pair: Pair,
    data: DataLike,
    *,
    elbo: str | ELBO | None = None,
    optimizer: OptimizerLike = None,
    num_epochs: int = 10,
    batch_size: int = 128,
    device: str | torch.device = "auto",
    compile: str | bool = "auto",
    seed: int = 0,
    run_dir: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    validation: DataLike | None = None,
    progress: bool = True,
) -> History:
    """Train a pair by stochastic variational inference.

    Loss and gradient are per example, so a learning rate means the same at every batch size. The
    data stay on the device; on a GPU nothing waits for it within an epoch. The same seed gives
    the same run, and a resumed run the same as one that was never stopped.

    Args:
        pair: what is trained, in place; it is moved to `device`.
        data: a tensor of examples; a tuple or mapping of the model's arguments, tensors of as many
            examples; a ``torch.utils.data`` Dataset or DataLoader of such batches, which may be
            larger than memory; an `ImageData`, or what else has a length and ``batch(index)``.
        elbo: an estimator's name (see `ppl_vae.elbos.ESTIMATORS`) or a ``pyro.infer.ELBO``. None
            takes ``trace-mean-field`` where every divergence has a closed form that holds,
            ``analytic-kl`` where not, ``trace`` where a draw is not reparameterised, and
            ``score-function`` where it passes a gradient straight through.
        optimizer: a torch or Pyro optimiser, or a function of the parameters that makes one, such
            as ``functools.partial(torch.optim.SGD, lr=5e-3)``; None is Adam at 1e-3.
        num_epochs: passes over the data, at least 1.
        batch_size: examples a step; the last batch of an epoch may be smaller. A DataLoader has
            its own.
        device: ``auto`` is the GPU where there is one.
        compile: whether steps are traced and compiled (see `CompiledSVI`). The order of the data
            is the same; so is the noise, and the numbers agree to rounding, except for pairs whose
            steps are tiny: of these some are taken at once, and each site draws for all of them.
            ``auto`` compiles where a compiler is at hand, from the first epoch on at whose end
            this takes at most 0.3 of the time so far (by an estimate from the step's operations:
            on digits or MNIST after some thousand steps), however often the run was stopped;
            True at once; False never.
        seed: of the order of the data, of their binarisation and of the draws.
        run_dir: folder for config.json, metrics.csv, the pair (see `load_pair`), a checkpoint
            after every epoch, the last two of which are kept, and pictures. With it a first
            SIGINT or SIGTERM lets the step end.
        resume: go on with the run in `run_dir`, up to `num_epochs` in all.
        overwrite: replace the run in `run_dir`.
        validation: data on which the ELBO is estimated after every epoch.
        progress: show a bar on a terminal, a line an epoch elsewhere.

    Returns:
        The ELBO per example, one number an epoch.

    Raises:
        TypeError: data, estimator or optimiser of a wrong kind.
        ValueError: data that the pair cannot score, an unknown name, a count below 1.
        FileExistsError: `run_dir` holds a run already.
        BlockingIOError: another run goes on in `run_dir`.
        KeyboardInterrupt: SIGINT came. After SIGTERM it is SystemExit with code 143.
        PermissionError: `run_dir` cannot be written.
        NotImplementedError: the estimator cannot be right for the pair, or `compile` is True and
            the steps cannot be compiled.
        NonFiniteLossError: the loss became NaN or infinite; it names the step and the site, and
            what was saved stays.

    Example:
        >>> from ppl_vae import ExponentialNormal
        >>> pair = ExponentialNormal()
        >>> x = torch.tensor([1.2, 0.7, 1.1])
        >>> history = fit(pair, x, elbo="exact", num_epochs=2, progress=False, device="cpu")
        >>> history.train_elbo[1] > history.train_elbo[0]
        True
    """
    checks.count("num_epochs", num_epochs)
    checks.count("batch_size", batch_size)
    check_compile(compile)
    if elbo is not None:
        elbos.make(elbo)
    if not isinstance(pair, Pair):
        raise TypeError(
            checks.message(
                "a ppl_vae.Pair",
                type(pair).__name__,
                "Train a model and a guide that are functions with CompiledSVI.",
            )
        )
    pair.to(devices.resolve(device))
    with seeded(derive(seed, "look"), pair.device):
        subject, train = as_batches(pair, data, batch_size)
        test = None if validation is None else as_batches(pair, validation, batch_size)[1]
        elbo = _serving(elbo, subject, first_examples(train, batch_size, pair))
    estimator = elbos.make(elbo)
    updater = Updater(optimizer, pair)
    settings = {
        "elbo": elbo if isinstance(elbo, str) else type(elbo).__name__,
        "num_particles": estimator.num_particles,
        "optimizer": updater.describe(),
        "num_epochs": num_epochs,
        "batch_size": batch_size,
        "seed": seed,
        "data": describe(data),
    }
    folder = None
    history = History()
    if run_dir is not None:
        folder = RunFolder(run_dir, settings, pair, resume=resume, overwrite=overwrite)
        if resume:
            history = folder.restore(pair, updater, train)
    step = Step(subject, estimator, updater)
    fast = CompiledEpochs(step, train, batch_size, how=compile)
    with reporter(num_epochs, show=progress) as report:
        for epoch in range(len(history) + 1, num_epochs + 1):
            began = time.perf_counter()
            if isinstance(train, LoaderBatches):
                train.begin_epoch(epoch)
            with seeded(derive(seed, "epoch", epoch), pair.device):
                history.train_elbo.append(_train_epoch(step, train, batch_size, epoch, fast))
            history.seconds.append(time.perf_counter() - began)
            updater.end_epoch()
            if test is not None:
                with seeded(derive(seed, "test", epoch), pair.device):
                    history.test_elbo.append(evaluate_elbo(step.elbo, subject, test))
            with seeded(derive(seed, "auxiliary", epoch), pair.device):
                history.auxiliary += evaluate_auxiliary(subject, train if test is None else test)
            if folder is not None:
                folder.save(pair, updater, history, train)
            report(epoch, history)
    if folder is not None:
        with seeded(derive(seed, "pictures"), pair.device):
            draw_run(folder.path, subject, test if test is not None else train, history)
    return history


def _serving(elbo: str | ELBO | None, pair: Pair, x: Data) -> str | ELBO:
    """Return the estimator, chosen if none is named; raise unless it can be right for the pair."""
    twin = copy.deepcopy(pair)  # a look may move running statistics on
    program = Program(twin.model, twin.guide, (x,), {})
    with leaving_no_params():
        if elbo is None:
            return choose(program)
        require_served(elbos.make(elbo), program)
    return elbo


def _train_epoch(
    step: Step, data: DataSource, batch_size: int, epoch: int, fast: CompiledEpochs
) -> float:
    """Return the mean ELBO per example of one epoch.

    Compiled, or on a GPU, the losses are read once, at the end. If one of them is not finite the
    epoch is run again from where it began, with a look at every loss, to find the first one and
    its site. On a CPU a look costs nothing.
    """
    pair = step.pair
    compiled = fast.serves(epoch)
    if pair.device.type == "cpu" and not compiled:
        return _pass(step, data, batch_size, epoch, look=True)
    parameters = copy.deepcopy(pair.state_dict())
    optimizer = copy.deepcopy(step.update.state())
    states = streams(pair.device)
    if compiled:
        with pyro.validation_enabled(False):  # noqa: FBT003
            mean = fast.run()
    else:
        mean = _pass(step, data, batch_size, epoch, look=False)
    if math.isfinite(mean):
        return mean
    pair.load_state_dict(parameters)
    step.update.restore(optimizer)
    set_streams(states, pair.device)
    return _pass(step, data, batch_size, epoch, look=True)


def _pass(step: Step, data: DataSource, batch_size: int, epoch: int, *, look: bool) -> float:
    count = 0
    total = torch.zeros((), dtype=torch.float64, device=step.pair.device)
    with pyro.validation_enabled(False):  # noqa: FBT003
        for number, x in enumerate(shuffled(data, batch_size, step.pair), start=1):
            raise_if_stopped()
            states = streams(step.pair.device) if look else []
            loss = step.gradient(x)
            if look and not bool(loss.isfinite()):
                set_streams(states, step.pair.device)
                site, why = first_bad_site(step.pair, x)
                raise NonFiniteLossError(float(loss), epoch=epoch, step=number, site=site, why=why)
            step.apply()
            total += loss * step.pair.num_examples(x)
            count += step.pair.num_examples(x)
    return -float(total) / count
