"""`check_elbo`: plain modules, with the habits and the mistakes of code that is in use."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from ppl_vae import check_elbo, pair_from_modules, seeded

NUM_PIXELS, LATENT_DIM = 36, 3


@pytest.fixture(autouse=True)
def _float32():
    # As users of plain torch have it; some of the mistakes show there alone.
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def x():
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(24, NUM_PIXELS, generator=generator) < 0.5).float()


def modules(last=None, wrapped=lambda layer: layer):
    with seeded(0):
        encoder = nn.Sequential(
            nn.Linear(NUM_PIXELS, 16), nn.ReLU(), nn.Linear(16, 2 * LATENT_DIM)
        )
        layers = [wrapped(nn.Linear(LATENT_DIM, 16)), nn.ReLU()]
        layers += [wrapped(nn.Linear(16, NUM_PIXELS)), *([] if last is None else [last])]
    return encoder, nn.Sequential(*layers)


def drawn(encoder, x, noise=torch.randn_like):
    loc, log_variance = encoder(x).chunk(2, -1)
    z = loc + (log_variance / 2).exp() * noise(loc)
    return z, 0.5 * (loc**2 + log_variance.exp() - 1 - log_variance).sum(-1)


def logits_loss(encoder, decoder, given=lambda x: x, decoded=lambda logits: logits):
    def loss(x):
        z, kl = drawn(encoder, given(x))
        nll = F.binary_cross_entropy_with_logits(decoded(decoder(z)), given(x), reduction="none")
        return (nll.sum(-1) + kl).mean()

    return loss


def probabilities_loss(encoder, decoder, entropy):
    def loss(x):
        z, kl = drawn(encoder, x)
        return entropy(decoder(z), x) + kl.sum()

    return loss


def test_buffers_that_every_call_moves_on_are_put_back(x):
    encoder, decoder = modules(wrapped=spectral_norm)
    before = [b.clone() for b in decoder.buffers()]
    pair = pair_from_modules(encoder, decoder, latent_dim=LATENT_DIM)
    result = check_elbo(logits_loss(encoder, decoder), pair, x)
    assert result.passed, str(result)
    assert all(map(torch.equal, before, decoder.buffers()))
    doubled = check_elbo(logits_loss(encoder, decoder, decoded=lambda logits: 2 * logits), pair, x)
    assert not doubled.passed


def test_swapped_arguments_whose_gradient_is_infinite(x):
    encoder, decoder = modules(nn.Sigmoid())
    pair = pair_from_modules(encoder, decoder, latent_dim=LATENT_DIM, decoder_output="probs")
    swapped = probabilities_loss(
        encoder, decoder, lambda p, x: F.binary_cross_entropy(x, p, reduction="sum")
    )
    result = check_elbo(swapped, pair, x, reduction="sum")
    assert any("swapped" in f.message for f in result.findings), str(result)
    right = probabilities_loss(
        encoder, decoder, lambda p, x: F.binary_cross_entropy(p, x, reduction="sum")
    )
    assert check_elbo(right, pair, x, reduction="sum").passed


def test_an_infinite_gradient_of_a_right_value_is_told(x):
    encoder, decoder = modules()
    pair = pair_from_modules(encoder, decoder, latent_dim=LATENT_DIM)

    def loss(x):
        z, kl = drawn(encoder, x)
        logits = decoder(z)
        nll = F.binary_cross_entropy_with_logits(logits, x, reduction="none")
        return (nll.sum(-1) + kl + (logits - logits).sum(-1).abs().sqrt()).mean()

    result = check_elbo(loss, pair, x)
    assert any("not finite" in f.message for f in result.findings), str(result)


def test_a_detached_reconstruction_is_told_from_a_detached_sample(x):
    encoder, decoder = modules()
    pair = pair_from_modules(encoder, decoder, latent_dim=LATENT_DIM)
    detached = logits_loss(encoder, decoder, decoded=lambda logits: logits.detach())
    result = check_elbo(detached, pair, x)
    assert any("is the reconstruction detached" in f.message for f in result.findings)
    of_sample = check_elbo(logits_loss(encoder, lambda z: decoder(z.detach())), pair, x)
    assert any("through z" in f.message for f in of_sample.findings), str(of_sample)
    assert not any("reconstruction" in f.message for f in of_sample.findings)


def test_an_objective_that_does_not_read_its_argument_is_told(x):
    encoder, decoder = modules()
    pair = pair_from_modules(encoder, decoder, latent_dim=LATENT_DIM)
    stale = logits_loss(encoder, decoder, given=lambda _: x)
    result = check_elbo(stale, pair, x)
    assert ["does it use what it is passed" in f.message for f in result.findings] == [True]


def test_gradients_in_half_precision_are_taken_for_what_they_are(x):
    encoder, decoder = modules()
    pair = pair_from_modules(encoder, decoder, latent_dim=LATENT_DIM)
    right = logits_loss(encoder, decoder)

    def under_autocast(x, weight=1.0):
        with torch.autocast("cpu", torch.bfloat16):
            return weight * right(x).float()

    for seed in range(3):
        assert check_elbo(under_autocast, pair, x, seed=seed).passed
    assert not check_elbo(lambda x: under_autocast(x, 1.1), pair, x).passed
