"""Missing entries: exact for the linear model, and of no influence whatever stands there."""

import pytest
import torch
from scipy.stats import multivariate_normal

from ppl_vae import BernoulliVAE, ConvGaussianVAE, HierarchicalVAE, LinearGaussian, log_evidence


@pytest.fixture
def linear():
    return LinearGaussian(4, 2, noise_scale=0.6, seed=3)


def mask_of(shape, seed=0):
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.6
    mask[0], mask[1] = False, True
    return mask


def test_the_evidence_of_the_linear_model_is_that_of_the_rows_that_are_left(linear):
    x, mask = linear.sample(9, seed=0), mask_of((9, 4))
    weight, loc = linear.decoder.weight.detach(), linear.decoder.loc.detach()
    covariance = weight @ weight.T + 0.36 * torch.eye(4)
    expected = [
        multivariate_normal(loc[m].numpy(), covariance[m][:, m].numpy()).logpdf(row[m].numpy())
        if m.any()
        else 0.0
        for row, m in zip(x, mask, strict=True)
    ]
    found = linear.exact.log_evidence(x, mask)
    assert torch.allclose(found, torch.tensor(expected), rtol=1e-12, atol=1e-12)
    quadrature = log_evidence(linear, (x, mask), method="quadrature", device="cpu")
    assert bool(((found - quadrature.mean).abs() <= quadrature.standard_error + 1e-12).all())


def test_the_exact_elbo_with_missing_entries_is_a_posterior_away_from_the_evidence(linear):
    x, mask = linear.sample(9, seed=0), mask_of((9, 4))
    guide = torch.distributions.MultivariateNormal(
        linear.encode(x, mask)[0], scale_tril=torch.diag_embed(linear.encode(x, mask)[1])
    )
    kl = torch.distributions.kl_divergence(guide, linear.exact.posterior(x, mask))
    gap = linear.exact.log_evidence(x, mask) - linear.exact.elbo(x, mask)
    assert torch.allclose(gap, kl, rtol=1e-10, atol=1e-12)
    parameters = list(linear.parameters())
    slopes = torch.autograd.grad(linear.exact.elbo(x, mask).sum(), parameters)
    assert all(bool(slope.isfinite().all()) for slope in slopes)


PAIRS = {
    "bernoulli": lambda **o: BernoulliVAE((1, 3, 3), 2, (5,), seed=0, **o),
    "counts": lambda **o: BernoulliVAE((1, 3, 3), 2, (5,), likelihood="poisson", seed=0, **o),
    "hierarchical": lambda **o: HierarchicalVAE((1, 3, 3), (3, 2), hidden=(4, 3), seed=0, **o),
    "convolutional": lambda **o: ConvGaussianVAE(2, image_shape=(1, 3, 3), seed=0, **o),
}


@pytest.mark.parametrize("sees_mask", [False, True])
@pytest.mark.parametrize("name", PAIRS)
def test_what_stands_in_missing_places_does_not_matter(name, sees_mask):
    pair = PAIRS[name](sees_mask=sees_mask)
    x = pair.sample(5, seed=0)
    mask = mask_of(x.shape)
    numbers = []
    for fill in (0.0, 1.0, torch.nan, torch.inf):
        given = torch.where(mask, x, fill)
        found = log_evidence(pair, {"x": given, "mask": mask}, num_samples=20, device="cpu")
        numbers.append(found.mean)
        assert bool(pair.reconstruct(given, mask).isfinite().all())
    assert all(torch.equal(numbers[0], each) for each in numbers[1:])


@pytest.mark.parametrize("name", PAIRS)
def test_a_mask_of_all_is_no_mask(name):
    pair = PAIRS[name](sees_mask=True)
    x = pair.sample(5, seed=0)
    every = torch.ones_like(x, dtype=torch.bool)
    numbers = [
        log_evidence(pair, batch, num_samples=20, device="cpu").mean for batch in (x, (x, every))
    ]
    assert torch.allclose(*numbers, rtol=1e-12)


def test_an_encoder_that_sees_the_mask_tells_a_missing_pixel_from_a_zero():
    x = torch.zeros(2, 1, 3, 3)
    mask = torch.zeros(2, 1, 3, 3, dtype=torch.bool)
    for sees_mask in (False, True):
        pair = PAIRS["bernoulli"](sees_mask=sees_mask)
        codes = [pair.encode(x, m)[0] for m in (mask, ~mask)]
        assert torch.equal(*codes) != sees_mask


def test_bad_masks_are_refused(linear):
    x = linear.sample(3, seed=0)
    for mask, error, words in (
        (torch.ones(3, 4), TypeError, "mask as booleans"),
        (torch.ones(3, 2).bool(), ValueError, "mask of the data's shape"),
        (torch.ones(2, 4).bool(), ValueError, "first dimension"),
    ):
        with pytest.raises(error, match=words):
            linear.check((x, mask))
    with pytest.raises(ValueError, match="finite"):
        linear.check((torch.full((3, 4), torch.nan), torch.ones(3, 4).bool()))
