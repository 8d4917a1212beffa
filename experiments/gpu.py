"""Everything about CUDA in one command, within so many minutes: right, not waiting, fast, long.

    python experiments/gpu.py --minutes 10 --data-dir DIR --out DIR

Five parts, each a process of its own with its share of the time, each leaving a row on disk after
every measurement: facts.json; right.csv (the tests marked ``cuda``, every estimator on every pair
against the CPU, 50 steps by Pyro, compiled and as a CUDA graph, the diagnostics, saved files);
waiting.csv (epochs in which each synchronisation is an error); fast.csv and fast.png (steps beside
Pyro's, a hand-written loop's and NumPyro's); long.csv (the published table, from its checkpoint
onwards). A second call with the same --out goes on where the first one ended: what this code
measured on this card is not measured again. experiments/README.md says what a machine without a
network needs.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

# Each part must end when so much of the whole time is over.
ENDS = {"right": 0.4, "waiting": 0.45, "fast": 0.8, "long": 1.0}
# Code with which a part says that its device is unusable: another process goes on.
LOST = 3


def main(
    minutes: Annotated[float, typer.Option(help="For all parts together.")] = 10.0,
    part: Annotated[str, typer.Option(help="Do these only, commas between, here.")] = "",
    data_dir: Annotated[Path | None, typer.Option(help="Folder of MNIST.")] = None,
    seed: Annotated[int, typer.Option(help="Of what is timed and trained.")] = 0,
    device: Annotated[str, typer.Option(help="cuda, or cpu with --smoke.")] = "cuda",
    runs: Annotated[Path | None, typer.Option(help="Run folders; OUT/runs if left out.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for tables and picture.")] = Path("out/gpu"),
    *,
    smoke: Annotated[bool, typer.Option("--smoke", help="A little of each part.")] = False,
) -> None:
    """Do all parts in turn, or one of them."""
    out.mkdir(parents=True, exist_ok=True)
    parts = part.split(",") if part else []
    if not set(parts) <= set(ENDS):
        raise typer.BadParameter(f"parts are {', '.join(ENDS)}; came: {part}")
    options = {"data_dir": data_dir, "runs": runs or out / "runs", "out": out}
    if parts:
        whole = [do(name, 60 * minutes, device, seed, smoke=smoke, **options) for name in parts]
        raise SystemExit(0 if all(whole) else 1)
    began = time.perf_counter()
    words = [f"--seed={seed}", f"--device={device}", f"--out={out}", f"--runs={options['runs']}"]
    words += [f"--data-dir={data_dir}"] if data_dir else []
    words += ["--smoke"] if smoke else []
    failed = []
    # All of a smoke run fits into one process, which saves the imports of the others.
    ends = {",".join(ENDS): 1.0} if smoke else ENDS
    for name, share in ends.items():
        code = LOST
        while code == LOST:
            left = share * 60 * minutes - (time.perf_counter() - began)
            print(f"{name}: {max(left, 0):.0f} s", flush=True)
            if left <= 0:
                break
            code = start(name, left, words)
        failed += [name] if code else []
    if failed:
        raise SystemExit(f"not done: {', '.join(failed)}; call again with --out {out} to go on")


def start(name: str, seconds: float, words: list[str]) -> int:
    """Do one part in a process that is ended if it does not end by itself; return its code."""
    command = [sys.executable, *_warnings(), __file__, "--part", name]
    try:
        return subprocess.run(
            [*command, f"--minutes={seconds / 60}", *words], timeout=seconds + 15, check=False
        ).returncode
    except subprocess.TimeoutExpired:
        print("  it did not end in time and was ended", flush=True)
        return 1


def do(
    name: str,
    seconds: float,
    device: str,
    seed: int,
    *,
    smoke: bool,
    data_dir: Path | None,
    runs: Path,
    out: Path,
) -> bool:
    """Do one part in this process; return whether nothing failed."""
    end = time.perf_counter() + seconds
    import torch
    from gpu_parts import fast, long, right, waiting
    from gpu_parts.records import Records, card, within

    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("expected a CUDA device; torch sees none. Pass --device cpu --smoke.")
    where = torch.empty(0, device=device).device
    (out / "facts.json").write_text(json.dumps(facts(where), indent=2) + "\n")
    records = Records(out / f"{name}.csv", card(where))
    with within(end - time.perf_counter()):
        if name == "right":
            right.run(records, where, smoke=smoke, out=out)
        elif name == "waiting":
            waiting.run(records, where, smoke=smoke)
        elif name == "fast":
            fast.run(records, where, smoke=smoke, seed=seed, out=out)
        else:
            long.run(records, where, smoke=smoke, seed=seed, data_dir=data_dir, runs=runs)
    outcomes = [str(row["outcome"]) for row in records.rows() if row.get("outcome")]
    bad = [outcome for outcome in outcomes if outcome.startswith("FAILED")]
    print(f"{name}: {len(outcomes)} done, {len(bad)} failed", flush=True)
    return not bad


def facts(where: object) -> dict[str, object]:
    """Return what the numbers hang on: the card, its driver, the versions, the code."""
    import pyro
    import torch
    from gpu_parts.records import ROOT, card, sources

    device = torch.device(str(where))
    found: dict[str, object] = {
        "card": card(device),
        "torch": torch.__version__,
        "pyro": pyro.__version__,
        "python": platform.python_version(),
        "CUDA": torch.version.cuda,
        "commit": _said(["git", "-C", str(ROOT), "rev-parse", "HEAD"]) or "unknown",
        "code": sources(),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        found["driver"] = _said(query) or "unknown"
        found["memory, GB"] = round(properties.total_memory / 1e9, 1)
        found["multiprocessors"] = properties.multi_processor_count
    return found


def _said(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _warnings() -> list[str]:
    return [f"-W{option}" for option in sys.warnoptions]


if __name__ == "__main__":
    typer.run(main)
