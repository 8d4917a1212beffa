"""VAEs of other data than binary pixels: what `likelihood=` changes, and what the checker says."""

import math

import pyro
import pytest
import torch
import torch.nn.functional as F
from pyro.infer import Trace_ELBO
from saved import change_pair
from torch.distributions import Bernoulli, Categorical, Laplace, Normal, Poisson, StudentT

from ppl_vae import (
    BernoulliVAE,
    ConvGaussianVAE,
    HierarchicalVAE,
    check_elbo,
    load_pair,
    save_pair,
    seeded,
)
from ppl_vae.likelihoods import LIKELIHOODS, NegativeBinomial, ZeroInflatedNegativeBinomial

DEFAULTS = {
    "bernoulli-vae": (lambda **o: BernoulliVAE((1, 3, 3), 2, (5,), seed=1, **o), "bernoulli"),
    "conv-gaussian-vae": (lambda **o: ConvGaussianVAE(2, seed=1, **o), "normal"),
    "conv-gaussian-vae, learned scale": (
        lambda **o: ConvGaussianVAE(2, learn_scale=True, seed=1, **o),
        "normal",
    ),
    "hierarchical-vae": (lambda **o: HierarchicalVAE((1, 3, 3), (3, 2), seed=1, **o), "bernoulli"),
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_default_is_what_it_was(name, tmp_path):
    make, likelihood = DEFAULTS[name]
    pair, named = make(), make(likelihood=likelihood)
    assert pair.config == named.config
    assert list(pair.observation.parameters()) == []
    keys = {key.partition(".")[0] for key in pair.state_dict()}
    assert keys <= {"encoder", "decoder", "prior", "log_scale"}
    # A pair that was saved before there was a choice.
    save_pair(pair, tmp_path)
    change_pair(tmp_path, lambda content: content["config"].pop("likelihood"))
    old = load_pair(tmp_path)
    assert all(torch.equal(p, q) for p, q in zip(pair.parameters(), old.parameters(), strict=True))
    x = pair.sample(3, seed=0)
    losses = []
    for each in (pair, old):
        pyro.set_rng_seed(0)
        losses.append(Trace_ELBO().loss(each.model, each.guide, x))
    assert losses[0] == losses[1]


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_every_vae_takes_every_likelihood(name):
    spec = {"name": name, "num_classes": 4} if name == "categorical" else name
    for pair in (
        BernoulliVAE((2, 3, 3), 2, (5,), likelihood=spec, seed=1),
        ConvGaussianVAE(2, image_shape=(2, 3, 3), likelihood=spec, seed=1),
        HierarchicalVAE((2, 3, 3), (3, 2), guide="top-down", likelihood=spec, seed=1),
    ):
        x = pair.sample(4, seed=0)
        assert x.shape == (4, 2, 3, 3)
        assert pair.likelihood(torch.zeros(6, 4, getattr(pair, "latent_dims", (2,))[0])).mean.shape
        assert pair.reconstruct(x.flatten(1)).shape == x.shape
        elbo = Trace_ELBO(num_particles=2, vectorize_particles=True, max_plate_nesting=1)
        assert math.isfinite(elbo.loss(pair.model, pair.guide, x))
        spoiled = x.clone()
        spoiled[0, 0, 0, 0] = float("nan") if name in ("normal", "laplace", "student-t") else -0.5
        with pytest.raises(ValueError, match="only"):
            pair.model(spoiled)


def test_a_learned_scale_is_the_normals_own():
    with pytest.raises(ValueError, match="learn_scale with the likelihood 'normal' only"):
        ConvGaussianVAE(2, learn_scale=True, likelihood="laplace")
    with pytest.raises(ValueError, match="Did you mean 'laplace'"):
        ConvGaussianVAE(2, likelihood="laplce")
    pair = ConvGaussianVAE(2, likelihood="laplace", seed=1)
    assert pair.observation.log_scale.shape == (1, 28, 28)


def test_encoders_see_data_on_a_scale_that_suits_them():
    counts = BernoulliVAE((1, 2, 2), 2, (5,), likelihood="poisson", seed=1)
    plain = BernoulliVAE((1, 2, 2), 2, (5,), seed=1)
    x = torch.tensor([[0.0, 3.0, 1e6, 2.0]])
    torch.testing.assert_close(counts.encode(x)[0], plain.encode(x.log1p())[0])


def pair_for(name):
    spec = {"name": name, "num_classes": 4} if name == "categorical" else name
    pair = BernoulliVAE((1, 2, 4), 3, (12,), activation="tanh", likelihood=spec, seed=0)
    with torch.no_grad(), seeded(1):
        for free in pair.observation.parameters():
            free += 0.5 * torch.rand_like(free) + 0.2
    return pair


def written_by_hand(pair, score):
    """The ELBO as users write it, with log p(x | z) by `score(distribution, x)`."""

    def loss(x):
        loc, scale = pair.encode(x)
        z = loc + scale * torch.randn_like(scale)
        kl = (0.5 * (loc**2 + scale**2 - 1) - scale.log()).sum(-1)
        fn = pair.likelihood(z).base_dist
        return -(score(fn, x).flatten(1).sum(-1) - kl).mean()

    return loss


def log_zinb(fn, x):
    inside = NegativeBinomial(fn.log_mean, fn.log_total_count).log_prob(x)
    log_rest = F.logsigmoid(-fn.gate_logits)
    zero = torch.logaddexp(F.logsigmoid(fn.gate_logits), log_rest + inside)
    return torch.where(x == 0, zero, log_rest + inside)


RIGHT = {
    "bernoulli": lambda fn, x: -F.binary_cross_entropy_with_logits(fn.logits, x, reduction="none"),
    "continuous-bernoulli": lambda fn, x: (
        fn.logits * x - torch.log(torch.expm1(fn.logits) / fn.logits)
    ),
    "normal": lambda fn, x: Normal(fn.loc, fn.scale).log_prob(x),
    "laplace": lambda fn, x: Laplace(fn.loc, fn.scale).log_prob(x),
    "student-t": lambda fn, x: StudentT(fn.df, fn.loc, fn.scale).log_prob(x),
    "poisson": lambda fn, x: x * fn.rate.log() - fn.rate - torch.lgamma(x + 1),
    "negative-binomial": lambda fn, x: torch.distributions.NegativeBinomial(
        fn.total_count, logits=fn.logits
    ).log_prob(x),
    "zero-inflated-negative-binomial": log_zinb,
    "categorical": lambda fn, x: Categorical(logits=fn.logits).log_prob(x),
}
# Each check takes a second or two: of these the bank of objectives has others of its kind.
SLOW = {"bernoulli", "normal", "poisson", "categorical", "-log(2 scale)", "a Normal", "Poisson"}
SLOW |= {"sigmoid twice", "softmax twice", "the power is df/2"}
WRONG = [
    (
        "continuous-bernoulli",
        "log normaliser is left out",
        lambda fn, x: Bernoulli(logits=fn.logits, validate_args=False).log_prob(x),
    ),
    (
        "continuous-bernoulli",
        "sigmoid twice",
        lambda fn, x: x * F.logsigmoid(fn.probs) + (1 - x) * F.logsigmoid(-fn.probs),
    ),
    ("laplace", "squared error", lambda fn, x: -((x - fn.loc) ** 2)),
    ("laplace", "-log(2 scale)", lambda fn, x: -(x - fn.loc).abs() / fn.scale),
    ("laplace", "a Normal", lambda fn, x: Normal(fn.loc, fn.scale).log_prob(x)),
    (
        "student-t",
        "sqrt(scale)",
        lambda fn, x: StudentT(fn.df, fn.loc, fn.scale.sqrt()).log_prob(x),
    ),
    ("student-t", "df is left out", lambda fn, x: Normal(fn.loc, fn.scale).log_prob(x)),
    (
        "student-t",
        "the power is df/2",
        lambda fn, x: fn.log_prob(x) + 0.5 * (((x - fn.loc) / fn.scale) ** 2 / fn.df).log1p(),
    ),
    (
        "negative-binomial",
        "log_total_count is taken as -log_total_count",
        lambda fn, x: NegativeBinomial(fn.log_mean, -fn.log_total_count).log_prob(x),
    ),
    ("negative-binomial", "Poisson", lambda fn, x: Poisson(fn.mean).log_prob(x)),
    (
        "zero-inflated-negative-binomial",
        "gate is taken for 1 - gate",
        lambda fn, x: ZeroInflatedNegativeBinomial(
            -fn.gate_logits, fn.log_mean, fn.log_total_count
        ).log_prob(x),
    ),
    ("categorical", "softmax twice", lambda fn, x: Categorical(logits=fn.probs).log_prob(x)),
]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in LIKELIHOODS]
)
def test_the_right_log_likelihood_passes(name):
    pair = pair_for(name)
    result = check_elbo(written_by_hand(pair, RIGHT[name]), pair, pair.sample(24, seed=0))
    assert result.passed, str(result)


@pytest.mark.parametrize(
    ("name", "says", "score"),
    [
        pytest.param(*w, id=f"{w[0]}: {w[1]}", marks=pytest.mark.slow if w[1] in SLOW else ())
        for w in WRONG
    ],
)
def test_a_wrong_log_likelihood_is_named(name, says, score):
    pair = pair_for(name)
    result = check_elbo(written_by_hand(pair, score), pair, pair.sample(24, seed=0))
    assert not result.passed
    assert any(says in str(finding) for finding in result.findings), str(result)
