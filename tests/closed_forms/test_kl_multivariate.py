"""The divergence of full-covariance Normals against mpmath, a known inverse and its own limits."""

import math
from fractions import Fraction

import mpmath as mp
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from torch.distributions import MultivariateNormal, kl_divergence

from ppl_vae.closed_forms.kl import kl_mvn_mvn, kl_normal_normal

TOLERANCE = {torch.float64: 1e-13, torch.float32: 2e-7}


def reference(q_loc, q_factor, p_loc, p_factor):
    """By substitution in 120 digits, where no cancellation matters."""
    exact = [[mp.mpf(x) for x in row] for row in p_factor.tolist()]
    right = [[mp.mpf(x) for x in row] for row in q_factor.tolist()]
    shift = [mp.mpf(a) - mp.mpf(b) for a, b in zip(q_loc.tolist(), p_loc.tolist(), strict=True)]
    rows, total = [], mp.mpf(0)
    for i, row in enumerate(exact):
        above = [
            (right[i][j] - mp.fdot(row[j:i], [rows[k][j] for k in range(j, i)])) / row[i]
            for j in range(i + 1)
        ]
        last = (shift[i] - mp.fdot(row[:i], [solved[-1] for solved in rows])) / row[i]
        rows.append([*above, last])
        total += mp.fsum((x for x in rows[-1]), squared=True) - 1 - 2 * mp.log(above[-1])
    return total / 2


def assert_right(*arguments):
    value = kl_mvn_mvn(*arguments)
    assert value.dtype == arguments[0].dtype
    with mp.workdps(120):
        expected = reference(*arguments)
        info = torch.finfo(value.dtype)
        if expected > info.max:
            assert value.item() == math.inf
            return
        error = abs(value.item() - expected)
        assert error <= TOLERANCE[value.dtype] * max(expected, info.tiny)


def covariance_factor(size, kind):
    if kind == "random":
        root = torch.randn(size, 2 * size)
        covariance = root @ root.mT / size
    elif kind == "smooth":  # condition number about 1e13
        place = torch.rand(size).sort().values
        covariance = (-((place[:, None] - place) ** 2) / 0.02).exp() + 1e-12 * torch.eye(size)
    elif kind == "equal":  # correlation 1 - 1e-12
        covariance = 1e-12 * torch.eye(size) + (1 - 1e-12)
    else:  # condition number about 1e6
        root = torch.randn(size, size)
        covariance = root @ root.mT / size + 1e-6 * torch.eye(size)
    return torch.linalg.cholesky(covariance)


@pytest.mark.parametrize("dtype", TOLERANCE)
@settings(deadline=None, derandomize=True, max_examples=80)
@given(data=st.data())
def test_small_ones_in_the_corners(dtype, data):
    size, limit = data.draw(st.integers(1, 4)), 30 if dtype == torch.float64 else 15
    exponents = st.integers(-limit, limit)
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 10**6)))

    def factor():
        lower = torch.randn(size, size, generator=generator).tril(-1)
        lower = lower + torch.rand(size, generator=generator).add(0.1).diag()
        rows = [10.0 ** data.draw(exponents) for _ in range(size)]
        return torch.tensor(rows).unsqueeze(-1) * lower

    p_factor = factor()
    step = data.draw(st.sampled_from([None, 0.0, 1e-16, 1e-9, 1e-3, 0.4, 1e5, -1.0 + 1e-9]))
    noise = torch.rand(size, size, generator=generator)
    q_factor = factor() if step is None else p_factor * (1 + step * noise)
    q_loc = data.draw(st.sampled_from([0.0, 1.0, 1e6])) * torch.randn(size, generator=generator)
    p_loc = q_loc * (1 + data.draw(st.sampled_from([0.0, 1e-9, 1.0])))
    arguments = [x.to(dtype) for x in (q_loc, q_factor, p_loc, p_factor)]
    assert_right(*arguments)
    leaves = [x.requires_grad_() for x in arguments]
    value = kl_mvn_mvn(*leaves)
    value.backward()
    if value.isfinite():
        assert all(x.grad.isfinite().all() for x in leaves)


@pytest.mark.parametrize("kind", ["random", "smooth", "equal", "thin"])
@pytest.mark.parametrize("size", [2, 40])
def test_nearly_singular_and_nearly_equal(size, kind):
    p_factor, p_loc = covariance_factor(size, kind), torch.randn(size)
    assert_right(torch.randn(size), covariance_factor(size, kind), p_loc, p_factor)
    assert_right(p_loc + p_factor @ torch.randn(size), p_factor * 3, p_loc, p_factor)
    near = p_factor * (1 + 1e-9 * (2 * torch.rand(size, size) - 1))
    assert_right(p_loc, near, p_loc, p_factor)
    assert_right(p_loc * (1 + 1e-9), near, p_loc, p_factor)
    one = p_factor.clone()
    one[-1, 0] *= 1 + 1e-9
    assert_right(p_loc, one, p_loc, p_factor)


@pytest.mark.parametrize("step", [None, 1e-9])
def test_dimension_512(step):
    # The inverse of this factor is known: it takes differences of rows.
    size = 512
    scales = 2.0 ** torch.arange(size).remainder(7)
    p_factor = scales.unsqueeze(-1) * torch.ones(size, size).tril()
    noise = torch.randn(size, size).tril()
    if step is None:
        q_factor = noise.tril(-1) + torch.rand(size).add(0.5).diag()
    else:
        q_factor = p_factor * (1 + step * noise)
    q_loc, p_loc = torch.randn(size), torch.randn(size) * (step is None)
    if step is not None:
        p_loc = q_loc * (1 + step)
    rows = (q_factor / scales.unsqueeze(-1)).tolist()
    shift = [
        (Fraction(a) - Fraction(b)) / Fraction(c)
        for a, b, c in zip(q_loc.tolist(), p_loc.tolist(), scales.tolist(), strict=True)
    ]
    with mp.workdps(60):
        total = mp.mpf(0)
        for i, row in enumerate(rows):
            before = rows[i - 1] if i else [0.0] * size
            pairs = zip(row[: i + 1], before[: i + 1], strict=True)
            differences = [mp.mpf(a) - mp.mpf(b) for a, b in pairs]
            total += mp.fsum(differences, squared=True) - 1 - 2 * mp.log(differences[-1])
            moved = shift[i] - (shift[i - 1] if i else 0)
            total += (mp.mpf(moved.numerator) / moved.denominator) ** 2
        expected = total / 2
        value = kl_mvn_mvn(q_loc, q_factor, p_loc, p_factor).item()
        assert abs(value - expected) <= 1e-13 * expected


def test_equal_distributions_diverge_by_exactly_nothing():
    factor = covariance_factor(5, "thin")
    arguments = [torch.randn(5).repeat(2, 1), factor.repeat(2, 1, 1)]
    arguments = [x.clone().requires_grad_() for x in (*arguments, *arguments)]
    arguments[2] = arguments[0].detach().clone().requires_grad_()
    value = kl_mvn_mvn(*arguments)
    value.sum().backward()
    assert (value == 0).all()
    assert all((x.grad == 0).all() for x in arguments)


def test_gradients():
    q_factor, p_factor = covariance_factor(3, "random"), covariance_factor(3, "random")
    points = [torch.randn(2, 3), q_factor, torch.randn(3), p_factor]
    points = tuple(x.requires_grad_() for x in points)

    def divergence(q_loc, q_factor, p_loc, p_factor):
        return kl_mvn_mvn(q_loc, q_factor.tril(), p_loc, p_factor.tril())

    assert gradcheck(divergence, points)
    assert gradgradcheck(divergence, points, fast_mode=True)
    assert (torch.autograd.grad(kl_mvn_mvn(*points).sum(), q_factor)[0].triu(1) == 0).all()


def test_gradient_where_q_is_far_narrower():
    q_loc, p_loc = torch.randn(3), torch.randn(3)
    q_factor, p_factor = 1e-20 * covariance_factor(3, "random"), covariance_factor(3, "random")
    q_factor.requires_grad_()
    kl_mvn_mvn(q_loc, q_factor, p_loc, p_factor).backward()
    torch.testing.assert_close(q_factor.grad, -q_factor.detach().diagonal().reciprocal().diag())


@pytest.mark.parametrize(
    "shapes",
    [
        ((4, 3), (3, 3), (3,), (3, 3)),
        ((3,), (5, 1, 3, 3), (4, 3), (3, 3)),
        ((), (2, 3, 3), (), (2, 3, 3)),
    ],
)
def test_batches(shapes):
    arguments = [torch.randn(shape) for shape in shapes]
    for k in (1, 3):
        lower = arguments[k].tril(-1)
        arguments[k] = lower + torch.diag_embed(torch.rand(*lower.shape[:-1]) + 0.5)
    value = kl_mvn_mvn(*arguments)
    q_loc, q_factor, p_loc, p_factor = arguments
    q = MultivariateNormal(q_loc.expand(*q_loc.shape[:-1], 3), scale_tril=q_factor)
    p = MultivariateNormal(p_loc.expand(*p_loc.shape[:-1], 3), scale_tril=p_factor)
    assert value.shape == torch.broadcast_shapes(q.batch_shape, p.batch_shape)
    torch.testing.assert_close(value, kl_divergence(q, p).expand(value.shape), rtol=1e-9, atol=0)


def test_an_empty_batch():
    factor = torch.eye(3)
    assert kl_mvn_mvn(torch.zeros(0, 3), factor, 0.0, factor).shape == (0,)
    assert kl_mvn_mvn(0.0, factor, 0.0, factor.expand(2, 0, 3, 3)).shape == (2, 0)


def test_a_large_batch_is_no_different_from_its_parts():
    factor = torch.rand(3000, 20, 20).tril(-1) + torch.eye(20)
    other = torch.rand(3000, 20, 20).tril(-1) + torch.eye(20)
    whole = kl_mvn_mvn(0.0, factor, 1.0, other)
    parts = [kl_mvn_mvn(0.0, factor[k::3], 1.0, other[k::3]) for k in range(3)]
    torch.testing.assert_close(whole, torch.stack(parts, 1).flatten(), rtol=1e-13, atol=0)


def test_independent_coordinates_add_up():
    q_loc, p_loc, q_scale, p_scale = (
        torch.randn(2, 4),
        torch.randn(4),
        torch.rand(4),
        torch.rand(4),
    )
    value = kl_mvn_mvn(q_loc, q_scale.diag(), p_loc, p_scale.diag())
    expected = kl_normal_normal(q_loc, q_scale, p_loc, p_scale).sum(-1)
    torch.testing.assert_close(value, expected, rtol=1e-13, atol=0)


EYE, ZERO = torch.eye(2), torch.zeros(2)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((ZERO, -EYE, ZERO, EYE), ValueError, "expected q_scale_tril of a covariance that is not"),
        ((ZERO, EYE, ZERO, 0 * EYE), ValueError, "not singular: diagonal entries above 0; got 2"),
        ((ZERO, EYE + 1, ZERO, EYE), ValueError, "q_scale_tril lower triangular; got entries"),
        ((ZERO, EYE, ZERO, math.nan * EYE), ValueError, "p_scale_tril: no NaN; got"),
        ((ZERO, EYE, ZERO, EYE.tril() / 0), ValueError, "p_scale_tril: "),
        ((ZERO + math.inf, EYE, ZERO, EYE), ValueError, "q_loc: finite numbers only; got 2 of 2"),
        ((ZERO, EYE, ZERO - math.inf, EYE), ValueError, "p_loc: finite numbers only; got 2 of 2"),
        ((ZERO, torch.eye(3), ZERO, EYE), ValueError, r"with one d >= 1; got q_loc \(2,\), q_sca"),
        ((ZERO[:1], EYE, ZERO, EYE), ValueError, "locs of shape .* Pass Cholesky factors"),
        ((ZERO, EYE, ZERO, 1.0), ValueError, r"one d >= 1; .* p_scale_tril \(\)"),
        ((ZERO, EYE, ZERO, EYE[:1]), ValueError, "one d >= 1"),
        ((ZERO[:0], EYE[:0, :0], ZERO[:0], EYE[:0, :0]), ValueError, "one d >= 1"),
        ((torch.zeros(3, 2), EYE, torch.zeros(4, 2), EYE), ValueError, "shapes that broadcast"),
        ((ZERO, EYE.int(), ZERO, EYE), TypeError, "expected q_scale_tril of a floating dtype"),
        ((ZERO, EYE, None, EYE), TypeError, "expected p_loc as a number or a floating-point"),
    ],
)
def test_bad_input(arguments, error, match):
    with pytest.raises(error, match=match):
        kl_mvn_mvn(*arguments)
