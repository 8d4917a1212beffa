"""The README says what is so: its examples run, its tables are the registries'."""

import contextlib
import io
import re

import pytest
import readme_tables
import torch

TEXT = (readme_tables.ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", TEXT, flags=re.DOTALL)


def test_tables_are_the_registries_and_results():
    """Make them anew by `python tests/readme_tables.py`."""
    assert readme_tables.filled(TEXT) == TEXT


@pytest.mark.parametrize(("code", "output"), EXAMPLES)
def test_examples_print_what_they_show(code, output, monkeypatch):
    """Words must agree; numbers to 2 percent, but for the times, which vary."""
    monkeypatch.setenv("COLUMNS", "80")
    torch.set_default_dtype(torch.float32)
    screen = io.StringIO()
    with contextlib.redirect_stdout(screen):
        exec(compile(code, "README", "exec"), {})
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


def test_links_lead_somewhere():
    for link in re.findall(r"\]\((?!http)(.*?)\)", TEXT):
        assert (readme_tables.ROOT / link).exists(), link


def test_no_example_is_missing():
    assert EXAMPLES
