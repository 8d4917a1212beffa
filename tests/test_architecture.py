"""Who may import whom: data goes one way, and the referee knows nothing of what it judges."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import ppl_vae

ROOT = Path(ppl_vae.__file__).parent
LEAVES = {
    "checks",
    "batch",
    "missing",
    "seeding",
    "devices",
    "pair",
    "functions",
    "image_pair",
    "vae",
    "flows",
    "plots",
    "distributions",
}
LEAVES |= {"likelihoods", "drawing"}
MAY_IMPORT = {
    "__init__": set(),
    "checks": set(),
    "batch": {"checks"},
    "missing": {"checks"},
    "seeding": set(),
    "plots": set(),
    "distributions": set(),
    "loggers": {"checks"},
    "devices": {"checks"},
    "drawing": set(),
    "pair": {"checks", "batch", "drawing", "seeding", "pretrained"},
    # It names the module that saves pairs when one is saved; an import would be a circle.
    "pretrained": {"checks"},
    "likelihoods": {"checks", "distributions"},
    "flows": {"checks"},
    "image_pair": {"checks", "batch", "missing", "pair", "likelihoods"},
    # Its constructor looks up priors and posteriors by their names.
    "vae": {"checks", "missing", "image_pair", "models"},
    "functions": {"checks", "batch", "seeding", "pair"},
    "nets": set(),
    "conv_nets": set(),
    "closed_forms": {"checks"},
    "data": {"checks", "seeding"},
    "elbos": {"checks", "seeding", "devices", "pair", "flows"},
    "models": {
        "checks",
        "batch",
        "missing",
        "seeding",
        "pair",
        "image_pair",
        "vae",
        "flows",
        "distributions",
        "nets",
        "conv_nets",
    }
    | {"closed_forms", "likelihoods"},
    "inference": LEAVES | {"elbos"},
    "diagnostics": LEAVES | {"elbos", "inference", "closed_forms"},
    # It keeps rows as runs are kept, and says numbers as the diagnostics do.
    "sweeping": {"checks", "plots", "inference", "diagnostics"},
    "interop": LEAVES | {"elbos", "inference", "diagnostics"},
    "lightning": LEAVES | {"elbos", "inference"},
    "report": {"checks", "plots"},
    "__main__": {"cli"},
    "cli": LEAVES
    | {"loggers", "data", "models", "elbos", "inference", "diagnostics", "report"}
    | {"sweeping"},
}
FILES = sorted(ROOT.rglob("*.py"))
# The rooms of the checker in the order of a check; each knows only those before it.
CHECK = "ppl_vae.diagnostics.check"
ROOMS = ["objective", "truth", "settings", "formulas", "statistics", "replicates"]
ROOMS += ["explanation", "verdict", "gradients", "divergence"]


def part(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path, *, typing: bool = False) -> set[str]:
    """Every module named in an import statement; with ``typing`` what a type checker sees too."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = node.body if typing else []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_one_way(path):
    here = part(path)
    for name in imports(path):
        if not name.startswith("ppl_vae."):
            continue
        there = name.split(".")[1]
        if there not in MAY_IMPORT:  # a name that the package itself loads lazily
            there = getattr(ppl_vae, there).__module__.split(".")[1]
        assert there == here or there in MAY_IMPORT[here], f"{here} imports {there}"


CHECKER = [path for path in FILES if module(path).startswith(f"{CHECK}.")]


def room(name: str) -> str:
    """The room of the checker that a module is in, "" for what leads a check."""
    parts = name.removeprefix(f"{CHECK}.").split(".")
    return parts[0] if parts[0] in ROOMS else ""


@pytest.mark.parametrize("path", CHECKER, ids=lambda p: str(p.relative_to(ROOT)))
def test_rooms_of_the_checker_know_those_before_them_by_their_doors(path):
    here = room(module(path))
    for name in imports(path):
        there = room(name) if name.startswith(f"{CHECK}.") else here
        if there == here:
            continue
        assert there, f"{here} imports what leads a check: {name}"
        assert not here or ROOMS.index(there) < ROOMS.index(here), f"{here} imports {there}"
        assert name.count(".") == CHECK.count(".") + 2, f"{name}: not from the room's door"


def test_no_two_modules_import_each_other():
    known = {module(path): path for path in FILES}
    del known["ppl_vae"]  # it loads the others lazily
    graph = {
        name: {n if n in known else n.rpartition(".")[0] for n in imports(path, typing=True)}
        for name, path in known.items()
    }
    graph = {name: {n for n in found if n in known} for name, found in graph.items()}
    TopologicalSorter(graph).prepare()


def test_folders_hold_ten_files_or_fewer():
    lists = {ROOT, ROOT / "models"}  # a file an entry
    for folder in {path.parent for path in FILES} - lists:
        files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(files) <= 10, f"{folder.relative_to(ROOT)}: {len(files)} files"


@pytest.mark.parametrize("here", ["closed_forms", "nets", "conv_nets", "data"])
def test_pyro_free_parts_do_not_import_pyro(here):
    for path in FILES:
        if part(path) == here:
            assert not {n for n in imports(path) if n.split(".")[0] == "pyro"}, path


def test_plots_do_not_import_torch():
    for path in FILES:
        if part(path) == "plots":
            assert not {n for n in imports(path) if n.split(".")[0] == "torch"}, path


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_stay_under_250_lines(path):
    assert len(path.read_text().splitlines()) <= 250


def test_the_package_and_its_help_do_not_import_torch():
    code = "import sys, ppl_vae, ppl_vae.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_public_name_can_be_imported():
    for name in ppl_vae.__all__:
        assert getattr(ppl_vae, name) is not None
    with pytest.raises(AttributeError, match="ppl_vae attribute nothing"):
        _ = ppl_vae.nothing


def test_importing_changes_no_global_setting():
    code = (
        "import torch, pyro; from pyro import settings\n"
        "before = torch.get_default_dtype(), torch.get_rng_state().sum(), settings.get()\n"
        "import ppl_vae; [getattr(ppl_vae, n) for n in ppl_vae.__all__]\n"
        "after = torch.get_default_dtype(), torch.get_rng_state().sum(), settings.get()\n"
        "assert before == after and len(pyro.get_param_store()) == 0"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
