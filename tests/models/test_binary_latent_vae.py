"""The sigmoid belief network: its sums over states, its networks, its training."""

import itertools

import numpy as np
import pytest
import torch
from scipy.special import expit, logsumexp
from torch import nn

from ppl_vae import MODELS, BinaryLatentVAE, fit, load_pair, save_pair
from ppl_vae.elbos.serving import choose
from ppl_vae.elbos.sites.draws import Program


@pytest.fixture
def pair():
    return BinaryLatentVAE((1, 2, 2), 3, seed=1)


def log_bernoulli(logits, x):
    return np.where(x > 0.5, np.log(expit(logits)), np.log(expit(-logits)))


@pytest.mark.parametrize("is_masked", [False, True])
def test_the_closed_forms_are_sums_by_hand(is_masked, pair):
    pair.prior_logits.data = torch.tensor([0.3, -0.8, 1.1])
    x = pair.sample(5, seed=0)
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) < 0.7
    args = (x, mask) if is_masked else (x,)
    w = {name: p.detach().numpy() for name, p in pair.named_parameters()}
    shown = mask.numpy().reshape(5, 4) if is_masked else np.ones((5, 4), bool)
    pixels = np.where(shown, x.numpy().reshape(5, 4), 0)
    q = pixels @ w["encoder.0.weight"].T + w["encoder.0.bias"]
    log_joint, log_q = [], []
    for bits in itertools.product((0.0, 1.0), repeat=3):
        z = np.array(bits)
        p = w["decoder.net.0.weight"] @ z + w["decoder.net.0.bias"]
        likelihood = np.where(shown, log_bernoulli(p, pixels), 0).sum(-1)
        log_joint.append(log_bernoulli(w["prior_logits"], z).sum() + likelihood)
        log_q.append(log_bernoulli(q, z).sum(-1))
    log_joint, log_q = np.array(log_joint), np.array(log_q)
    elbo = (np.exp(log_q) * (log_joint - log_q)).sum(0)
    np.testing.assert_allclose(pair.exact.elbo(*args).detach(), elbo, rtol=1e-12)
    evidence = logsumexp(log_joint, axis=0)
    np.testing.assert_allclose(pair.exact.log_evidence(*args).detach(), evidence, rtol=1e-12)


def test_flat_images_have_the_same_answers(pair):
    x = pair.sample(5, seed=0)
    torch.testing.assert_close(pair.exact.elbo(x.flatten(1)), pair.exact.elbo(x))


def test_evidence_sums_to_one_over_all_images(pair):
    images = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4))).reshape(-1, 1, 2, 2)
    total = pair.exact.log_evidence(images).exp().sum()
    assert total.item() == pytest.approx(1.0, rel=1e-12)


def test_many_bits_have_no_sum_but_the_default_size_is_that_of_the_papers():
    assert BinaryLatentVAE((1, 2, 2), 12, seed=0).exact is not None
    assert BinaryLatentVAE((1, 2, 2), 13, seed=0).exact is None
    pair = BinaryLatentVAE(seed=0)
    assert [p.shape for p in pair.encoder.parameters()] == [(200, 784), (200,)]
    assert [p.shape for p in pair.decoder.parameters()] == [(784, 200), (784,)]


def test_hidden_layers_are_leaky_and_mirrored():
    pair = BinaryLatentVAE((1, 2, 2), 3, (6, 5), seed=0)
    kinds = [nn.Linear, nn.LeakyReLU, nn.Linear, nn.LeakyReLU, nn.Linear]
    assert [type(layer) for layer in pair.encoder] == kinds
    sizes = [layer.out_features for layer in pair.decoder.net if isinstance(layer, nn.Linear)]
    assert sizes == [5, 6, 4]


def test_training_closes_the_gap_to_the_evidence():
    truth = BinaryLatentVAE((1, 2, 2), 3, seed=5)
    truth.decoder.net[0].weight.data.mul_(6)
    x = truth.sample(200, seed=0)
    pair = BinaryLatentVAE((1, 2, 2), 3, seed=1)
    assert choose(Program(pair.model, pair.guide, (x,), {})) == "leave-one-out"
    before = pair.exact.elbo(x).mean().item()
    fit(
        pair,
        x,
        elbo="disarm",
        num_epochs=60,
        batch_size=50,
        optimizer=lambda p: torch.optim.Adam(p, 0.02),
        progress=False,
        device="cpu",
    )
    after, best = pair.exact.elbo(x).mean().item(), truth.exact.log_evidence(x).mean().item()
    assert best - after < 0.3 * (best - before)


def test_the_likeliest_bits_reconstruct(pair):
    x = pair.sample(5, seed=0)
    z = (pair.posterior(x).mean > 0.5).double()
    assert torch.equal(pair.reconstruct(x), pair.likelihood(z).mean)
    assert pair.reconstruct(x).shape == x.shape


def test_it_is_saved_with_its_sizes(pair, tmp_path):
    save_pair(pair, tmp_path / "pair")
    loaded = load_pair(tmp_path / "pair")
    assert type(loaded) is MODELS["binary-latent-vae"]
    x = pair.sample(5, seed=0)
    assert torch.equal(loaded.exact.elbo(x), pair.exact.elbo(x))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"latent_dim": 0}, ValueError, "latent_dim of at least 1"),
        ({"latent_dim": 2.0}, TypeError, "latent_dim as an int"),
        ({"hidden": (0,)}, ValueError, "every entry of hidden of at least 1"),
        ({"likelihood": "normall"}, ValueError, "Did you mean 'normal'"),
    ],
)
def test_bad_input(options, error, message, pair):
    with pytest.raises(error, match=message):
        BinaryLatentVAE((1, 2, 2), **options)
    with pytest.raises(ValueError, match="0 or 1"):
        pair.model(torch.full((2, 1, 2, 2), 0.5))
