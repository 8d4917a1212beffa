"""The evidence of programs of every kind: constrained, discrete, without a plate, automatic."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from binary_pair import BinaryBelief
from pyro import poutine
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


def spike(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Bernoulli(x.new_tensor(0.3)))
        pyro.sample("x", dist.Normal(3 * z, 1.0), obs=x)


def spike_guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Bernoulli(torch.full_like(x, 0.5)))


def mixture(x):
    """A component, a code around it, and data around the code: p(x) is a mixture of Normals."""
    with pyro.plate("data", len(x)):
        k = pyro.sample("k", dist.Categorical(x.new_tensor([0.2, 0.5, 0.3])))
        z = pyro.sample("z", dist.Normal(x.new_tensor([-4.0, 0.0, 5.0])[k], 1.0))
        pyro.sample("x", dist.Normal(z, 0.5), obs=x)


def mixture_guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("k", dist.Categorical(torch.ones(len(x), 3)))
        pyro.sample("z", dist.Normal(x, 0.7))


def two_features(x):
    """A one-hot vector and a pair of bits, in two sites."""
    with pyro.plate("data", len(x)):
        hot = pyro.sample("hot", dist.OneHotCategorical(x.new_tensor([0.2, 0.5, 0.3])))
        bits = pyro.sample("bits", dist.Bernoulli(x.new_tensor([0.6, 0.1])).to_event(1))
        loc = (hot * x.new_tensor([0.0, 1.0, 3.0])).sum(-1) + bits.sum(-1)
        pyro.sample("x", dist.Normal(loc, 1.0), obs=x)


def two_features_guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("bits", dist.Bernoulli(x.new_full((len(x), 2), 0.5)).to_event(1))
        pyro.sample("hot", dist.OneHotCategorical(torch.ones(len(x), 3)))


def normals(x, parts, scale):
    """log of a mixture of Normals of (weight, loc) each."""
    logs = [dist.Normal(loc, scale).log_prob(x) + math.log(weight) for weight, loc in parts]
    return torch.stack(logs).logsumexp(0)


SUMMED = {
    "bits": (spike, spike_guide, [(0.7, 0.0), (0.3, 3.0)], 1.0),
    "mixture of codes": (
        mixture,
        mixture_guide,
        [(0.2, -4.0), (0.5, 0.0), (0.3, 5.0)],
        math.sqrt(1.25),
    ),
    "two sites": (
        two_features,
        two_features_guide,
        [
            (hot * first * second, loc + up + over)
            for hot, loc in ((0.2, 0.0), (0.5, 1.0), (0.3, 3.0))
            for first, up in ((0.4, 0.0), (0.6, 1.0))
            for second, over in ((0.9, 0.0), (0.1, 1.0))
        ],
        1.0,
    ),
}


@pytest.mark.parametrize("case", SUMMED)
def test_finite_supports_are_summed(case):
    model, guide, parts, scale = SUMMED[case]
    x = torch.tensor([0.2, 2.0, 3.5, -7.0])
    truth = normals(x, parts, scale)
    found = log_evidence((model, guide), x, num_samples=20_000)
    assert bool((found.per_example().z_score(truth).abs() < BOUND).all())
    found = log_evidence((model, guide), x, method="quadrature")
    assert bool(((found.mean - truth).abs() <= found.standard_error).all())
    assert bool((found.standard_error < (1e-4 if "mixture" in case else 1e-13)).all())
    with pytest.raises(NotImplementedError, match="expected continuous latents; got"):
        log_evidence((model, guide), x, method="ais")


def test_many_states_are_summed_in_parts_and_too_many_are_refused():
    x = BinaryBelief(4, 3).sample(3, seed=0)
    for num_bits in (3, 13):
        pair = BinaryBelief(4, num_bits, seed=1)
        found = log_evidence(pair, x, method="quadrature")
        gap = (found.mean - pair.exact.log_evidence(x).detach()).abs()
        assert bool((gap <= found.standard_error).all())
        assert found.num_samples == 2**num_bits
    with pytest.raises(
        ValueError, match=r"at most 1048576 joint states an example; got 2\^21 at 'z'"
    ):
        log_evidence(BinaryBelief(4, 21), x, method="quadrature")


def test_infinite_supports_are_not_summed():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Poisson(x.new_tensor(2.0)))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Poisson(torch.full_like(x, 2.0)))

    with pytest.raises(
        NotImplementedError, match="finitely many values.*; got Poisson at site 'z'"
    ):
        log_evidence((model, guide), torch.tensor([1.0, 2.0]), method="quadrature")


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


@pytest.mark.parametrize("kind", ["handler", "distribution"])
def test_an_example_whose_latent_is_masked_has_evidence_1_and_no_integral(kind):
    x, mask = torch.tensor([1.0, -0.5, 2.0]), torch.tensor([True, False, True])

    def masked(fn):
        return fn.mask(mask) if kind == "distribution" else fn

    def handler():
        return poutine.mask(mask=mask if kind == "handler" else torch.tensor(True))  # noqa: FBT003

    def model(x):
        with pyro.plate("data", len(x)), handler():
            z = pyro.sample("z", masked(dist.Normal(0.0, 1.0)))
            pyro.sample("x", masked(dist.Normal(z, 1.0)), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)), handler():
            pyro.sample("z", masked(dist.Normal(x / 2, 1.0)))

    found = log_evidence((model, guide), x, num_samples=5000)
    exact = torch.where(mask, dist.Normal(0.0, 2**0.5).log_prob(x), 0.0)
    assert bool(((found.mean - exact).abs() < BOUND * found.standard_error + 1e-12).all())
    with pytest.raises(NotImplementedError, match="'z', whose density is masked for some"):
        log_evidence((model, guide), x, method="quadrature")
