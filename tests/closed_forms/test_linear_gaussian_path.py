"""The path from guide to posterior against mpmath: quadrature, and derivatives of its integral."""

import mpmath as mp
import numpy as np
import pytest
import torch

from ppl_vae.closed_forms import linear_gaussian as lg

mp.mp.dps = 40

# z ~ N(0, 1), x | z ~ N(z, 1/2), x = 1.2, q = N(0.3, 0.8): the sums of K equal intervals.
EVIDENCE = -1.6016710873
SUMS = {
    1: (-2.2389, -1.2994),
    2: (-1.8846, -1.4148),
    5: (-1.7038, -1.5159),
    20: (-1.6257, -1.5787),
}
X, ONE, LOC = (torch.tensor(v, dtype=torch.float64) for v in ([[1.2]], [[1.0]], [0.3]))
GUIDE = {"guide_loc": LOC, "guide_scale": 0.8**0.5}


def curve(beta):
    return lg.path_expectation(X, ONE, 0.0, 0.5**0.5, **GUIDE, beta=beta)


def log_normal(z, loc, variance):
    return -(mp.log(2 * mp.pi * variance) + (z - loc) ** 2 / variance) / 2


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 0.93, 1.0])
def test_it_is_the_mean_of_log_w_by_quadrature(beta):
    def log_p(z):
        return log_normal(z, 0, 1) + log_normal(mp.mpf("1.2"), z, mp.mpf("0.5"))

    def log_q(z):
        return log_normal(z, mp.mpf("0.3"), mp.mpf("0.8"))

    def integral(f):
        return mp.quad(
            lambda z: f(z) * mp.exp((1 - beta) * log_q(z) + beta * log_p(z)), range(-12, 13)
        )

    want = integral(lambda z: log_p(z) - log_q(z)) / integral(lambda _: 1)
    assert abs(mp.mpf(curve(beta).item()) - want) < 1e-13


@pytest.mark.parametrize("count", SUMS)
def test_left_and_right_sums(count):
    found = curve(torch.linspace(0, 1, count + 1))
    lower, upper = found[:-1].mean().item(), found[1:].mean().item()
    assert lower == pytest.approx(SUMS[count][0], abs=5e-5)
    assert upper == pytest.approx(SUMS[count][1], abs=5e-5)
    assert lower < lg.log_evidence(X, ONE, 0.0, 0.5**0.5).item() < upper
    assert lg.log_evidence(X, ONE, 0.0, 0.5**0.5).item() == pytest.approx(EVIDENCE, abs=5e-11)


@pytest.fixture
def example():
    x, weight, loc = torch.randn(2, 5), torch.randn(5, 3), torch.randn(5)
    return x, weight, loc, torch.tensor(0.6), torch.randn(2, 3), torch.rand(2, 3) + 0.3


def test_its_integral_is_the_evidence_and_it_starts_at_the_elbo(example):
    nodes, weights = np.polynomial.legendre.leggauss(60)
    total = sum(
        w / 2 * lg.path_expectation(*example, beta=float(node + 1) / 2)
        for node, w in zip(nodes, weights, strict=True)
    )
    torch.testing.assert_close(total, lg.log_evidence(*example[:4]), rtol=1e-10, atol=0)
    start = lg.path_expectation(*example, beta=0.0)
    torch.testing.assert_close(start, lg.elbo(*example), rtol=1e-12, atol=0)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_it_is_the_derivative_of_the_log_integral(example, beta):
    """Of a Gaussian integral in three dimensions, in 40 digits."""
    found = lg.path_expectation(*example, beta=beta)
    for row in range(2):
        x, weight, loc, m, q = (
            mp.matrix(t.tolist())
            for t in (example[0][row], *example[1:3], example[4][row], example[5][row])
        )
        s = mp.mpf(example[3].item())
        narrow = mp.diag([1 / v**2 for v in q])

        def log_integral(b, x=x, weight=weight, loc=loc, m=m, q=q, s=s, narrow=narrow):
            precision = (1 - b) * narrow + b * (mp.eye(3) + weight.T * weight / s**2)
            pull = (1 - b) * (narrow * m) + b * weight.T * (x - loc) / s**2
            guide = -mp.fsum(mp.log(v) for v in q) - (m.T * narrow * m)[0] / 2
            model = -5 * mp.log(2 * mp.pi * s**2) / 2 - ((x - loc).T * (x - loc))[0] / s**2 / 2
            square = (pull.T * mp.lu_solve(precision, pull))[0]
            return (1 - b) * guide + b * model + (square - mp.log(mp.det(precision))) / 2

        got = mp.mpf(found[row].item())
        assert abs(mp.diff(log_integral, beta) - got) < 1e-12 * abs(got)


def test_what_it_refuses(example):
    with pytest.raises(ValueError, match="beta from 0 to 1"):
        lg.path_expectation(*example, beta=1.5)
    with pytest.raises(ValueError, match="beta"):
        lg.path_expectation(*example, beta=float("nan"))
    with pytest.raises(ValueError, match="guide_scale"):
        lg.path_expectation(*example[:5], guide_scale=0.0, beta=0.5)
    with pytest.raises(ValueError, match=r"guide_scale of shape \(\*batch, k\), \(k,\) or \(\)"):
        lg.path_expectation(*example[:5], guide_scale=torch.ones(2), beta=0.5)
