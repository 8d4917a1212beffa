"""The training loop."""

from __future__ import annotations

from pathlib import Path

import torch
from pyro.infer import ELBO

from ppl_vae import checks, elbos
from ppl_vae.inference.batches import (
    DataLike,
    as_batches,
    describe,
    first_examples,
    num_batches,
)
from ppl_vae.inference.compilation.epoch import CompiledEpochs, check_compile
from ppl_vae.inference.compilation.inductor.precision import autocast
from ppl_vae.inference.loaders import is_split_by_rank
from ppl_vae.inference.monitoring.history import History
from ppl_vae.inference.monitoring.monitor import Monitor
from ppl_vae.inference.monitoring.pictures import draw_run
from ppl_vae.inference.monitoring.progress import reporter
from ppl_vae.inference.monitoring.stopping import EarlyStopping
from ppl_vae.inference.processes.division import begin_alike, divide
from ppl_vae.inference.processes.group import join
from ppl_vae.inference.rules import Logs, Rules
from ppl_vae.inference.saving.interruption import run_scope
from ppl_vae.inference.saving.opening import open_folder
from ppl_vae.inference.steps.objective import KLSchedule, Objective, describe_weights
from ppl_vae.inference.steps.optimizers import (
    OptimizerLike,
    ScheduleLike,
    Updater,
    describe_schedule,
)
from ppl_vae.inference.steps.serving import serving
from ppl_vae.inference.steps.step import Step
from ppl_vae.inference.training import Epochs, TrainingRun
from ppl_vae.pair import Pair
from ppl_vae.seeding import derive, seeded


@checks.own_words()
@run_scope()
def fit(
    pair: Pair,
    data: DataLike,
    *,
    elbo: str | ELBO | None = None,
    num_particles: int | None = None,
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
    kl_weight: KLSchedule = 1.0,
    free_bits: float = 0.0,
    schedule: ScheduleLike = None,
    clip_norm: float | None = None,
    accumulate: int = 1,
    precision: str = "float32",
    on_nan: str = "raise",
    stop: EarlyStopping | None = None,
    keep: str = "last",
    log: Logs = (),
) -> History:
    """Train a pair by stochastic variational inference.

    Loss and gradient are per example, so a learning rate means the same at every batch size. The
    data stay on the device; on a GPU nothing waits for it within an epoch. The same seed gives
    the same run, and a resumed run the same as one that was never stopped.

    Args:
        pair: what is trained, in place; it is moved to `device`.
        data: a tensor of examples; a tuple or mapping of the model's arguments, tensors of as many
            examples; a ``torch.utils.data`` Dataset or DataLoader of such batches, which may be
            larger than memory, as a `ShardedData` may; an `ImageData`, or what else has a length
            and ``batch(index)``.
        elbo: an estimator's name (see `ppl_vae.elbos.ESTIMATORS`) or a ``pyro.infer.ELBO``. None
            takes ``trace-mean-field`` where every divergence has a closed form that holds,
            ``analytic-kl`` where not, ``trace`` where a draw is not reparameterised, and
            ``score-function`` where it passes a gradient straight through.
        num_particles: averaged in each estimate of one given by name; None is the fewest that it
            takes. They are drawn together where the pair allows it.
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
        kl_weight: on the KL divergence: a number, a function of the fraction of training done
            such as `LinearWarmup` or `CyclicalWarmup`, or one of these by site. Each step has its
            weight; of a loader without a length, each epoch. Only the objective is weighted.
        free_bits: nats per latent dimension below which the KL is not pushed (`WeightedELBO`).
        schedule: a function of the torch optimiser that makes a torch scheduler, which advances
            with every epoch; with every step if it is an `EachStep`.
        clip_norm: the greatest length of the gradient per example, over all parameters.
        accumulate: in how many parts, one after the other, a batch's gradient is computed, which
            saves memory.
        precision: ``bf16`` multiplies matrices in bfloat16 (``torch.autocast``).
        on_nan: ``skip`` leaves a step out whose loss or gradient is not finite, and counts it in
            the history; such a run is not compiled.
        stop: ends training when the validation ELBO has not become better.
        keep: ``best`` leaves the pair with the parameters of the best epoch by the validation
            ELBO, as `EarlyStopping` judges it.
        log: functions of (epoch, numbers), such as a `TensorBoardLog`.

    Returns:
        The ELBO per example, one number an epoch, and what else was recorded.

    Raises:
        TypeError: data, estimator, optimiser or option of a wrong kind.
        ValueError: data that the pair cannot score, an unknown name, a count below 1, a negative
            weight, a scheduler of another optimiser, no validation data to judge epochs by.
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
    group = join(device)
    checks.count("num_epochs", num_epochs)
    checks.count("batch_size", batch_size)
    check_compile(compile)
    if elbo is not None:
        elbos.make(elbo)
    if num_particles is not None and not isinstance(elbo, str):
        raise checks.value_error(
            "elbo as a name with num_particles", repr(elbo), "Give it to the estimator itself."
        )
    rules = Rules(
        precision=precision,
        clip_norm=clip_norm,
        accumulate=accumulate,
        stop=stop,
        keep=keep,
        on_nan=on_nan,
        log=log,
    )
    rules.require_validation(validation)
    if not isinstance(pair, Pair):
        raise TypeError(
            checks.message(
                "a ppl_vae.Pair",
                type(pair).__name__,
                "Train a model and a guide that are functions with CompiledSVI.",
            )
        )
    pair.to(group.device)
    begin_alike(group, pair)
    with seeded(derive(seed, "look"), pair.device):
        subject, train = as_batches(pair, data, batch_size)
        test = None if validation is None else as_batches(pair, validation, batch_size)[1]
        first = first_examples(train, batch_size, pair)
        made = serving(elbo, subject, first, num_particles=num_particles)
        objective = Objective(
            made,
            kl_weight,
            free_bits,
            num_steps=group.most(num_batches(train, batch_size)),
            num_epochs=num_epochs,
            like=torch.empty(0, dtype=pair.dtype, device=pair.device),
        )
        if isinstance(objective.elbo, elbos.WeightedELBO):
            serving(objective.elbo, subject, first)  # each weight has its site
    if accumulate > 1 and pair.num_examples(first) != len(first):
        raise checks.value_error(
            "accumulate=1 with data that are one example", repr(accumulate), "They have no parts."
        )
    updater = Updater(optimizer, pair, schedule)
    estimator = elbos.without_weights(objective.elbo)
    weights = describe_weights(made, kl_weight, free_bits, num_epochs)
    settings = {
        "elbo": type(estimator).__name__ if isinstance(elbo, ELBO) else elbos.name_of(estimator),
        "num_particles": estimator.num_particles,
        "optimizer": updater.describe(),
        "num_epochs": num_epochs,
        "batch_size": batch_size,
        "seed": seed,
        "data": describe(data),
        "training": {**weights, **describe_schedule(schedule), **rules.describe()},
    }
    step = Step(
        subject,
        objective.elbo,
        updater,
        clip_norm=clip_norm,
        num_parts=accumulate,
        autocast=autocast(rules.autocast, pair.device),
        weights=objective.weights,
    )
    sources = {"training data": train, "validation data": test}
    apart = is_split_by_rank(data)
    told = {"settings": {**settings, "data": None if apart else settings["data"]}}
    divide(group, step, first, sources, told | {"run_dir": bool(run_dir)}, apart=apart)
    monitor = Monitor(subject, step.elbo, train, test, rules, seed, group)
    folder, history = None, History()
    if run_dir is not None:
        folder, history, judged = open_folder(
            run_dir, group, settings, pair, updater, train, resume=resume, overwrite=overwrite
        )
        monitor.restore(judged)
    fast = CompiledEpochs(step, train, batch_size, how=compile)
    epochs = Epochs(step, train, batch_size, fast, skips=on_nan == "skip")
    shown = progress and group.rank == 0
    with reporter(num_epochs, show=shown) as report, rules.closing_logs():
        run = TrainingRun(epochs, objective, monitor, folder, [report, *rules.logs], seed, group)
        run.train(history, num_epochs)
    updater.forget()
    if folder is not None:
        with seeded(derive(seed, "pictures"), pair.device):
            draw_run(folder.path, subject, test if test is not None else train, history)
    return history
