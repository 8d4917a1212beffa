"""Which part of a batch each process takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from ppl_vae import checks
from ppl_vae.batch import Data
from ppl_vae.inference.processes.group import Group
from ppl_vae.inference.processes.rows import Plan, Recording, UnsplittableError, plan_of
from ppl_vae.pair import Pair
from ppl_vae.seeding import seeded

# Examples of the batch on which it is tried whether the parts' gradients sum to that of the whole.
TRIED = 9

Tolerances = Mapping[torch.dtype, float]
# Leaves the gradient of a batch, summed over the examples, and returns its loss.
Program = Callable[[Data], Tensor]


class Share:
    """One process's part of every batch: rows of a batch that all have, or a batch of its own.

    Args:
        group: the processes.
        pair: what is trained.
        apart: whether each process has data of its own, so that there is nothing to divide.

    Attributes:
        group: as given.
        apart: as given.
        is_out: whether this process has had the last of its own batches in this epoch.
    """

    def __init__(self, group: Group, pair: Pair, *, apart: bool) -> None:
        self.group, self.apart, self._pair = group, apart, pair
        self.is_out = False
        self._plan = Plan()
        self._total = 0

    def require_divisible(self, program: Program, x: Data, tolerances: Tolerances) -> None:
        """Try on some examples that the gradient of a batch is the sum of those of its parts.

        Raises:
            ValueError: there are more processes than examples in a batch.
            NotImplementedError: it is not, or its draws are not one for each example.
        """
        group, count = self.group, self._pair.num_examples(x)
        if self.apart:
            return
        if count < group.size:
            raise checks.value_error(
                f"at least one example of a batch for each of {group.size} processes",
                f"a batch of {count}",
                "Start fewer processes, or raise batch_size.",
            )
        if count == 1:
            return  # in one process, as it is
        why = ""
        for last in (True, False):
            why = self._try(program, x[:TRIED], tolerances, last=last)
            if not why:
                return
        self._plan = Plan()
        if group.size > 1:
            raise checks.not_implemented(
                "a pair and an estimator whose gradient is a sum over the examples of a batch, to "
                f"divide it among {group.size} processes",
                f"those of which {why}",
                "Train in one process; or take what couples examples (BatchNorm, latents outside "
                "of the plate 'data') out of them.",
            )

    def _try(self, program: Program, x: Data, tolerances: Tolerances, *, last: bool) -> str:
        """Return why the examples cannot be divided, or nothing."""
        pair, cut, total = self._pair, (len(x) + 1) // 2, len(x)
        buffers = {name: b.clone() for name, b in pair.named_buffers()}

        def run(part: Data, block: AbstractContextManager[object]) -> list[Tensor]:
            parameters = [p for p in pair.parameters() if p.requires_grad]
            for parameter in parameters:
                parameter.grad = None
            with seeded(0, pair.device), block:
                loss = program(part)
            grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
            return [loss.detach(), *grads]

        try:
            whole, half = Recording(), Recording()
            expected = run(x, whole)
            run(x[:cut], half)
            self._plan = plan_of(whole, half, (total, cut), last=last)
            if not isinstance(self._plan.rows(0, total, total), nullcontext):
                expected = run(x, self._plan.rows(0, total, total))
            parts = [
                run(x[:cut], self._plan.rows(0, cut, total)),
                run(x[cut:], self._plan.rows(cut, total - cut, total)),
            ]
        except UnsplittableError as error:
            return str(error)
        except (ValueError, RuntimeError) as error:
            return f"half a batch alone fails ({str(error).splitlines()[0]})"
        finally:
            changed = [n for n, b in pair.named_buffers() if not torch.equal(b, buffers[n])]
            for name, buffer in pair.named_buffers():
                buffer.copy_(buffers[name])
            for parameter in pair.parameters():
                parameter.grad = None
        if changed:
            return f"the buffer {changed[0]} changes with every batch"
        if not _sums(expected, parts, tolerances):
            return f"the gradient of {total} examples is not the sum of their two halves'"
        return ""

    def of(self, x: Data) -> tuple[Data, AbstractContextManager[object], bool]:
        """Return this process's part of a batch, the block in which its noise is drawn, and more.

        A process without a part is lent an example, so that its streams go on as the others' do;
        the last of the three is whether it is.
        """
        if self.apart:
            return x, nullcontext(), self.is_out
        rows, is_lent = self._rows(len(x))
        noise = self._plan.rows(rows.start, rows.stop - rows.start, len(x))
        return x[rows], noise, is_lent

    def loaded(self, index: Tensor, load: Callable[[Tensor], Data]) -> Data:
        """Return a batch of which only this process's rows are loaded; the others are zeros."""
        if self.apart:
            return load(index)
        rows, _ = self._rows(len(index))

        def spread(t: Tensor) -> Tensor:
            whole = t.new_zeros(len(index), *t.shape[1:])
            whole[rows] = t
            return whole

        own = load(index[rows])
        return spread(own) if isinstance(own, Tensor) else own.map(spread)

    def _rows(self, total: int) -> tuple[slice, bool]:
        rank, size = self.group.rank, self.group.size
        start, end = rank * total // size, (rank + 1) * total // size
        return slice(start, max(end, start + 1)), start == end

    def num_examples(self, x: Data) -> int:
        """Return how many examples the batch has that `x` is, or is this process's part of."""
        return self._total if self.apart else self._pair.num_examples(x)

    def each(self, batches: Iterator[Data]) -> Iterator[Data]:
        """Yield an epoch's batches, until all processes have had their last.

        One that has no more is lent its last one.
        """
        if not self.apart:
            yield from batches
            return
        last = None
        while True:
            x = next(batches, None)
            self._total = self.group.count(0 if x is None else self._pair.num_examples(x))
            if self._total == 0:
                return
            self.is_out = x is None
            last = last if x is None else x
            assert last is not None  # a pass over a loader has at least one batch
            yield last


def _sums(whole: list[Tensor], parts: list[list[Tensor]], tolerances: Tolerances) -> bool:
    """Return whether tensors are the sums of the parts', to rounding, or as little finite.

    What cancels in a sum, as near an optimum, is rounded as what it is made of.
    """
    lengths = [sum(float(t.norm()) for t in each) for each in zip(whole, *parts, strict=True)]
    for total, length, *each in zip(whole, lengths, *parts, strict=True):
        gap = float((total - sum(each, torch.zeros_like(total))).norm())
        tolerance = tolerances.get(total.dtype, 1e-2)
        if gap > tolerance * (length + 1e-3 * max(lengths)):
            return False
    return True
