"""`check_elbo`: noise that is not the guide's, such as dropout's, and what is said of it."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ppl_vae import BernoulliVAE, check_elbo, pair_from_modules
from ppl_vae.diagnostics.check.objective import WithoutDropout


@pytest.fixture
def pair():
    return BernoulliVAE((1, 4, 4), latent_dim=2, hidden=(8,), seed=1)


@pytest.fixture
def x(pair):
    return pair.sample(16, seed=0)


def objective(pair, beta=1.0, seen=lambda x: x, draw=torch.randn_like, given=lambda z: z):
    """Return a loss: `seen` by the encoder, drawn with the noise of `draw`, `given` on."""

    def loss(x):
        loc, scale = pair.encode(seen(x))
        logits = pair.decode(given(loc + scale * draw(scale)))
        nll = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum((1, 2, 3))
        return (nll + beta * (0.5 * (loc**2 + scale**2 - 1) - scale.log()).sum(-1)).mean()

    return loss


def modules(encoder_drops, decoder_drops):
    torch.manual_seed(0)
    encoder = nn.Sequential(
        nn.Flatten(), nn.Linear(36, 16), nn.ReLU(), nn.Dropout(encoder_drops), nn.Linear(16, 6)
    )
    decoder = nn.Sequential(
        nn.Linear(3, 16), nn.ReLU(), nn.Dropout(decoder_drops), nn.Linear(16, 36)
    )
    return (
        encoder,
        decoder,
        pair_from_modules(encoder, decoder, likelihood="bernoulli", latent_dim=3),
    )


def module_loss(encoder, decoder, beta=1.0):
    def loss(x):
        loc, log_variance = encoder(x).chunk(2, -1)
        z = loc + (log_variance / 2).exp() * torch.randn_like(loc)
        nll = F.binary_cross_entropy_with_logits(decoder(z), x, reduction="none").sum(-1)
        kl = 0.5 * (loc**2 + log_variance.exp() - 1 - log_variance).sum(-1)
        return (nll + beta * kl).mean()

    return loss


@pytest.mark.parametrize("drops", [(0.2, 0.0), (0.0, 0.2)], ids=["encoder", "decoder"])
def test_dropout_of_the_pairs_own_networks_is_no_mistake(drops):
    encoder, decoder, pair = modules(*drops)
    x = (torch.rand(24, 36) < 0.3).to(pair.dtype)
    assert check_elbo(module_loss(encoder, decoder), pair, x).passed
    result = check_elbo(module_loss(encoder, decoder, beta=4.0), pair, x)
    assert "beta = 4" in result.findings[0].message


def test_dropout_of_the_objective_alone_is_named(pair, x):
    result = check_elbo(objective(pair, given=lambda z: F.dropout(z, 0.3)), pair, x)
    assert [(f.kind, f.term) for f in result.findings] == [("noise", "objective")]
    assert "dropout is left on" in result.findings[0].message


@pytest.mark.parametrize("drops", [(0.2, 0.0), (0.0, 0.3)], ids=["encoder", "decoder"])
def test_dropout_of_the_pair_alone_is_named(drops):
    encoder, decoder, pair = modules(*drops)
    x = (torch.rand(24, 36) < 0.3).to(pair.dtype)

    def without(module):
        return nn.Sequential(*(layer for layer in module if not isinstance(layer, nn.Dropout)))

    result = check_elbo(module_loss(without(encoder), without(decoder)), pair, x)
    assert [(f.kind, f.term) for f in result.findings] == [("noise", "objective")]
    assert "Call eval() on the pair" in result.findings[0].message


def test_a_mistake_beside_dropout_is_named(pair, x):
    result = check_elbo(objective(pair, beta=0.5, given=lambda z: F.dropout(z, 0.3)), pair, x)
    assert [(f.kind, f.term) for f in result.findings] == [("weight", "kl")]


@pytest.mark.parametrize(
    "draw",
    [
        lambda s: torch.bernoulli(torch.full_like(s, 0.3)),
        lambda s: torch.empty_like(s).bernoulli_(0.3),
        lambda s: torch.empty_like(s).bernoulli_(torch.full_like(s, 0.3)),
        lambda s: torch.bernoulli(s, 0.3),
        lambda s: 0.3 * F.dropout(torch.ones_like(s), 0.4),
        lambda s: 0.3 * torch.native_dropout(torch.ones_like(s), 0.4, train=True)[0],
    ],
)
def test_bernoulli_noise_is_held_at_its_mean(draw):
    with WithoutDropout():
        held = draw(torch.zeros(5))
    torch.testing.assert_close(held, torch.full((5,), 0.3))


@pytest.mark.parametrize(
    ("shape", "says"),
    [(lambda s: (len(s), 1), "by all latent dimensions"), (lambda s: (1,), "the whole batch")],
)
def test_shared_noise_is_found_though_its_bias_is_small(pair, x, shape, says):
    drawn = objective(pair, draw=lambda scale: torch.randn(shape(scale)))
    result = check_elbo(drawn, pair, x)
    assert [(f.kind, f.term) for f in result.findings] == [("noise", "log_likelihood")]
    assert says in result.findings[0].message


def test_one_draw_for_the_batch_is_right(pair, x):
    assert check_elbo(objective(pair, draw=lambda s: torch.randn_like(s[:1])), pair, x).passed


def test_noise_added_to_the_data_is_hinted_at(pair, x):
    noisy = objective(pair, seen=lambda x: x + torch.randn_like(x))
    result = check_elbo(noisy, pair, x)
    assert [f.kind for f in result.findings] == ["leftover"]
    assert "other noise than that of z" in result.findings[0].message


def test_a_state_is_hinted_at(pair, x):
    calls = []

    def loss(x):
        calls.append(1)
        return objective(pair, beta=min(1.0, len(calls) / 3000))(x)

    result = check_elbo(loss, pair, x)
    assert "does it keep a state" in result.findings[0].message
