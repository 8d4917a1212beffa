"""Every script in experiments/ shows its help and runs to its end with --smoke."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import ppl_vae

FOLDER = Path(__file__).parents[1] / "experiments"
SCRIPTS = sorted(FOLDER.glob("*.py"))
PUBLIC = set(ppl_vae.__all__)


def is_blank(picture):
    """Whether a picture is one colour: a few binary pixels make a small file, but not that."""
    with Image.open(picture) as image:
        low, high = image.convert("L").getextrema()
        return high - low < 128 or min(image.size) < 50


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.stem)
def test_smoke(script, tmp_path):
    words = ["--smoke", "--seed", "1", "--device", "cpu", "--out", tmp_path / "out"]
    done = subprocess.run(
        [sys.executable, "-W", "error", script, *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    pictures = list((tmp_path / "out").rglob("*.png"))
    assert pictures
    assert not [picture for picture in pictures if is_blank(picture)]
    assert list((tmp_path / "out").rglob("*.csv"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.stem)
def test_only_public_names_are_imported(script):
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "ppl_vae":
            module = node.module.partition(".")[2]
            assert not module or module.split(".")[0] in PUBLIC
            for alias in node.names:
                assert not alias.name.startswith("_")
                assert module or alias.name in PUBLIC


def test_results_in_the_repository_are_small():
    for picture in (FOLDER / "results").rglob("*.png"):
        assert picture.stat().st_size < 200_000, picture


def test_there_are_scripts():
    assert SCRIPTS
