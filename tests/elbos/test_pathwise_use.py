"""Every estimator of ours in Pyro's own training, in float32, unchecked, and at what cost."""

import time

import pyro
import pytest
import torch
from estimates import mean_value, value_and_gradient
from pyro.infer import SVI, Trace_ELBO

from ppl_vae import BernoulliVAE, GaussianChain, LinearGaussian
from ppl_vae.elbos import (
    TraceAnalyticKL_ELBO,
    TraceDReG_ELBO,
    TraceIWAE_ELBO,
    TraceScoreFunction_ELBO,
    TraceSTL_ELBO,
)

ALL = {
    "analytic-kl": TraceAnalyticKL_ELBO,
    "sticking-the-landing": TraceSTL_ELBO,
    "score-function": TraceScoreFunction_ELBO,
    "iwae": TraceIWAE_ELBO,
    "dreg": TraceDReG_ELBO,
}
every = pytest.mark.parametrize("name", ALL)


@pytest.mark.parametrize("kind", ["top-down", "bottom-up"])
@every
def test_pyros_svi_trains_to_the_posterior(name, kind):
    x = torch.tensor([[1.3], [-0.7], [0.2]]).repeat(50, 1)
    pair = GaussianChain(guide=kind, initial={"s1": 0.4, "s2": 1.6})
    svi_elbo = ALL[name](3, vectorize_particles=True, max_plate_nesting=1)
    torch.manual_seed(0)
    schedule = pyro.optim.ExponentialLR(
        {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.1}, "gamma": 0.97}
    )
    svi = SVI(pair.model, pair.guide, schedule, svi_elbo)
    before = (pair.exact.log_evidence(x) - pair.exact.elbo(x)).sum().item()
    for _ in range(150):
        loss = svi.step(x)
        schedule.step()
    assert isinstance(loss, float)
    assert isinstance(svi.evaluate_loss(x), float)
    after = (pair.exact.log_evidence(x) - pair.exact.elbo(x)).sum().item()
    assert after < 0.02 * before


@every
def test_elbo_modules_and_gradients_add_up(name):
    pair, x = LinearGaussian(3, 2, seed=0), torch.randn(4, 3)
    parameters = list(pair.parameters())
    elbo = ALL[name](2)
    torch.manual_seed(0)
    value, gradient = value_and_gradient(elbo, pair.model, pair.guide, (x,), parameters)
    for times in (1, 2):
        torch.manual_seed(0)
        loss = elbo.loss_and_grads(pair.model, pair.guide, x)
        found = torch.cat([p.grad.flatten() for p in parameters])
        torch.testing.assert_close(found, -times * gradient)
        torch.testing.assert_close(torch.as_tensor(loss), -value)
    for grad in (True, False):
        torch.manual_seed(0)
        with torch.set_grad_enabled(grad):
            assert elbo.loss(pair.model, pair.guide, x) == pytest.approx(-value.item(), rel=1e-12)


@every
def test_without_validation_all_is_the_same(name):
    pair, x = GaussianChain(guide="bottom-up"), torch.tensor([[1.3], [0.2]])
    found = []
    for validation in (True, False):
        torch.manual_seed(3)
        with pyro.validation_enabled(validation):
            elbo = ALL[name](3)
            found.append(
                value_and_gradient(elbo, pair.model, pair.guide, (x,), list(pair.parameters()))
            )
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize("default", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["top-down", "bottom-up"])
@every
def test_float32_stays_float32_and_is_as_right(name, kind, default):
    torch.set_default_dtype(default)
    double = GaussianChain(guide=kind).double()
    single = GaussianChain(guide=kind).float()
    x = torch.tensor([[1.3], [0.2]])
    elbo = ALL[name](2)
    torch.manual_seed(0)
    value, gradient = value_and_gradient(
        elbo, single.model, single.guide, (x.float(),), list(single.parameters())
    )
    assert value.dtype == gradient.dtype == torch.float32
    means = [
        mean_value(ALL[name](300, vectorize_particles=True), p.model, p.guide, x.to(p.dtype))
        for p in (single, double)
    ]
    error = sum(m.standard_error**2 for m in means) ** 0.5
    assert abs(means[0].mean - means[1].mean) < 4.5 * error


@pytest.mark.slow
@pytest.mark.parametrize("validation", [True, False])
def test_cost_against_trace_elbo(validation):
    """Side by side on the VAE for MNIST: medians of interleaved gradients."""
    torch.set_default_dtype(torch.float32)
    pair = BernoulliVAE((1, 28, 28), hidden=(256, 128), seed=0)
    x = (torch.rand(100, 1, 28, 28) < 0.3).float()
    estimators = [Trace_ELBO(), TraceAnalyticKL_ELBO(), TraceSTL_ELBO()]
    seconds = [[] for _ in estimators]
    with pyro.validation_enabled(validation):
        for _ in range(120):
            for elbo, times in zip(estimators, seconds, strict=True):
                for parameter in pair.parameters():
                    parameter.grad = None
                began = time.perf_counter()
                elbo.loss_and_grads(pair.model, pair.guide, x)
                times.append(time.perf_counter() - began)
    plain, *ours = (sorted(times[20:])[50] for times in seconds)
    assert all(median < 1.3 * plain for median in ours), [median / plain for median in ours]
