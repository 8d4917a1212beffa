"""One bit's gradient noise against sums over states and integrals, in 40 digits."""

import mpmath as mp
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ppl_vae.closed_forms import one_bit

ESTIMATORS = ("score-function", "leave-one-out", "disarm", "arm")
RTOL = {torch.float64: 1e-12, torch.float32: 1e-6}
SETTINGS = settings(max_examples=60, deadline=None, derandomize=True)
VALUE = st.floats(-1e3, 1e3, width=32)


@pytest.fixture(autouse=True, scope="module")
def _digits():
    with mp.workdps(60):
        yield


def moments(values):
    """Mean and variance of what takes each value with its probability."""
    mean = mp.fsum(weight * value for weight, value in values)
    return mean, mp.fsum(weight * (value - mean) ** 2 for weight, value in values)


def by_definition(estimator, t, f0, f1):
    """Mean and variance of the estimator itself: what it does with its draws, no formula."""
    p = 1 / (1 + mp.exp(-t))
    f, chance = {0: f0, 1: f1}, {0: 1 - p, 1: p}
    if estimator == "score-function":
        return moments([(chance[b], f[b] * (b - p)) for b in f])
    if estimator == "leave-one-out":

        def mean_of_two(b, c):
            return ((f[b] - f[c]) * (b - p) + (f[c] - f[b]) * (c - p)) / 2

        return moments([(chance[b] * chance[c], mean_of_two(b, c)) for b in f for c in f])
    # Antithetic bits of one uniform number u change where u passes p and 1 - p.
    cuts = sorted([mp.mpf(0), p, 1 - p, mp.mpf(1)])
    pieces = []
    for left, right in zip(cuts[:-1], cuts[1:], strict=True):
        middle = (left + right) / 2
        b, twin = int(middle > 1 - p), int(middle < p)
        pieces.append((left, right, b, twin))
    if estimator == "disarm":
        largest = max(p, 1 - p)  # sigmoid of the logit's absolute value
        return moments(
            [(r - e, (f[b] - f[c]) * (-1) ** c * (b != c) * largest / 2) for e, r, b, c in pieces]
        )
    mean = square = mp.mpf(0)
    for left, right, b, twin in pieces:
        mean += mp.quad(lambda u, b=b, c=twin: (f[b] - f[c]) * (u - 0.5), [left, right])
        square += mp.quad(lambda u, b=b, c=twin: ((f[b] - f[c]) * (u - 0.5)) ** 2, [left, right])
    return mean, square - mean**2


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("estimator", ESTIMATORS)
@SETTINGS
@given(t=st.floats(-15, 15, width=32), f0=VALUE, f1=VALUE)
@example(t=0.0, f0=-3.0, f1=1.0)
@example(t=15.0, f0=1.0, f1=1.0)
@example(t=-0.8472978603872034, f0=-3.0, f1=1.0)
def test_formulas_are_the_moments_of_the_estimators(estimator, dtype, t, f0, f1):
    given_ = [torch.tensor(v, dtype=dtype) for v in (t, f0, f1)]
    mean, variance = by_definition(estimator, *(mp.mpf(v.item()) for v in given_))
    gradient = one_bit.gradient(*given_)
    found = one_bit.gradient_variance(*given_, estimator=estimator)
    assert gradient.dtype == found.dtype == dtype
    tiny = 1e-50 if dtype == torch.float64 else 1e-37  # the reference rounds too
    assert gradient.item() == pytest.approx(float(mean), rel=RTOL[dtype], abs=tiny)
    # (1 - p) f1 + p f0, squared, is near 0 where the score function's noise is.
    largest = max(abs(f0), abs(f1)) ** 2 * 1e-15
    near_zero = largest if estimator == "score-function" else tiny
    assert found.item() == pytest.approx(float(variance), rel=RTOL[dtype], abs=near_zero)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_it_is_the_variance_of_draws(estimator):
    """By what torch draws, at one point."""
    t, f = torch.tensor(-0.6), torch.tensor([-1.0, 2.0])
    p, u = t.sigmoid(), torch.rand(400_000, 2, generator=torch.Generator().manual_seed(0))
    bits = (u < p).long()
    if estimator == "score-function":
        found = f[bits[:, 0]] * (bits[:, 0] - p)
    elif estimator == "leave-one-out":
        found = (f[bits[:, 0]] - f[bits[:, 1]]) * (bits[:, 0] - bits[:, 1]) / 2
    else:
        one, two = (u[:, 0] > 1 - p).long(), bits[:, 0]
        gap = f[one] - f[two]
        is_disarm = estimator == "disarm"
        found = gap * ((one - two) * t.abs().sigmoid() / 2 if is_disarm else u[:, 0] - 0.5)
    exact = one_bit.gradient(t, *f)
    assert abs(found.mean() - exact) < 4.5 * found.std() / len(found) ** 0.5
    squares = (found - found.mean()).square()
    gap = squares.mean() - one_bit.gradient_variance(t, *f, estimator=estimator)
    assert abs(gap) < 4.5 * squares.std() / len(found) ** 0.5


def test_the_known_point():
    t = torch.tensor(0.3).logit()
    found = [one_bit.gradient_variance(t, -3.0, 1.0, estimator=e).item() for e in ESTIMATORS]
    assert found[:3] == pytest.approx([0.0084, 0.9744, 0.4704], rel=1e-12)
    assert one_bit.gradient(t, -3.0, 1.0).item() == pytest.approx(0.84, rel=1e-12)


def test_no_estimator_wins_everywhere_but_disarm_beats_leave_one_out():
    t = torch.linspace(-4, 4, 81)[:, None]
    f1 = torch.linspace(-5, 5, 41)
    single, two, antithetic, arm = (
        one_bit.gradient_variance(t, 1.0, f1, estimator=e) for e in ESTIMATORS
    )
    assert single.shape == (81, 41)
    assert bool((antithetic <= two).all())
    # Two evaluations of the score function halve its variance.
    assert bool((single / 2 < antithetic).any())
    assert bool((single / 2 > two).any())
    assert bool((antithetic <= arm + 1e-12).all())


def test_swapping_the_states_changes_nothing():
    t, f = torch.linspace(-3, 3, 13), torch.linspace(-2, 5, 13)
    for estimator in ESTIMATORS:
        ours = one_bit.gradient_variance(t, f, 0.7, estimator=estimator)
        swapped = one_bit.gradient_variance(-t, 0.7, f, estimator=estimator)
        torch.testing.assert_close(ours, swapped, rtol=1e-12, atol=0)


def test_numbers_take_the_dtype_of_tensors_and_shapes_broadcast():
    t = torch.zeros(3, 1, dtype=torch.float32)
    found = one_bit.gradient(t, 0.0, torch.ones(4, dtype=torch.float32))
    assert (found.dtype, found.shape) == (torch.float32, (3, 4))
    assert one_bit.gradient(0.0, 0.0, 1.0).dtype == torch.float64


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0.0, "1", 1.0), TypeError, "f0 as a number or a floating-point tensor; got str"),
        ((torch.tensor(1), 0.0, 1.0), TypeError, "logit of a floating dtype"),
        ((0.0, float("nan"), 1.0), ValueError, "f0: no NaN"),
        ((0.0, 0.0, float("inf")), ValueError, "f1: finite numbers only"),
        ((float("inf"), 0.0, 1.0), ValueError, "logit: finite numbers only"),
        ((torch.zeros(2), torch.zeros(3), 1.0), ValueError, "shapes that broadcast"),
    ],
)
def test_bad_input(arguments, error, message):
    with pytest.raises(error, match=message):
        one_bit.gradient(*arguments)
    with pytest.raises(error, match=message):
        one_bit.gradient_variance(*arguments, estimator="arm")


def test_an_unknown_estimator_is_named():
    with pytest.raises(ValueError, match="Did you mean 'disarm'"):
        one_bit.gradient_variance(0.0, 0.0, 1.0, estimator="disarmed")
