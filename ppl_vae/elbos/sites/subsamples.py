"""One choice of data points for all particles."""

from __future__ import annotations

from typing import Any

from pyro.poutine.messenger import Messenger
from torch import Tensor

from ppl_vae.elbos.sites.traces import is_subsample


class SameSubsamples(Messenger):
    """Gives every plate that subsamples the data points that it chose when it was first met.

    Weights of several particles can only be compared at the same data points, and a plate chooses
    again each time that a program is run.
    """

    def __init__(self) -> None:
        super().__init__()
        self._chosen: dict[str, Tensor] = {}

    def _pyro_sample(self, msg: dict[str, Any]) -> None:
        if is_subsample(msg) and msg["value"] is None and msg["name"] in self._chosen:
            msg["value"] = self._chosen[msg["name"]]
            msg["done"] = True

    def _pyro_post_sample(self, msg: dict[str, Any]) -> None:
        if is_subsample(msg):
            self._chosen[msg["name"]] = msg["value"]
