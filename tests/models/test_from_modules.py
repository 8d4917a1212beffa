"""`pair_from_modules`: somebody's PyTorch modules as a pair."""

import pytest
import torch
import torch.nn.functional as F
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam
from torch import nn

from ppl_vae import check_elbo, pair_from_modules


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
        ({"encoder": 3}, TypeError, "encoder as an nn.Module, or a method of one; got int"),
        ({"decoder": lambda z: z}, TypeError, "decoder as an nn.Module"),
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
