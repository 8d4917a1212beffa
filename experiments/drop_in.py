"""Is CompiledSVI a drop-in for SVI? Pyro's own tests and examples run with both.

    python experiments/drop_in.py --pyro DIR
    python experiments/drop_in.py --pyro DIR --examples

DIR is a copy of Pyro's repository (https://github.com/pyro-ppl/pyro); nothing of it is kept here.
Each test, or example script, runs once as it is and once with ``CompiledSVI`` in the place of
``SVI``; that it passes or not, and the loss of every step, must be the same.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from drop_in_parts import stand_ins
from drop_in_parts.examples import NOT_RUN, WITH_SVI

from ppl_vae import plots

HERE = Path(__file__).parent
FILES = (
    "tests/infer/test_gradient.py",
    "tests/infer/test_inference.py",
    "tests/infer/test_enum.py",
    "tests/infer/test_autoguide.py",
    "tests/infer/test_valid_models.py",
    "tests/infer/test_multi_sample_elbos.py",
    "tests/contrib/easyguide/test_easyguide.py",
)
# A loss in one run and the other may differ by rounding that the steps before have carried on.
SAME = 1e-6
# From the third step on a step is one of many: the first is Pyro's, the second is traced.
FIRST_STEPS = 2
# Of one example, in seconds.
LONGEST = 900
MISSING: dict[str, Any] = {"outcome": "no result", "error": "", "objects": []}
SMOKE = """
import pyro, pyro.distributions as dist, torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.optim import Adam

def model(x):
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(loc, 1.0), obs=x)

def test_smoke():
    pyro.clear_param_store()
    pyro.set_rng_seed({seed})
    svi = SVI(model, AutoNormal(model), Adam({{"lr": 0.01}}), Trace_ELBO())
    losses = [svi.step(torch.ones(5)) for _ in range(5)]
    assert losses[-1] < losses[0] + 50
"""


def main(
    pyro: Annotated[Path | None, typer.Option(help="A copy of Pyro's repository.")] = None,
    only: Annotated[str, typer.Option(help="Files whose names contain this.")] = "",
    select: Annotated[str, typer.Option(help="Tests that pytest's -k selects.")] = "",
    backend: Annotated[str, typer.Option(help="eager or inductor.")] = "eager",
    jobs: Annotated[int, typer.Option(help="Processes.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the smoke run; Pyro's tests set theirs.")] = 0,
    device: Annotated[str, typer.Option(help="Only cpu.")] = "cpu",
    out: Annotated[Path, typer.Option(help="Folder for tables and pictures.")] = Path(
        "out/drop_in"
    ),
    *,
    examples: Annotated[bool, typer.Option("--examples", help="Scripts, not tests.")] = False,
    smoke: Annotated[bool, typer.Option("--smoke", help="One small test of our own.")] = False,
) -> None:
    """Write one row a test and one a file, or one an example; exit code 1 if a result differs."""
    if pyro is None and not smoke:
        raise typer.BadParameter("a copy of Pyro's repository is needed: pass --pyro DIR")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if examples and pyro is not None:
            shutil.copytree(pyro / "examples", folder / "examples")
            rows, table = [], pd.DataFrame({"result": []})
            for row in of_examples(folder, backend, only):
                rows.append(row)
                table = pd.DataFrame(rows).round(1)
                table.to_csv(out / "examples.csv", index=False)  # what there is, if it ends early
            print(table.to_string(index=False))
            raise typer.Exit(int(bool((table["result"] == "different").any())))
        if smoke or pyro is None:
            (folder / "test_smoke.py").write_text(SMOKE.format(seed=seed))
            files = ["test_smoke.py"]
        else:
            # Its tests alone: beside its sources they would not test the installed package.
            shutil.copytree(pyro / "tests", folder / "tests")
            files = [each for each in FILES if only in each]
        rows = [row for file in files for row in both(folder, file, backend, select, jobs)]
    tests = pd.DataFrame(rows)
    tests.to_csv(out / "tests.csv", index=False)
    table = summary(tests)
    table.to_csv(out / "drop_in.csv", index=False)
    print(table.to_string(index=False))
    print(tests[tests.kind == "by Pyro"].why.value_counts().to_string())
    draw(tests, out / "drop_in.png")
    raise typer.Exit(int(bool((tests["result"] == "different").any())))


def both(folder: Path, file: str, backend: str, select: str, jobs: int) -> list[dict[str, Any]]:
    """Return a row for each test of a file, run with Pyro's class and with ours."""
    expected, found = (run(folder, file, each, select, jobs) for each in ("pyro", backend))
    return [
        {
            "file": Path(file).name,
            "test": name.partition("::")[2],
            **compared(expected.get(name, MISSING), found.get(name, MISSING)),
        }
        for name in {**expected, **found}
    ]


def run(folder: Path, file: str, backend: str, select: str, jobs: int) -> dict[str, Any]:
    """Run a file's tests in a process; return what they did, by their names."""
    rows = folder / f"{Path(file).stem}-{backend}.jsonl"
    command = [sys.executable, "-m", "pytest", "-q", "-W", "ignore", "-n", str(jobs)]
    command += ["-p", "drop_in_parts.recording", "-p", "no:cacheprovider", "-k", select, file]
    environment = surroundings(backend, rows)
    subprocess.run(command, cwd=folder, env=environment, check=False, stdout=subprocess.DEVNULL)
    lines = rows.read_text().splitlines() if rows.exists() else []
    return {row["test"]: row for row in map(json.loads, lines)}


def surroundings(backend: str, rows: Path) -> dict[str, str]:
    """Return the environment of a process that records what a class does."""
    paths = [str(HERE), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "DROP_IN_BACKEND": backend,
        "DROP_IN_ROWS": str(rows),
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "OMP_NUM_THREADS": "1",
    }


def of_examples(folder: Path, backend: str, only: str) -> Iterator[dict[str, Any]]:
    """Yield a row for each of Pyro's example scripts whose name contains `only`."""
    # Scripts keep what they download in the home folder where they see that nobody looks on.
    stand_ins.write(folder / ".data")
    for place in ("data", "vae/data"):
        (folder / "examples" / place).symlink_to(folder / ".data")
    listed = {each.split()[0] for each in WITH_SVI} | NOT_RUN.keys()
    others = {
        str(path.relative_to(folder / "examples")): "unknown to this study"
        for path in (folder / "examples").rglob("*.py")
        if "__main__" in path.read_text()
    }
    reasons = {**{name: why for name, why in others.items() if name not in listed}, **NOT_RUN}
    for command in (each for each in WITH_SVI if only in each):
        expected, found = (run_example(folder, command, each) for each in ("pyro", backend))
        row = {"example": command, **compared(expected, found)}
        print(row["example"], row["result"], row["kind"], row["why"], flush=True)
        yield row
    for name in sorted(name for name in reasons if only in name):
        yield {"example": name, "result": "not run", "why": reasons[name]}


def run_example(folder: Path, command: str, backend: str) -> dict[str, Any]:
    """Run a script in a process; return what it did."""
    rows = folder / "example.json"
    rows.unlink(missing_ok=True)
    script, *arguments = command.split()
    environment = {**surroundings(backend, rows), "HOME": str(folder), "CI": "1"}
    environment["MPLBACKEND"] = "agg"
    with (folder / f"{backend}.log").open("a") as log:
        try:
            subprocess.run(
                [sys.executable, "-W", "ignore", "-m", "drop_in_parts.example"]
                + [str(folder / "examples" / script), *arguments],
                env=environment,
                check=False,
                stdout=log,
                stderr=log,
                timeout=LONGEST,
            )
        except subprocess.TimeoutExpired:
            return {**MISSING, "error": f"more than {LONGEST} s"}
    return json.loads(rows.read_text()) if rows.exists() else MISSING


def compared(expected: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """Return whether two runs did the same, and how ours took its steps."""
    same = expected["outcome"] == found["outcome"] and expected["error"] == found["error"]
    same = same and expected is not MISSING
    for kind in ("losses", "evaluated"):
        theirs, ours = (
            [x for each in r["objects"] for x in each[kind]] for r in (expected, found)
        )
        same = same and len(theirs) == len(ours)
        same = same and bool(np.allclose(theirs, ours, rtol=SAME, atol=SAME, equal_nan=True))
    result = "same" if same else "different"
    steps = [len(each["losses"]) for each in found["objects"]]
    if same and expected["error"] and not any(steps):
        result = "not run"
    compiled = sum(each["compiled"] for each in found["objects"])
    if not any(steps):
        kind = "no step"
    elif max(steps) < FIRST_STEPS:
        kind = "one step"
    else:
        kind = "compiled" if compiled else "by Pyro"
    outcomes = dict.fromkeys((expected["outcome"], found["outcome"]))
    errors = dict.fromkeys(row["error"] for row in (expected, found) if row["error"])
    return {
        "outcome": " / ".join(outcomes),
        "error": " / ".join(errors),
        "result": result,
        "steps": sum(steps),
        "compiled": compiled,
        "kind": kind,
        "why": next((each["why"] for each in found["objects"] if each["why"]), ""),
        "pyro ms": milliseconds(expected),
        "ours ms": milliseconds(found),
    }


def milliseconds(row: dict[str, Any]) -> float:
    """Return the median time of a step, from the third one on."""
    times = [second for each in row["objects"] for second in each["seconds"][FIRST_STEPS:]]
    return 1e3 * float(np.median(times)) if times else np.nan


def summary(tests: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each file."""
    rows = []
    for file, group in tests.groupby("file", sort=False):
        kinds = Counter(group.kind)
        several = kinds["compiled"] + kinds["by Pyro"]
        fast = group[group.kind == "compiled"]
        rows.append(
            {
                "file": file,
                "tests": len(group),
                "different": int((group["result"] == "different").sum()),
                "no step": kinds["no step"],
                "one step": kinds["one step"],
                "several": several,
                "compiled": kinds["compiled"],
                "times as fast": round(float((fast["pyro ms"] / fast["ours ms"]).median()), 2),
            }
        )
    return pd.DataFrame(rows)


def draw(tests: pd.DataFrame, path: Path) -> None:
    """Draw each compiled test's step by Pyro against ours."""
    fast = tests[(tests.kind == "compiled") & tests["ours ms"].notna()]
    figure, axes = plots.subplots(1, 1, size=(5.0, 4.0))
    ax = axes[0][0]
    for file, group in fast.groupby("file"):
        ax.loglog(group["pyro ms"], group["ours ms"], ".", label=str(file))
    ax.axline((1, 1), (2, 2), color=plots.GREY, linestyle="--")
    ax.set_xlabel("a step of Pyro's SVI [ms]")
    ax.set_ylabel("the same step by its graph [ms]")
    if len(fast):
        ax.legend(fontsize=7)
    figure.savefig(path, dpi=plots.DPI)


if __name__ == "__main__":
    typer.run(main)
