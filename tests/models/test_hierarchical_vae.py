"""The hierarchical VAE: its densities written out by hand, for both guides."""

import pytest
import torch
from cases import CASES
from pyro import poutine
from torch.distributions import Bernoulli, Normal

from ppl_vae import HierarchicalVAE

DIMS = (4, 3, 2)


def make(guide):
    return HierarchicalVAE((1, 3, 3), DIMS, guide, hidden=(6, 5, 4), seed=3)


@pytest.fixture(params=["bottom-up", "top-down"])
def pair(request):
    return make(request.param)


def draws(pair, x):
    guide = poutine.trace(pair.guide).get_trace(x)
    model = poutine.trace(poutine.replay(pair.model, trace=guide)).get_trace(x)
    guide.compute_log_prob()
    model.compute_log_prob()
    return guide, model


def latents(trace):
    return [name for name in trace.stochastic_nodes if name.startswith("z")]


def log_normal(z, loc, scale):
    return Normal(loc, scale).log_prob(z).sum(-1)


def test_the_model_goes_from_the_top_down(pair):
    x = pair.sample(5, seed=0)
    guide, model = draws(pair, x)
    z1, z2, z3 = (guide.nodes[site]["value"] for site in ("z1", "z2", "z3"))
    expected = {
        "z3": log_normal(z3, torch.zeros(2), torch.ones(2)),
        "z2": log_normal(z2, *pair.prior[1](z3)),
        "z1": log_normal(z1, *pair.prior[0](z2)),
        "x": Bernoulli(logits=pair.decoder(z1)).log_prob(x).sum((1, 2, 3)),
    }
    for site, log_prob in expected.items():
        torch.testing.assert_close(model.nodes[site]["log_prob"], log_prob, rtol=1e-12, atol=0)


def test_the_bottom_up_guide_draws_each_layer_from_the_one_below():
    pair = make("bottom-up")
    x = pair.sample(5, seed=0)
    guide, _ = draws(pair, x)
    below = x.flatten(1)
    for site, encoder in zip(("z1", "z2", "z3"), pair.encoder, strict=True):
        z = guide.nodes[site]["value"]
        expected = log_normal(z, *encoder(below))
        torch.testing.assert_close(guide.nodes[site]["log_prob"], expected, rtol=1e-12, atol=0)
        below = z
    assert latents(guide) == ["z1", "z2", "z3"]


def test_the_top_down_guide_multiplies_the_images_normal_with_the_priors():
    """Up to its integral, q(z_i | z_{i+1}, x) is the product of the two Normals' densities."""
    pair = make("top-down")
    x = pair.sample(5, seed=0)
    guide, _ = draws(pair, x)
    h, heads = x.flatten(1), []
    for up, head in zip(pair.up, pair.encoder, strict=True):
        h = up(h)
        heads.append(head(h))
    for i, site in ((1, "z2"), (0, "z1")):
        above = guide.nodes[f"z{i + 2}"]["value"]
        q = guide.nodes[site]["fn"].base_dist
        (a, s), (b, t) = heads[i], pair.prior[i](above)
        # The integral of the product: Normal(a; b, sqrt(s^2 + t^2)).
        integral = Normal(b, (s**2 + t**2).sqrt()).log_prob(a)
        for z in (a, b, a + s, b - 3 * t):
            product = Normal(a, s).log_prob(z) + Normal(b, t).log_prob(z) - integral
            torch.testing.assert_close(q.log_prob(z), product, rtol=1e-9, atol=1e-9)
    assert latents(guide) == ["z3", "z2", "z1"]
    torch.testing.assert_close(guide.nodes["z3"]["fn"].base_dist.loc, heads[2][0])


def test_the_top_down_guide_shares_the_priors_networks():
    pair = make("top-down")
    x = pair.sample(5, seed=0)
    guide, _ = draws(pair, x)
    guide.nodes["z1"]["log_prob"].sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in pair.prior[0].parameters())


def test_encode_decode_and_means_fit_together(pair):
    x = pair.sample(5, seed=0)
    loc, scale = pair.encode(x)
    assert loc.shape == scale.shape == (5, pair.latent_dim)
    assert pair.decode(loc).shape == x.shape
    means = pair.posterior_means(x)
    assert [m.shape for m, _ in means] == [(5, d) for d in DIMS]
    first = 0 if pair.guide_kind == "bottom-up" else -1
    assert torch.equal(means[first][0], loc)
    expected = pair.decoder(means[0][0]).sigmoid()
    torch.testing.assert_close(pair.reconstruct(x), expected, rtol=1e-12, atol=1e-12)


def test_the_output_starts_at_a_mean_image():
    pair = CASES["hierarchical-vae"]()
    pair.decoder.start_at(torch.tensor([0.0, 1.0] + [0.3] * 7))
    found = pair.decoder.net[-1].bias.sigmoid()
    torch.testing.assert_close(found, torch.tensor([0.001, 0.999] + [0.3] * 7))


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="latent_dims of at least two layers"):
        HierarchicalVAE((1, 3, 3), (4,))
    with pytest.raises(ValueError, match="guide"):
        HierarchicalVAE((1, 3, 3), guide="sideways")
    with pytest.raises(ValueError, match="2 entries of hidden, one per layer"):
        HierarchicalVAE((1, 3, 3), (4, 3), hidden=(5,))
    with pytest.raises(ValueError, match="every entry of latent_dims"):
        HierarchicalVAE((1, 3, 3), (4, 0))
    with pytest.raises(TypeError, match="every entry of latent_dims"):
        HierarchicalVAE((1, 3, 3), (4, 2.5))
