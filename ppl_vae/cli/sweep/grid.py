"""A sweep's file, and the jobs that it stands for."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ppl_vae import checks
from ppl_vae.cli.jobs import takes_data, untrained
from ppl_vae.cli.options import TrainOptions
from ppl_vae.cli.training import KINDS, as_toml, check_kind, check_options, job_of, read_toml
from ppl_vae.elbos import ESTIMATORS
from ppl_vae.models import MODELS
from ppl_vae.sweeping.summary import DATA

EVIDENCE = "evidence_samples"
EVIDENCE_SAMPLES = 500
_PLURALS = {"pairs": "pair", "elbos": "elbo", "seeds": "seed"}
# Options of where the work is done; they have one value for all jobs.
_WHERE: dict[str, Any] = {"out": None, "device": "auto", "data_dir": None}
_REMEDY = "Name a sweep's file, as the documentation's page on sweeps shows one."


@dataclass(frozen=True)
class Trial:
    """One job: what is trained, and by how many weights its evidence is estimated.

    Attributes:
        options: of the training.
        evidence_samples: importance weights an example, 0 for no evidence.
        settings: what the file says of it, the pair's options by their own names.
    """

    options: TrainOptions
    evidence_samples: int
    settings: dict[str, Any]

    @property
    def key(self) -> str:
        """A hash of the settings, without those of where the work is done."""
        own = self.options.options
        ordered = replace(self.options, options=own and dict(sorted(own.items())), **_WHERE)
        text = f"{as_toml(ordered)}{EVIDENCE} = {self.evidence_samples}\n"
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def read_trials(path: Path, device: str | None = None) -> dict[str, Trial]:
    """Return the jobs of a sweep's file by their keys.

    Args:
        path: a TOML file; each list is a dimension of the grid.
        device: in place of the file's.

    Raises:
        FileNotFoundError: there is no such file, or no data.
        TypeError: a value of another kind than its option's.
        ValueError: no TOML, an unknown key or name (the nearest is suggested), a number out of
            its range, an empty list, no pair, or data that do not suit one.
    """
    content = read_toml(path, _REMEDY)
    evidence_samples = content.pop(EVIDENCE, EVIDENCE_SAMPLES)
    checks.count(EVIDENCE, evidence_samples, minimum=0)
    if evidence_samples == 1:
        raise checks.value_error(f"{EVIDENCE} of at least 2, or 0", "1", "Take more, or none.")
    dimensions = {}
    for name, value in content.items():
        known = [*_PLURALS, EVIDENCE, *(each for each in KINDS if each != "out")]
        if name == "out":
            raise checks.value_error(f"{path} without out", "one", "Give --out to the command.")
        option = _PLURALS.get(checks.name(f"key in {path}", name, known), name)
        if name != option and option in content:
            raise checks.value_error(f"{name} or {option}", "both", "Leave out one.")
        dimensions[option] = list(_values(name, option, value))
    if "pair" not in dimensions:
        raise checks.value_error(f"pairs in {path}", "none", f"Name some of {', '.join(MODELS)}.")
    if device is not None:
        dimensions["device"] = [device]
    trials = (
        _trial(dict(zip(dimensions, values, strict=True)), evidence_samples)
        for values in itertools.product(*dimensions.values())
    )
    found = {trial.key: trial for trial in trials}
    _try_out(found.values())
    return found


def _values(name: str, option: str, value: Any) -> Iterator[Any]:  # noqa: ANN401
    """Yield the values of one dimension; raise unless each is of the option's kind."""
    is_dimension = isinstance(value, list) and option not in _WHERE
    if option == "log":  # a list itself
        is_dimension = is_dimension and any(isinstance(each, list) for each in value)
    if value == []:
        raise checks.value_error(
            f"{name} with at least one value", "an empty list", "Name one, or leave out the key."
        )
    for each in value if is_dimension else [value]:
        if option == "pair" and isinstance(each, dict):
            if "name" not in each:
                raise checks.value_error(
                    "name in every table of pairs", repr(each), 'Add name = "bernoulli-vae", say.'
                )
            check_kind(option, each["name"])
        else:
            check_kind(option, each)
        yield each


def _trial(chosen: dict[str, Any], evidence_samples: int) -> Trial:
    own = dict(chosen.pop("options", None) or {})
    pair = chosen.pop("pair")
    if isinstance(pair, dict):
        own |= {name: value for name, value in pair.items() if name != "name"}
        pair = pair["name"]
    checks.name("pair", pair, MODELS)
    if "elbo" in chosen:
        checks.name("elbo", chosen["elbo"], ESTIMATORS)
    if "data_dir" in chosen:  # as jobs may be run in another folder
        chosen["data_dir"] = str(Path(chosen["data_dir"]).resolve())
    takes = takes_data(MODELS[pair])
    if not takes:  # what it draws is the same for all
        chosen = {name: value for name, value in chosen.items() if name not in DATA}
    options = TrainOptions(pair=pair, options=own or None, **chosen)
    check_options(options)
    data = options.data if takes else f"draws of {pair}"
    named = {name: value for name, value in chosen.items() if name not in ("data", *_WHERE)}
    settings = {"pair": pair, **own, "data": data, "elbo": options.elbo, **named}
    return Trial(options, evidence_samples, settings | {"seed": options.seed})


def _try_out(trials: Iterable[Trial]) -> None:
    """Make every pair once, with its data, so that what cannot be made is known before a job."""
    tried = set()
    for trial in trials:
        options = trial.options
        setting = repr((options.pair, options.options, options.data, options.binarize))
        if setting not in tried:
            untrained(options.pair, job_of(options), options.options or {})
            tried.add(setting)
