"""The linear Gaussian model against mpmath, torch's full covariance, quadrature and autograd."""

import mpmath as mp
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from torch.distributions import MultivariateNormal, kl_divergence

from ppl_vae.closed_forms import linear_gaussian as lg

mp.mp.dps = 50


def example(d=6, k=3, n=4, noise_scale=0.7, dtype=torch.float64):
    x, weight, loc = torch.randn(n, d), torch.randn(d, k), torch.randn(d)
    noise = torch.tensor(noise_scale)
    return tuple(t.to(dtype) for t in (x, weight, loc, noise))


def full_guide(*batch, k=3):
    return torch.randn(*batch, k), torch.randn(*batch, k, k).tril(-1) + torch.diag_embed(
        torch.rand(*batch, k) + 0.3
    )


def precise(*tensors):
    return [mp.matrix(t.double().tolist()) for t in tensors]


def reference_evidence(x, weight, loc, noise_scale):
    """log p(x) from the d x d covariance; and the size of its largest term."""
    d = len(x)
    x, weight, loc = precise(x, weight, loc)
    covariance = weight * weight.T + mp.mpf(noise_scale.item()) ** 2 * mp.eye(d)
    quadratic = ((x - loc).T * mp.lu_solve(covariance, x - loc))[0]
    log_det = mp.log(mp.det(covariance))
    terms = (d * mp.log(2 * mp.pi), log_det, quadratic)
    return -mp.fsum(terms) / 2, max(abs(t) for t in terms)


def reference_posterior(x, weight, loc, noise_scale):
    x, weight, loc = precise(x, weight, loc)
    variance = mp.mpf(noise_scale.item()) ** 2
    precision = weight.T * weight / variance + mp.eye(weight.cols)
    covariance = mp.inverse(precision)
    return covariance * weight.T * (x - loc) / variance, covariance


def reference_elbo(x, weight, loc, noise_scale, mean, scale_tril):
    """E_q of log p(x | z) + log p(z) - log q(z) from moments; and its largest term."""
    x, weight, loc, mean, tril = precise(x, weight, loc, mean, scale_tril)
    variance, covariance = mp.mpf(noise_scale.item()) ** 2, tril * tril.T
    d, k = weight.rows, weight.cols
    residual = x - loc - weight * mean
    spread = weight * covariance * weight.T
    squares = (residual.T * residual)[0] + sum(spread[i, i] for i in range(d))
    norm = (mean.T * mean)[0] + sum(covariance[i, i] for i in range(k))
    entropy = mp.fsum(mp.log(tril[i, i]) for i in range(k)) + k * (1 + mp.log(2 * mp.pi)) / 2
    likelihood = -(d * mp.log(2 * mp.pi * variance) + squares / variance) / 2
    prior = -(k * mp.log(2 * mp.pi) + norm) / 2
    terms = (d * mp.log(2 * mp.pi * variance), squares / variance, prior, entropy)
    return likelihood + prior + entropy, max(abs(t) for t in terms)


def assert_close(got, want, terms=0, *, bound=1e-12):
    """Within `bound` of the answer, or of its largest term where its terms cancel."""
    error = abs(mp.mpf(float(got)) - want) / max(abs(want), abs(terms))
    assert error < bound, float(error)


# Against independent sources


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
@pytest.mark.parametrize(("d", "k"), [(1, 1), (5, 1), (6, 3), (8, 7), (3, 5), (40, 10)])
@pytest.mark.parametrize("noise_scale", [1e-3, 0.7, 1e3])
def test_everything_agrees_with_mpmath(dtype, bound, d, k, noise_scale):
    x, weight, loc, noise = example(d, k, 2, noise_scale, dtype)
    posterior = lg.posterior(x, weight, loc, noise)
    evidence = lg.log_evidence(x, weight, loc, noise)
    mean, tril = (t.to(dtype) for t in full_guide(2, k=k))
    scale = tril.diagonal(dim1=-2, dim2=-1)
    full = lg.elbo_full(x, weight, loc, noise, mean, tril)
    diagonal = lg.elbo(x, weight, loc, noise, mean, scale)
    for i in range(2):
        arguments = (x[i], weight, loc, noise)
        assert_close(evidence[i], *reference_evidence(*arguments), bound=bound)
        assert_close(full[i], *reference_elbo(*arguments, mean[i], tril[i]), bound=bound)
        assert_close(
            diagonal[i], *reference_elbo(*arguments, mean[i], scale[i].diag()), bound=bound
        )
        loc_, covariance = reference_posterior(*arguments)
        got_loc, got_covariance = precise(posterior.mean[i], posterior.covariance_matrix[i])
        assert mp.norm(got_loc - loc_) < bound * mp.norm(loc_)
        assert mp.norm(got_covariance - covariance) < bound * mp.norm(covariance)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    d=st.integers(1, 7),
    k=st.integers(1, 7),
    rank=st.integers(0, 7),
    weight_scale=st.floats(-6, 6).map(lambda e: 10.0**e),
    noise_scale=st.floats(-6, 6).map(lambda e: 10.0**e),
    seed=st.integers(0, 1000),
)
def test_evidence_with_weights_of_any_rank_and_size(d, k, rank, weight_scale, noise_scale, seed):
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.randn(n, rank, generator=generator) for n in (d, k))
    weight = weight_scale * left @ right.T
    noise = torch.tensor(noise_scale)
    x = weight @ torch.randn(k, generator=generator)
    x = x + noise * torch.randn(d, generator=generator)
    want = reference_evidence(x, weight, torch.zeros(d), noise)
    # In units of the noise, float64 holds x and W no better than this: where it is above 1e-13,
    # changes of x in its last digit change more of the evidence than the twelfth.
    held = 1e-16 * weight_scale / noise_scale
    assert_close(lg.log_evidence(x, weight, 0.0, noise), *want, bound=1e-12 + 20 * held)


@pytest.mark.parametrize("noise_scale", [0.05, 1.0])
def test_elbo_agrees_with_quadrature(noise_scale):
    """Densities on a grid of two standard Normal draws: the trapezium rule errs by 1e-23."""
    x, weight, loc, noise = example(3, 2, 1, noise_scale)
    mean, tril = full_guide(k=2)
    got = lg.elbo_full(x, weight, loc, noise, mean, tril)[0]
    x, weight, loc, mean, tril = precise(x[0], weight, loc, mean, tril)
    step, noise = mp.mpf("0.6"), mp.mpf(noise.item())

    def log_normal(y, scale):
        return -mp.log(2 * mp.pi * scale**2) / 2 - (y / scale) ** 2 / 2

    total = mp.mpf(0)
    for u in range(-18, 19):
        for v in range(-18, 19):
            draw = mp.matrix([step * u, step * v])
            z = mean + tril * draw
            residual = x - loc - weight * z
            log_q = log_normal(draw[0], 1) + log_normal(draw[1], 1)
            log_p = sum(log_normal(r, noise) for r in residual) + sum(log_normal(t, 1) for t in z)
            log_ratio = log_p - (log_q - mp.log(tril[0, 0] * tril[1, 1]))
            total += step**2 * mp.exp(log_q) * log_ratio
    assert_close(got, total)


def test_evidence_and_posterior_agree_with_the_full_covariance():
    x, weight, loc, noise = example(d=30, k=5, n=20)
    full = MultivariateNormal(loc, weight @ weight.T + noise**2 * torch.eye(30))
    evidence = lg.log_evidence(x, weight, loc, noise)
    torch.testing.assert_close(evidence, full.log_prob(x), rtol=1e-12, atol=0)
    z = torch.randn(20, 5)
    joint = torch.distributions.Normal(z @ weight.T + loc, noise).log_prob(x).sum(-1)
    joint = joint + torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
    bayes = joint - lg.posterior(x, weight, loc, noise).log_prob(z)
    torch.testing.assert_close(bayes, evidence, rtol=1e-12, atol=0)


def test_elbo_is_evidence_less_the_divergence_to_the_posterior():
    model = example(n=4)
    evidence, posterior = lg.log_evidence(*model), lg.posterior(*model)
    mean, tril = full_guide(4)
    gap = kl_divergence(MultivariateNormal(mean, scale_tril=tril), posterior)
    got = lg.elbo_full(*model, mean, tril)
    torch.testing.assert_close(got, evidence - gap, rtol=1e-12, atol=0)
    scale = tril.diagonal(dim1=-2, dim2=-1)
    gap = kl_divergence(MultivariateNormal(mean, scale_tril=scale.diag_embed()), posterior)
    got = lg.elbo(*model, mean, scale)
    torch.testing.assert_close(got, evidence - gap, rtol=1e-12, atol=0)
    at_posterior = lg.elbo_full(*model, posterior.mean, posterior.scale_tril)
    torch.testing.assert_close(at_posterior, evidence, rtol=1e-14, atol=0)


def test_a_diagonal_guide_is_exact_where_the_columns_are_orthogonal():
    x, weight, loc, noise = example()
    weight = torch.linalg.qr(weight).Q * torch.tensor([2.0, 1.0, 0.5])
    posterior = lg.posterior(x, weight, loc, noise)
    got = lg.elbo(x, weight, loc, noise, posterior.mean, posterior.stddev)
    want = lg.log_evidence(x, weight, loc, noise)
    torch.testing.assert_close(got, want, rtol=1e-14, atol=0)


# Gradients


@pytest.mark.parametrize("k", [2, 5])
def test_gradients(k):
    x, weight, loc, noise = (t.requires_grad_() for t in example(d=4, k=k, n=2))
    mean, tril = full_guide(2, k=k)
    mean.requires_grad_()
    scale = tril.diagonal(dim1=-2, dim2=-1).clone().requires_grad_()
    lower = tril.tril(-1).requires_grad_()

    def full(x, weight, loc, noise, mean, scale, lower):
        return lg.elbo_full(x, weight, loc, noise, mean, lower.tril(-1) + scale.diag_embed())

    def moments(*model):
        posterior = lg.posterior(*model)
        return posterior.mean, posterior.scale_tril[0]

    model = (x, weight, loc, noise)
    assert gradcheck(lg.log_evidence, model)
    assert gradgradcheck(lg.log_evidence, model, fast_mode=True)
    assert gradcheck(moments, model)
    assert gradcheck(lg.elbo, (*model, mean, scale))
    assert gradgradcheck(lg.elbo, (*model, mean, scale), fast_mode=True)
    assert gradcheck(full, (*model, mean, scale, lower))


def test_gradients_are_finite_in_corners():
    for weight in (torch.zeros(4, 2), torch.ones(4, 2), 1e6 * torch.ones(4, 2)):
        model = [torch.zeros(3, 4), weight, torch.zeros(4), torch.tensor(1e-3)]
        model = [t.requires_grad_() for t in model]
        for gradient in torch.autograd.grad(lg.log_evidence(*model).sum(), model):
            assert gradient.isfinite().all()
