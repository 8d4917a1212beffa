"""What `ppl-vae train` runs: options of the command line or of a file, one by one in `fit`'s."""

from __future__ import annotations

import functools
import json
import tomllib
from dataclasses import asdict, replace
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau

from ppl_vae import checks, loggers
from ppl_vae.cli.jobs import Job, untrained
from ppl_vae.cli.options import TrainOptions
from ppl_vae.inference import (
    CyclicalWarmup,
    EarlyStopping,
    History,
    LinearWarmup,
    fit,
)
from ppl_vae.inference.processes.launch import is_first
from ppl_vae.inference.rules import Rules
from ppl_vae.inference.saving.files import write_text

CONFIG = "train.toml"
SCHEDULES = ("cosine", "plateau")
LOGS = ("tensorboard", "mlflow", "wandb")
KINDS = get_type_hints(TrainOptions) | {"kl_weight": float | dict[str, Any]}  # by option
_WORDS = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    dict: "a table",
    list: "a list of texts",
}


def read_options(path: Path, given: dict[str, Any]) -> TrainOptions:
    """Return the options of a TOML file, over which those `given` on the command line win.

    Raises:
        FileNotFoundError: there is no such file.
        TypeError: a value of another kind than its option's.
        ValueError: it is no TOML, or has a key that is no option; the nearest is suggested.
    """
    found = read_toml(path, "Name a pair, or a file of options.")
    for name, value in found.items():
        check_kind(checks.name(f"option in {path}", name, KINDS), value)
    return replace(TrainOptions(**found), **given)


def read_toml(path: Path, remedy: str) -> dict[str, Any]:
    """Return what a TOML file holds; `remedy` is what to do where there is none.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(checks.message(f"a file {path}", "none", remedy)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise checks.value_error(f"TOML in {path}", str(error), "Mend the file.") from None


def check_kind(name: str, value: Any) -> None:  # noqa: ANN401
    """Raise unless the value of an option in a file is of the kind that the option has.

    Raises:
        TypeError: it is of another.
    """
    kinds = [kind for kind in get_args(KINDS[name]) or [KINDS[name]] if kind is not NoneType]
    if not any(_is_of(kind, value) for kind in kinds):
        words = " or ".join(_WORDS[get_origin(kind) or kind] for kind in kinds)
        raise checks.type_error(f"{name} as {words}", repr(value), "Change it in the file.")


def _is_of(kind: Any, value: Any) -> bool:  # noqa: ANN401
    if get_origin(kind) is list:
        return isinstance(value, list) and all(_is_of(get_args(kind)[0], each) for each in value)
    return type(value) in ((int, float) if kind is float else (get_origin(kind) or kind,))


def job_of(options: TrainOptions) -> Job:
    """Return which data the options are of, and where and from which seed they are trained on."""
    return Job(
        data=options.data,
        data_dir=None if options.data_dir is None else Path(options.data_dir),
        binarize=options.binarize,
        device=options.device,
        seed=options.seed,
    )


def run(options: TrainOptions, *, resume: bool, overwrite: bool, progress: bool = True) -> History:
    """Train as `options` say; a run folder holds the file that repeats it.

    Raises:
        TypeError: an option of a wrong kind.
        ValueError: an option out of its range.
    """
    check_options(options)
    if resume and options.out is None:
        raise checks.value_error("--out with --resume", "none", "Name the run folder.")
    pair, examples, test = untrained(options.pair, job_of(options), options.options or {})
    history = fit(
        pair,
        examples,
        validation=test,
        elbo=options.elbo,
        num_particles=options.particles,
        optimizer=functools.partial(torch.optim.Adam, lr=options.learning_rate),
        num_epochs=options.epochs,
        batch_size=options.batch_size,
        device=options.device,
        seed=options.seed,
        run_dir=options.out,
        resume=resume,
        overwrite=overwrite,
        progress=progress,
        kl_weight=_kl_weight(options),
        free_bits=options.free_bits,
        schedule=_schedule(options),
        clip_norm=options.clip_norm,
        accumulate=options.accumulate,
        precision=options.precision,
        on_nan=options.on_nan,
        stop=_stop(options),
        keep=options.keep,
        log=[_log(name, options) for name in options.log or []],
    )
    if options.out is not None and is_first():
        write_text(Path(options.out) / CONFIG, as_toml(options))
    return history


def check_options(options: TrainOptions) -> None:
    """Raise where an option is wrong, whatever the pair and the data are.

    Raises:
        ValueError: an unknown name, a number out of its range, or options that exclude each other.
    """
    checks.positive_number("--lr", options.learning_rate)
    checks.count("--epochs", options.epochs)
    checks.count("--batch-size", options.batch_size)
    if options.particles is not None and options.elbo is None:
        raise checks.value_error("--elbo with --particles", "none", "Name the estimator.")
    for name in options.log or []:
        checks.name("--log", name, LOGS)
    _kl_weight(options)
    _schedule(options)
    rules = ("precision", "clip_norm", "accumulate", "keep", "on_nan")
    Rules(stop=_stop(options), **{name: getattr(options, name) for name in rules})


def as_toml(options: TrainOptions) -> str:
    """Return what differs from the defaults, as a file that `read_options` takes."""
    default = asdict(TrainOptions())
    lines = [
        f"{name} = {_toml(value)}"
        for name, value in asdict(options).items()
        if value != default[name] and value not in (None, {}, [])
    ]
    return "".join(f"{line}\n" for line in lines)


def pair_options(assignments: list[str]) -> dict[str, Any]:
    """Return ``latent_dim=10`` and the like as keyword arguments.

    Raises:
        ValueError: one that is no assignment.
    """
    found = {}
    for each in assignments:
        name, equals, text = each.partition("=")
        if not (equals and name.isidentifier()):
            raise checks.value_error(
                "--set NAME=VALUE", repr(each), "For example --set latent_dim=10."
            )
        try:
            found[name] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            found[name] = text  # a name, without its quotation marks
    return found


def _kl_weight(options: TrainOptions) -> Any:  # noqa: ANN401
    if not options.warmup and not options.cycles:
        return options.kl_weight
    if options.kl_weight != 1.0:
        raise checks.value_error(
            "--kl-weight or a warm-up to 1", "both", "Leave out --kl-weight, or --warmup."
        )
    if options.cycles:
        return CyclicalWarmup(options.cycles, options.warmup or 0.5)
    return LinearWarmup(options.warmup)


def _stop(options: TrainOptions) -> EarlyStopping | None:
    if options.patience is None:
        return None
    return EarlyStopping(patience=options.patience, min_delta=options.min_delta)


def _schedule(options: TrainOptions) -> Any:  # noqa: ANN401
    if options.schedule is None:
        return None
    if checks.name("--schedule", options.schedule, SCHEDULES) == "plateau":
        return ReduceLROnPlateau
    return functools.partial(CosineAnnealingLR, T_max=options.epochs)


def _log(name: str, options: TrainOptions) -> Any:  # noqa: ANN401
    if options.out is None:
        raise checks.value_error("--out with --log", "none", "Name the run folder.")
    folder = Path(options.out)
    if name == "tensorboard":
        return loggers.TensorBoardLog(folder / "tensorboard")
    if name == "mlflow":
        store = f"sqlite:///{folder / 'mlflow.db'}"
        return loggers.MLflowLog(experiment=options.pair, run_name=folder.name, tracking_uri=store)
    return loggers.WandbLog(project=options.pair, dir=folder)


def _toml(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_toml(each)}" for name, each in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)  # of strings, numbers and booleans the two are alike
