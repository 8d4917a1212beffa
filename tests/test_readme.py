"""README and site say what is so: examples run, tables are fresh, links lead somewhere."""

import contextlib
import io
import re

import pytest
import readme_tables
import torch

ROOT = readme_tables.ROOT
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = [
    pytest.param(*found, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, found in enumerate(
        re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", page.read_text(), flags=re.DOTALL)
    )
]


@pytest.mark.parametrize("path", readme_tables.TABLES)
def test_tables_are_the_registries_and_results(path):
    """Make them anew by `python tests/readme_tables.py`."""
    text = (ROOT / path).read_text()
    assert readme_tables.filled(text, readme_tables.TABLES[path]) == text


@pytest.mark.parametrize(("code", "output"), EXAMPLES)
def test_examples_print_what_they_show(code, output, monkeypatch):
    """Words must agree; numbers to 2 percent, but for the times, which vary."""
    monkeypatch.setenv("COLUMNS", "80")
    torch.set_default_dtype(torch.float32)
    screen = io.StringIO()
    with contextlib.redirect_stdout(screen):
        exec(compile(code, "page", "exec"), {})
    shown, found = (_without_costs(text).split() for text in (output, screen.getvalue()))
    assert len(shown) == len(found)
    for expected, word in zip(shown, found, strict=True):
        try:
            assert float(word.strip(",")) == pytest.approx(
                float(expected.strip(",")), rel=0.02, abs=0.02
            )
        except ValueError:
            assert word == expected


def _without_costs(text):
    return re.sub(r"cost of a gradient.*?┘", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\((?!http)(.*?)\)", page.read_text()):
        assert (page.parent / link.partition("#")[0]).exists(), link


def test_every_python_example_shows_its_output():
    blocks = sum(page.read_text().count("```python\n") for page in PAGES)
    assert blocks == len(EXAMPLES) >= 6


def test_every_experiment_has_a_page():
    scripts = {path.stem for path in (ROOT / "experiments").glob("*.py")}
    assert scripts == {path.stem for path in (ROOT / "docs" / "studies").glob("*.md")} - {"index"}


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200
