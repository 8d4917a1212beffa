"""The work of a step, divided among processes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import pyro

from ppl_vae.batch import Data
from ppl_vae.inference.batches import DataSource
from ppl_vae.inference.compilation.agreement import CLOSE, NEAR
from ppl_vae.inference.processes.group import Alone, Group
from ppl_vae.inference.processes.sameness import code, contents, require_same
from ppl_vae.inference.processes.share import Share
from ppl_vae.inference.steps.step import Step
from ppl_vae.pair import Pair


def begin_alike(group: Alone, pair: Pair) -> None:
    """Give all processes the parameters of the first one.

    Raises:
        ValueError: they run other code, or the pair's parameters are others.
    """
    if isinstance(group, Group):
        require_same(group, code(pair))
        pair.load_state_dict(group.first(pair.state_dict))


def divide(
    group: Alone,
    step: Step,
    first: Data,
    sources: Mapping[str, DataSource | None],
    told: Mapping[str, Any],
    *,
    apart: bool,
) -> None:
    """Let every process take its part of each batch; one process alone takes all.

    Args:
        group: the processes.
        step: of training.
        first: a batch.
        sources: training and validation data, by their names in messages.
        told: what else has to be the same in all processes, by names.
        apart: whether each process has training data of its own.

    Raises:
        ValueError: data or settings differ; more processes than examples in a batch.
        NotImplementedError: the gradient of a batch is no sum over its examples.
    """
    if not isinstance(group, Group):
        return
    pair = step.pair
    own = {"training data"} if apart else set()
    hashes = {name: contents(each, pair) for name, each in sources.items() if name not in own}
    require_same(group, {**hashes, **told})
    share = Share(group, pair, apart=apart)
    with pyro.validation_enabled(False), step.autocast():  # noqa: FBT003
        plain = isinstance(step.autocast(), nullcontext)
        share.require_divisible(step.loss_of_own, first, CLOSE if plain else NEAR)
    step.share = share
