"""What inference_gap takes, gives, refuses, and leaves alone."""

import copy

import pyro
import pyro.distributions as dist
import pytest
import torch
from cases import CASES
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from rich.console import Console
from torch import nn

from ppl_vae import BernoulliVAE, ImageData, LinearGaussian, Pair, inference_gap
from ppl_vae.diagnostics import InferenceGap
from ppl_vae.diagnostics.gap.posterior_grid import posterior_grid

NAMES = ("log_evidence", "best_elbo", "elbo", "total", "approximation", "amortisation")


@pytest.fixture(scope="module")
def network():
    torch.set_default_dtype(torch.float64)
    pair = BernoulliVAE((1, 3, 3), latent_dim=2, hidden=(6,), seed=1)
    return pair, pair.sample(5, seed=0)


@pytest.fixture(scope="module")
def gap(network):
    return inference_gap(*network, method="iwae", num_evidence_samples=200, device="cpu")


def linear(latent_dim=3):
    pair = LinearGaussian(5, latent_dim, noise_scale=0.6, seed=3)
    return pair, pair.sample(4, seed=1)


def numbers(gap):
    return torch.stack([getattr(gap, n).mean for n in NAMES])


def test_the_seed_decides(network):
    options = {"num_evidence_samples": 50, "num_samples": 40, "num_starts": 2, "num_steps": 5}
    pair = BernoulliVAE((1, 3, 3), latent_dim=3, hidden=(6,), seed=1)
    x = pair.sample(4, seed=0)
    first, again, other = (inference_gap(pair, x, seed=s, **options) for s in (1, 1, 2))
    assert torch.equal(numbers(first), numbers(again))
    assert not torch.equal(numbers(first), numbers(other))
    generator = torch.Generator().manual_seed(3)
    drawn = inference_gap(pair, x, seed=generator, **options)
    assert not torch.equal(numbers(first), numbers(drawn))


def test_everything_is_left_as_found():
    pair, x = linear()
    pair.train()
    for parameter in pair.parameters():
        parameter.grad = torch.ones_like(parameter)
    before, state = copy.deepcopy(pair.state_dict()), torch.get_rng_state()
    data = x.clone()
    gap = inference_gap(pair, x, device="cpu")
    assert torch.equal(state, torch.get_rng_state())
    assert len(pyro.get_param_store()) == 0
    assert pair.training
    assert torch.equal(x, data)
    assert all(torch.equal(before[n], v) for n, v in pair.state_dict().items())
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in pair.parameters())
    assert not any(getattr(gap, n).mean.requires_grad for n in NAMES)


def test_float32():
    pair, x = linear(2)
    exact = inference_gap(pair, x, device="cpu")
    found = inference_gap(pair.float(), x.float(), device="cpu")
    for name in NAMES:
        assert getattr(found, name).mean.dtype == torch.float32
        assert getattr(found, name).standard_error.dtype == torch.float32
        error = (getattr(found, name).mean - getattr(exact, name).mean.float()).abs()
        assert float(error.max()) < 1e-4
    assert found.best.loc.dtype == found.gradient_norm.dtype == torch.float32


def test_examples_do_not_depend_on_each_other_but_by_noise():
    pair, x = linear(2)  # by a Gauss rule: without noise
    whole = inference_gap(pair, x, tolerance=1e-6, device="cpu")
    for number in range(len(x)):
        alone = inference_gap(pair, x[number : number + 1], tolerance=1e-6, device="cpu")
        assert len(alone) == 1
        torch.testing.assert_close(
            numbers(alone)[:, 0], numbers(whole)[:, number], rtol=0, atol=1e-9
        )


def test_a_small_memory_budget_changes_nothing():
    pair, x = linear(2)
    options = {"num_starts": 1, "num_steps": 4, "device": "cpu"}
    whole = inference_gap(pair, x, **options)
    little = inference_gap(pair, x, max_bytes=1e5, **options)
    torch.testing.assert_close(numbers(little), numbers(whole), rtol=0, atol=1e-9)


def test_dropout_is_off():
    pair, x = linear(2)
    expected = inference_gap(pair, x, device="cpu")
    pair.encoder = nn.Sequential(pair.encoder, nn.Dropout(0.5))
    pair.encoder.log_scale = pair.encoder[0].log_scale
    found = inference_gap(pair, x, device="cpu")
    torch.testing.assert_close(numbers(found), numbers(expected), rtol=0, atol=1e-9)


def test_image_data():
    pair = BernoulliVAE((1, 3, 3), latent_dim=2, hidden=(6,), seed=1)
    grey = ImageData(torch.randint(0, 256, (6, 1, 3, 3), dtype=torch.uint8))
    gap = inference_gap(pair, grey, method="iwae", num_evidence_samples=50, device="cpu")
    assert gap.total.mean.shape == (6,)


class Correlated(Pair):
    """A linear pair whose guide is its posterior, with full covariance, and a code named w."""

    def __init__(self, *, is_exact=True):
        super().__init__(is_exact=is_exact)
        self.weight = nn.Parameter(torch.tensor([[1.0, 0.8], [0.3, -1.0], [0.5, 0.5]]))
        self.is_exact = is_exact

    def model(self, x):
        self.begin(x)
        with pyro.plate("images", len(x)):
            w = pyro.sample("w", dist.MultivariateNormal(x.new_zeros(2), torch.eye(2)))
            pyro.sample("x", dist.Normal(w @ self.weight.mT, 0.5).to_event(1), obs=x)

    def guide(self, x):
        self.begin(x)
        precision = torch.eye(2) + 4 * self.weight.mT @ self.weight
        tril = torch.linalg.cholesky(torch.linalg.inv(precision))
        loc = 4 * x @ self.weight @ torch.linalg.inv(precision)
        with pyro.plate("images", len(x)):
            pyro.sample("w", dist.MultivariateNormal(loc + (not self.is_exact), scale_tril=tril))


def test_a_guide_with_full_covariance_and_other_names():
    x = torch.randn(4, 3)
    gap = inference_gap(Correlated(), x, family="full", method="iwae", num_evidence_samples=50)
    for name in ("total", "approximation", "amortisation"):
        assert float(getattr(gap, name).mean.abs().max()) < 1e-10
    moved = inference_gap(Correlated(is_exact=False), x, family="full", method="iwae")
    assert float(moved.approximation.mean.abs().max()) < 1e-8
    precision = torch.eye(2) + 4 * Correlated().weight.mT @ Correlated().weight
    expected = 0.5 * precision.sum().detach().expand(4)
    torch.testing.assert_close(moved.amortisation.mean, expected, rtol=0, atol=1e-8)
    with pytest.raises(ValueError, match=r"'diagonal', and a guide with full cov.*family='full'"):
        inference_gap(Correlated(), x)


def test_model_and_guide_as_functions():
    pair, x = linear(3)
    expected = inference_gap(pair, x, method="iwae", num_evidence_samples=50, device="cpu")
    found = inference_gap((pair.model, pair.guide), x, num_evidence_samples=50)
    assert found.method == "iwae"
    for name in ("elbo", "best_elbo", "amortisation"):
        found_mean, mean = getattr(found, name).mean, getattr(expected, name).mean
        torch.testing.assert_close(found_mean, mean, rtol=0, atol=1e-6)


def test_functions_with_a_plane_of_codes():
    pair = Correlated()
    x = torch.randn(4, 3)
    gap = inference_gap((pair.model, pair.guide), x, family="full")
    assert gap.method == "quadrature"
    assert float(gap.total.mean.abs().max()) < 1e-3


def test_importance_sampling_draws_from_the_best_gaussian():
    pair, x = linear(3)
    with torch.no_grad():
        pair.encoder.loc.add_(4.0)  # a guide that misses the posterior altogether
        exact = pair.exact.log_evidence(x)
    gap = inference_gap(
        pair,
        x,
        family="full",
        method="iwae",
        num_evidence_samples=20,
        tolerance=1e-7,
        device="cpu",
    )
    torch.testing.assert_close(gap.log_evidence.mean, exact, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "method", ["quadrature", "exact", pytest.param("ais", marks=pytest.mark.slow)]
)
def test_methods_agree(method):
    pair, x = linear(2)
    gap = inference_gap(pair, x, method=method, device="cpu")
    with torch.no_grad():
        exact = pair.exact.log_evidence(x)
    assert gap.method == method
    error = (gap.log_evidence.mean - exact).abs()
    assert bool((error <= 4.5 * gap.log_evidence.standard_error + 1e-9).all())


def test_a_search_that_was_cut_short_says_so():
    pair, x = linear(2)
    gap = inference_gap(pair, x, num_steps=1, device="cpu")
    assert not bool(gap.converged.any())
    assert bool((gap.gradient_norm > 0.03).all())
    console = Console(record=True, width=300)
    gap.print(console)
    assert "did not converge for 4 of 4 examples" in console.export_text()
    done = inference_gap(pair, x, device="cpu")
    assert bool(done.converged.all())
    assert bool((done.best_elbo.mean >= gap.best_elbo.mean).all())


@pytest.mark.parametrize("name", [n for n in CASES if "hier" in n or "chain" in n])
def test_pairs_with_several_latents_are_refused(name):
    pair = CASES[name]()
    with pytest.raises(NotImplementedError, match="one latent site; got 'z.*', .*log_evidence"):
        inference_gap(pair, pair.sample(3, seed=0), device="cpu")


def test_pairs_without_a_gaussian_guide_are_refused():
    pair = CASES["amortized-exponential-normal"]()
    with pytest.raises(NotImplementedError, match="one Gaussian code per example, .*'z'.*; got"):
        inference_gap(pair, pair.sample(3, seed=0)[None], device="cpu")


def _shared(x):
    pyro.param("a", torch.zeros(()))
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def _shared_guide(x):
    pyro.sample("z", dist.Normal(pyro.param("b", torch.zeros(())), 1.0))


def _positive(x):
    pyro.param("a", torch.zeros(()))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Exponential(1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def _normal_guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(9.0, pyro.param("c", torch.tensor(0.1))))


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        ((_shared, _shared_guide), "'z' in one plate, over the 3 examples; got no plate"),
        ((_positive, _normal_guide), "a prior of 'z' on all real numbers; got one on"),
    ],
)
def test_programs_that_do_not_fit_are_refused(functions, message):
    with pytest.raises(NotImplementedError, match=message):
        inference_gap(functions, torch.randn(3))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"pair": 3}, TypeError, "a ppl_vae.Pair, or a Pyro model and its guide"),
        ({"x": [1.0]}, TypeError, "data as a tensor or with a length"),
        ({"x": torch.zeros(2, 7)}, ValueError, "x of shape"),
        ({"x": torch.zeros(0, 5)}, ValueError, "at least one"),
        ({"x": torch.full((2, 5), torch.nan)}, ValueError, "x: finite numbers only"),
        ({"family": "diag"}, ValueError, "family as one of diagonal, full; got 'diag'. Did"),
        ({"method": "iwea"}, ValueError, "Did you mean 'iwae'"),
        ({"method": "quadrature"}, ValueError, "at most 2 latent dimensions"),
        ({"num_samples": 3}, ValueError, "num_samples of at least 4"),
        ({"num_samples": 10.0}, TypeError, "num_samples as an int"),
        ({"num_starts": 0}, ValueError, "num_starts of at least 1"),
        ({"num_steps": 0}, ValueError, "num_steps of at least 1"),
        ({"evidence_tolerance": "a"}, TypeError, "evidence_tolerance as a number"),
        ({"tolerance": 0.0}, ValueError, "tolerance finite and above 0"),
        ({"max_bytes": -1.0}, ValueError, "max_bytes finite and above 0"),
        ({"seed": "a"}, TypeError, "seed as an int"),
        ({"device": "gpu"}, ValueError, "device as 'auto'"),
    ],
    ids=str,
)
def test_bad_input(change, error, message):
    pair, x = linear(3)
    with pytest.raises(error, match=message):
        inference_gap(**{"pair": pair, "x": x, **change})


def test_exact_needs_a_closed_form(network):
    with pytest.raises(NotImplementedError, match="closed-form log evidence"):
        inference_gap(*network, method="exact", device="cpu")


def test_a_broken_guide_is_refused():
    pair, x = linear(3)
    with torch.no_grad():
        pair.encoder.log_scale.fill_(-1000.0)
    with pytest.raises(ValueError, match="the guide's scale of 'z': finite numbers above 0"):
        inference_gap(pair, x, device="cpu")
    with torch.no_grad():
        pair.encoder.loc.fill_(torch.nan)
    with pytest.raises(ValueError, match="the guide's loc of 'z': finite numbers only"):
        inference_gap(pair, x, device="cpu")


@pytest.mark.parametrize("latent_dim", [2, 3])
def test_a_broken_model_is_refused(latent_dim):
    pair, x = linear(latent_dim)
    with torch.no_grad():
        pair.decoder.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match="log p of the site 'x': finite numbers only"):
        inference_gap(pair, x, method="iwae", device="cpu")


def test_worst_first(gap):
    assert isinstance(gap, InferenceGap)
    for by in ("total", "approximation", "amortisation"):
        values = getattr(gap, by).mean
        order = gap.worst(3, by=by)
        assert order.tolist() == sorted(range(5), key=lambda n: -float(values[n]))[:3]  # noqa: B023
        assert gap.to_dataframe(by=by).index.tolist()[:3] == order.tolist()
    assert len(gap.worst(99)) == 5
    with pytest.raises(ValueError, match="gap as one of total, approximation, amortisation"):
        gap.worst(1, by="elbo")
    with pytest.raises(ValueError, match="count of at least 1"):
        gap.worst(0)
    with pytest.raises(TypeError, match="count as an int"):
        gap.worst(1.5)


def test_table(gap):
    table = gap.to_dataframe()
    assert table.index.name == "example"
    assert bool(table.total.is_monotonic_decreasing)
    for name in NAMES:
        row = table.sort_index()
        assert row[name].tolist() == getattr(gap, name).mean.tolist()
        assert row[f"{name}_standard_error"].tolist() == getattr(gap, name).standard_error.tolist()
    assert {"gradient_norm", "converged"} < set(table.columns)


def test_averages(gap):
    mean = gap.average("total")
    assert mean.mean == pytest.approx(float(gap.total.mean.mean()))
    assert mean.standard_error == pytest.approx(float(gap.total.mean.std()) / 5**0.5)
    with pytest.raises(ValueError, match="quantity as one of log_evidence"):
        gap.average("kl")


def test_print(gap):
    console = Console(record=True, width=120)
    gap.print(console, count=2)
    text = console.export_text()
    assert "BernoulliVAE, 5 examples: log p(x) by iwae, best diagonal Gaussian" in text
    for name in ("total", "approximation", "amortisation"):
        assert f"{name} gap" in text
        assert str(gap.average(name)) in text
    assert "iwae is below log p(x) in expectation" in text
    assert text.count("±") > 10


def test_bars(gap):
    ax = gap.plot(count=3)
    assert [text.get_text() for text in ax.get_xticklabels()] == [
        str(n) for n in gap.worst(3).tolist()
    ]
    bars = [each for each in ax.containers if isinstance(each, BarContainer)]
    assert [each.get_label() for each in bars] == ["approximation", "amortisation"]
    heights = [patch.get_height() for patch in bars[1].patches]
    assert heights == pytest.approx(gap.amortisation.mean[gap.worst(3)].tolist())


def test_posteriors(gap, tmp_path):
    axes = gap.plot_posteriors(tmp_path / "new", count=2)
    assert (tmp_path / "new" / "posteriors.png").stat().st_size > 3000
    worst = gap.worst(2)
    for ax, number in zip(axes, worst.tolist(), strict=True):
        assert f"example {number}" in ax.get_title()
        middle = [line.get_xydata()[0].tolist() for line in ax.lines if len(line.get_xdata()) == 1]
        assert middle[0] == pytest.approx(gap.guide.loc[number].tolist())
        assert middle[1] == pytest.approx(gap.best.loc[number].tolist())
    figure = Figure()
    given = list(figure.subplots(1, 2))
    assert gap.plot_posteriors(axes=given, count=2) == given
    with pytest.raises(ValueError, match="at least 3 Axes; got 2"):
        gap.plot_posteriors(axes=given, count=3)


def test_only_a_plane_can_be_drawn():
    gap = inference_gap(*linear(3), device="cpu")
    with pytest.raises(NotImplementedError, match="a code of two dimensions; got one of 3"):
        gap.plot_posteriors()


def test_the_grid_holds_the_true_posterior():
    pair, x = linear(2)
    gap = inference_gap(pair, x[:1], device="cpu")
    grid = posterior_grid(gap.code, float(gap.log_evidence.mean[0]), [gap.best, gap.guide])
    points = torch.cartesian_prod(grid.first, grid.second).reshape(141, 141, 2)
    with torch.no_grad():
        expected = pair.exact.posterior(x[:1]).log_prob(points).exp()
    torch.testing.assert_close(grid.density, expected.mT, rtol=1e-9, atol=1e-12)
    assert grid.mass == pytest.approx(1, abs=0.01)
