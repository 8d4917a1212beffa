"""The folder of one training run."""

from __future__ import annotations

import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyro
import torch

from ppl_vae import checks
from ppl_vae.inference.checkpoint import describe, save_pair
from ppl_vae.inference.files import (
    pack,
    read_json,
    read_tensors,
    unpack,
    write_json,
    write_tensors,
    write_text,
)
from ppl_vae.inference.history import History
from ppl_vae.inference.loaders import LoaderBatches
from ppl_vae.inference.optimizers import Updater
from ppl_vae.pair import Pair


class RunFolder:
    """Holds config.json, metrics.csv, the pair and what is needed to resume.

    Args:
        path: the folder; it is made if it is not there.
        settings: the run's settings, as JSON's types.
        pair: what is trained.
        resume: go on with the run that is there.
        overwrite: replace the run that is there.

    Raises:
        FileExistsError: the folder holds a run, and neither flag says what to do with it.
        FileNotFoundError: there is no run to resume.
        PermissionError: the folder cannot be written.
        ValueError: the run there has other settings than the one that would resume it.
    """

    def __init__(
        self,
        path: str | Path,
        settings: dict[str, Any],
        pair: Pair,
        *,
        resume: bool,
        overwrite: bool,
    ) -> None:
        self.path = Path(path)
        self.config = {"pair": describe(pair), **settings}
        holds_run = (self.path / "config.json").exists()
        if holds_run and not (resume or overwrite):
            raise FileExistsError(
                checks.message(
                    "a run folder without a run in it",
                    f"{self.path}, which holds one",
                    "Choose another folder, or pass resume=True or overwrite=True.",
                )
            )
        if resume:
            self._require_same_run()
        make_writable(self.path)
        if overwrite and not resume:
            for name in ("metrics.csv", "checkpoint.safetensors", "checkpoint.json"):
                (self.path / name).unlink(missing_ok=True)
        versions = {
            "torch": torch.__version__,
            "pyro": pyro.__version__,
            "python": platform.python_version(),
        }
        write_json(self.path / "config.json", {**self.config, "versions": versions})

    def save(
        self,
        pair: Pair,
        updater: Updater,
        history: History,
        data: object,
        state: dict[str, Any],
        *,
        is_kept: bool,
    ) -> None:
        """Write the state after an epoch, that of a loader too.

        Args:
            pair: what is trained.
            updater: its optimiser.
            history: until now.
            data: what is trained on.
            state: of what judges the epochs.
            is_kept: whether this epoch's parameters are what the folder is to hold as its pair.
        """
        if is_kept:
            save_pair(pair, self.path)
        tensors = {f"pair.{name}": t for name, t in pair.state_dict().items()}
        held: dict[str, torch.Tensor] = {}
        note = {"history": asdict(history), "optimizer": pack(updater.state(), held)}
        note["state"] = pack(state, held)
        if isinstance(data, LoaderBatches):
            note["loader"] = pack(data.state(), held)
        tensors |= {f"optimizer.{name}": t for name, t in held.items()}
        write_tensors(self.path / "checkpoint.safetensors", tensors, note)
        write_text(self.path / "metrics.csv", history.to_csv())

    def restore(
        self, pair: Pair, updater: Updater, data: object
    ) -> tuple[History, dict[str, Any]]:
        """Put all back to the last epoch saved; return the history until then, and `state`.

        Raises:
            ValueError: the data are a loader that cannot be rewound.
        """
        tensors, note = read_tensors(self.path / "checkpoint.safetensors")
        parts: dict[str, dict[str, torch.Tensor]] = {"pair": {}, "optimizer": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        if isinstance(data, LoaderBatches):
            data.restore(unpack(note.get("loader", {}), parts["optimizer"]))
        pair.load_state_dict(parts["pair"])
        updater.restore(unpack(note["optimizer"], parts["optimizer"]))
        state = unpack(note.get("state", {}), parts["optimizer"])
        return History(**note["history"]), state

    def _require_same_run(self) -> None:
        there = read_json(self.path / "config.json")
        for key, value in self.config.items():
            # Folders of older versions do not name options that were not there.
            found = there.get(key, {} if key == "training" else None)
            if key != "num_epochs" and found != _as_json(value):
                raise ValueError(
                    checks.message(
                        f"the settings of the run in {self.path} ({key}: {there.get(key)})",
                        f"{key}: {value}",
                        "Resume with the same settings, or choose another folder.",
                    )
                )


def make_writable(path: Path) -> None:
    """Make a folder and see that files can be written into it.

    Raises:
        PermissionError: they cannot.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise PermissionError(
            checks.message(
                f"a folder that can be written, {path}",
                f"one that cannot ({error.strerror})",
                "Choose another folder.",
            )
        ) from None


def _as_json(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return {key: _as_json(entry) for key, entry in value.items()}
    return [_as_json(entry) for entry in value] if isinstance(value, (tuple, list)) else value
