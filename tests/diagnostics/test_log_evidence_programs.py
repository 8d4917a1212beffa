"""The evidence of programs of every kind: constrained, discrete, without a plate, automatic."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoDelta, AutoNormal
from scipy.special import betaln, gammaln
from standard_errors import BOUND

from ppl_vae import ExponentialNormal, log_evidence


def conjugate(x):
    """A positive and a bounded latent, each with its own observation."""
    with pyro.plate("data", len(x)):
        rate = pyro.sample("rate", dist.Gamma(x.new_tensor(2.0), 1.5))
        share = pyro.sample("share", dist.Beta(x.new_tensor(2.0), 3.0))
        pyro.sample("x", dist.Poisson(rate), obs=x[:, 0])
        pyro.sample("y", dist.Binomial(10, share), obs=x[:, 1])


def conjugate_guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("share", dist.Beta(2.0 + x[:, 1], 9.0))
        pyro.sample("rate", dist.Gamma(2.0 + x[:, 0], 2.0))


@pytest.mark.parametrize("method", ["iwae", "ais", "quadrature"])
def test_constrained_latents(method):
    x = torch.tensor([[0.0, 3.0], [4.0, 9.0], [2.0, 0.0]])
    n, y = x[:, 0].numpy(), x[:, 1].numpy()
    truth = (
        gammaln(2 + n) - gammaln(2) - gammaln(n + 1) + 2 * math.log(1.5) - (2 + n) * math.log(2.5)
    ) + (gammaln(11) - gammaln(y + 1) - gammaln(11 - y) + betaln(2 + y, 13 - y) - betaln(2, 3))
    found = log_evidence((conjugate, conjugate_guide), x, method=method, num_temperatures=40)
    gap = (found.mean - torch.as_tensor(truth)).abs()
    factor = 1 if method == "quadrature" else BOUND
    assert bool((gap <= factor * found.standard_error).all())
    assert bool((found.standard_error < (1e-4 if method == "quadrature" else 0.2)).all())


def test_a_program_that_cannot_be_vectorised_is_run_for_each_particle():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
            # Right for one particle; for several it is wrong, and the shapes say nothing.
            pyro.sample("x", dist.Normal(z * len(z) / len(x), 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2, 0.8))

    x = torch.tensor([0.3, -1.0])
    truth = dist.Normal(0.0, math.sqrt(2)).log_prob(x)
    found = log_evidence((model, guide), x, num_samples=400)
    assert bool((found.per_example().z_score(truth).abs() < BOUND).all())
    with pytest.raises(NotImplementedError, match="run for many particles at once"):
        log_evidence((model, guide), x, method="ais")


def test_without_a_plate_all_data_are_one_example():
    def model(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample(
            "x", dist.Normal(z.unsqueeze(-1), 1.0).expand([*z.shape, 3]).to_event(1), obs=x
        )

    def guide(x):
        pyro.sample("z", dist.Normal(x.mean() * 0.75, 0.6))

    x = torch.tensor([0.5, 1.0, -0.2])
    covariance = torch.eye(3) + 1
    truth = dist.MultivariateNormal(torch.zeros(3), covariance).log_prob(x)
    for method in ("iwae", "quadrature", "ais"):
        found = log_evidence((model, guide), x, method=method, num_temperatures=40)
        assert found.mean.shape == (1,)
        assert abs(found.mean - truth) < BOUND * found.standard_error


def test_discrete_latents_are_weighed():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Bernoulli(x.new_tensor(0.3)))
            pyro.sample("x", dist.Normal(3 * z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Bernoulli(torch.full_like(x, 0.5)))

    x = torch.tensor([0.2, 2.0, 3.5])
    parts = [dist.Normal(3.0 * z, 1.0).log_prob(x) + math.log(p) for z, p in ((0, 0.7), (1, 0.3))]
    truth = torch.stack(parts).logsumexp(0)
    found = log_evidence((model, guide), x)
    assert bool((found.per_example().z_score(truth).abs() < BOUND).all())
    for method in ("ais", "quadrature"):
        with pytest.raises(NotImplementedError, match="continuous latents"):
            log_evidence((model, guide), x, method=method)


def test_automatic_guides_have_a_density_but_points_do_not():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Exponential(x.new_tensor(1.0)))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    x = torch.tensor([1.3, 0.4])
    guide = AutoNormal(model, init_scale=0.7)
    guide(x)
    found = log_evidence((model, guide), x, num_samples=20_000)
    pair = ExponentialNormal()
    truth = pair.exact.log_evidence(x.unsqueeze(-1)).detach()
    assert bool((found.per_example().z_score(truth).abs() < BOUND).all())
    with pytest.raises(NotImplementedError, match="a guide with a density"):
        log_evidence((model, AutoDelta(model)), x)
    with pytest.raises(NotImplementedError, match="auxiliary site"):
        log_evidence((model, guide), x, method="ais")
