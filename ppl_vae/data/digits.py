"""The 1797 handwritten digits of 8 x 8 pixels that scikit-learn carries with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ppl_vae.data.images import Arrays

NUM_TEST = 360


def read(split: str, data_dir: Path | None) -> Arrays:
    """Return images (1437 or 360, 1, 8, 8) and labels; `data_dir` is not needed.

    The split keeps the ten digits' shares and is the same everywhere. Pixels 0..16 become bytes.

    Source:
        Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998 (its test part).
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch: Any = load_digits()
    rows = np.arange(len(bunch.target))
    train, test = train_test_split(
        rows, test_size=NUM_TEST, random_state=0, stratify=bunch.target, shuffle=True
    )
    chosen = np.sort(train if split == "train" else test)
    images = np.rint(bunch.images[chosen] * (255 / 16)).astype(np.uint8)
    return torch.from_numpy(images).unsqueeze(1), torch.from_numpy(bunch.target[chosen])
