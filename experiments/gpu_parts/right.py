"""Is everything right on the device: the tests, the estimators, the diagnostics, saved files?"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyro
import torch
from objective_bank import PAIRS as BANK_PAIRS
from objective_bank import RIGHT, WRONG, Entry
from torch import Tensor

from gpu_parts import agreement
from gpu_parts.agreement import PAIRS, make
from gpu_parts.records import ROOT, Case, Found, Records, require
from ppl_vae import MODELS, check_elbo, compare_elbos, fit, load_pair, log_evidence, save_pair

Z = 4.5
# The evidence of these pairs, by each of these methods; None is exact.
METHODS = {
    "linear-gaussian": ("exact", "quadrature", "iwae", "ais"),
    "exponential-normal": ("exact", "quadrature", "iwae", "ais"),
    "bernoulli-vae": ("iwae", "ais"),
}
# Everything that is not random to these; quadrature refines until its own bound is below 1e-6.
DETERMINISTIC = {"exact": 1e-10, "quadrature": 2e-6}


def run(records: Records, device: torch.device, *, smoke: bool, out: Path) -> None:
    """Do every check that has no row yet."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    if set(MODELS) - {name.partition(",")[0] for name in PAIRS}:
        raise SystemExit("a pair in MODELS has no small instance in gpu_parts/agreement.py")
    records.do(_cases(device, out, smoke=smoke), device)


def _cases(device: torch.device, out: Path, *, smoke: bool) -> Iterator[Case]:
    yield "files: saved, loaded, moved", partial(_files, device)
    for how in (False, True) if not smoke else (False,):
        name = f"resume: bit for bit, {'compiled' if how else 'eager'}"
        yield name, partial(_resume, device, how)
    yield "two devices: refused", partial(_two_devices, device)
    yield from agreement.gradients(device, smoke=smoke)
    for pair, methods in METHODS.items():
        for method in methods if not smoke else methods[:1]:
            yield f"evidence: {pair}, {method}", partial(_evidence, pair, method, device)
    yield "compare_elbos: bernoulli-vae", partial(_compare, device, 20 if smoke else 1000)
    for entry in (RIGHT[::20] + WRONG[::21])[: 1 if smoke else 10]:
        yield f"check_elbo: {entry.name}", partial(_check, entry, device)
    yield "tests marked cuda", partial(_tests, out, smoke=smoke)
    # What needs a compiler comes last: each case takes it some seconds.
    yield from agreement.steps(device, "eager" if smoke else "inductor", smoke=smoke)


def _tests(out: Path, *, smoke: bool) -> Found:
    """Run pytest on the files with tests marked ``cuda``, in a process of its own."""
    marked = [p for p in (ROOT / "tests").rglob("test_*.py") if "mark.cuda" in p.read_text()]
    words = ["-m", "cuda", "--import-mode=importlib", "-q", "-p", "no:cacheprovider"]
    report = out / "cuda_tests.xml"
    done = subprocess.run(
        # xdist, which addopts asks for, may not be here.
        [sys.executable, "-m", "pytest", "-o", "addopts=", *words, f"--junit-xml={report}"]
        + [str(p.relative_to(ROOT)) for p in (marked[:1] if smoke else marked)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    if not report.exists():
        raise AssertionError(f"pytest wrote no report: {done.stdout[-200:]}{done.stderr[-200:]}")
    suite: Any = next(ElementTree.parse(report).iter("testsuite"))
    bad = [
        f"{case.get('classname')}.{case.get('name')}"
        for case in suite.iter("testcase")
        if case.find("failure") is not None or case.find("error") is not None
    ]
    if bad:
        raise AssertionError(f"{len(bad)} of {suite.get('tests')} tests fail: {', '.join(bad)}")
    return {"tests": suite.get("tests"), "skipped": suite.get("skipped")}


def _files(device: torch.device) -> Found:
    pair, _ = make("bernoulli-vae", torch.float32, device)
    with tempfile.TemporaryDirectory() as folder:
        save_pair(pair, folder)
        loaded = load_pair(folder)
        _require_equal(loaded, pair, "what was loaded on the CPU")
        loaded.to(device)
        _require_equal(loaded, pair, "what was moved back")
        save_pair(loaded, folder)
        _require_equal(load_pair(folder), pair, "what was saved again")
    return {}


def _resume(device: torch.device, compile: bool) -> Found:  # noqa: FBT001
    pairs = []
    for stops in ((4,), (2, 4)):
        pair, _ = make("bernoulli-vae", torch.float32, device)
        x = pair.sample(200, seed=0)
        with tempfile.TemporaryDirectory() as folder:
            for number, epochs in enumerate(stops):
                fit(
                    pair,
                    x,
                    num_epochs=epochs,
                    batch_size=50,
                    device=device,
                    compile=compile,
                    run_dir=folder,
                    resume=number > 0,
                    progress=False,
                )
                pair = load_pair(folder).to(device)
        pairs.append(pair)
    _require_equal(*pairs, "the resumed run")
    return {}


def _require_equal(first: Any, second: Any, what: str) -> None:  # noqa: ANN401
    for (name, a), b in zip(first.named_parameters(), second.parameters(), strict=True):
        if not torch.equal(a.cpu(), b.cpu()):
            raise AssertionError(f"{what} differs in {name}")


def _two_devices(device: torch.device) -> Found:
    """Data on another device than the pair's; ``meta`` stands for it where there is one only."""
    other = "cpu" if device.type == "cuda" else "meta"
    pair, x = make("bernoulli-vae", torch.float32, device)
    uses: dict[str, Callable[[], object]] = {
        "model": lambda: pair.model(x.to(other)),
        "guide": lambda: pair.guide(x.to(other)),
        "check": lambda: pair.check(x.to(other)),
    }
    for name, use in uses.items():
        pyro.clear_param_store()
        try:
            use()
        except ValueError as error:
            if "Move one of them" in str(error):
                continue
            raise
        raise AssertionError(f"{name} takes data on {other}")
    return {"refused": len(uses)}


def _evidence(name: str, method: str, device: torch.device) -> Found:
    found = []
    for where in (torch.device("cpu"), device):
        pair, x = make(name, torch.float64, where)
        options: dict[str, Any] = {"tolerance": 1e-6} if method == "quadrature" else {}
        found.append(log_evidence(pair, x, method=method, device=where, **options))
    means = [f.mean.cpu() for f in found]
    if method in DETERMINISTIC:
        gap = float(((means[1] - means[0]) / means[0]).abs().max())
        return {"value off by": require(gap, DETERMINISTIC[method], "the evidence is")}
    errors = [f.standard_error.cpu() for f in found]
    return {"largest z": _require_z(means, errors, "the evidence")}


def _compare(device: torch.device, num_replicates: int) -> Found:
    tables = []
    for where in (torch.device("cpu"), device):
        pair, x = make("bernoulli-vae", torch.float32, where)
        tables.append(compare_elbos(pair, x, num_replicates=num_replicates, device=where))
    largest = 0.0
    for one, other in zip(*(table.rows for table in tables), strict=True):
        values = [torch.as_tensor(row.value.mean).cpu() for row in (one, other)]
        errors = [torch.as_tensor(row.value.standard_error).cpu() for row in (one, other)]
        largest = max(largest, _require_z(values, errors, f"the value of {one.name}"))
    return {"largest z": largest, "estimators": len(tables[0].rows)}


def _require_z(means: list[Tensor], errors: list[Tensor], what: str) -> float:
    """Return the largest difference in standard errors; those of 0 must be equal to rounding."""
    gap = (means[1] - means[0]).abs().double()
    error = (errors[0].double() ** 2 + errors[1].double() ** 2).sqrt()
    z = float((gap / (error + 1e-5 * means[0].abs().double())).max())
    return require(z, Z, f"{what} is, in standard errors,")


def _check(entry: Entry, device: torch.device) -> Found:
    name, config = BANK_PAIRS[entry.pair]
    pair = MODELS[name](**config).to(device)
    options = {"num_datasets": 16} if entry.pair == "toy" else {}
    x = pair.sample(5 if entry.pair == "toy" else 24, seed=0, **options)
    result = check_elbo(
        entry.make(pair), pair, x, kind=entry.kind, reduction=entry.reduction, seed=0
    )
    if result.passed is not (entry in RIGHT):
        raise AssertionError(f"passed is {result.passed}: {result.findings}")
    if entry in RIGHT:
        return {"verdict": "right"}
    if not any((f.kind, f.term) == entry.finding for f in result.findings):
        raise AssertionError(f"another cause: {[str(f) for f in result.findings]}")
    return {"verdict": "wrong, with its cause"}
