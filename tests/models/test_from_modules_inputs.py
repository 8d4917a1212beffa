"""`pair_from_modules` with what encoders and decoders return, and what may stand for them."""

import copy
import math
from collections import namedtuple
from dataclasses import dataclass

import pyro.distributions as pyro_dist
import pytest
import torch
from torch import distributions as td
from torch import nn
from torch.nn.functional import one_hot

from ppl_vae import check_elbo, compare_elbos, log_evidence, pair_from_modules

Named = namedtuple("Named", "z mu logvar")


@dataclass
class Record:
    z: torch.Tensor
    qz_mean: torch.Tensor
    qz_std: torch.Tensor


class Returning(nn.Module):
    """Linear, to loc and log-variance, and these as `form` returns them."""

    def __init__(self, form, sizes=(6, 4)):
        super().__init__()
        self.net, self.form = nn.Linear(*sizes), form

    def forward(self, x):
        return self.form(*self.net(x).chunk(2, -1))


@pytest.fixture
def x():
    return torch.randint(0, 2, (12, 6)).to(torch.get_default_dtype())


def std(log_variance):
    return (log_variance / 2).exp()


def elbo(pair, x):
    """The ELBO of one draw, with its gradient, by the pair's own model and guide."""
    import pyro
    from pyro.infer import Trace_ELBO

    for parameter in pair.parameters():
        parameter.grad = None
    with pyro.validation_enabled(True):  # noqa: FBT003
        value = -Trace_ELBO().differentiable_loss(pair.model, pair.guide, x)
    value.backward()
    return value


def by_hand(loc, scale, log_likelihood, seed):
    """The same of a standard Normal prior and Normal q, in plain torch."""
    torch.manual_seed(seed)
    z = loc + scale * torch.randn_like(loc)
    dims = math.prod(loc.shape)
    log_prior = -0.5 * z.square().sum() - 0.5 * dims * math.log(2 * math.pi)
    log_q = -0.5 * ((z - loc) / scale).square().sum() - scale.log().sum()
    return log_likelihood(z) + log_prior - (log_q - 0.5 * dims * math.log(2 * math.pi))


def bernoulli(decoder, x):
    return lambda z: (x * decoder(z) - nn.functional.softplus(decoder(z))).sum()


RIGHT = {
    "two": lambda m, v: (m, v),
    "a list": lambda m, v: [m, v],
    "side by side": lambda m, v: torch.cat([m, v], -1),
    "a dict": lambda m, v: {"mu": m, "logvar": v, "h": m},
    "a dict of loc, scale": lambda m, v: {"loc": m, "scale": std(v)},
    "a namedtuple": lambda m, v: Named(v, m, v),
    "a dataclass": lambda m, v: Record(v, m, std(v)),
    "variance": lambda m, v: {"z_mean": m, "z_var": v.exp()},
    "Normal": lambda m, v: td.Normal(m, std(v)),
    "Pyro's Normal": lambda m, v: pyro_dist.Normal(m, std(v)),
    "Independent": lambda m, v: td.Independent(td.Normal(m, std(v)), 1),
    "MultivariateNormal": lambda m, v: td.MultivariateNormal(m, torch.diag_embed(v.exp())),
    "LowRank": lambda m, v: td.LowRankMultivariateNormal(m, torch.zeros(12, 2, 1), v.exp()),
}


def test_what_an_encoder_may_return(x):
    for name, form in RIGHT.items():
        encoder, decoder = Returning(form), nn.Linear(2, 6)
        pair = pair_from_modules(encoder, decoder, latent_dim=2)
        if name == "LowRank":
            assert pair.posterior(x).event_shape == (2,)
            assert torch.isfinite(elbo(pair, x))
            continue
        torch.manual_seed(3)
        found = elbo(pair, x)
        gradient = encoder.net.weight.grad.clone()
        loc, log_variance = encoder.net(x).chunk(2, -1)
        wanted = by_hand(loc, std(log_variance), bernoulli(decoder, x), 3)
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=0, msg=name)
        (expected,) = torch.autograd.grad(wanted, encoder.net.weight)
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-10, msg=name)


def test_a_dict_whose_second_entry_is_chosen(x):
    encoder = Returning(lambda m, v: {"mu": m, "logvar": v, "std": std(v)})
    pair = pair_from_modules(encoder, nn.Linear(2, 6), latent_dim=2, encoder_output="scale")
    torch.testing.assert_close(pair.encode(x)[1], std(encoder.net(x)[:, 2:]))


@pytest.mark.parametrize(
    ("form", "options", "error", "said"),
    [
        (lambda m, v: (m, m, v), {}, TypeError, r"\(loc, log-variance\), or both.*got tuple: Te"),
        (lambda m, v: m, {}, ValueError, r"two outputs of the encoder of shape \(12, 2\)"),
        (lambda m, v: (m, v[:1]), {}, ValueError, r"log-variance of shape \(12, 2\) .*got \(1, 2"),
        (lambda m, v: (m[:5], v[:5]), {}, ValueError, "that the encoder keeps the batch"),
        (lambda m, v: (m, v.long()), {}, TypeError, "log-variance from the encoder of a floating"),
        (lambda m, v: (m, None), {}, TypeError, "got tuple: .*NoneType"),
        (lambda m, v: None, {}, TypeError, "got NoneType"),
        (lambda m, v: {"a": m, "b": v}, {}, ValueError, "got a, b. Name them so"),
        (lambda m, v: {"mu": m, "loc": m, "std": v}, {}, ValueError, "got mu, loc, std"),
        (lambda m, v: {"mu": m, "std": v, "logvar": v}, {}, ValueError, "by encoder_output where"),
        (
            lambda m, v: {"mu": m, "logvar": v},
            {"encoder_output": "scale"},
            ValueError,
            r"say which is \(loc, scale\); got mu, logvar",
        ),
        (
            lambda m, v: (m, -v.exp()),
            {"encoder_output": "scale"},
            ValueError,
            "loc and scale; got",
        ),
        (
            lambda m, v: (m, -v.exp()),
            {"encoder_output": "variance"},
            ValueError,
            "loc and variance; got .* Say what they are by encoder_output",
        ),
        (lambda m, v: (m * math.nan, v), {}, ValueError, "look for NaN"),
        (lambda m, v: td.Bernoulli(logits=m), {}, TypeError, "with rsample.*got Bernoulli"),
        (lambda m, v: pyro_dist.Delta(m), {}, TypeError, "with a density .*got Delta"),
        (lambda m, v: td.Dirichlet(v.exp()), {}, TypeError, "with a density .*got Dirichlet"),
        (lambda m, v: td.Normal(m[:3], 1.0), {}, ValueError, r"got batch shape \(3, 2\)"),
        (
            lambda m, v: td.Independent(td.Normal(m, 1.0), 2),
            {},
            ValueError,
            "Give every example one distribution",
        ),
        (lambda m, v: (td.Normal(m, 1.0), m), {}, TypeError, "got tuple: Normal, Tensor"),
    ],
)
def test_what_an_encoder_may_not_return(x, form, options, error, said):
    pair = pair_from_modules(Returning(form), nn.Linear(2, 6), latent_dim=2, **options)
    with pytest.raises(error, match=said):
        pair.posterior(x)


@pytest.mark.parametrize(
    ("likelihood", "form", "wanted"),
    [
        ("bernoulli", lambda m, v: {"logits": m, "h": v}, lambda m, v: td.Bernoulli(logits=m)),
        ("bernoulli", lambda m, v: {"probs": m.sigmoid()}, lambda m, v: td.Bernoulli(logits=m)),
        (
            "normal",
            lambda m, v: {"px_mean": m, "px_std": v.exp()},
            lambda m, v: td.Normal(m, v.exp()),
        ),
        ("normal", lambda m, v: m, lambda m, v: td.Normal(m, 0.5)),
        ("distribution", lambda m, v: td.Normal(m, v.exp()), lambda m, v: td.Normal(m, v.exp())),
        ("distribution", lambda m, v: pyro_dist.Laplace(m, 2.0), lambda m, v: td.Laplace(m, 2.0)),
        (
            "distribution",
            lambda m, v: td.Independent(td.Bernoulli(logits=m), 1),
            lambda m, v: td.Bernoulli(logits=m),
        ),
    ],
)
def test_what_a_decoder_may_return(x, likelihood, form, wanted):
    decoder = Returning(form, (2, 12))
    pair = pair_from_modules(
        nn.Linear(6, 4), decoder, latent_dim=2, likelihood=likelihood, scale=0.5
    )
    z = torch.randn(4, 12, 2)
    expected = wanted(*decoder.net(z).chunk(2, -1)).log_prob(x).sum(-1)
    torch.testing.assert_close(pair.likelihood(z, (6,)).log_prob(x), expected)
    torch.testing.assert_close(pair.likelihood(z[0], (6,)).log_prob(x), expected[0])
    drawn = pair.likelihood(z, (6,)).sample((3,))
    assert drawn.shape == (3, 4, 12, 6)


@pytest.mark.parametrize(
    ("likelihood", "form", "error", "said"),
    [
        ("bernoulli", lambda m, v: (m, v), TypeError, "the decoder to return logits; got tuple"),
        ("bernoulli", lambda m, v: td.Bernoulli(logits=m), TypeError, "likelihood='distribution'"),
        ("distribution", lambda m, v: m, TypeError, "likelihood='distribution' says; got Tensor"),
        ("distribution", lambda m, v: td.Normal(m[:4], 1), ValueError, "distribution of x from"),
        ("normal", lambda m, v: m[:, :5], ValueError, r"loc of shape \(12, 6\) from the decoder"),
        ("normal", lambda m, v: m[:3], ValueError, "the decoder keeps the batch"),
        ("normal", lambda m, v: (m, v), TypeError, "to return loc; got tuple"),
        ("bernoulli", lambda m, v: {"probs": m - 9}, ValueError, "decoder that are probs; got"),
    ],
)
def test_what_a_decoder_may_not_return(likelihood, form, error, said):
    decoder = Returning(form, (2, 12))
    pair = pair_from_modules(nn.Linear(6, 4), decoder, latent_dim=2, likelihood=likelihood)
    with pytest.raises(error, match=said):
        pair.likelihood(torch.randn(12, 2), (6,))


def test_data_outside_the_support_are_refused(x):
    pair = pair_from_modules(
        nn.Linear(6, 4),
        Returning(lambda m, v: td.Bernoulli(logits=m), (2, 12)),
        latent_dim=2,
        likelihood="distribution",
    )
    with pytest.raises(ValueError, match=r"x in the support of p\(x . z\)"):
        compare_elbos(pair, x / 3, ["trace"], num_replicates=16)


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.to_code = nn.Embedding(5, 3), nn.Linear(9, 4)
        self.out = nn.Linear(2, 15)

    def encode(self, x):
        return self.to_code(self.embedding(x).flatten(1))

    def decode(self, z):
        return self.out(z).reshape(-1, 3, 5)

    def loss(self, x):
        loc, log_variance = self.encode(x).chunk(2, -1)
        z = loc + std(log_variance) * torch.randn_like(loc)
        nll = -(one_hot(x, 5) * self.decode(z).log_softmax(-1)).sum((1, 2))
        return (nll + 0.5 * (loc**2 + log_variance.exp() - 1 - log_variance).sum(-1)).mean()


def test_tokens_go_through_an_embedding():
    net, x = Tokens(), torch.randint(0, 5, (10, 3)).double()
    options = {"latent_dim": 2, "likelihood": "categorical", "image_shape": (3,)}
    pair = pair_from_modules(net.encode, net.decode, **options)
    loc, log_variance = net.encode(x.long()).chunk(2, -1)

    def log_likelihood(z):
        return (one_hot(x.long(), 5) * net.decode(z).log_softmax(-1)).sum()

    wanted = by_hand(loc, std(log_variance), log_likelihood, 4)
    torch.manual_seed(4)
    torch.testing.assert_close(elbo(pair, x), wanted, rtol=1e-10, atol=0)
    assert net.embedding.weight.grad.abs().sum() > 0
    assert check_elbo(lambda x: net.loss(x.long()), pair, x).passed
    drawn = pair.sample(50, seed=0)
    assert drawn.dtype == x.dtype
    assert set(drawn.unique().tolist()) <= set(range(5))
    assert torch.isfinite(log_evidence(pair, x, method="iwae", num_samples=64).mean).all()
    with pytest.raises(ValueError, match="whole numbers from 0"):
        pair.check(x + 0.5)
    with pytest.raises(TypeError, match="x of a floating dtype"):
        pair.check(x.long())
    with pytest.raises(ValueError, match="x in the support"):
        pair.model(torch.where(x > 3, 7.0, x))


def test_functions_use_the_modules_that_they_name(x):
    encoder, decoder = nn.Linear(6, 4), nn.Linear(2, 6)
    pair = pair_from_modules(lambda x: encoder(x), lambda z: decoder(z), latent_dim=2)
    assert set(pair.parameter_groups()) == {"encoder", "decoder"}
    loc, log_variance = encoder(x).chunk(2, -1)
    wanted = by_hand(loc, std(log_variance), bernoulli(decoder, x), 5)
    torch.manual_seed(5)
    torch.testing.assert_close(elbo(pair, x), wanted, rtol=1e-10, atol=0)
    twin = copy.deepcopy(pair)
    with torch.no_grad():
        twin.encoder.weight.zero_()
    assert not torch.equal(twin.encode(x)[0], pair.encode(x)[0])
    torch.testing.assert_close(pair.encode(x)[0], loc)


def test_functions_whose_parameters_cannot_be_seen_are_refused(x):
    hidden = [nn.Linear(6, 4)].__getitem__
    pair = pair_from_modules(lambda x: hidden(0)(x), nn.Linear(2, 6), latent_dim=2)
    with pytest.raises(ValueError, match="2 parameters of others. Pass the nn.Module itself"):
        pair.posterior(x)
    weight = torch.randn(2, 6, requires_grad=True)
    with pytest.raises(TypeError, match="trained tensors are parameters of an nn.Module"):
        pair_from_modules(nn.Linear(6, 4), lambda z: z @ weight, latent_dim=2)
    with pytest.raises(ValueError, match="at least one parameter in encoder or decoder"):
        pair_from_modules(lambda x: x, lambda z: z, latent_dim=2)
    with pytest.raises(ValueError, match="lazy ones that have none yet"):
        pair_from_modules(nn.LazyLinear(4), nn.Linear(2, 6), latent_dim=2)


def test_feature_maps_are_latents():
    encoder, decoder = nn.Conv2d(1, 4, 2, stride=2), nn.ConvTranspose2d(2, 1, 2, stride=2)
    x = torch.randint(0, 2, (8, 1, 4, 2)).double()
    pair = pair_from_modules(encoder, decoder, latent_dim=(2, 2, 1))

    def loss(x):
        loc, log_variance = encoder(x).chunk(2, 1)
        z = loc + std(log_variance) * torch.randn_like(loc)
        nll = nn.functional.softplus(decoder(z)) - x * decoder(z)
        kl = 0.5 * (loc**2 + log_variance.exp() - 1 - log_variance)
        return (nll.sum((1, 2, 3)) + kl.sum((1, 2, 3))).mean()

    assert check_elbo(loss, pair, x).passed
    assert not check_elbo(lambda x: 2 * loss(x), pair, x).passed


def test_compiled_modules_run_uncompiled(x):
    encoder, decoder = nn.Linear(6, 4), nn.Linear(2, 6)
    inner = nn.Sequential(torch.compile(decoder, backend="eager"))
    pair = pair_from_modules(torch.compile(encoder, backend="eager"), inner, latent_dim=2)
    loc, log_variance = encoder(x).chunk(2, -1)
    wanted = by_hand(loc, std(log_variance), bernoulli(decoder, x), 6)
    torch.manual_seed(6)
    torch.testing.assert_close(elbo(pair, x), wanted, rtol=1e-10, atol=0)
    rows = torch.vmap(lambda z: pair.likelihood(z[None], (6,)).base_dist.logits)(loc)
    torch.testing.assert_close(rows[:, 0], decoder(loc))


def test_half_precision_outputs_are_summed_in_full(x):
    encoder = Returning(lambda m, v: (m.half(), v.half()))
    pair = pair_from_modules(encoder, nn.Linear(2, 6), latent_dim=2)
    assert [each.dtype for each in pair.encode(x)] == [torch.float64] * 2


def test_a_decoder_of_pytorchs_counts_is_right_through_an_estimator():
    """Pyro's own Poisson has arguments that PyTorch's has not."""
    torch.manual_seed(0)
    encoder, decoder = nn.Linear(3, 4), nn.Linear(2, 3)

    def counts(z):
        return torch.distributions.Poisson(decoder(z).exp())

    pair = pair_from_modules(encoder, counts, latent_dim=2, likelihood="distribution")
    x = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 5.0]])

    def objective(x):
        loc, log_variance = encoder(x).chunk(2, -1)
        z = loc + (log_variance / 2).exp() * torch.randn_like(loc)
        kl = (log_variance.exp() + loc**2 - 1 - log_variance) / 2
        return (kl.sum(-1) - counts(z).log_prob(x).sum(-1)).mean()

    assert check_elbo(objective, pair, x).passed
