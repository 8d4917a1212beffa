"""Maximum likelihood and active units against mpmath, autograd and the posterior itself."""

import math

import mpmath as mp
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ppl_vae.closed_forms import linear_gaussian as lg

mp.mp.dps = 40


def examples(n=40, d=6, k=2, noise_scale=0.3):
    return torch.randn(n, k) @ torch.randn(k, d) * 2 + 1 + noise_scale * torch.randn(n, d)


def reference(x):
    """Mean, eigenvalues (largest first) and eigenvectors of the data covariance."""
    x = mp.matrix(x.double().tolist())
    n, d = x.rows, x.cols
    mean = [mp.fsum(x[:, j]) / n for j in range(d)]
    centred = mp.matrix(n, d)
    for i in range(n):
        for j in range(d):
            centred[i, j] = x[i, j] - mean[j]
    values, vectors = mp.eigsy(centred.T * centred / n)
    order = range(d - 1, -1, -1)
    return mean, [values[j] for j in order], [vectors[:, j] for j in order]


def relative(got, want):
    return max(float(abs(mp.mpf(g) - w) / abs(w)) for g, w in zip(got.tolist(), want, strict=True))


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
@pytest.mark.parametrize(
    ("n", "d", "k"), [(40, 6, 2), (40, 6, 5), (6, 9, 2), (9, 9, 3), (5, 2, 1)]
)
def test_maximum_likelihood_agrees_with_mpmath(dtype, bound, n, d, k):
    x = examples(n, d).to(dtype)
    mean, values, vectors = reference(x)
    weight, loc, noise_scale = lg.maximum_likelihood(x, k)
    assert weight.dtype == loc.dtype == noise_scale.dtype == dtype
    variance = mp.fsum(values[k:]) / (d - k)
    assert relative(noise_scale[None], [mp.sqrt(variance)]) < bound
    assert relative(loc, mean) < bound
    want = sum(((values[j] - variance) * vectors[j] * vectors[j].T for j in range(k)), mp.zeros(d))
    got = mp.matrix(weight.double().tolist())
    assert mp.norm(got * got.T - want) < 2 * bound * mp.norm(want)
    gram = weight.double().T @ weight.double()
    assert (gram - gram.diag().diag()).abs().max() < 4 * bound * gram.max()
    assert (weight.gather(0, weight.abs().argmax(0, keepdim=True)) >= 0).all()


def test_a_small_noise_keeps_its_digits():
    x = examples(noise_scale=1e-6)
    variance = mp.fsum(reference(x)[1][2:]) / 4
    noise_scale = lg.maximum_likelihood(x, 2).noise_scale
    # float64 holds x itself to 1e-16, a ten-thousand-millionth of the noise.
    assert relative(noise_scale[None], [mp.sqrt(variance)]) < 1e-10
    assert (
        relative(
            lg.maximum_likelihood(1e-3 * x + 1, 2).noise_scale[None],
            [mp.sqrt(mp.fsum(reference(1e-3 * x + 1)[1][2:]) / 4)],
        )
        < 1e-6
    )


def test_the_gradient_of_the_evidence_is_zero_at_the_maximum():
    x = examples()
    best = [t.requires_grad_() for t in lg.maximum_likelihood(x, 2)]
    evidence = lg.log_evidence(x, *best).sum()
    for gradient, value in zip(torch.autograd.grad(evidence, best), best, strict=True):
        assert (gradient.abs() * value.abs().max()).max() < 1e-10 * evidence.abs()
    values = lg.covariance_eigenvalues(x)
    n, d, k = 40, 6, 2
    noise = (d - k) * 2 * best[2].log()
    closed = -n / 2 * (d * math.log(2 * math.pi) + values[:k].log().sum() + noise + d)
    torch.testing.assert_close(evidence, closed, rtol=1e-13, atol=0)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), size=st.floats(-6, -1).map(lambda e: 10.0**e))
def test_no_change_of_the_parameters_is_likelier(seed, size):
    torch.manual_seed(seed)
    x = examples()
    best = lg.maximum_likelihood(x, 2)
    changed = [t + size * torch.randn_like(t) * t.abs().max() for t in best]
    if changed[2] > 0:
        top = lg.log_evidence(x, *best).sum()
        assert lg.log_evidence(x, *changed).sum() <= top + 1e-12 * top.abs()


def test_a_rotated_weight_is_as_likely_and_a_diagonal_guide_is_exact_unrotated():
    x = examples()
    weight, loc, noise_scale = lg.maximum_likelihood(x, 2)
    evidence = lg.log_evidence(x, weight, loc, noise_scale)
    rotation = torch.linalg.qr(torch.randn(2, 2)).Q
    rotated = lg.log_evidence(x, weight @ rotation, loc, noise_scale)
    torch.testing.assert_close(rotated, evidence, rtol=1e-12, atol=0)
    posterior = lg.posterior(x, weight, loc, noise_scale)
    bound = lg.elbo(x, weight, loc, noise_scale, posterior.mean, posterior.stddev)
    torch.testing.assert_close(bound, evidence, rtol=1e-12, atol=0)


def test_constant_pixels_stay_what_they_are():
    x = examples()
    x[:, 1], x[:, 4] = 0.0, 0.1
    weight, loc, noise_scale = lg.maximum_likelihood(x, 2)
    assert loc[[1, 4]].tolist() == [0.0, 0.1]
    assert (weight[[1, 4]].abs() < 1e-15).all()
    assert (lg.covariance_eigenvalues(x)[-2:] < 1e-30).all()
    assert lg.log_evidence(x, weight, loc, noise_scale).isfinite().all()


def test_more_dimensions_than_examples():
    x = examples(n=5, d=12)
    values = lg.covariance_eigenvalues(x)
    assert values.shape == (12,)
    assert (values[4:] < 1e-28 * values[0]).all()
    assert lg.log_evidence(x, *lg.maximum_likelihood(x, 3)).isfinite().all()
    with pytest.raises(ValueError, match="5 examples that do not: noise scale 0"):
        lg.maximum_likelihood(x, 4)


# Active units


def test_eigenvalues_and_active_units_agree_with_mpmath():
    x = examples()
    values = reference(x)[1]
    assert relative(lg.covariance_eigenvalues(x), values) < 1e-12
    scales = torch.tensor([[0.01, 0.25, 0.3], [0.35, 3.0, 30.0]])
    want = [[sum(v > mp.mpf(s) ** 2 for v in values) for s in row] for row in scales.tolist()]
    assert lg.expected_active_units(x, scales).tolist() == want
    capped = lg.expected_active_units(x, scales, latent_dim=1)
    assert capped.tolist() == [[min(count, 1) for count in row] for row in want]
    largest = float(mp.sqrt(values[0]))
    assert lg.expected_active_units(x, largest * (1 + 1e-12)) == 0
    assert lg.expected_active_units(x, largest * (1 - 1e-12)) == 1


def test_the_count_at_a_threshold_is_that_of_burda_at_the_best_weight():
    x = examples(n=200, d=6, k=4, noise_scale=1.0)
    values, vectors = torch.linalg.eigh((x - x.mean(0)).T @ (x - x.mean(0)) / len(x))
    for ratio in (0.5, 0.98, 0.995, 1.01):  # of the noise variance to the third eigenvalue
        noise_scale = (ratio * values[-3]).sqrt()
        lengths = (values - noise_scale**2).clamp_min(0).sqrt()
        posterior = lg.posterior(x, vectors * lengths, x.mean(0), noise_scale)
        variance = posterior.mean.var(0, correction=0)
        want = (1 - noise_scale**2 / values).clamp_min(0)
        torch.testing.assert_close(variance, want, rtol=1e-11, atol=1e-13)
        burda = lg.expected_active_units(x, noise_scale, threshold=0.01)
        assert burda == (variance > 0.01).sum()
        assert lg.expected_active_units(x, noise_scale) == (lengths > 0).sum() >= burda


def test_the_rank_of_the_fit_is_its_number_of_active_units():
    x = examples(k=3)
    weight, _, noise_scale = lg.maximum_likelihood(x, 4)
    assert lg.expected_active_units(x, noise_scale, latent_dim=4) == (weight.norm(dim=0) > 0).sum()


# Bad input


def test_bad_latent_dim():
    x = examples()
    for latent_dim in (6, 7):
        with pytest.raises(ValueError, match=f"latent_dim below .* 6; got {latent_dim}. Choose"):
            lg.maximum_likelihood(x, latent_dim)
    with pytest.raises(ValueError, match="latent_dim of at least 1; got 0"):
        lg.maximum_likelihood(x, 0)
    with pytest.raises(TypeError, match="latent_dim as an int; got float"):
        lg.maximum_likelihood(x, 2.0)
    with pytest.raises(ValueError, match="latent_dim of at least 1; got 0"):
        lg.expected_active_units(x, 1.0, latent_dim=0)


@pytest.mark.parametrize(
    "x",
    [
        torch.full((7, 4), 0.1),
        torch.randn(1, 4, generator=torch.Generator().manual_seed(0)),
        torch.randn(9, 2, generator=torch.Generator().manual_seed(0)) @ torch.ones(2, 4),
    ],
    ids=["all equal", "one example", "a line"],
)
def test_too_few_directions(x):
    with pytest.raises(ValueError, match="more than latent_dim = 2 directions; .*smaller"):
        lg.maximum_likelihood(x.double(), 2)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: lg.maximum_likelihood(x, 1),
        lg.covariance_eigenvalues,
        lambda x: lg.expected_active_units(x, 1.0),
    ],
    ids=["maximum_likelihood", "covariance_eigenvalues", "expected_active_units"],
)
def test_bad_data(function):
    with pytest.raises(ValueError, match=r"x of shape \(n, d\); got \(4,\)"):
        function(torch.randn(4))
    with pytest.raises(ValueError, match="x with at least one entry"):
        function(torch.randn(0, 4))
    with pytest.raises(ValueError, match="x: finite numbers only"):
        function(torch.full((3, 4), math.inf))
    with pytest.raises(TypeError, match="x of a floating dtype"):
        function(torch.ones(3, 4, dtype=torch.int64))


def test_bad_active_units():
    x = examples()
    with pytest.raises(ValueError, match=r"threshold in \[0, 1\); got 1"):
        lg.expected_active_units(x, 1.0, threshold=1)
    with pytest.raises(ValueError, match="noise_scale: finite numbers above 0 only"):
        lg.expected_active_units(x, -1.0)


@pytest.mark.parametrize("noise_scale", [0.3, 1.1, 4.0])
def test_a_given_noise_scale(noise_scale):
    """At the best weight for it the evidence has no gradient, and no change is likelier."""
    x = torch.randn(60, 5, generator=torch.Generator().manual_seed(1)) * torch.arange(1.0, 6.0) / 2
    weight, loc, s = lg.maximum_likelihood(x, 3, noise_scale=noise_scale)
    assert s == noise_scale
    above = lg.expected_active_units(x, noise_scale, latent_dim=3)
    assert (weight.square().sum(0) > 0).sum() == above
    weight, loc = weight.requires_grad_(), loc.requires_grad_()
    best = lg.log_evidence(x, weight, loc, s).mean()
    gradients = torch.autograd.grad(best, (weight, loc))
    assert max(g.abs().max() for g in gradients) < 1e-12
    for seed in range(20):
        noise = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))
        assert lg.log_evidence(x, weight + 0.1 * noise, loc, s).mean() < best
    free = lg.maximum_likelihood(x, 3)
    same = lg.maximum_likelihood(x, 3, noise_scale=free.noise_scale)
    torch.testing.assert_close(same.weight, free.weight, rtol=1e-12, atol=1e-12)
    x = torch.randn(9, 4)
    with pytest.raises(ValueError, match="noise_scale"):
        lg.maximum_likelihood(x, 2, noise_scale=0.0)
    with pytest.raises(ValueError, match="one noise_scale"):
        lg.maximum_likelihood(x, 2, noise_scale=torch.ones(2))
