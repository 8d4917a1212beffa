"""The optimum of the ELBO with a weighted KL against autograd and a direct search."""

import math

import pytest
import torch

from ppl_vae.closed_forms import linear_gaussian as lg

# Below 1, at 1, and above, where one unit after the other falls out of use.
WEIGHTS = [0.1, 1.0, 8.0, 20.0, 300.0]
NOISE_SCALE = 0.5


def examples(n=50, d=5):
    return torch.randn(n, d) * torch.arange(1.0, d + 1) / 2 + torch.randn(d)


def weighted_elbo(x, weight, loc, noise_scale, kl_weight, guide_loc, guide_scale):
    """E_q log p(x | z) - beta KL(q || p(z)) per example, term by term."""
    residual = (x - loc - guide_loc @ weight.T).square().sum(-1)
    spread = (guide_scale.square() @ weight.square().T).sum(-1)
    variance = noise_scale**2
    constant = x.shape[-1] * math.log(2 * math.pi * variance)
    fit = -0.5 * (constant + (residual + spread) / variance)
    kl = 0.5 * (guide_loc.square() + guide_scale.square() - 1) - guide_scale.log()
    return fit - kl_weight * kl.sum(-1)


def maximum(x, weight, loc, noise_scale, kl_weight):
    """The formula of the docstring, per example."""
    t = kl_weight**0.5 * noise_scale
    logs = kl_weight * math.log(2 * math.pi * t**2) - math.log(2 * math.pi * noise_scale**2)
    return kl_weight * lg.log_evidence(x, weight, loc, t) + x.shape[-1] / 2 * logs


def at_the_optimum(x, latent_dim, kl_weight):
    weight, loc, s = lg.weighted_maximum_likelihood(
        x, latent_dim, kl_weight=kl_weight, noise_scale=NOISE_SCALE
    )
    assert s == NOISE_SCALE
    guide = lg.posterior(x, weight, loc, kl_weight**0.5 * NOISE_SCALE)
    return weight, loc, guide.mean, guide.stddev


@pytest.mark.parametrize("kl_weight", WEIGHTS)
def test_the_gradient_is_zero_and_the_value_is_the_formula(kl_weight):
    x = examples()
    weight, loc, m, q = (t.clone().requires_grad_() for t in at_the_optimum(x, 3, kl_weight))
    values = weighted_elbo(x, weight, loc, NOISE_SCALE, kl_weight, m, q)
    want = maximum(x, weight, loc, NOISE_SCALE, kl_weight)
    torch.testing.assert_close(values, want, rtol=1e-12, atol=1e-11)
    for gradient in torch.autograd.grad(values.mean(), (weight, loc, m, q)):
        assert gradient.abs().max() < 1e-11 * max(1, kl_weight)


@pytest.mark.parametrize("kl_weight", WEIGHTS)
def test_a_direct_search_finds_no_larger_value_and_reaches_it(kl_weight):
    x = examples()
    weight, loc, _, _ = at_the_optimum(x, 3, kl_weight)
    want = maximum(x, weight, loc, NOISE_SCALE, kl_weight).mean()
    # An amortised affine guide with one scale for all: no more is needed.
    shapes = [(5, 3), (5,), (5, 3), (3,), (3,)]
    found = [(0.3 * torch.randn(shape)).requires_grad_() for shape in shapes]

    def loss():
        w, b, v, u, log_scale = found
        m = x @ v + u
        values = weighted_elbo(x, w, b, NOISE_SCALE, kl_weight, m, log_scale.exp().expand_as(m))
        return -values.mean() / max(1, kl_weight)

    optimizer = torch.optim.LBFGS(
        found,
        max_iter=5000,
        tolerance_grad=1e-9,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)
    got = -loss().item() * max(1, kl_weight)
    assert got <= want + 1e-11 * abs(want)
    assert got == pytest.approx(float(want), rel=1e-9)
    gram = found[0] @ found[0].T
    scale = max(1.0, float((weight @ weight.T).max()))
    torch.testing.assert_close(gram, weight @ weight.T, rtol=0, atol=1e-4 * scale)
    torch.testing.assert_close(found[1] + found[0] @ (x @ found[2] + found[3]).mean(0), x.mean(0))


@pytest.mark.parametrize("kl_weight", WEIGHTS)
def test_a_unit_is_in_use_where_its_eigenvalue_is_above_the_weighted_noise(kl_weight):
    x = examples()
    weight, _, _, q = at_the_optimum(x, 4, kl_weight)
    above = lg.covariance_eigenvalues(x)[:4] > kl_weight * NOISE_SCALE**2
    assert ((weight != 0).any(0) == above).all()
    assert ((q[0] != 1) == above).all()  # the guide of the others is the prior


def test_the_weights_here_take_units_out_of_use_one_by_one():
    values = lg.covariance_eigenvalues(examples())
    used = [(values[:4] > weight * NOISE_SCALE**2).sum().item() for weight in WEIGHTS]
    assert used[0] == 4
    assert used[-1] == 0
    assert len(set(used)) > 3


def test_a_weight_of_one_is_maximum_likelihood_with_the_noise_held():
    x = examples()
    for noise_scale in (0.3, 1.7):
        want = lg.maximum_likelihood(x, 3, noise_scale=noise_scale)
        got = lg.weighted_maximum_likelihood(x, 3, kl_weight=1.0, noise_scale=noise_scale)
        for one, other in zip(got, want, strict=True):
            assert torch.equal(one, other)


def test_tensors_and_single_precision():
    x = examples()
    want = lg.weighted_maximum_likelihood(x, 2, kl_weight=2.0, noise_scale=0.5)
    tensors = {"kl_weight": torch.tensor(2.0), "noise_scale": torch.tensor([0.5])}
    for one, other in zip(lg.weighted_maximum_likelihood(x, 2, **tensors), want, strict=True):
        assert torch.equal(one, other)
    single = lg.weighted_maximum_likelihood(x.float(), 2, kl_weight=2.0, noise_scale=0.5)
    for one, other in zip(single, want, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)


def test_numbers_keep_their_digits_beside_float64_data():
    """A Python number is not rounded to torch's default dtype first."""
    x = examples()
    want = lg.maximum_likelihood(x, 2, noise_scale=0.1)
    torch.set_default_dtype(torch.float32)
    for got in (
        lg.maximum_likelihood(x, 2, noise_scale=0.1),
        lg.weighted_maximum_likelihood(x, 2, kl_weight=1.0, noise_scale=0.1),
    ):
        assert got.noise_scale == 0.1
        assert torch.equal(got.weight, want.weight)


@pytest.mark.parametrize("name", ["kl_weight", "noise_scale"])
def test_bad_numbers(name):
    x, good = examples(), {"kl_weight": 2.0, "noise_scale": 0.5}
    for value in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"{name} finite and above 0; got {value}"):
            lg.weighted_maximum_likelihood(x, 2, **(good | {name: value}))
    with pytest.raises(ValueError, match=f"{name}: finite numbers above 0 only"):
        lg.weighted_maximum_likelihood(x, 2, **(good | {name: torch.tensor(-1.0)}))
    with pytest.raises(ValueError, match=rf"one {name}; got shape \(2,\). Call once for each"):
        lg.weighted_maximum_likelihood(x, 2, **(good | {name: torch.ones(2)}))
    for value in ("2", True, None):
        with pytest.raises(TypeError, match=f"{name} as a number; got {type(value).__name__}"):
            lg.weighted_maximum_likelihood(x, 2, **(good | {name: value}))
    with pytest.raises(TypeError, match=f"{name} of a floating dtype"):
        lg.weighted_maximum_likelihood(x, 2, **(good | {name: torch.tensor(2)}))


def test_bad_data_and_latent_dim():
    good = {"kl_weight": 2.0, "noise_scale": 0.5}
    with pytest.raises(ValueError, match="latent_dim below the data's dimension 5; got 5"):
        lg.weighted_maximum_likelihood(examples(), 5, **good)
    with pytest.raises(ValueError, match="latent_dim of at least 1; got 0"):
        lg.weighted_maximum_likelihood(examples(), 0, **good)
    with pytest.raises(TypeError, match="latent_dim as an int; got float"):
        lg.weighted_maximum_likelihood(examples(), 2.0, **good)
    with pytest.raises(ValueError, match=r"x of shape \(n, d\); got \(5,\)"):
        lg.weighted_maximum_likelihood(torch.ones(5), 2, **good)
    with pytest.raises(ValueError, match="x: finite numbers only"):
        lg.weighted_maximum_likelihood(torch.full((4, 5), math.nan), 2, **good)
    with pytest.raises(TypeError, match="x as a torch tensor; got list"):
        lg.weighted_maximum_likelihood([[1.0]], 2, **good)
