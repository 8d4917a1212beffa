"""The folder of one training run."""

from __future__ import annotations

import uuid
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ppl_vae import checks
from ppl_vae.inference.loaders import LoaderBatches
from ppl_vae.inference.monitoring.history import History
from ppl_vae.inference.processes.launch import launch_id
from ppl_vae.inference.saving.checkpoint import describe, versions, write_pair
from ppl_vae.inference.saving.files import (
    explained,
    pack,
    read_json,
    unpack,
    write_json,
    write_text,
)
from ppl_vae.inference.saving.interruption import hold, locked
from ppl_vae.inference.saving.old_checkpoint import read_old_checkpoint
from ppl_vae.inference.saving.sealed import read_sealed, write_sealed
from ppl_vae.inference.steps.optimizers import Updater
from ppl_vae.pair import Pair

_NEWEST, _OLDER = "checkpoint", "checkpoint-previous"


class RunFolder:
    """Holds config.json, metrics.csv, the pair and what is needed to resume.

    The last two checkpoints are kept; a damaged one is replaced by the one before it. To be made
    within a `run_scope`, at whose end the folder is free for another run.

    Args:
        path: the folder; it is made if it is not there.
        settings: the run's settings, as JSON's types.
        pair: what is trained.
        resume: go on with the run that is there.
        overwrite: replace the run that is there.

    Raises:
        BlockingIOError: another run goes on in the folder.
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
        self.path = checks.path("run_dir", path)
        self.config = {"pair": describe(pair), **settings}
        self._epoch = 0
        self._newest_is_whole = True
        if resume:
            read_json(self.path / "config.json")  # before a folder is made
        make_writable(self.path)
        hold(locked(self.path))
        if (self.path / "config.json").exists() and not (resume or overwrite):
            raise FileExistsError(
                checks.message(
                    "a run folder without a run in it",
                    f"{self.path}, which holds one",
                    "Choose another folder, or pass resume=True or overwrite=True.",
                )
            )
        there = self._require_same_run() if resume else {}
        if overwrite and not resume:
            for path in (self.path / "metrics.csv", *self._checkpoints()):
                path.unlink(missing_ok=True)
        # By it a checkpoint of another run is known, were all its settings the same.
        self._run = there.get("run") or uuid.uuid4().hex
        content = {**self.config, "run": self._run, "launch": launch_id(), "versions": versions()}
        with explained(self.path, "No epoch was run."):
            write_json(self.path / "config.json", content)

    def save(
        self,
        pair: Pair,
        updater: Updater,
        history: History,
        data: object,
        judged: dict[str, Any],
        *,
        is_kept: bool,
    ) -> None:
        """Write the state after an epoch, that of a loader too.

        Args:
            pair: what is trained.
            updater: its optimiser.
            history: until now.
            data: what is trained on.
            judged: state of what judges the epochs.
            is_kept: whether this epoch's parameters are what the folder is to hold as its pair.

        Raises:
            OSError: the folder cannot be written; the last checkpoint is as it was.
        """
        state = {"pair": pair.state_dict(), "optimizer": updater.state(), "judged": judged}
        if isinstance(data, LoaderBatches):
            state["loader"] = data.state()
        tensors: dict[str, torch.Tensor] = {}
        content = {"run": self._run, "history": asdict(history), "state": pack(state, tensors)}
        keep_as = _OLDER if self._newest_is_whole else None
        with explained(self.path, self.kept()):
            if is_kept:
                write_pair(pair, self.config["pair"], self.path)
            write_sealed(self.path, _NEWEST, content, tensors, keep_as=keep_as, indent=None)
        self._epoch, self._newest_is_whole = len(history), True
        with explained(self.path, self.kept()):
            write_text(self.path / "metrics.csv", history.to_csv())

    def restore(
        self, pair: Pair, updater: Updater, data: object
    ) -> tuple[History, dict[str, Any]]:
        """Put all back to the last epoch saved; return the history until then, and `judged`.

        Raises:
            FileNotFoundError: the checkpoint is gone.
            ValueError: both checkpoints are damaged or of another run; or the data are a loader
                that cannot be rewound.

        Warns:
            UserWarning: the last checkpoint is damaged, and the one before it is taken.
        """
        if not any(p.exists() for p in (self.path / "metrics.csv", *self._checkpoints())):
            return History(), {}  # the run was stopped in its first epoch
        content, state = self._read_newest_whole()
        if isinstance(data, LoaderBatches):
            data.restore(state.get("loader", {}))
        pair.load_state_dict(state["pair"])
        updater.restore(state["optimizer"])
        history = History(**content["history"])
        self._epoch = len(history)
        return history, state.get("judged", {})

    def _read_newest_whole(self) -> tuple[dict[str, Any], dict[str, Any]]:
        try:
            return self._read(_NEWEST)
        except (ValueError, FileNotFoundError) as error:
            damage = error
        try:
            older = self._read(_OLDER)
        except (ValueError, FileNotFoundError):
            raise damage from None
        self._newest_is_whole = False
        epoch = len(older[0]["history"]["train_elbo"])
        warnings.warn(
            f"{damage} Training goes on from the checkpoint before it, of epoch {epoch}.",
            stacklevel=5,
        )
        return older

    def _read(self, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        path = self.path / f"{name}.safetensors"
        if path.exists() and not path.with_suffix(".json").exists():
            return read_old_checkpoint(path)
        content, tensors = read_sealed(self.path, name)
        if content.get("run") != self._run:
            raise checks.value_error(
                f"a checkpoint of the run in {self.path}",
                f"one of another run ({name})",
                "Restore the file, or train again.",
            )
        return content, unpack(content["state"], tensors)

    def _checkpoints(self) -> list[Path]:
        names = [f"{n}.{kind}" for n in (_NEWEST, _OLDER) for kind in ("json", "safetensors")]
        return [self.path / name for name in names]

    def kept(self) -> str:
        """Return a sentence about what is saved."""
        if self._epoch == 0:
            return "No epoch was finished; a resumed run begins anew."
        return f"{self.path} holds the run after epoch {self._epoch}, from where it resumes."

    def _require_same_run(self) -> dict[str, Any]:
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
        return there


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
