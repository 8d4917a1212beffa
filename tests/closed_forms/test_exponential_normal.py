"""Evidence, ELBO, best rate and KL of the toy against 60-digit arithmetic and quadrature."""

import mpmath as mp
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ppl_vae.closed_forms import exponential_normal as en

RTOL = {torch.float64: 1e-12, torch.float32: 1e-5}
SETTINGS = settings(max_examples=40, deadline=None, derandomize=True)
LOG_SCALE = st.floats(-3, 3)
B = st.one_of(st.sampled_from([0.0, 1e4, -1e4]), st.floats(-1e4, 1e4), st.floats(-3, 3))


@pytest.fixture(autouse=True, scope="module")
def _digits():
    with mp.workdps(60):
        yield


def data(n, scale, prior, b, seed, spread=1.0):
    """Return a data set with S - lam close to b."""
    noise = torch.randn(n, generator=torch.Generator().manual_seed(seed)) * scale * spread
    return noise - noise.mean() + (b + prior) * scale**2 / n


def exact(*tensors):
    return [mp.mpf(t.item()) if t.dim() == 0 else [mp.mpf(v) for v in t.tolist()] for t in tensors]


def log_ndtr(t):
    tail = mp.erfc(abs(t) / mp.sqrt(2)) / 2
    return mp.log(tail) if t < 0 else mp.log1p(-tail)


class Reference:
    """maths.md section 1, literally, with 60 digits."""

    def __init__(self, x, prior, scale, rate=None):
        x, lam, s = exact(x, prior, scale)
        self.x, self.lam, self.s, n = x, lam, s, len(x)
        self.m = m = n / s**2
        self.b = b = mp.fsum(x) / s**2 - lam
        t = b / mp.sqrt(m)
        evidence = [mp.log(lam), -mp.fsum(v * v for v in x) / (2 * s**2)]
        evidence += [-mp.mpf(n) / 2 * mp.log(2 * mp.pi * s**2), mp.log(2 * mp.pi / m) / 2]
        evidence += [b**2 / (2 * m) + log_ndtr(t)]
        self.log_evidence = mp.fsum(evidence)
        # Where the terms cancel, the rounding of the largest is what float64 leaves.
        self.size = max(abs(v) for v in evidence[1:3])
        root = mp.sqrt(b * b + 8 * m)
        self.optimal = (root - b) / 2 if b < 0 else 4 * m / (root + b)
        hazard = mp.npdf(t) / (mp.erfc(-t / mp.sqrt(2)) / 2)
        self.mean = (t + hazard) / mp.sqrt(m)
        self.variance = (1 - hazard * (t + hazard)) / m
        if rate is not None:
            (r,) = exact(rate)
            self.r = r
            self.elbo = evidence[0] + evidence[1] + evidence[2] + b / r - m / r**2 - mp.log(r) + 1
            self.kl = self.log_evidence - self.elbo

    def gradients(self, mean, variance):
        """d/dx, d/dlam, d/ds of E[log p(x, z)] for a density of z with that mean and variance."""
        x, s = self.x, self.s
        squares = mp.fsum((v - mean) ** 2 for v in x) + len(x) * variance
        return [(mean - v) / s**2 for v in x], 1 / self.lam - mean, (squares / s**2 - len(x)) / s


def assert_close(value, reference, rtol, floor=0):
    error = abs(mp.mpf(value.item()) - reference)
    bound = rtol * abs(reference) + 4e-15 * floor
    assert error <= bound, (value.item(), mp.nstr(reference, 20), mp.nstr(error, 3))


@SETTINGS
@given(
    n=st.sampled_from([1, 2, 3, 10, 1000]),
    log_scale=LOG_SCALE,
    log_prior=st.floats(-4, 5),
    b=B,
    log_factor=st.sampled_from([0.0, 0.0, 1e-9, -1e-4, 0.3, -0.5, 2.0, -2.0]),
    spread=st.sampled_from([0.0, 1.0, 30.0]),
    dtype=st.sampled_from([torch.float64, torch.float32]),
)
@example(5, 0.0, 0.0, 1e4, 0.0, 1.0, torch.float32)
@example(1, 3.0, 4.0, 0.0, 0.0, 0.0, torch.float64)
@example(1, 3.0, 0.0, -1e4, 1e-9, 0.0, torch.float64)
@example(1000, -3.0, 5.0, -1e4, 0.0, 1.0, torch.float64)
def test_values_agree_with_sixty_digits(n, log_scale, log_prior, b, log_factor, spread, dtype):
    scale, prior = 10**log_scale, 10**log_prior
    x = data(n, scale, prior, b, seed=n, spread=spread).to(dtype)
    prior, scale = torch.tensor(prior, dtype=dtype), torch.tensor(scale, dtype=dtype)
    options = {"prior_rate": prior, "noise_scale": scale}
    optimal = en.optimal_guide_rate(x, **options)
    rate = optimal * 10**log_factor
    reference = Reference(x, prior, scale, rate)
    rtol = RTOL[dtype]

    assert_close(optimal, reference.optimal, rtol)
    assert_close(en.log_evidence(x, **options), reference.log_evidence, rtol, reference.size)
    assert_close(en.elbo(x, rate, **options), reference.elbo, rtol, reference.size)
    kl = en.kl_to_posterior(x, rate, **options)
    assert kl > 0
    assert kl.dtype == optimal.dtype == dtype
    assert_close(kl, reference.kl, rtol)


@pytest.mark.parametrize("t", [-1e7, -1e4, -300.0, -20.0, -5.0, -2.6, -2.5, -2.4, -1.0, 0.0, 3.0])
@pytest.mark.parametrize("offset", [0.0, 1e-14, -1e-12, 1e-8, -1e-8, 1e-4, 0.4, -0.4, 1e6])
def test_kl_keeps_its_digits_around_the_best_rate(t, offset):
    # At t = -1e7 and r = r* the KL is 5e-29, and the evidence and the ELBO agree in all digits.
    scale = torch.tensor(1e3)
    x = torch.tensor([(t / scale.item() + 1) * scale.item() ** 2])
    rate = en.optimal_guide_rate(x, noise_scale=scale) * (1 + offset)
    reference = Reference(x, torch.tensor(1.0), scale, rate)
    assert_close(en.kl_to_posterior(x, rate, noise_scale=scale), reference.kl, 1e-12)


@SETTINGS
@given(
    n=st.sampled_from([1, 2, 7]),
    log_scale=st.floats(-2, 2),
    log_prior=st.floats(-2, 2),
    b=B,
    log_factor=st.floats(-1, 1),
)
@example(3, 0.0, 0.0, 0.0, 0.0)
def test_gradients_agree_with_sixty_digits(n, log_scale, log_prior, b, log_factor):
    prior = torch.tensor(10**log_prior, requires_grad=True)
    scale = torch.tensor(10**log_scale, requires_grad=True)
    x = data(n, scale.item(), prior.item(), b, seed=n).requires_grad_()
    options = {"prior_rate": prior, "noise_scale": scale}
    rate = (en.optimal_guide_rate(x, **options) * 10**log_factor).detach().requires_grad_()
    ref = Reference(x, prior, scale, rate)
    r, lam, s = ref.r, ref.lam, ref.s

    # The sizes of the terms of each gradient, which cancel where it crosses 0.
    size = max(abs(v) for v in ref.x) + ref.mean + 1 / r
    sizes = [size / s**2, size + 1 / lam, n / s + n * size**2 / s**3]
    sizes.append(mp.fsum(abs(v) for v in ref.x) / (s * r) ** 2 + lam / r**2 + ref.m / r**3 + 1 / r)
    posterior, guide = ref.gradients(ref.mean, ref.variance), ref.gradients(1 / r, 1 / r**2)
    by_rate = -ref.b / r**2 + 2 * ref.m / r**3 - 1 / r

    def check(value, inputs, expected):
        gradients = torch.autograd.grad(value, inputs)
        for gradient, wanted, floor in zip(gradients, expected, sizes, strict=False):
            wanted = wanted if isinstance(wanted, list) else [wanted]
            for g, w in zip(gradient.reshape(-1), wanted, strict=True):
                assert_close(g, w, 1e-12, floor)

    check(en.log_evidence(x, **options), (x, prior, scale), posterior)
    check(en.elbo(x, rate, **options), (x, prior, scale, rate), (*guide, by_rate))
    difference = [p - q for p, q in zip(posterior[0], guide[0], strict=True)]
    difference = (difference, posterior[1] - guide[1], posterior[2] - guide[2], -by_rate)
    check(en.kl_to_posterior(x, rate, **options), (x, prior, scale, rate), difference)


def test_gradients_are_twice_differentiable():
    x = torch.tensor([[0.3, 1.2], [-9.0, -4.0], [4.0, 5.0]], requires_grad=True)
    rate = torch.tensor([1.5, 30.0, 0.4], requires_grad=True)
    prior, scale = torch.tensor(1.3, requires_grad=True), torch.tensor(0.8, requires_grad=True)

    def evidence(x, prior, scale):
        return en.log_evidence(x, prior_rate=prior, noise_scale=scale)

    def kl(x, rate, prior, scale):
        return en.kl_to_posterior(x, rate, prior_rate=prior, noise_scale=scale)

    assert torch.autograd.gradgradcheck(evidence, (x, prior, scale))
    assert torch.autograd.gradgradcheck(kl, (x, rate, prior, scale))


def test_evidence_elbo_and_kl_are_the_integrals_they_claim_to_be():
    x, lam, s, r = torch.tensor([0.7, -0.4, 1.1]), 1.7, 0.6, 2.3
    options = {"prior_rate": lam, "noise_scale": s}

    def log_joint(z):
        value = mp.log(lam) - lam * z
        for v in x.tolist():
            value += -mp.log(s * mp.sqrt(2 * mp.pi)) - ((v - z) / s) ** 2 / 2
        return value

    def log_guide(z):
        return mp.log(r) - r * z

    with mp.workdps(20):
        grid = [0, 0.5, 1, 2, 5, 20]
        evidence = mp.log(mp.quad(lambda z: mp.exp(log_joint(z)), grid))
        elbo = mp.quad(lambda z: mp.exp(log_guide(z)) * (log_joint(z) - log_guide(z)), grid)
    assert_close(en.log_evidence(x, **options), evidence, 1e-12)
    assert_close(en.elbo(x, r, **options), elbo, 1e-12)
    assert_close(en.kl_to_posterior(x, r, **options), evidence - elbo, 1e-12)
    posterior = en.posterior(x, **options)
    for z in (0.0, 0.2, 1.5):
        expected = log_joint(mp.mpf(z)) - evidence
        assert_close(posterior.log_prob(torch.tensor(z)), expected, 1e-12)


def test_the_elbo_is_largest_at_the_optimal_rate():
    x = torch.tensor([[0.3, 1.2], [-9.0, -4.0], [40.0, 50.0]])
    best = en.optimal_guide_rate(x).requires_grad_()
    (slope,) = torch.autograd.grad(en.elbo(x, best).sum(), best)
    torch.testing.assert_close(slope * best, torch.zeros(3), atol=1e-10, rtol=0)
    for factor in (0.99, 1.01):
        assert (en.elbo(x, best) > en.elbo(x, best * factor)).all()


def test_numbers_keep_their_digits_beside_float32_data():
    x = torch.tensor([0.1 * 1e6], dtype=torch.float32)  # B = 0 to seven digits
    result = en.optimal_guide_rate(x, prior_rate=0.1, noise_scale=1e3)
    reference = Reference(x, torch.tensor(0.1), torch.tensor(1e3))
    assert result.dtype == torch.float32
    assert_close(result, reference.optimal, 1e-6)


def test_posterior_returns_the_dtype_of_the_data_but_keeps_its_digits():
    x = torch.tensor([-9999.0], dtype=torch.float32)
    posterior = en.posterior(x)
    z = torch.tensor([1e-4, 3e-4], dtype=torch.float32)
    rate = mp.mpf(10000)
    for value, result in zip(z.tolist(), posterior.log_prob(z), strict=True):
        assert result.dtype == torch.float32
        assert_close(result, mp.log(rate) - rate * mp.mpf(value), 1e-6)
    assert posterior.mean.dtype == posterior.loc.dtype == posterior.sample().dtype == torch.float32
