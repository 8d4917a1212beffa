"""Calibration of guides that are exact, and of some that are wrong by a known amount."""

import io
import json
import math

import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from exact_guides import ExactGammaPoisson, linear_gaussian
from PIL import Image
from rich.console import Console
from scipy import stats

from ppl_vae import (
    BernoulliVAE,
    BinaryLatentVAE,
    GaussianChain,
    HierarchicalVAE,
    calibration,
)
from ppl_vae.diagnostics import calibration_power

BOUND = 4.5


def share_of(p, level):
    return sum(value <= level for value in p) / len(p)


def binomial_error(p, count):
    return math.sqrt(p * (1 - p) / count)


@pytest.mark.parametrize("make", [linear_gaussian, ExactGammaPoisson])
def test_p_values_of_exact_guides_are_uniform(make):
    pair, repeats = make(), 500
    options = {"num_simulations": 200, "num_draws": 31, "device": "cpu"}
    p = [calibration(pair, seed=seed, **options).p_value for seed in range(repeats)]
    assert stats.kstest(p, "uniform").pvalue > 1e-3
    for level in (0.05, 0.2):
        assert abs(share_of(p, level) - level) < BOUND * binomial_error(level, repeats)


@pytest.mark.parametrize(("scale", "shift"), [(1.1, 0.0), (0.9, 0.0), (1.0, 0.1)])
def test_errors_are_found_as_often_as_was_computed_beforehand(scale, shift):
    repeats, size = 60, {"num_simulations": 800, "num_draws": 63}
    power = calibration_power(scale, shift, **size)
    assert 0.4 < power < 0.9
    pair = linear_gaussian(scale=scale, shift=shift)
    p = [calibration(pair, seed=seed, device="cpu", **size).p_value for seed in range(repeats)]
    assert abs(share_of(p, 0.05) - power) < BOUND * binomial_error(power, repeats)


def test_a_scale_wrong_by_a_tenth_is_found_and_measured():
    found = calibration(linear_gaussian(scale=1.1), num_simulations=5000, device="cpu")
    assert found.p_value < 0.001  # the power is above 0.9999
    assert abs(found.scale.mean[0].item() - 1.1) < BOUND * found.scale.standard_error[0].item()
    assert abs(found.shift.mean[0].item()) < BOUND * found.shift.standard_error[0].item()
    shifted = calibration(linear_gaussian(shift=0.2), num_simulations=5000, device="cpu")
    assert abs(shifted.shift.mean[0].item() - 0.2) < BOUND * shifted.shift.standard_error[0].item()
    assert abs(shifted.scale.mean[0].item() - 1) < BOUND * shifted.scale.standard_error[0].item()


def test_a_wrong_rate_and_another_prior_are_found():
    assert calibration(ExactGammaPoisson(wrong=1.15), device="cpu").p_value < 1e-3
    pair = ExactGammaPoisson(2.0, 0.5)
    pair.concentration.fill_(4.0)  # the guide has it from the prior, and is exact again
    assert calibration(pair, device="cpu").p_value > 0.01

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Gamma(2.0 + x.sum(-1), 5.5))

    assert calibration((pair.model, guide), like=torch.zeros(1, 5)).p_value < 1e-6


def test_ranks_are_among_the_draws_and_repeat_with_the_seed():
    pair = linear_gaussian()
    first, again, other = (
        calibration(pair, num_simulations=700, num_draws=127, seed=seed, device="cpu")
        for seed in (1, 1, 2)
    )
    assert first.ranks.shape == (700, 1)
    assert first.ranks.min() >= 0
    assert first.ranks.max() <= 127
    assert torch.equal(first.ranks, again.ranks)
    assert not torch.equal(first.ranks, other.ranks)
    k = torch.arange(1, 128)
    expected = (first.ranks.unsqueeze(-1) < k).double().mean(0).mT
    torch.testing.assert_close(first.ecdf, expected)


@pytest.mark.parametrize("guide", ["top-down", "bottom-up"])
def test_a_hierarchy(guide):
    # The posterior of the chain, in the order of either guide; see GaussianChain.
    exact = {
        "top-down": {"c": 1 / 3, "s2": (2 / 3) ** 0.5, "d": 0.5, "e": 0.5, "s1": 0.5**0.5},
        "bottom-up": {"a": 2 / 3, "s1": (2 / 3) ** 0.5, "b": 0.5, "s2": 0.5**0.5},
    }[guide]
    found = calibration(GaussianChain(2, guide, initial=exact), device="cpu")
    assert set(found.names) == {"z1[0]", "z1[1]", "z2[0]", "z2[1]"}
    assert found.p_value > 0.01
    wrong = {**exact, "s1": 1.3 * exact["s1"]}
    found = calibration(GaussianChain(2, guide, initial=wrong), device="cpu")
    of_z1 = [number for number, name in enumerate(found.names) if name.startswith("z1")]
    assert bool((found.adjusted[of_z1] < 1e-3).all())


def test_bits_and_whole_numbers_have_uniform_ranks():
    probability = torch.tensor([0.1, 0.5, 0.97])

    def model(x):
        with pyro.plate("data", len(x)):
            bits = pyro.sample("bits", dist.Bernoulli(probability).to_event(1))
            kind = pyro.sample("kind", dist.Categorical(torch.tensor([0.2, 0.3, 0.5])))
            pyro.sample("x", dist.Normal(bits.sum(-1) + 0.0 * kind, 1.0), obs=x)

    def guide(x, wrong=0.0):
        states = torch.tensor(
            [[a, b, c] for a in (0.0, 1.0) for b in (0.0, 1.0) for c in (0.0, 1.0)]
        )
        log_p = dist.Bernoulli(probability).to_event(1).log_prob(states)
        log_p = log_p + dist.Normal(states.sum(-1), 1.0).log_prob(x.unsqueeze(-1))
        # One of the states, from the posterior; then its bits.
        index = dist.Categorical(logits=log_p).sample()
        with pyro.plate("data", len(x)):
            pyro.sample("bits", dist.Bernoulli(states[index].clamp(1e-9, 1 - 1e-9)).to_event(1))
            kind = torch.tensor([0.2 + wrong, 0.3, 0.5 - wrong])
            pyro.sample("kind", dist.Categorical(kind))

    found = calibration((model, guide), like=torch.zeros(1), num_draws=31)
    assert found.names == ("bits[0]", "bits[1]", "bits[2]", "kind")
    assert float(found.p_values[3]) > 0.01
    wrong = calibration((model, lambda x: guide(x, 0.15)), like=torch.zeros(1), num_draws=31)
    assert float(wrong.p_values[3]) < 1e-4


def test_a_belief_network_with_the_exact_posterior_of_a_bit():
    pair = BinaryLatentVAE((1, 2, 2), 1, seed=1)

    def posterior(x, mask=None):
        log_joint, _ = terms(x)
        return dist.Bernoulli(logits=(log_joint[1] - log_joint[0]).unsqueeze(-1)).to_event(1)

    def terms(x):
        states = torch.tensor([[[0.0]], [[1.0]]])
        images = x.reshape(-1, 1, 2, 2)
        return pair.prior().log_prob(states) + pair.likelihood(states).log_prob(images), None

    def guide(x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", posterior(x))

    like = torch.zeros(3, 1, 2, 2)
    assert calibration((pair.model, guide), like=like).p_value > 0.01

    def prior(x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Bernoulli(torch.tensor([0.6])).expand([len(x), 1]).to_event(1))

    assert calibration((pair.model, prior), like=like, num_simulations=4000).p_value < 1e-3


def test_one_latent_of_a_whole_data_set():
    def model(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x, scale=1.0):
        pyro.sample("z", dist.Normal(x.sum() / 5, scale * 5**-0.5))

    options = {"like": torch.zeros(4), "num_simulations": 400}
    assert calibration((model, guide), **options).p_value > 0.01
    assert calibration((model, lambda x: guide(x, 2.0)), **options).p_value < 1e-6


def test_draws_one_by_one_are_as_good():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x)

    def guide(x, scale=1.0):
        with pyro.plate("data", len(x)):
            covariance = scale * (torch.eye(2) - torch.ones(2, 2) / 3)
            loc = x.unsqueeze(-1).expand(-1, 2) / 3
            z = pyro.sample("z", dist.MultivariateNormal(loc, covariance))
            assert z.dim() == 2, "no particles"

    assert calibration((model, guide), like=torch.zeros(1)).p_value > 0.01
    assert calibration((model, lambda x: guide(x, 1.5)), like=torch.zeros(1)).p_value < 1e-4


def test_the_prior_passes_which_the_page_says():
    def guide(x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).expand([len(x), 1]).to_event(1))

    pair = linear_gaussian()
    assert calibration((pair.model, guide), like=torch.zeros(1, 3)).p_value > 0.01


def test_what_is_printed_saved_and_drawn(tmp_path):
    pair = HierarchicalVAE((1, 3, 3), (3, 2), hidden=(5, 4), seed=1)
    found = calibration(pair, num_simulations=300, device="cpu")
    console = Console(width=120, record=True, file=io.StringIO())
    found.print(console, count=2)
    text = console.export_text()
    worst = found.names[int(found.p_values.argmin())]
    for part in (worst, "HierarchicalVAE", "300 simulations", "5 latent numbers", "Holm"):
        assert part in text
    assert text.count("│") == 2 * 6
    table = found.to_dataframe()
    assert list(table.index) == list(found.names)
    assert table["adjusted"].min() == found.p_value
    found.save(tmp_path / "here")
    written = pd.read_csv(tmp_path / "here" / "calibration.csv", index_col=0)
    pd.testing.assert_frame_equal(written, table)
    summary = json.loads((tmp_path / "here" / "calibration.json").read_text())
    assert (summary["p_value"], summary["num_simulations"]) == (found.p_value, 300)
    with Image.open(tmp_path / "here" / "calibration.png") as picture:
        assert picture.size[0] > 300


def test_a_curve_leaves_the_drawn_band_just_where_the_joint_p_value_is_small():
    pair = BernoulliVAE((1, 3, 3), latent_dim=3, hidden=(5,), seed=2)
    found = calibration(pair, num_simulations=400, device="cpu")
    for level in (0.5, 0.05, 1e-4):
        lower, upper = found.band(level / len(found))
        outside = (found.ecdf.mT < lower) | (found.ecdf.mT > upper)
        assert bool(outside.any()) == (found.p_value <= level)
    ax = found.plot()
    assert len(ax.get_lines()) == 1 + len(found)


def test_state_is_left_alone():
    pair = BernoulliVAE((1, 3, 3), latent_dim=2, hidden=(5,), seed=1).train()
    state = torch.get_rng_state()
    calibration(pair, num_simulations=50, device="cpu")
    assert torch.equal(state, torch.get_rng_state())
    assert len(pyro.get_param_store()) == 0
    assert pair.training
    assert all(p.grad is None for p in pair.parameters())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu():
    pair = BernoulliVAE((1, 8, 8), latent_dim=3, hidden=(16,), seed=1)
    found = calibration(pair, num_simulations=2000, device="cuda")
    same = calibration(pair, num_simulations=2000, device="cpu")
    assert found.ranks.device.type == "cpu"
    gap = (found.ecdf - same.ecdf).abs().max()
    assert gap < BOUND * (0.5 / 2000) ** 0.5
