"""`pair_from_modules`: somebody's PyTorch modules as a pair."""

import re

import pytest
import torch
import torch.nn.functional as F
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam
from torch import nn

from ppl_vae import assert_elbo, check_elbo, pair_from_modules


class Net(nn.Module):
    def __init__(self, pixels=6, latent=2):
        super().__init__()
        self.hidden = nn.Linear(pixels, 5)
        self.loc, self.log_variance = nn.Linear(5, latent), nn.Linear(5, latent)
        self.out = nn.Linear(latent, pixels)

    def encode(self, x):
        h = self.hidden(x.flatten(1)).tanh()
        return self.loc(h), self.log_variance(h)

    def decode(self, z):
        return self.out(z)

    def loss(self, x, beta=1.0):
        loc, log_variance = self.encode(x)
        z = loc + (0.5 * log_variance).exp() * torch.randn_like(loc)
        bce = F.binary_cross_entropy_with_logits(self.decode(z), x.flatten(1), reduction="sum")
        kl = -0.5 * (1 + log_variance - loc**2 - log_variance.exp()).sum()
        return (bce + beta * kl) / len(x)


@pytest.fixture
def x():
    return torch.randint(0, 2, (12, 6)).to(torch.get_default_dtype())


def test_a_loss_method_is_checked(x):
    net = Net()
    pair = pair_from_modules(net.encode, net.decode, latent_dim=2)
    assert set(pair.parameter_groups()) == {"hidden", "loc", "log_variance", "out"}
    assert check_elbo(net.loss, pair, x).passed
    result = check_elbo(lambda x: net.loss(x, 1 / 6), pair, x)
    assert "1/6: averaged over the pixels" in str(result.findings[0])


def test_images_and_flat_decoders_go_together(x):
    net = Net()
    pair = pair_from_modules(net.encode, net.decode, latent_dim=2, image_shape=(1, 2, 3))
    images = x.reshape(-1, 1, 2, 3)
    assert check_elbo(net.loss, pair, images).passed
    assert pair.sample(3, seed=0).shape == (3, 1, 2, 3)
    assert pair.reconstruct(images).shape == images.shape


def test_parameters_are_shared_and_svi_trains_them(x):
    encoder, decoder = nn.Linear(6, 4), nn.Linear(2, 6)
    pair = pair_from_modules(encoder, decoder, latent_dim=2)
    assert set(pair.parameter_groups()) == {"encoder", "decoder"}
    before = encoder.weight.detach().clone()
    SVI(pair.model, pair.guide, Adam({"lr": 0.1}), Trace_ELBO()).step(x)
    assert not torch.equal(before, encoder.weight)


class Written(nn.Module):
    """A VAE as people write it, whose loss is put together from named parts."""

    def __init__(self, *, probs):
        super().__init__()
        self.probs = probs
        self.encoder = nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 4))
        self.decoder = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 12))

    def encode(self, x):
        return self.encoder(x).chunk(2, -1)

    def decode(self, z):
        return self.decoder(z).sigmoid() if self.probs else self.decoder(z)

    def loss(self, x, way):
        loc, log_variance = self.encode(x)
        std = torch.exp(log_variance if way == "log-variance as log-scale" else log_variance / 2)
        noise = torch.randn_like(std)
        z = loc + std * noise
        z = loc if way == "no noise" else z.detach() if way == "detached" else z
        out = self.decode(z)
        if self.probs:
            bce = F.binary_cross_entropy(out, x, reduction="none").sum(1)
        else:
            out = out.sigmoid() if way == "sigmoid twice" else out
            bce = F.binary_cross_entropy_with_logits(out, x, reduction="none").sum(1)
        if way == "mse":
            bce = F.mse_loss(out.sigmoid(), x, reduction="none").sum(1)
        kl = -0.5 * (1 + log_variance - loc**2 - log_variance.exp()).sum(1)
        if way == "sampled":
            q, p = torch.distributions.Normal(loc, std), torch.distributions.Normal(0.0, 1.0)
            kl = (q.log_prob(z) - p.log_prob(z)).sum(1)
        factors = {"pixels averaged": (1 / 12, 1), "KL averaged": (1, 0.5), "sign": (1, -1)}
        a, b = factors.get(way, (1, 1))
        if way == "KL over the batch":
            return bce.mean() + kl.sum()
        if way == "sum, then divide":
            return (bce.sum() + kl.sum()) / len(x)
        return (a * bce + b * kl).mean()


@pytest.fixture
def rows():
    return torch.randint(0, 2, (16, 12)).float()


def written(*, probs=False):
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(1)
    vae = Written(probs=probs)
    output = "probs" if probs else "logits"
    return vae, pair_from_modules(vae.encode, vae.decode, latent_dim=2, decoder_output=output)


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("pixels averaged", "1/12: averaged over the pixels"),
        ("KL averaged", "KL has weight 0.5000"),
        ("sign", "KL has weight -1.0000 .* the sign is wrong"),
        ("log-variance as log-scale", "a log-variance used as a"),
        ("no noise", "no noise is added"),
        ("detached", "no gradient reaches encoder through z"),
        ("sigmoid twice", "sigmoid twice"),
        ("mse", "squared error"),
        ("KL over the batch", "KL is multiplied by the batch size"),
    ],
)
def test_mistakes_of_a_written_loss_are_found(rows, way, said):
    vae, pair = written()
    with pytest.raises(AssertionError) as raised:
        assert_elbo(lambda x: vae.loss(x, way), pair, rows.to(torch.float32))
    text = " ".join(str(raised.value).replace("│", " ").split())
    assert re.search(said, text), text


@pytest.mark.parametrize(
    ("way", "probs"),
    [("right", False), ("right", True), ("sampled", False), ("sum, then divide", True)],
)
def test_right_written_losses_pass(rows, way, probs):
    vae, pair = written(probs=probs)
    assert_elbo(lambda x: vae.loss(x, way), pair, rows.to(torch.float32))


@pytest.mark.parametrize("output", ["log-variance", "log-scale", "scale", "variance"])
def test_encoder_outputs(x, output):
    scale = torch.rand(12, 2) + 0.5
    second = {"log-variance": 2 * scale.log(), "log-scale": scale.log()}
    second |= {"scale": scale, "variance": scale**2}

    class Encoder(nn.Linear):
        def forward(self, x):
            return super().forward(x), second[output]

    pair = pair_from_modules(Encoder(6, 2), nn.Linear(2, 6), latent_dim=2, encoder_output=output)
    torch.testing.assert_close(pair.encode(x)[1], scale, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("likelihood", "output", "numbers", "expected"),
    [
        ("bernoulli", "logits", 6, lambda o, x: torch.distributions.Bernoulli(logits=o)),
        ("bernoulli", "probs", 6, lambda o, x: torch.distributions.Bernoulli(o)),
        ("normal", "loc", 6, lambda o, x: torch.distributions.Normal(o, 0.5)),
        ("normal", "loc, log-scale", 12, None),
        ("normal", "loc, log-variance", 12, None),
        ("normal", "loc, scale", 12, None),
    ],
)
def test_likelihoods(x, likelihood, output, numbers, expected):
    class Decoder(nn.Linear):
        def forward(self, z):
            found = super().forward(z)
            found = found.sigmoid() if "probs" in output or output.endswith(", scale") else found
            return found if expected else found.chunk(2, -1)

    decoder = Decoder(2, numbers)
    pair = pair_from_modules(
        nn.Linear(6, 4),
        decoder,
        latent_dim=2,
        likelihood=likelihood,
        decoder_output=output,
        scale=0.5,
    )
    z = torch.randn(12, 2)
    found = pair.likelihood(z, (6,)).log_prob(x)
    if expected:
        wanted = expected(decoder(z), x)
    else:
        loc, second = decoder(z)
        scale = {"scale": second, "log-scale": second.exp()}.get(output[5:], (0.5 * second).exp())
        wanted = torch.distributions.Normal(loc, scale)
    torch.testing.assert_close(found, wanted.log_prob(x).sum(-1))
    assert pair.likelihood(z.expand(4, 12, 2), (6,)).log_prob(x).shape == (4, 12)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"encoder": 3}, TypeError, "encoder as an nn.Module, a method of one, or a function"),
        ({"decoder": nn.Linear}, TypeError, "decoder as an nn.Module"),
        ({"latent_dim": 0}, ValueError, "latent_dim of at least 1"),
        ({"latent_dim": 2.0}, TypeError, "latent_dim as an int"),
        ({"likelihood": "poisson"}, ValueError, "likelihood as one of bernoulli, normal"),
        ({"encoder_output": "logvar"}, ValueError, "encoder_output as one of log-variance"),
        ({"decoder_output": "loc"}, ValueError, "decoder_output as one of logits, probs"),
        ({"scale": 0.0}, ValueError, "scale finite and above 0"),
        ({"scale": "1"}, TypeError, "scale as a number"),
    ],
)
def test_bad_arguments_are_refused(options, error, message):
    given = {"encoder": nn.Linear(6, 4), "decoder": nn.Linear(2, 6), "latent_dim": 2} | options
    with pytest.raises(error, match=message):
        pair_from_modules(**given)


def test_bad_data_and_outputs_are_refused(x):
    pair = pair_from_modules(nn.Linear(6, 6), nn.Linear(2, 6), latent_dim=2)
    with pytest.raises(ValueError, match=r"of shape \(12, 2\), or one of twice"):
        pair.encode(x)
    with pytest.raises(ValueError, match="pixels that are 0 or 1"):
        pair.check(x * 0.3)
    with pytest.raises(TypeError, match="pair's dtype"):
        pair.check(x.float())
    with pytest.raises(ValueError, match="expected image_shape, for samples"):
        pair.sample(2, seed=0)
    shaped = pair_from_modules(nn.Linear(6, 4), nn.Linear(2, 6), latent_dim=2, image_shape=(7,))
    with pytest.raises(ValueError, match=r"x of shape \(batch, 7\)"):
        shaped.check(x)
