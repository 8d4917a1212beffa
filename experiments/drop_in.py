"""Is CompiledSVI a drop-in for SVI? Pyro's own tests and examples run with both.

    python experiments/drop_in.py --pyro DIR
    python experiments/drop_in.py --pyro DIR --examples

DIR is a copy of Pyro's repository (https://github.com/pyro-ppl/pyro); nothing of it is kept here.
Each test, or example script, runs once as it is and once with ``CompiledSVI`` in the place of
``SVI``; that it passes or not, and the loss of every step, must be the same. With ``--only`` the
other files' rows in ``--out`` stay.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from drop_in_parts.comparing import summary
from drop_in_parts.running import of_examples, of_tests

from ppl_vae import plots

FILES = (
    "tests/infer/test_gradient.py",
    "tests/infer/test_inference.py",
    "tests/infer/test_enum.py",
    "tests/infer/test_autoguide.py",
    "tests/infer/test_valid_models.py",
    "tests/infer/test_multi_sample_elbos.py",
    "tests/contrib/easyguide/test_easyguide.py",
)
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
    steps: Annotated[int, typer.Option(help="That end a test if not 0; some take 25,000.")] = 0,
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
    tests = pd.DataFrame()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if examples and pyro is not None:
            shutil.copytree(pyro / "examples", folder / "examples")
            table = pd.DataFrame({"result": []})
            for row in of_examples(folder, backend, only):
                table = added(out / "examples.csv", [row], by="example")
            print(table.to_string(index=False))
            raise typer.Exit(int(bool((table["result"] == "different").any())))
        if smoke or pyro is None:
            (folder / "test_smoke.py").write_text(SMOKE.format(seed=seed))
            files = ["test_smoke.py"]
        else:
            # Its tests alone: beside its sources they would not test the installed package.
            shutil.copytree(pyro / "tests", folder / "tests")
            files = [each for each in FILES if only in each]
        for file in files:
            rows = of_tests(folder, file, backend, select, jobs, steps)
            tests = added(out / "tests.csv", rows, by="file")
            summary(tests).to_csv(out / "drop_in.csv", index=False)
    print(summary(tests).to_string(index=False))
    print(tests[tests.kind == "by Pyro"].why.value_counts().to_string())
    draw(tests, out / "drop_in.png")
    raise typer.Exit(int(bool((tests["result"] == "different").any())))


def added(path: Path, rows: list[dict[str, Any]], by: str) -> pd.DataFrame:
    """Return the table at `path`, the rows of the same file or script replaced."""
    table = pd.DataFrame(rows).round(2)
    if path.exists():
        before = pd.read_csv(path, keep_default_na=False, na_values={"pyro ms": "", "ours ms": ""})
        table = pd.concat([before[~before[by].isin(table[by])], table], ignore_index=True)
    table.to_csv(path, index=False)
    return table


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
