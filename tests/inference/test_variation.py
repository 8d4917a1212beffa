"""What a program may read from its tensors in Python, and what it may not."""

import pytest
import torch
from compiled_steps import both, normal

from ppl_vae.inference import UntraceableError
from ppl_vae.inference.compilation.tracing.graph import trace

KEPT = torch.tensor([2, 1, 0])
MASK = torch.tensor([True, False, True, True])
MASKS = torch.rand(3, 4, generator=torch.Generator().manual_seed(0)) > 0.5


def through_an_entry(x):
    buffer = torch.zeros(3)
    buffer[0] = x.sum()
    return buffer


def through_a_view(x):
    buffer = x.new_zeros(3)
    buffer.view(3, 1).add_(x.sum())
    return buffer


def through_a_part(x):
    buffer = torch.zeros(2, 3)
    first, _ = buffer.split(1)
    first.copy_(x[:3])
    return buffer


def through_out(x):
    buffer = x.new_zeros(3)
    torch.add(x.sum(), 1.0, out=buffer[0])
    return buffer


def through_a_list(x):
    buffer = torch.zeros(3)
    torch._foreach_add_([buffer], [x[:3]])
    return buffer


def through_detach(x):
    buffer = torch.zeros(3)
    buffer.detach().copy_(x[:3])
    return buffer


def through_noise(x):
    buffer = torch.zeros(3)
    buffer[0].normal_()
    return buffer


def through_a_written_part(x):
    """What was made of the buffer after it was written to."""
    return through_an_entry(x) + 1


WRITTEN = [
    through_an_entry,
    through_a_view,
    through_a_part,
    through_out,
    through_a_list,
    through_detach,
    through_noise,
    through_a_written_part,
]


@pytest.mark.parametrize("written", WRITTEN)
def test_a_buffer_that_data_are_written_to_varies(written):
    """Its entries would be frozen: another batch has others, and the same sizes."""
    with pytest.raises(UntraceableError, match="reads a tensor's value in Python"):
        trace(lambda x: [x * float(written(x).sum())], [torch.ones(4)])
    with pytest.raises(UntraceableError, match="size of a tensor depends on data"):
        trace(lambda x: [x * written(x).nonzero().shape[0]], [torch.ones(4)])


def kept_entry(x):
    buffer = torch.zeros(3, dtype=torch.long)
    buffer[0] = KEPT[0]
    return x * int(buffer[0])


CONSTANT = {
    "a mask that the program keeps": lambda x: x.expand(3, 4)[..., MASK].sum(0),
    "a mask of two dimensions": lambda x: x.expand(3, 4)[MASKS],
    "a mask between others": lambda x: x.expand(2, 3, 4)[1, None, MASKS],
    "a mask beside numbers": lambda x: x.expand(3, 4)[torch.tensor([0, 2, 1]), MASK],
    "where a mask is true": lambda x: x[MASK.nonzero().squeeze(-1)],
    "size of a fill": lambda x: x * float(x.new_full((2,), 3.0).sum()),
    "ones like data": lambda x: x * float(torch.ones_like(x).sum()),
    "copied before it was written to": lambda x: (
        x * float(torch.zeros(3).add(1.0).mul_(2.0).sum())
    ),
    "pairs": lambda x: x[x.new_ones(3, 3).tril(-1).nonzero()].sum(-1),
    "pairs as a tuple": lambda x: x[x.new_ones(3, 3).tril(-1).nonzero(as_tuple=True)[0]],
    "places": lambda x: x[torch.tensor([0.0, 1.0, 1.0]).argwhere()],
    "a number that the program keeps": kept_entry,
}


@pytest.mark.parametrize("name", CONSTANT)
def test_what_never_varies_may_be_read(name):
    function = CONSTANT[name]
    graph = trace(lambda x: [function(x)], [torch.ones(4)])
    x = torch.arange(1.0, 5.0)
    assert torch.equal(graph(x)[0], function(x))
    kept = [t for t in (KEPT, MASK, MASKS) if any(each.tensor is t for each in graph.kept)]
    assert len(graph.kept) == len(kept) == (function is kept_entry or "mask" in name)


def test_a_mask_that_changes_makes_the_graph_anew():
    mask = torch.tensor([True, False, True])

    def part(x):
        return x.expand(3, len(x))[mask].sum(0)

    expected, found, svi = both(
        lambda: normal(loc=part),
        torch.randn(5),
        num_steps=9,
        between=lambda step: mask.logical_not_() if step in (4, 6) else None,
    )
    assert found == expected
    assert svi.is_compiled, svi.why_eager
