"""Particles drawn together: the numbers of each by itself, or one after the other."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO

from ppl_vae import BinaryLatentVAE, LinearGaussian, compare_elbos
from ppl_vae.elbos import ESTIMATORS, make
from ppl_vae.elbos.serving import those_that_serve
from ppl_vae.elbos.sites.draws import Program
from ppl_vae.elbos.vectorising import vectorised


def programs():
    """16 numbers a particle: torch draws 64 of them as it does 16 four times."""
    linear = LinearGaussian(5, 4, seed=0)
    yield linear, linear.sample(4, seed=0)
    yield BinaryLatentVAE((1, 2, 2), latent_dim=4, seed=0), torch.ones(4, 1, 2, 2)


def loss_and_gradients(elbo, pair, x):
    torch.manual_seed(3)
    pair.zero_grad()
    loss = torch.as_tensor(elbo.loss_and_grads(pair.model, pair.guide, x)).detach()
    return [loss, *(torch.zeros_like(p) if p.grad is None else p.grad for p in pair.parameters())]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_named_particles_are_those_of_the_loop(name):
    tried = 0
    for pair, x in programs():
        program = Program(pair.model, pair.guide, (x,), {})
        serving = those_that_serve(program, num_particles=4)[0]
        if name not in serving:
            continue
        loop = serving[name]
        together = vectorised(loop, program)
        if name in ("enumerate", "exact"):
            assert together is loop
        elif name != "disarm":  # whose pairs share their noise, and draw it together
            assert together.vectorize_particles
            expected = loss_and_gradients(loop, pair, x)
            found = loss_and_gradients(together, pair, x)
            for first, second in zip(found, expected, strict=True):
                torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-12)
        tried += 1
    assert tried


def guide(x):
    loc = pyro.param("loc", torch.zeros(len(x)))
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(loc, 1.0))


def summing(x):
    """Adds the latents of all that it is given."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(z.sum(), 1.0), obs=x.sum())


def looping(x):
    for i in pyro.plate("data", len(x)):
        z = pyro.sample(f"z{i}", dist.Normal(0.0, 1.0))
        pyro.sample(f"x{i}", dist.Normal(z, 1.0), obs=x[i])


def guide_looping(x):
    for i in pyro.plate("data", len(x)):
        pyro.sample(f"z{i}", dist.Normal(0.0, 1.0))


def some(x):
    with pyro.plate("data", len(x), subsample_size=2) as index:
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x[index])


def guide_some(x):
    with pyro.plate("data", len(x), subsample_size=2):
        pyro.sample("z", dist.Normal(0.0, 1.0))


def looking(x):
    """Counts on the number of latents."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(torch.stack([z[i] for i in range(len(x))]), 1.0), obs=x)


@pytest.mark.parametrize(
    ("model", "guide", "allows"),
    [
        (summing, guide, False),
        (looking, guide, False),
        (some, guide_some, False),
        (looping, guide_looping, True),
    ],
)
def test_what_adds_counts_or_chooses_is_drawn_one_by_one(model, guide, allows):
    x = torch.tensor([0.3, -1.0, 0.2, 0.9, 0.1])
    program = Program(model, guide, (x,), {})
    elbo = vectorised(make("trace", num_particles=3), program)
    assert elbo.vectorize_particles == allows
    weighted = vectorised(make("trace", num_particles=3, kl_weight=0.5), program)
    assert weighted.elbo.vectorize_particles == allows


def test_the_comparison_draws_particles_together_and_keeps_an_estimator_that_is_given():
    pair = LinearGaussian(5, 4, seed=0)
    x = pair.sample(4, seed=0)
    given = Trace_ELBO(num_particles=8)
    options = {"num_replicates": 60, "seed": 2, "device": "cpu"}
    named = compare_elbos(pair, x, ["trace"], num_particles=8, **options)["trace"]
    loop = compare_elbos(pair, x, {"trace": given}, **options)["trace"]
    assert not given.vectorize_particles
    assert named.value.mean == pytest.approx(loop.value.mean, rel=1e-12)
    variances = [row.gradient_variance["overall"].mean for row in (named, loop)]
    assert variances[0] == pytest.approx(variances[1], rel=1e-9)
    assert named.peak_bytes != loop.peak_bytes
