"""Scales and masks on either side: annealing the KL, hiding entries."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from estimates import agree, mean_value, replicates, value_and_gradient
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO

from ppl_vae import LinearGaussian
from ppl_vae.diagnostics.comparison.replicates import bias_z_score
from ppl_vae.elbos import TraceAnalyticKL_ELBO

F64 = torch.float64
MANY = {"num_particles": 1000, "vectorize_particles": True, "max_plate_nesting": 1}
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
X = torch.tensor([0.4, 1.9, -0.8], dtype=F64)
LOC = torch.tensor([0.3, -0.2, 0.5], dtype=F64, requires_grad=True)
LOG_SCALE = torch.tensor(-0.5, dtype=F64, requires_grad=True)
MASKS = {
    "some": torch.tensor([True, False, True]),
    "others": torch.tensor([True, True, False]),
    "all": torch.tensor([True, True, True]),
}


def weighed(beta=1.0, mask="all"):
    def model():
        with pyro.plate("data", 3, dim=-1):
            with poutine.scale(scale=beta), poutine.mask(mask=MASKS[mask]):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=X)

    def guide():
        with pyro.plate("data", 3, dim=-1), poutine.scale(scale=beta):
            with poutine.mask(mask=MASKS[mask]):
                pyro.sample("z", dist.Normal(LOC, LOG_SCALE.exp()))

    return model, guide


@pytest.mark.parametrize(
    ("in_model", "in_guide"),
    [
        ((0.3, "all"), (1.0, "all")),
        ((1.0, "all"), (0.3, "all")),
        ((0.3, "all"), (0.3, "all")),
        ((torch.tensor(0.3), "all"), (torch.tensor(0.3), "all")),
        ((1.0, "some"), (1.0, "all")),
        ((1.0, "all"), (1.0, "some")),
        ((1.0, "some"), (1.0, "some")),
        ((0.3, "some"), (2.0, "others")),
    ],
    ids=str,
)
def test_scale_and_mask_on_either_side(in_model, in_guide):
    model, guide = weighed(*in_model)[0], weighed(*in_guide)[1]
    variance = (2 * LOG_SCALE).exp()
    log_p = -HALF_LOG_2PI - (LOC.square() + variance) / 2
    entropy = HALF_LOG_2PI + 0.5 + LOG_SCALE
    kl_part = in_model[0] * log_p * MASKS[in_model[1]] + in_guide[0] * entropy * MASKS[in_guide[1]]
    likelihood = -HALF_LOG_2PI - ((X - LOC).square() + variance) / 2
    by_hand = (likelihood + kl_part).sum()
    slopes = torch.cat(
        [g.flatten() for g in torch.autograd.grad(by_hand, [LOC, LOG_SCALE], retain_graph=True)]
    )
    ours, pyros = TraceAnalyticKL_ELBO(**MANY), Trace_ELBO(**MANY)
    assert agree(mean_value(ours, model, guide), by_hand.item())
    assert agree(mean_value(pyros, model, guide), by_hand.item())
    _, gradients = replicates(ours, model, guide, (), [LOC, LOG_SCALE], 40)
    assert bias_z_score(gradients - slopes, torch.full((4,), 1e-10)) < 4.5
    # Without the likelihood nothing is left to sample.
    silent = poutine.block(model, hide=["x"])
    value, gradient = value_and_gradient(
        TraceAnalyticKL_ELBO(strict=True), silent, guide, (), [LOC, LOG_SCALE]
    )
    torch.testing.assert_close(value, kl_part.sum().detach(), rtol=1e-12, atol=0)
    by_hand = torch.cat(
        [g.flatten() for g in torch.autograd.grad(kl_part.sum(), [LOC, LOG_SCALE])]
    )
    torch.testing.assert_close(gradient, by_hand, rtol=1e-12, atol=1e-14)


def test_annealing_the_whole_model_alone_changes_the_bound_where_pyros_does_not():
    pair = LinearGaussian(3, 2, seed=0)
    x = pair.sample(4, seed=0)
    annealed = poutine.scale(pair.model, scale=0.2)
    ours = mean_value(TraceAnalyticKL_ELBO(**MANY), annealed, pair.guide, x)
    assert agree(ours, mean_value(Trace_ELBO(**MANY), annealed, pair.guide, x, seed=1))
    pyros = mean_value(TraceMeanField_ELBO(**MANY), annealed, pair.guide, x)
    assert not agree(ours, pyros)
