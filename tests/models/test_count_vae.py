"""The VAE of counts: its density by scipy, batches of any width, and what is refused."""

import numpy as np
import pytest
import torch
from scipy import stats

from ppl_vae import log_evidence
from ppl_vae.batch import as_batch
from ppl_vae.models import CountVAE

X = torch.tensor([[3.0, 0, 7], [1, 2, 0], [40, 5, 1], [0, 9, 2]], dtype=torch.float64)
LIBRARY, BATCH = X.sum(-1) * 2, torch.tensor([0, 1, 1, 0])
MASK = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 0, 0], [0, 1, 1]]).bool()
WIDTHS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def vae():
    pair = CountVAE(3, 1, (4,), num_batches=2, dispersion="feature-batch", seed=0).double()
    with torch.no_grad():
        pair.log_total_count.copy_(torch.tensor([[0.5, -1.0, 2.0], [1.5, 0.0, -0.5]]))
    return pair


def by_hand(pair, mask):
    """Return log p(x) by a fine sum over z, as the decoder has kinks, and scipy's density."""
    z = torch.linspace(-9, 9, 20_001)[:, None, None].expand(-1, len(X), 1)
    mean = (LIBRARY[:, None] * pair.shares(z, BATCH)).detach().numpy()
    count = pair.log_total_count[BATCH].exp().detach().numpy()
    log_p = stats.nbinom.logpmf(X.numpy(), count, count / (count + mean))
    log_p = np.where(mask.numpy(), log_p, 0).sum(-1)
    weights = stats.norm.pdf(z[:, :, 0]) * (18 / 20_000)
    return torch.tensor(np.log((np.exp(log_p) * weights).sum(0)))


@pytest.mark.parametrize("width", WIDTHS, ids=str)
def test_the_evidence_is_that_of_scipy_whatever_the_width_of_the_batches(width):
    pair = vae()
    for mask in (None, MASK):
        given = {"x": X, "library": LIBRARY, "batch": BATCH.to(width), "mask": mask}
        found = log_evidence(pair, given, method="quadrature", device="cpu").mean
        wanted = by_hand(pair, torch.ones_like(MASK) if mask is None else mask)
        assert torch.allclose(found, wanted, atol=1e-5)
    # Two examples of two batches: bytes must not pick rows as a mask would.
    two = as_batch({"x": X, "library": LIBRARY, "batch": BATCH.to(width)})[[3, 0]]
    found = log_evidence(pair, two, method="quadrature", device="cpu").mean
    assert torch.allclose(found, by_hand(pair, torch.ones_like(MASK))[[3, 0]], atol=1e-5)


def test_an_example_of_which_nothing_is_seen_has_evidence_1():
    given = {"x": X, "library": LIBRARY, "batch": BATCH, "mask": MASK}
    assert abs(log_evidence(vae(), given, method="quadrature", device="cpu").mean[2]) < 1e-7


def test_rows_without_a_count_want_a_library():
    pair = CountVAE(3, 1, (4,), seed=0)
    empty = torch.tensor([[0.0, 0, 0], [1, 0, 0]])
    pair.check((empty, torch.ones(2)))
    for batch in (empty, {"x": torch.ones(2, 3), "mask": torch.eye(3)[1:].bool() & (empty > 0)}):
        with pytest.raises(ValueError, match=r"row sums of x, .* above 0 .* or pass library"):
            pair.check(batch)
