"""What `evaluate` measures, against the single measurements and closed forms."""

import io
import json
import math

import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from rich.console import Console

from ppl_vae import (
    BernoulliVAE,
    ExponentialNormal,
    GaussianChain,
    HierarchicalVAE,
    ImageData,
    LinearGaussian,
    active_units,
    evaluate,
    log_evidence,
)

BOUND = 4.5


def images(count=40, side=3):
    generator = torch.Generator().manual_seed(0)
    grey = torch.randint(256, (count, 1, side, side), dtype=torch.uint8, generator=generator)
    return ImageData(grey, binarize="dynamic", name="squares", split="test")


def test_against_closed_forms():
    pair = LinearGaussian(5, 2, noise_scale=0.7, seed=1)
    x = pair.sample(50, seed=0)
    found = evaluate(pair, x, method="exact", num_elbo_samples=400)
    exact = pair.exact.elbo(x).detach()
    assert bool((found.elbo.z_score(exact).abs() < BOUND).all())
    gap = (pair.exact.log_evidence(x).detach() - exact).mean().item()
    assert abs(found.gap.mean - gap) < BOUND * found.elbo.standard_error.mean() / 50**0.5
    assert found.gap.standard_error >= found.elbo.standard_error.mean() / 50**0.5 / 2
    loc = pair.encode(x)[0].detach()
    variance = found.active_units["z"].variance
    torch.testing.assert_close(variance, loc.var(0, correction=0), rtol=0.03, atol=0)
    assert found.aggregate.num_examples == 50


def test_it_is_the_single_measurements_on_the_same_images():
    data, pair = images(), BernoulliVAE((1, 3, 3), latent_dim=2, hidden=(5,), seed=1)
    found = evaluate(pair, data, num_samples=200, seed=3)
    alone = log_evidence(pair, data, num_samples=200, seed=3)
    assert torch.equal(found.evidence.mean, alone.mean)
    # Bound and evidence are of the same binarised images: the gap varies less than either.
    assert found.gap.standard_error < 0.5 * found.average_elbo.standard_error
    assert found.gap.mean > 0
    assert found.aggregate.mean_kl > 0
    assert found.notes == ()


@pytest.mark.parametrize("guide", ["bottom-up", "top-down"])
def test_a_hierarchy_has_active_units_by_layer_but_no_aggregate(guide):
    pair = HierarchicalVAE((1, 3, 3), (3, 2), guide=guide, hidden=(5, 4), seed=1)
    x = pair.sample(60, seed=0)
    found = evaluate(pair, x, num_samples=100)
    assert found.aggregate is None
    assert "no aggregate posterior" in found.notes[0]
    assert {name: len(u.variance) for name, u in found.active_units.items()} == {"z1": 3, "z2": 2}
    single = active_units(pair, x)
    for name, units in found.active_units.items():
        assert (units.variance - single[name].variance).abs().max() < 0.1


def test_pairs_that_are_no_images():
    toy = evaluate(ExponentialNormal(), torch.tensor([1.2, 0.7, 1.1]), num_samples=200)
    assert len(toy.evidence) == 1
    assert toy.active_units is None
    assert "no active units" in toy.notes[1]
    chain = evaluate(GaussianChain(2), torch.randn(30, 2), method="exact")
    assert set(chain.active_units) == {"z1", "z2"}
    assert chain.active_units["z1"].count == 2


def test_a_model_and_a_guide():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2, pyro.param("scale", torch.tensor(0.8))))

    x = torch.randn(20)
    found = evaluate((model, guide), x, num_samples=100)
    assert len(pyro.get_param_store()) == 0
    truth = dist.Normal(0.0, math.sqrt(2)).log_prob(x)
    assert bool((found.evidence.per_example().z_score(truth).abs() < BOUND).all())
    assert found.active_units["z"].count == 1
    assert found.pair == "model, guide"


def test_what_is_printed_and_saved(tmp_path):
    pair = BernoulliVAE((1, 3, 3), latent_dim=2, hidden=(5,), seed=1)
    found = evaluate(pair, images(), num_samples=100)
    console = Console(width=120, record=True, file=io.StringIO())
    found.print(console)
    text = console.export_text()
    for part in (
        str(found.evidence).splitlines()[0],
        "evidence - ELBO",
        "active units of z, of 2",
    ):
        assert part in text
    found.save(tmp_path / "here")
    summary = json.loads((tmp_path / "here" / "evaluation.json").read_text())
    assert summary["nll"] == found.evidence.nll.mean
    named = {k: summary[k] for k in ("estimator", "num_samples", "split", "binarize", "data")}
    assert list(named.values()) == ["iwae", 100, "test", "dynamic", "squares"]
    assert summary["nll_interval_95"] == list(found.evidence.interval)
    table = pd.read_csv(tmp_path / "here" / "examples.csv", index_col=0)
    assert len(table) == 40
    pd.testing.assert_frame_equal(table, found.to_dataframe(), check_dtype=False)
    averages = pd.read_csv(tmp_path / "here" / "evaluation.csv", index_col=0)
    assert averages.loc["NLL", "value"] == pytest.approx(-table["log_evidence"].mean())
    assert summary["conclusions"] == found.conclusions
    printed = {name: ends for name, _, ends in summary["tables"][0]["rows"]}
    low, high = map(float, printed["NLL"].split(" to "))
    assert (low, high) == pytest.approx(found.evidence.interval, abs=0.05 * (high - low))
    units = pd.read_csv(tmp_path / "here" / "aggregate_posterior.csv", index_col="dimension")
    assert units["active"].sum() == found.active_units["z"].count
    assert (tmp_path / "here" / "worst.png").stat().st_size > 500


def test_the_worst_examples_are_as_they_were_scored():
    pair = BernoulliVAE((1, 3, 3), latent_dim=2, hidden=(5,), seed=1)
    x = pair.sample(30, seed=0)
    found = evaluate(pair, x, method="quadrature", device="cpu")
    order = found.evidence.mean.argsort()[:10]
    assert torch.equal(found.worst.indices, order)
    assert torch.equal(found.worst.images, x[order].reshape(-1, 1, 3, 3).float())
    rebuilt = pair.reconstruct(x[order]).detach().float()
    torch.testing.assert_close(found.worst.reconstructions, rebuilt)
    assert evaluate(ExponentialNormal(), torch.tensor([1.2]), method="exact").worst is None


def test_the_worst_of_binarised_images_are_those_that_were_scored():
    data, pair = images(12), BernoulliVAE((1, 3, 3), latent_dim=2, hidden=(5,), seed=1)
    found = evaluate(pair, data, method="quadrature", seed=3, device="cpu")
    again = log_evidence(pair, found.worst.images.double(), method="quadrature", device="cpu")
    # Quadrature's tolerance; other draws of the pixels would be nats away.
    assert (again.mean - found.evidence.mean[found.worst.indices]).abs().max() < 1e-4


def test_state_is_left_alone():
    pair = BernoulliVAE((1, 3, 3), latent_dim=2, hidden=(5,), seed=1)
    state = torch.get_rng_state()
    first, again = (evaluate(pair, images(), num_samples=20, seed=2) for _ in range(2))
    assert torch.equal(state, torch.get_rng_state())
    assert len(pyro.get_param_store()) == 0
    assert torch.equal(first.elbo.mean, again.elbo.mean)
    assert str(first) == str(again)


def test_bad_input():
    pair = BernoulliVAE((1, 3, 3), latent_dim=2, hidden=(5,), seed=1)
    with pytest.raises(ValueError, match="num_elbo_samples of at least 2"):
        evaluate(pair, images(), num_elbo_samples=1)
    with pytest.raises(ValueError, match="method as one of"):
        evaluate(pair, images(), method="exactly")
    with pytest.raises(ValueError, match="Resize the images"):
        evaluate(pair, images(side=4))
    with pytest.raises(NotImplementedError, match="closed-form log evidence"):
        evaluate(pair, images(), method="exact")
