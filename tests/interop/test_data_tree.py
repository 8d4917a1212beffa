"""Draws of pairs as ArviZ's DataTree, read by ArviZ's own functions."""

import math
import sys
from types import SimpleNamespace

import matplotlib.pyplot
import matplotlib.style
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from cases import CASES, batch_case

from ppl_vae import ExponentialNormal, LinearGaussian, log_evidence, to_arviz

arviz_stats = pytest.importorskip("arviz_stats")
pytest.importorskip("arviz_base")
DRAWS = ("chain", "draw")


def linear(n=6):
    """A pair whose guide is the posterior, a little wider, so that the weights have no tail."""
    pair = LinearGaussian(4, 1, noise_scale=0.7, seed=1)
    weight, noise = pair.decoder.weight, pair.decoder.log_scale.exp()
    with torch.no_grad():
        variance = 1 / (1 + weight.square().sum() / noise**2)
        pair.encoder.weight.copy_(variance * weight.mT / noise**2)
        pair.encoder.log_scale.copy_((1.2 * variance.sqrt()).log().reshape(1))
    return pair, pair.sample(n, seed=0)


def tree_of(pair, x, **options):
    return to_arviz(pair, x, device="cpu", **{"num_samples": 40, **options})


def weighted_loo(tree):
    stats = tree.sample_stats
    weights = stats.log_weight - tree.log_likelihood.x - math.log(stats.log_weight[:, :, 0].size)
    return arviz_stats.loo(tree, log_weights=weights, pareto_k=stats.pareto_k, pointwise=True)


def test_groups_dimensions_and_values():
    pair, x = linear()
    tree = tree_of(pair, x)
    assert list(tree.children) == [
        "posterior",
        "log_likelihood",
        "sample_stats",
        "observed_data",
    ]
    assert tree.posterior.z.sizes == {"chain": 4, "draw": 10, "data": 6, "z_dim_0": 1}
    assert tree.log_likelihood.x.dims == (*DRAWS, "data") == tree.sample_stats.log_weight.dims
    assert tree.sample_stats.pareto_k.dims == ("data",)
    assert np.array_equal(tree.observed_data.x, x)
    z = torch.as_tensor(tree.posterior.z.values)
    with torch.no_grad():
        prior = dist.Normal(0.0, 1.0).log_prob(z).sum(-1)
        likelihood = dist.Normal(pair.decode(z), pair.decoder.log_scale.exp()).log_prob(x).sum(-1)
        guide = dist.Normal(*pair.encode(x)).log_prob(z).sum(-1)
    assert np.allclose(tree.log_likelihood.x, likelihood, rtol=1e-12, atol=1e-12)
    weight = prior + likelihood - guide
    assert np.allclose(tree.sample_stats.log_weight, weight, rtol=1e-12, atol=1e-12)


def test_weighted_loo_is_the_evidence():
    pair, x = linear(30)
    tree = tree_of(pair, x, num_samples=2000)
    found = weighted_loo(tree)
    mean = torch.as_tensor(tree.sample_stats.log_weight.values).flatten(0, 1).logsumexp(0)
    assert np.allclose(found.elpd_i, mean - math.log(2000), rtol=0, atol=1e-12)
    evidence = log_evidence(pair, x, num_samples=2000, seed=5, device="cpu")
    error = torch.as_tensor(found.elpd_i.values) - pair.exact.log_evidence(x)
    assert bool((error.abs() < 4.5 * evidence.standard_error).all())
    assert np.array_equal(found.pareto_k, tree.sample_stats.pareto_k)


def test_loo_as_it_is_takes_the_draws_for_the_posteriors():
    pair, x = linear(30)
    with pytest.warns(UserWarning, match="shape parameter of Pareto"):
        found = arviz_stats.loo(tree_of(pair, x, num_samples=1000))
    # It divides by p(x | z), so it is too low, and its own Pareto k say that.
    assert found.elpd < pair.exact.log_evidence(x).sum()


@pytest.mark.filterwarnings("ignore")  # of matplotlib, which moves faster than the plots
def test_plots_draw_the_tree(monkeypatch):
    # arviz-plots 0.8, the last for Python 3.11, looks there when it is imported.
    gone = SimpleNamespace(USER_LIBRARY_PATHS=[], reload_library=lambda: None)
    monkeypatch.setattr(matplotlib.style, "core", gone, raising=False)
    plots = pytest.importorskip("arviz_plots")
    matplotlib.use("Agg")
    pair, x = linear(3)
    tree = tree_of(pair, x, num_samples=400)
    for draw in (plots.plot_forest, plots.plot_dist, plots.plot_ess):
        assert draw(tree, backend="matplotlib") is not None
    assert plots.plot_khat(weighted_loo(tree), backend="matplotlib") is not None
    assert arviz_stats.rhat(tree).z.max() < 1.1
    matplotlib.pyplot.close("all")


@pytest.mark.parametrize("name", ["conditional-vae", "semi-supervised-vae, some labels"])
def test_programs_of_several_arguments(name):
    pair, x = batch_case(name)
    tree = tree_of(pair, x)
    assert tree.log_likelihood.x.sizes == {"chain": 4, "draw": 10, "data": 6}
    assert set(tree.posterior) == ({"y", "z"} if "some" in name else {"z"})


def test_several_layers_discrete_latents_and_one_example():
    assert set(tree_of(CASES["gaussian-chain"](), torch.zeros(3, 2)).posterior) == {"z1", "z2"}
    pair = CASES["binary-latent-vae"]()
    assert set(np.unique(tree_of(pair, pair.sample(3, seed=0)).posterior.z)) == {0.0, 1.0}
    assert tree_of(ExponentialNormal(), torch.ones(5)).observed_data.x.shape == (1, 5)


def test_programs_that_run_once_a_particle():
    """A plate of their own, and a loop that no dimension of particles goes through."""

    def model(x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            assert z.dim() == 1
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        scale = pyro.param("scale", torch.tensor(0.7))
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(x / 2, scale))

    x = torch.randn(4)
    tree = tree_of((model, guide), x, num_samples=8)
    z = torch.as_tensor(tree.posterior.z.values)
    assert z.shape == (4, 2, 4)
    assert z.unique().numel() == z.numel()
    expected = dist.Normal(z, 1.0).log_prob(x)
    assert np.allclose(tree.log_likelihood.x, expected, rtol=1e-12)


def test_a_plate_beside_the_examples():
    def model(x):
        with pyro.plate("data", 3, dim=-1), pyro.plate("pixels", 2, dim=-2):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x.mT)

    def guide(x):
        scale = pyro.param("scale", torch.tensor(0.7))
        with pyro.plate("data", 3, dim=-1), pyro.plate("pixels", 2, dim=-2):
            pyro.sample("z", dist.Normal(x.mT / 2, scale))

    x = torch.randn(3, 2)
    tree = tree_of((model, guide), x, num_samples=8)
    assert np.array_equal(tree.observed_data.x, x)
    expected = dist.Normal(torch.as_tensor(tree.posterior.z.values), 1.0).log_prob(x).sum(-1)
    assert np.allclose(tree.log_likelihood.x, expected, rtol=1e-12)


def test_the_seed_decides_and_global_state_stays():
    pair, x = linear(40)
    before = torch.get_rng_state(), len(pyro.get_param_store())
    whole = tree_of(pair, x, seed=3)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == len(pyro.get_param_store())
    assert np.array_equal(whole.posterior.z, tree_of(pair, x, seed=3).posterior.z)
    small = tree_of(pair, x, max_bytes=20_000)
    assert small.posterior.z.shape == whole.posterior.z.shape
    assert np.array_equal(small.observed_data.x, x)


def test_bad_input(monkeypatch):
    pair, x = linear()
    with pytest.raises(ValueError, match="num_samples as a multiple of num_chains; got 10 and 4."):
        to_arviz(pair, x, num_samples=10)
    with pytest.raises(ValueError, match="num_chains of at least 1; got 0"):
        to_arviz(pair, x, num_chains=0)
    with pytest.raises(TypeError, match="a ppl_vae.Pair, or a Pyro model and its guide"):
        to_arviz("pair", x)
    monkeypatch.setitem(sys.modules, "arviz_base", None)
    with pytest.raises(ImportError, match=r"arviz_base; .* pip install 'ppl_vae\[arviz\]'"):
        to_arviz(pair, x)


@pytest.mark.parametrize("name", ["chain", "draw"])
def test_sites_of_the_names_of_dimensions_are_refused(name):
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample(name, dist.Normal(torch.zeros_like(x), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample(name, dist.Normal(x / 2, 0.7))

    with pytest.raises(ValueError, match=f"other names than ArviZ's dimensions; got '{name}'"):
        to_arviz((model, guide), torch.ones(3), num_samples=8, device="cpu")
