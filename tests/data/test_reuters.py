"""News stories as counts of words, from the files of another package."""

from importlib.util import find_spec
from types import SimpleNamespace

import pytest

from ppl_vae import load
from ppl_vae.data import reuters

needs_lda = pytest.mark.skipif(find_spec("lda") is None, reason="needs lda's files")


@pytest.fixture
def lda_at(tmp_path, monkeypatch):
    """A folder in the place of lda's, with files of two stories of three words."""
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(reuters, "find_spec", lambda _: spec)
    folder = tmp_path / reuters.FOLDER
    folder.mkdir()
    (folder / "reuters.tokens").write_text("church\npope\nyears\n")
    (folder / "reuters.titles").write_text("0 One. ROME\n1 Two. PARIS\n")
    (folder / "reuters.ldac").write_text("2 0:1 2:3\n1 1:5\n")
    return folder


def test_counts_are_read_at_their_places(lda_at, monkeypatch):
    monkeypatch.setattr(reuters, "SHAPE", (2, 3))
    monkeypatch.setattr(reuters, "NUM_WORDS", 9)
    data = load("reuters")
    assert data["x"].tolist() == [[1, 0, 3], [0, 5, 0]]
    assert data.features["x"] == ("church", "pope", "years")
    assert data.categories["titles"] == ("One. ROME", "Two. PARIS")


@needs_lda
def test_the_stories_of_lda():
    train, test = load("reuters"), load("reuters", split="test")
    assert (len(train), len(test)) == (316, 79)
    words = train.features["x"]
    titles = train.categories["titles"]
    assert titles[test["titles"][0]].startswith("INDIA: Mother Teresa")
    assert test["x"][0, words.index("teresa")] > 5
    # The first line of the file: 159 words, of which the first, "church", once.
    assert int((train["x"][0] > 0).sum()) == 159
    assert train["x"][0, words.index("church")] == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("reuters.ldac", "2 0:1 2:x\n", "a line that cannot be read"),
        ("reuters.ldac", "2 0:1 7:1\n", "a line that cannot be read"),
        ("reuters.ldac", "2 0:1 2:3\n", "got 1 stories, 3 words and 4 counts"),
    ],
)
def test_other_files_are_refused(lda_at, name, content, message):
    (lda_at / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        load("reuters")


def test_what_is_missing_is_named(lda_at, monkeypatch):
    (lda_at / "reuters.ldac").unlink()
    with pytest.raises(FileNotFoundError, match="reuters.ldac in lda"):
        load("reuters")
    monkeypatch.setattr(reuters, "find_spec", lambda _: None)
    with pytest.raises(ImportError, match="counts"):
        load("reuters")
