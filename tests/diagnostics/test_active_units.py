"""Active units of every layer, against the guide's own means."""

import pyro
import pytest
import torch

from ppl_vae import BernoulliVAE, ExponentialNormal, GaussianChain, LinearGaussian
from ppl_vae.diagnostics import active_units


def test_the_variance_is_that_of_the_guides_means():
    pair = LinearGaussian(6, 3, seed=0)
    x = pair.sample(400, seed=0)
    found = active_units(pair, x, num_samples=50, seed=1)["z"].variance
    loc, scale = pair.encode(x)
    exact = loc.var(0)
    # Var of the estimate: each example's mean has the noise scale^2 / 50, independent.
    noise = scale[0].square() / 50
    error = ((4 * exact * noise + 2 * noise.square()) / 400).sqrt()
    assert ((found - exact).abs() < 4.5 * error).all()


def test_the_noise_of_the_draws_is_taken_out():
    """A guide that ignores x: without the correction two draws would show a variance of 0.32."""
    pair = GaussianChain(guide="bottom-up", initial={"a": 0.0, "b": 0.0, "s1": 0.8})
    found = active_units(pair, pair.sample(20_000, seed=0), num_samples=2)
    for units in found.values():
        assert abs(units.variance.item()) < 4.5 * 0.64 * (2 * (0.25 + 0.25) / 20_000) ** 0.5


def test_the_second_layer_of_a_bottom_up_guide():
    """Var_x(E[z2 | x]) = b^2 a^2 Var(x)."""
    pair = GaussianChain(guide="bottom-up", initial={"a": 0.6, "b": 0.5})
    x = pair.sample(2000, seed=0)
    found = active_units(pair, x, num_samples=200)
    expected = (0.3 * x).var()
    noise = (0.8**2 * (1 + 0.25)) / 200
    error = ((4 * expected * noise + 2 * noise**2) / 2000).sqrt()
    assert abs(found["z2"].variance - expected) < 4.5 * error
    assert str(found["z2"]) == "1 of 1"


def test_the_caller_finds_everything_as_it_was():
    pair = BernoulliVAE((1, 3, 3), latent_dim=2, hidden=(4,), seed=0)
    x = pair.sample(9, seed=0)
    state = torch.get_rng_state()
    first, again = active_units(pair, x), active_units(pair, x)
    assert torch.equal(first["z"].variance, again["z"].variance)
    assert torch.equal(state, torch.get_rng_state())
    assert len(pyro.get_param_store()) == 0
    assert active_units((pair.model, pair.guide), x)["z"].count == first["z"].count


def test_bad_input_is_refused():
    pair = LinearGaussian(6, 3, seed=0)
    x = pair.sample(4, seed=0)
    with pytest.raises(ValueError, match="num_samples"):
        active_units(pair, x, num_samples=1)
    with pytest.raises(ValueError, match="at least two examples"):
        active_units(pair, x[:1])
    with pytest.raises(ValueError, match="threshold at least 0"):
        active_units(pair, x, threshold=-1.0)
    with pytest.raises(TypeError, match="x as a torch tensor"):
        active_units(pair, [[1.0]])
    toy = ExponentialNormal()
    with pytest.raises(NotImplementedError, match="latents with one value per example"):
        active_units(toy, toy.sample(5, seed=0))
