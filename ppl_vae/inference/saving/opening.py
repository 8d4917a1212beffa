"""The run folder of one process or several: one of them writes, all go on from the same state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ppl_vae.inference.loaders import LoaderBatches
from ppl_vae.inference.monitoring.history import History
from ppl_vae.inference.processes import launch
from ppl_vae.inference.processes.group import Alone
from ppl_vae.inference.saving.files import read_json
from ppl_vae.inference.saving.interruption import finishing_steps, hold
from ppl_vae.inference.saving.run_folder import RunFolder
from ppl_vae.inference.steps.optimizers import Updater
from ppl_vae.pair import Pair


def open_folder(
    path: str | Path,
    group: Alone,
    settings: dict[str, Any],
    pair: Pair,
    updater: Updater,
    data: object,
    *,
    resume: bool,
    overwrite: bool,
) -> tuple[RunFolder | None, History, dict[str, Any]]:
    """Open a run folder, and put all back to where a run that is to be resumed was.

    Where torchrun or Slurm starts a run again that began in the folder, it is resumed.

    Returns:
        The folder, or None in a process that does not write; the history until now; and the state
        of what judges the epochs.

    Raises:
        OSError: as `RunFolder`.
        ValueError: likewise, and as `RunFolder.restore`.
    """
    folder: RunFolder | None = None

    def work() -> dict[str, Any]:
        nonlocal folder
        again = launch.is_restarted() and _began_here(Path(path))
        folder = RunFolder(
            path, settings, pair, resume=resume or again, overwrite=overwrite and not again
        )
        history, judged = History(), {}
        if resume or again:
            history, judged = folder.restore(pair, updater, data)
        state = {"history": asdict(history), "judged": judged}
        if group.size > 1:
            state |= _state(pair, updater, data)
        return state

    state = group.first(work)
    kept: Callable[[], str] = folder.kept if folder else lambda: "Process 0 keeps the run."
    hold(finishing_steps(kept, together=type(group) is not Alone))
    if folder is None:
        _restore(state, pair, updater, data)
    return folder, History(**state["history"]), state["judged"]


def _state(pair: Pair, updater: Updater, data: object) -> dict[str, Any]:
    state = {"pair": pair.state_dict(), "optimizer": updater.state()}
    return {**state, "loader": data.state()} if isinstance(data, LoaderBatches) else state


def _restore(state: dict[str, Any], pair: Pair, updater: Updater, data: object) -> None:
    pair.load_state_dict(state["pair"])
    updater.restore(state["optimizer"])
    if isinstance(data, LoaderBatches) and state["history"]["train_elbo"]:
        data.restore(state["loader"])


def _began_here(path: Path) -> bool:
    if launch.launch_id() is None or not (path / "config.json").exists():
        return False
    return read_json(path / "config.json").get("launch") == launch.launch_id()
