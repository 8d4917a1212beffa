"""Left and right sums of the thermodynamic integral: bounds, errors, points and refusals."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from standard_errors import BOUND

from ppl_vae import BinaryLatentVAE, GammaPoisson, LinearGaussian, evaluate, log_evidence
from ppl_vae.closed_forms import linear_gaussian as lg
from ppl_vae.diagnostics.evidence.thermodynamic import SPACINGS, Partition, path_sums

SUMS = {
    1: (-2.2389, -1.2994),
    2: (-1.8846, -1.4148),
    5: (-1.7038, -1.5159),
    20: (-1.6257, -1.5787),
}
EVIDENCE = -1.6016710873
X = torch.tensor([1.2], dtype=torch.float64)


def model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
        pyro.sample("x", dist.Normal(z, 0.5**0.5), obs=x)


def guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(torch.tensor(0.3), 0.8**0.5))


def sums(pair, x, **options):
    return log_evidence(pair, x, method="thermodynamic", **options)


def within(estimate, truth):
    return bool((estimate.z_score(truth).abs() < BOUND).all())


@pytest.mark.parametrize("count", SUMS)
def test_the_sums_of_a_gaussian(count):
    options = {"num_samples": 20_000, "num_temperatures": count, "spacing": "uniform"}
    found = sums((model, guide), X, **options)
    for estimate, truth in zip((found.lower, found.upper), SUMS[count], strict=True):
        # The truth is given to four digits.
        distance = (estimate.mean - truth).abs().item()
        assert distance < BOUND * estimate.standard_error.item() + 5e-5
        assert estimate.standard_error.item() < 0.013
    assert found.warning == ""
    assert torch.equal(found.mean, found.lower.mean)
    assert (found.bias - (found.lower.mean - found.upper.mean) / 2).abs().max() == 0


def test_the_standard_errors_are_those_of_repeated_sums():
    """400 repetitions of each sum, at points that share their draws."""
    found = sums((model, guide), X.expand(400), num_samples=500, num_temperatures=4)
    for estimate in (found.lower, found.upper):
        spread = estimate.mean.std()
        ratio = (estimate.standard_error.square().mean().sqrt() / spread).item()
        assert abs(ratio - 1) < BOUND / (2 * 400) ** 0.5 + 0.02


def curve_of_states(pair, x, betas):
    """E_b[log w] of bits, by a sum over their states, (points, batch)."""
    log_p, log_q = pair.exact.terms(x)
    log_w = log_p - log_q
    return torch.stack([((log_q + b * log_w).softmax(0) * log_w).sum(0) for b in betas])


def curve_of_rates(pair, x, betas):
    """E_b[log w] of one rate, whose density along the path is a Gamma's, (points, batch)."""
    q, p = dist.Gamma(*pair.guide_parameters(x)), pair.exact.posterior(x)
    rows = []
    for b in betas:
        a = (1 - b) * q.concentration + b * p.concentration
        r = (1 - b) * q.rate + b * p.rate
        mean, log_mean = a / r, torch.digamma(a) - r.log()

        def log_density(g, mean=mean, log_mean=log_mean):
            normaliser = g.concentration * g.rate.log() - torch.lgamma(g.concentration)
            return normaliser + (g.concentration - 1) * log_mean - g.rate * mean

        rows.append(pair.exact.log_evidence(x) + log_density(p) - log_density(q))
    return torch.stack(rows)


@pytest.mark.parametrize("count", [1, 4, 60])
def test_bits_against_the_sum_over_their_states(count):
    pair = BinaryLatentVAE((1, 2, 3), latent_dim=4, hidden=(5,), seed=2)
    x = pair.sample(6, seed=0)
    with torch.no_grad():
        truth = pair.exact.log_evidence(x)
        curve = curve_of_states(pair, x, torch.linspace(0, 1, count + 1))
    lower, upper = curve[:-1].mean(0), curve[1:].mean(0)
    assert bool(((lower < truth) & (truth < upper)).all())
    found = sums(pair, x, num_temperatures=count, spacing="uniform")
    assert within(found.lower, lower)
    assert within(found.upper, upper)


def test_one_rate_against_gamma_densities():
    pair = GammaPoisson(concentration=2.0, rate=1.0)
    x = pair.sample(5, seed=0)
    with torch.no_grad():
        curve = curve_of_rates(pair, x, torch.linspace(0, 1, 6)).reshape(6, -1)
        truth = pair.exact.log_evidence(x).reshape(-1)
    lower, upper = curve[:-1].mean(0), curve[1:].mean(0)
    assert bool(((lower < truth) & (truth < upper)).all())
    found = sums(pair, x, num_temperatures=5, spacing="uniform", num_samples=20_000)
    assert within(found.lower, lower)
    assert within(found.upper, upper)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_both_sums_tend_to_the_evidence(spacing):
    pair = LinearGaussian(5, 2, noise_scale=0.7, seed=1)
    x = pair.sample(6, seed=0)
    truth = pair.exact.log_evidence(x).detach()
    few, many = (
        sums(pair, x, num_samples=20_000, num_temperatures=count, spacing=spacing)
        for count in (4, 400)
    )
    assert few.gap.mean > 20 * many.gap.mean > 0
    for estimate in (many.lower, many.upper):
        slack = BOUND * estimate.standard_error + (many.upper.mean - many.lower.mean)
        assert bool(((estimate.mean - truth).abs() < slack).all())
    assert bool((few.lower.mean < truth).all())
    assert bool((few.upper.mean > truth).all())


def test_the_left_sum_bounds_whatever_the_weights_and_the_right_one_does_not():
    """Ten draws of a guide far off: self-normalised weights leave the upper sum too low."""

    def far(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.tensor(-1.0), 0.3))

    found = sums((model, far), X.expand(2000), num_samples=10)
    average = found.lower.mean.mean() - EVIDENCE
    assert average < -BOUND * found.lower.mean.std() / 2000**0.5
    assert found.upper.mean.mean() - EVIDENCE < -BOUND * found.upper.mean.std() / 2000**0.5
    unreliable = sums((model, far), X, num_samples=2000)
    assert unreliable.num_unreliable == 1
    assert "The upper sum bounds nothing" in unreliable.warning
    assert unreliable.warning in str(unreliable)


def test_the_sums_bracket_the_log_of_the_mean_weight():
    logs = 3 * torch.randn(200, 7)
    middle = logs.logsumexp(0) - math.log(200)
    for spacing in SPACINGS:
        found = path_sums(logs, Partition(7, spacing))
        assert bool(((found.lower.mean < middle) & (middle < found.upper.mean)).all())


def test_adaptive_points_bring_the_sums_nearest():
    log_w = 40 * torch.randn(400, 3)  # the curve is steep near 0
    gaps = {s: path_sums(log_w, Partition(10, s)).gap.mean for s in SPACINGS}
    assert gaps["adaptive"] < 0.7 * min(gaps["uniform"], gaps["log"])


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("count", [1, 2, 7, 300])
def test_points_rise_from_0_to_1(spacing, count):
    logs = torch.stack([torch.zeros(50), -torch.rand(50), -200 * torch.rand(50)], 1)
    betas = Partition(count, spacing).betas(logs)
    assert betas.shape == (count + 1, 3)
    assert bool((betas[0] == 0).all())
    assert bool((betas[-1] == 1).all())
    assert bool((betas.diff(dim=0) > 0).all())


def test_draws_without_weight():
    """One draw of no weight makes the ELBO minus infinity, all of them the evidence too."""
    logs = torch.randn(40, 3)
    logs[0, 1] = logs[:, 2] = -math.inf
    for spacing in SPACINGS:
        found = path_sums(logs, Partition(3, spacing))
        assert found.lower.mean.isfinite().tolist() == [True, False, False]
        assert found.upper.mean.isfinite().tolist() == [True, True, False]
        assert found.lower.standard_error[1] == math.inf
        assert bool((found.mean[1:] == -math.inf).all())
    with pytest.raises(ValueError, match="NaN or infinity in 1 of 120 draws"):
        path_sums(
            logs.index_fill(0, torch.tensor([0]), 0.0).index_put_(
                (torch.tensor(3), torch.tensor(0)), torch.tensor(math.nan)
            ),
            Partition(3),
        )


def test_a_small_budget_changes_only_how_the_draws_are_cut():
    pair = BinaryLatentVAE((1, 2, 3), latent_dim=4, seed=2)
    x = pair.sample(7, seed=0)
    options = {"num_samples": 2000, "num_temperatures": 8, "spacing": "uniform"}
    whole, parts = (sums(pair, x, max_bytes=size, **options) for size in (2**25, 2**17))
    for one, other in ((whole.lower, parts.lower), (whole.upper, parts.upper)):
        error = one.standard_error.hypot(other.standard_error)
        assert bool(((one.mean - other.mean).abs() < BOUND * error).all())
    assert not torch.equal(whole.mean, parts.mean)


def test_it_says_which_numbers_are_bounds():
    found = sums((model, guide), torch.tensor([1.2, 0.1]), num_samples=500, num_temperatures=3)
    text = str(found)
    assert "thermodynamic (left sum of the thermodynamic integral), 500 samples" in text
    assert "above" in text
    assert "(left sum, in expectation)" in text
    assert "(right sum, for many draws with Pareto k below 0.7)" in text
    assert list(found.to_dataframe().columns)[-2:] == ["upper_mean", "upper_standard_error"]
    assert found.gap.mean == pytest.approx((found.upper.mean - found.lower.mean).mean().item())


def test_an_evaluation_takes_it():
    pair = LinearGaussian(3, 1, seed=0)
    found = evaluate(pair, pair.sample(9, seed=0), method="thermodynamic", num_samples=300)
    assert "bounds: log p(x)" in str(found)
    assert "upper_mean" in found.to_dataframe()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_temperatures": 0}, "num_temperatures of at least 1"),
        ({"num_samples": 1}, "num_samples of at least 2"),
        ({"spacing": "unifrom"}, "Did you mean 'uniform'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        sums((model, guide), X, **options)


def test_the_closed_form_agrees_at_adaptive_points():
    """The curve at the points that the weights chose, against the linear Gaussian's."""
    options = {"guide_loc": torch.tensor([0.3]), "guide_scale": 0.8**0.5}
    z = 0.3 + 0.8**0.5 * torch.randn(20_000, 1)
    normals = [dist.Normal(0.0, 1.0), dist.Normal(1.2, 0.5**0.5), dist.Normal(0.3, 0.8**0.5)]
    prior, likelihood, q = (normal.log_prob(z) for normal in normals)
    log_w = prior + likelihood - q
    betas = Partition(6).betas(log_w - log_w.max())[:, 0]
    curve = lg.path_expectation(
        torch.tensor([[1.2]]), torch.ones(1, 1), 0.0, 0.5**0.5, **options, beta=betas
    )
    found = path_sums(log_w, Partition(6))
    assert within(found.lower, (betas.diff() * curve[:-1]).sum())
    assert within(found.upper, (betas.diff() * curve[1:]).sum())
