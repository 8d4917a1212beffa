"""Batches and bad input of the toy's evidence, ELBO, best rate, KL and posterior."""

import math

import pytest
import torch

from ppl_vae.closed_forms import exponential_normal as en


def test_batches_broadcast_and_equal_their_data_sets_one_by_one():
    x = torch.randn(4, 1, 3)
    rate, prior, scale = torch.rand(5) + 0.5, torch.rand(4, 1) + 0.5, torch.rand(2, 1, 1) + 0.5
    options = {"prior_rate": prior, "noise_scale": scale}
    for function in (en.elbo, en.kl_to_posterior):
        together = function(x, rate, **options)
        assert together.shape == (2, 4, 5)
        for i, j, k in [(0, 1, 2), (1, 3, 4)]:
            alone = function(x[j, 0], rate[k], prior_rate=prior[j, 0], noise_scale=scale[i, 0, 0])
            torch.testing.assert_close(together[i, j, k], alone, rtol=1e-13, atol=0)
    assert en.log_evidence(x, **options).shape == (2, 4, 1)
    assert en.optimal_guide_rate(x, prior_rate=prior).shape == (4, 1)
    assert en.posterior(x, **options).batch_shape == (2, 4, 1)


@pytest.mark.parametrize(
    ("x", "options", "error", "text"),
    [
        ([1.0], {}, TypeError, "expected x as a torch tensor; got list"),
        (
            torch.tensor([1, 2]),
            {},
            TypeError,
            "expected x of a floating dtype; got dtype torch.int",
        ),
        (
            torch.ones(3, 0),
            {},
            ValueError,
            r"expected x with at least one entry; got shape \(3, 0\)",
        ),
        (torch.tensor(1.0), {}, ValueError, r"expected x of shape \(\*batch, n\); got shape \(\)"),
        (torch.tensor([math.nan]), {}, ValueError, "expected x: no NaN; got 1 of 1"),
        (torch.tensor([math.inf]), {}, ValueError, "expected x: finite numbers only; got 1 of 1"),
        (torch.ones(2), {"prior_rate": 0.0}, ValueError, "prior_rate: finite numbers above 0"),
        (torch.ones(2), {"noise_scale": -1.0}, ValueError, "noise_scale: finite numbers above 0"),
        (torch.ones(2), {"noise_scale": "1"}, TypeError, "noise_scale as a number or a floating"),
        (
            torch.ones(4, 2),
            {"prior_rate": torch.ones(3)},
            ValueError,
            r"shapes that broadcast; got one observation of x \(4,\), prior_rate \(3,\)",
        ),
    ],
)
def test_bad_input_is_refused(x, options, error, text):
    for function in (en.log_evidence, en.posterior, en.optimal_guide_rate):
        with pytest.raises(error, match=text):
            function(x, **options)
    for function in (en.elbo, en.kl_to_posterior):
        with pytest.raises(error, match="shapes that broadcast" if "shapes" in text else text):
            function(x, 1.0, **options)


@pytest.mark.parametrize("rate", [0.0, -1.0, math.inf])
def test_a_guide_rate_that_is_none_is_refused(rate):
    for function in (en.elbo, en.kl_to_posterior):
        with pytest.raises(ValueError, match="expected guide_rate: finite numbers above 0 only"):
            function(torch.ones(2), rate)


def test_all_public_names_are_there():
    assert all(hasattr(en, name) for name in en.__all__)
