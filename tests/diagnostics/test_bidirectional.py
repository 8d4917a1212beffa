"""The evidence of simulated data between two bounds, by annealing in both directions."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from standard_errors import BOUND

from ppl_vae import (
    BernoulliVAE,
    ExponentialNormal,
    GaussianChain,
    LinearGaussian,
    bidirectional_evidence,
    log_evidence,
)


@pytest.mark.parametrize("name", ["toy", "linear", "chain"])
def test_the_evidence_lies_between_the_bounds(name):
    pair, like = {
        "toy": lambda: (ExponentialNormal(guide_rate=0.8), torch.zeros(6, 3)),
        "linear": lambda: (LinearGaussian(5, 2, noise_scale=0.7, seed=1), torch.zeros(6, 5)),
        "chain": lambda: (GaussianChain(guide="bottom-up"), torch.zeros(6, 1)),
    }[name]()
    found = bidirectional_evidence(pair, like, num_temperatures=40)
    assert found.x.shape == like.shape
    truth = pair.exact.log_evidence(found.x).detach()
    assert bool((found.lower.per_example().z_score(truth).abs() < BOUND).all())
    # The reverse chains of an example start from one draw, so only the mean over examples is sure.
    excess = found.upper.mean - truth
    assert excess.mean() > -BOUND * (excess.std() / 6**0.5 + found.upper.monte_carlo_error)
    assert excess.mean() < 0.3
    assert found.gap.mean < 0.4
    assert "reverse-ais" in str(found)
    assert "simulated from the model" in str(found)


def test_simulated_data_follow_the_model():
    pair = GaussianChain()
    found = bidirectional_evidence(
        pair, torch.zeros(3000, 1), num_samples=2, num_temperatures=1, num_leapfrog=1
    )
    x = found.x
    assert abs(x.mean().item()) < BOUND * (3 / 3000) ** 0.5
    assert abs(x.var().item() / 3 - 1) < BOUND * (2 / 3000) ** 0.5


def test_the_bounds_do_not_need_all_examples_at_once():
    pair = BernoulliVAE((1, 3, 3), latent_dim=2, hidden=(5,), seed=1)
    options = {"num_samples": 8, "num_temperatures": 10, "seed": 1}
    found = bidirectional_evidence(pair, pair.blank(6), max_bytes=40_000, **options)
    whole = bidirectional_evidence(pair, pair.blank(6), **options)
    assert torch.equal(found.x, whole.x)
    error = found.lower.standard_error.hypot(whole.lower.standard_error)
    assert bool(((found.lower.mean - whole.lower.mean).abs() < BOUND * error).all())


def twice_observed(x, y):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)
        pyro.sample("y", dist.Normal(-z, 0.5), obs=y)


def its_posterior(x, y):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal((x - 4 * y) / 6, 6**-0.5))


def test_each_observed_site_gets_data_of_its_own():
    found = bidirectional_evidence(
        (twice_observed, its_posterior), (torch.zeros(2000), torch.ones(2000)), num_temperatures=2
    )
    x, y = found.x.tensors
    cov = torch.tensor([[2.0, -1.0], [-1.0, 1.25]])
    sample = torch.stack([x, y])
    error = ((cov.square() + cov.diag().outer(cov.diag())) / 2000).sqrt()
    assert bool(((sample.cov() - cov).abs() < BOUND * error).all())
    exact = torch.distributions.MultivariateNormal(torch.zeros(2), cov).log_prob(sample.mT)
    torch.testing.assert_close(found.lower.mean, exact)
    torch.testing.assert_close(found.upper.mean, exact)


def test_what_cannot_be_simulated_is_refused():
    def model(x):
        twice_observed(x, x)

    def guide(x):
        its_posterior(x, x)

    def of_twice(x):
        twice_observed(2 * x, x)

    words = "site 'y' to observe one tensor of the batch, as it is and alone"
    for each in (model, of_twice):
        with pytest.raises(NotImplementedError, match=words if each is model else "site 'x'"):
            bidirectional_evidence((each, guide), torch.ones(2))
    with pytest.raises(ValueError, match="num_samples of at least 2"):
        bidirectional_evidence((model, guide), torch.zeros(2), num_samples=1)


@pytest.mark.parametrize("missing", [0.0, float("nan")])
def test_missing_entries_stay_missing(missing):
    pair = LinearGaussian(5, 2, noise_scale=0.7, seed=1)
    mask = torch.rand(6, 5, generator=torch.Generator().manual_seed(1)) < 0.7
    like = {"x": torch.full((6, 5), 0.3).masked_fill(~mask, missing), "mask": mask}
    found = bidirectional_evidence(pair, like, num_temperatures=40)
    assert torch.equal(found.x.kwargs["mask"], mask)
    truth = log_evidence(pair, found.x, method="exact").mean
    assert bool((found.lower.per_example().z_score(truth).abs() < BOUND).all())
    excess = found.upper.mean - truth
    assert excess.mean() > -BOUND * (excess.std() / 6**0.5 + found.upper.monte_carlo_error)
    assert excess.mean() < 0.3


def test_masks_of_pixels_and_of_examples_are_seen_through():
    images = BernoulliVAE((1, 2, 2), latent_dim=1, hidden=(3,), seed=0)
    x = (torch.rand(4, 1, 2, 2, generator=torch.Generator().manual_seed(0)) < 0.5).double()
    shown = torch.ones(4, 1, 2, 2, dtype=torch.bool)
    shown[1, 0, 0] = False
    found = bidirectional_evidence(images, (x, shown), num_temperatures=5, num_samples=4)
    assert found.x.args[0].shape == x.shape

    def model(x, used):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(len(x)), 1.0))
            with pyro.poutine.mask(mask=used):
                pyro.sample(
                    "x", dist.Normal(z.unsqueeze(-1) + x.new_zeros(3), 1.0).to_event(1), obs=x
                )

    def guide(x, used):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(pyro.param("loc", torch.zeros(())), 1.0).expand([len(x)]))

    used = torch.tensor([True, False, True, True])
    x = torch.zeros(4, 3, dtype=torch.float64)
    found = bidirectional_evidence((model, guide), (x, used), num_temperatures=5, num_samples=4)
    assert bool((found.upper.mean[1] - found.lower.mean[1]).abs() < 1e-6)  # nothing was observed
