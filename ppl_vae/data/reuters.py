"""The 395 news stories that the lda package carries with it, as counts of words."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from ppl_vae import checks
from ppl_vae.data.arrays import ArrayData

FOLDER = "tests"
SHAPE = (395, 4258)
NUM_WORDS = 84_010
TEST_EVERY = 5


def read(split: str, data_dir: Path | None) -> ArrayData:
    """Return the counts `x` of 316 or 79 stories; `data_dir` is not needed.

    Beside them is ``titles``, a story's number in the file, whose names are the titles. Every
    fifth story, from the third on, is a test story. The files are read without the package.

    Source:
        Reuters Corpus, volume 1 (Lewis, Yang, Rose and Li, JMLR 5, 2004): stories of August 1996
        to August 1997, as the lda package has counted them.
    """
    folder = _folder()
    words = (folder / "reuters.tokens").read_text(encoding="utf-8").split()
    titles = (folder / "reuters.titles").read_text(encoding="utf-8").splitlines()
    lines = (folder / "reuters.ldac").read_text(encoding="utf-8").splitlines()
    counts = np.zeros((len(lines), len(words)), dtype=np.float32)
    try:
        for row, line in enumerate(lines):
            pairs = np.array([pair.split(":") for pair in line.split()[1:]], dtype=np.int64)
            counts[row, pairs[:, 0]] = pairs[:, 1]
    except (ValueError, IndexError) as error:
        raise _another(f"a line that cannot be read so ({error})") from None
    if counts.shape != SHAPE or len(titles) != SHAPE[0] or counts.sum() != NUM_WORDS:
        raise _another(f"{len(lines)} stories, {len(words)} words and {counts.sum():.0f} counts")
    data = ArrayData(
        {"x": counts},
        beside={"titles": np.arange(len(counts))},
        features={"x": words},
        categories={"titles": [title.partition(" ")[2] for title in titles]},
        name="reuters",
        split=split,
    )
    test = np.arange(len(counts)) % TEST_EVERY == TEST_EVERY // 2
    return data[torch.from_numpy(np.flatnonzero(test == (split == "test")))]


def _folder() -> Path:
    spec = find_spec("lda")
    if spec is None or not spec.submodule_search_locations:
        raise checks.extra("counts", "lda")
    folder = Path(spec.submodule_search_locations[0]) / FOLDER
    names = ("reuters.tokens", "reuters.titles", "reuters.ldac")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            checks.message(f"the file {missing[0]} in lda", "none", "Install lda 3.0 anew.")
        )
    return folder


def _another(came: str) -> ValueError:
    return checks.value_error(
        f"the Reuters files of lda 3.0: {SHAPE[0]} stories, {SHAPE[1]} words, {NUM_WORDS} counts",
        came,
        "Install lda anew.",
    )
