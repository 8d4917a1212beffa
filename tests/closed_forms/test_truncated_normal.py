"""The truncated Normal against 60-digit arithmetic, from loc/scale = -1e4 to 1e4."""

import math

import mpmath as mp
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ppl_vae.closed_forms.numerics import special as _special
from ppl_vae.closed_forms.truncated_normal import TruncatedNormal

RATIOS = [-1e7, -1e4, -300.0, -30.0, -6.0, -2.6, -2.5, -2.4, -1.0, -1e-3]
RATIOS += [0.0, 1e-3, 0.5, 1.5, 3.0, 8.0, 30.0, 1e3, 1e4]
SETTINGS = settings(max_examples=60, deadline=None, derandomize=True)


@pytest.fixture(autouse=True, scope="module")
def _digits():
    with mp.workdps(60):
        yield


def upper(t):
    """Return 1 - Phi(t) with full relative precision."""
    return mp.erfc(t / mp.sqrt(2)) / 2


class Reference:
    def __init__(self, loc, scale):
        self.loc, self.scale = mp.mpf(loc), mp.mpf(scale)
        self.t = self.loc / self.scale
        self.hazard = mp.npdf(self.t) / upper(-self.t)

    def density(self, z):
        y = (mp.mpf(z) - self.loc) / self.scale
        return mp.npdf(y) / upper(-self.t) / self.scale

    def survival(self, z):
        return upper((mp.mpf(z) - self.loc) / self.scale) / upper(-self.t)

    def distribution(self, z):
        with mp.workdps(400):  # the difference below loses up to 300 digits
            t, y = self.loc / self.scale, mp.mpf(z) / self.scale
            return 1 - upper(y - t) / upper(-t)


def assert_close(value, reference, rtol, atol=0):
    error = abs(mp.mpf(value.item()) - reference)
    assert error <= rtol * abs(reference) + atol, (value.item(), mp.nstr(reference, 20))


@pytest.mark.parametrize("t", RATIOS)
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_moments_and_entropy(t, dtype, rtol):
    scale = torch.tensor(0.7, dtype=dtype)
    loc = (t * scale).to(dtype)
    posterior = TruncatedNormal(loc, scale)
    ref = Reference(loc.item(), scale.item())
    t, h, s = ref.t, ref.hazard, ref.scale
    entropy = mp.log(s * mp.sqrt(2 * mp.pi) * upper(-t)) + (1 - t * h) / 2
    assert_close(posterior.mean, s * (t + h), rtol)
    assert_close(posterior.variance, s**2 * (1 - h * (t + h)), rtol)
    assert_close(posterior.stddev, s * mp.sqrt(1 - h * (t + h)), rtol)
    assert_close(posterior.entropy(), entropy, rtol)
    assert posterior.mode == max(loc, torch.zeros(()))
    assert posterior.mean.dtype == posterior.entropy().dtype == dtype


def test_moments_are_the_integrals():
    posterior = TruncatedNormal(-0.4, 1.3)
    ref = Reference(-0.4, 1.3)
    with mp.workdps(20):
        mean = mp.quad(lambda z: z * ref.density(z), [0, 2, 20])
        variance = mp.quad(lambda z: (z - mean) ** 2 * ref.density(z), [0, 2, 20])
        entropy = mp.quad(lambda z: -ref.density(z) * mp.log(ref.density(z)), [0, 2, 20])
    assert_close(posterior.mean, mean, 1e-12)
    assert_close(posterior.variance, variance, 1e-12)
    assert_close(posterior.entropy(), entropy, 1e-12)


@pytest.mark.parametrize("t", RATIOS)
def test_density_distribution_and_quantile(t):
    scale = 0.7
    loc = t * scale
    posterior, ref = TruncatedNormal(loc, scale), Reference(loc, scale)
    levels = torch.tensor([1e-200, 1e-20, 1e-9, 1e-3, 0.3, 0.5, 0.51, 0.9, 1 - 1e-9, 1 - 2**-53])
    z = posterior.icdf(levels)
    for i, p in enumerate(levels.tolist()):
        at = z[i].item()
        lower, survival, density = ref.distribution(at), ref.survival(at), ref.density(at)
        assert_close(posterior.log_prob(z[i]), mp.log(density), 1e-12, 1e-14)
        assert_close(posterior.cdf(z[i]), lower, 1e-12)
        gap = (lower - mp.mpf(p)) / density if p <= 0.5 else (1 - mp.mpf(p) - survival) / density
        assert abs(gap) <= 1e-12 * at


@SETTINGS
@given(t=st.floats(-50, 50), exponent=st.floats(-30, -0.001), scale=st.floats(1e-3, 1e3))
@example(-3.0, -0.3, 1.0)
@example(1.0, -16.0, 1.0)
def test_quantile_inverts_the_distribution(t, exponent, scale):
    posterior, p = TruncatedNormal(t * scale, scale), torch.tensor(10**exponent)
    torch.testing.assert_close(posterior.cdf(posterior.icdf(p)), p, rtol=1e-11, atol=0)


def test_quantiles_at_the_ends():
    posterior = TruncatedNormal(torch.tensor([-1e4, -1.0, 0.0, 5.0, 1e4]), 1.0)
    torch.testing.assert_close(posterior.icdf(torch.zeros(5)), torch.zeros(5), rtol=0, atol=0)
    assert posterior.icdf(torch.ones(5)).isposinf().all()
    assert (posterior.cdf(torch.tensor(math.inf)) == 1).all()
    assert (posterior.cdf(torch.tensor(0.0)) == 0).all()


def test_far_tail_is_an_exponential():
    posterior = TruncatedNormal(-1e4, 2.0)
    exponential = torch.distributions.Exponential(torch.tensor(1e4 / 4))
    z = torch.tensor([0.0, 1e-4, 1e-3, 4e-3])
    near = {"rtol": 1e-5, "atol": 1e-6}  # the two differ by about (scale / loc)^2 z |loc|
    torch.testing.assert_close(posterior.log_prob(z), exponential.log_prob(z), **near)
    torch.testing.assert_close(posterior.cdf(z), exponential.cdf(z), **near)
    torch.testing.assert_close(posterior.mean, exponential.mean, **near)


@pytest.mark.parametrize("t", [-1e4, -3.0, -0.5, 0.0, 2.0, 1e4])
def test_draws_follow_the_distribution(t):
    # Seed 20. The Kolmogorov-Smirnov distance exceeds 1.95 / sqrt(n) once in a thousand times.
    torch.manual_seed(20)
    n = 20000
    posterior = TruncatedNormal(t * 0.7, 0.7)
    levels = posterior.cdf(posterior.rsample((n,))).sort().values
    steps = torch.arange(n + 1) / n
    distance = max((levels - steps[:-1]).max(), (steps[1:] - levels).max())
    assert distance < 1.95 / math.sqrt(n)


@pytest.mark.parametrize("t", [-1e4, -30.0, -2.6, -0.5, 0.0, 0.7, 4.0, 30.0])
def test_draws_carry_their_derivatives(t):
    scale = torch.tensor(0.7, requires_grad=True)
    loc = torch.tensor(t * 0.7, requires_grad=True)
    torch.manual_seed(3)
    for z in TruncatedNormal(loc, scale).rsample((5,)):
        by_loc, by_scale = torch.autograd.grad(z, (loc, scale), retain_graph=True)
        ref = Reference(loc.item(), scale.item())
        # With log P(Z > z) held fixed: dz = d log P(Z > z) / hazard rate of Z.
        y = ref.t - mp.mpf(z.item()) / ref.scale
        hazard = mp.npdf(y) / upper(-y)
        assert_close(by_loc, 1 - ref.hazard / hazard, 1e-11)
        assert_close(by_scale, -y - (-ref.t) * ref.hazard / hazard, 1e-11, 1e-14)


def test_derivatives_agree_with_finite_differences_to_second_order():
    loc = torch.tensor([-7.0, -2.6, -0.4, 0.3, 2.0, 6.0], requires_grad=True)
    scale = torch.tensor([0.5, 1.0, 1.0, 0.3, 0.2, 3.0], requires_grad=True)
    z = torch.tensor([[0.02, 0.3, 0.9, 0.4, 0.6, 0.8]], requires_grad=True)

    for name in ("log_prob", "cdf", "icdf"):

        def method(z, loc, scale, name=name):
            return getattr(TruncatedNormal(loc, scale), name)(z)

        assert torch.autograd.gradcheck(method, (z, loc, scale))
    assert torch.autograd.gradgradcheck(
        lambda z, loc, scale: TruncatedNormal(loc, scale).log_prob(z), (z, loc, scale)
    )
    for order in (1, 2):
        assert torch.autograd.gradgradcheck(lambda t, k=order: _special.cumulant(t, k), (loc,))
    for function in (_special.log_ndtr, _special.split_log_ndtr, _special.hazard):
        assert torch.autograd.gradgradcheck(function, (loc,))


def test_derivatives_at_zero():
    loc, scale = torch.tensor(0.0, requires_grad=True), torch.tensor(1.0, requires_grad=True)
    z = torch.tensor(0.0, requires_grad=True)
    posterior, h = TruncatedNormal(loc, scale), math.sqrt(2 / math.pi)
    torch.testing.assert_close(
        torch.autograd.grad(posterior.log_prob(z), (loc, scale, z)),
        (torch.tensor(-h), torch.tensor(-1.0), torch.tensor(0.0)),
    )
    (density,) = torch.autograd.grad(posterior.cdf(z), z)
    assert density.item() == pytest.approx(h)


def test_shapes_dtype_and_seed():
    loc = torch.zeros(3, 1, dtype=torch.float32)
    posterior = TruncatedNormal(loc, torch.ones(2, dtype=torch.float32))
    assert posterior.batch_shape == (3, 2)
    assert posterior.event_shape == ()
    assert posterior.rsample((4,)).shape == (4, 3, 2)
    assert posterior.sample().dtype == torch.float32
    assert "loc: torch.Size([3, 2])" in repr(posterior)
    wide = posterior.expand((5, 3, 2))
    assert type(wide) is TruncatedNormal
    assert wide.batch_shape == wide.mean.shape == wide.rsample().shape == (5, 3, 2)
    assert wide.mean.dtype == torch.float32
    torch.testing.assert_close(wide.log_prob(torch.ones(2))[4], posterior.log_prob(torch.ones(2)))
    torch.manual_seed(7)
    first = posterior.rsample()
    torch.manual_seed(7)
    assert (posterior.rsample() == first).all()


def test_values_outside_the_support():
    with pytest.raises(ValueError, match="within the support"):
        TruncatedNormal(0.0, 1.0).log_prob(torch.tensor(-1.0))
    free = TruncatedNormal(0.0, 1.0, validate_args=False)
    assert free.log_prob(torch.tensor(-1.0)) == -math.inf
    assert free.cdf(torch.tensor(-1.0)) == 0


@pytest.mark.parametrize(
    ("loc", "scale", "error", "text"),
    [
        (0.0, 0.0, ValueError, "expected scale: finite numbers above 0 only; got 1 of 1"),
        (math.nan, 1.0, ValueError, "expected loc: no NaN; got 1 of 1"),
        (math.inf, 1.0, ValueError, "expected loc: finite numbers only; got 1 of 1"),
        ("0", 1.0, TypeError, "expected loc as a number or a floating-point tensor; got str"),
        (torch.zeros(2), torch.ones(3), ValueError, r"broadcast; got loc \(2,\), scale \(3,\)"),
    ],
)
def test_bad_parameters_are_refused(loc, scale, error, text):
    with pytest.raises(error, match=text):
        TruncatedNormal(loc, scale)


def test_bad_probabilities_are_refused():
    with pytest.raises(ValueError, match=r"expected probabilities in \[0, 1\]; got some outside"):
        TruncatedNormal(0.0, 1.0).icdf(torch.tensor(1.1))
    with pytest.raises(TypeError, match="expected value as a torch tensor; got float"):
        TruncatedNormal(0.0, 1.0).icdf(0.5)
