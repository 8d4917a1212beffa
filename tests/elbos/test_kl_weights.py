"""Weights on the KL divergence, for every estimator of the ELBO."""

import functools

import pyro
import pyro.distributions as dist
import pytest
import torch
from binary_pair import BinaryBelief
from cases import CASES
from estimates import agree, mean_value
from pyro.infer import SVI, Trace_ELBO, TraceTailAdaptive_ELBO
from pyro.infer.autoguide import AutoDiagonalNormal, AutoNormal
from pyro.optim import Adam
from torch.distributions import Bernoulli, Normal, kl_divergence

from ppl_vae import (
    BernoulliVAE,
    CompiledSVI,
    GaussianChain,
    LinearGaussian,
    compare_elbos,
    explain_elbo,
)
from ppl_vae.diagnostics.comparison.replicates import bias_z_score, mean_of
from ppl_vae.elbos import ESTIMATORS, WeightedELBO, make

F64 = torch.float64
ELBOS = [n for n, e in ESTIMATORS.items() if (e.bound, e.gradient) == ("elbo", "unbiased")]
BOUND = 4.5


def linear():
    pair = LinearGaussian(data_dim=3, latent_dim=2, seed=0)
    return pair, pair.sample(4, seed=1)


def kl_of(pair, x):
    """The KL of a linear pair's guide, per example and dimension."""
    trace = pyro.poutine.trace(pair.guide).get_trace(x)
    fn = trace.nodes["z"]["fn"].base_dist
    return kl_divergence(Normal(fn.loc, fn.scale), Normal(0.0, 1.0))


@pytest.mark.parametrize(
    ("name", "weight"),
    [*((name, 0.25) for name in ELBOS), ("trace", 0.0), ("analytic-kl", 0.0), ("trace", 3.0)],
)
def test_value_and_gradient_of_every_estimator(name, weight):
    pair, x = linear()
    names = [n for n, p in pair.named_parameters() if p.requires_grad]
    parameters = [dict(pair.named_parameters())[n] for n in names]
    exact = pair.exact.elbo(x).sum() + (1 - weight) * kl_of(pair, x).sum()
    wanted = torch.autograd.grad(exact, parameters, allow_unused=True, materialize_grads=True)
    elbo = make(name, kl_weight=weight)
    values, gradients = [], []
    pyro.set_rng_seed(2)
    for _ in range(300):
        pair.zero_grad()
        values.append(-float(elbo.loss_and_grads(pair.model, pair.guide, x)))
        gradients.append(torch.cat([_grad(p) for p in parameters]))
    samples = torch.tensor(values, dtype=F64)
    spread = samples.std() / len(samples) ** 0.5
    assert abs(samples.mean() - exact) < BOUND * spread + 1e-9
    differences = -torch.stack(gradients) - torch.cat([g.flatten() for g in wanted])
    assert bias_z_score(differences, torch.full_like(differences[0], 1e-9)) < BOUND


def _grad(parameter):
    grad = parameter.grad
    return (torch.zeros_like(parameter) if grad is None else grad.detach().clone()).flatten()


@pytest.mark.parametrize(
    "name", ["trace", "trace-graph", "score-function", "leave-one-out", "disarm"]
)
def test_discrete_latents_against_all_states(name):
    pair = BinaryBelief().double()
    x = pair.sample(5, seed=1)
    log_joint, log_q = pair.exact.terms(x)
    q = Bernoulli(logits=pair.encoder(x))
    kl = kl_divergence(q, Bernoulli(logits=pair.prior_logits.expand_as(q.logits))).sum()
    exact = (log_q.exp() * (log_joint - log_q)).sum() + (1 - 0.3) * kl
    (wanted,) = torch.autograd.grad(exact, [pair.encoder.weight])
    elbo = make(name, kl_weight=0.3)
    pyro.set_rng_seed(0)
    differences = []
    for _ in range(600):
        pair.zero_grad()
        elbo.loss_and_grads(pair.model, pair.guide, x)
        differences.append((-pair.encoder.weight.grad - wanted).flatten())
    differences = torch.stack(differences)
    assert bias_z_score(differences, torch.full_like(differences[0], 1e-9)) < BOUND


def test_a_label_whose_states_are_summed():
    prior, guide_p = torch.tensor([0.2, 0.3, 0.5]), torch.tensor([0.6, 0.3, 0.1])
    locs, x = torch.tensor([-1.0, 0.0, 2.0]), torch.tensor([0.3, 1.7])

    def model():
        with pyro.plate("data", 2):
            y = pyro.sample("y", dist.Categorical(prior))
            pyro.sample("x", dist.Normal(locs[y], 1.0), obs=x)

    def guide():
        with pyro.plate("data", 2):
            pyro.sample("y", dist.Categorical(guide_p))

    likelihood = Normal(locs, 1.0).log_prob(x[:, None])
    kl = (guide_p * (guide_p.log() - prior.log())).sum()
    exact = float((guide_p * likelihood).sum() - 2 * 2.5 * kl)
    assert -make("enumerate", kl_weight=2.5).loss(model, guide) == pytest.approx(exact, abs=1e-9)
    assert agree(mean_value(make("trace", kl_weight=2.5), model, guide, count=800), exact)


def test_a_label_that_the_model_alone_has_is_refused():
    def model():
        with pyro.plate("data", 2):
            y = pyro.sample("y", dist.Categorical(torch.ones(2)))
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z + y, 1.0), obs=torch.ones(2))

    def guide():
        with pyro.plate("data", 2):
            pyro.sample("z", dist.Normal(0.0, 1.0))

    with pytest.raises(NotImplementedError, match="'y' in the guide"):
        make("enumerate", kl_weight=0.5).loss(model, guide)


@pytest.mark.parametrize("guide", ["top-down", "bottom-up"])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_a_weight_for_each_site(guide, as_tensor):
    pair = GaussianChain(guide=guide)
    x = pair.sample(4, seed=0)
    weights = {"z1": 2.0, "z2": 0.25}
    torch.manual_seed(0)
    by_hand = []
    pair.requires_grad_(requires_grad=False)
    for _ in range(800):
        guide_trace = pyro.poutine.trace(pair.guide).get_trace(x)
        model = pyro.poutine.trace(pyro.poutine.replay(pair.model, guide_trace)).get_trace(x)
        terms = [model.nodes["x"]["fn"].log_prob(x).sum()]
        for site, weight in weights.items():
            z = model.nodes[site]["value"]
            q, p = (t.nodes[site]["fn"].log_prob(z).sum() for t in (guide_trace, model))
            terms.append(weight * (p - q))
        by_hand.append(float(sum(terms)))
    by_hand = torch.tensor(by_hand)
    pair.requires_grad_(requires_grad=True)
    given = {n: torch.tensor(w) for n, w in weights.items()} if as_tensor else weights
    for name in ("trace", "analytic-kl", "trace-graph"):
        found = mean_value(make(name, kl_weight=given), pair.model, pair.guide, x, count=400)
        error = (by_hand.var() / 800) ** 0.5
        assert (
            abs(found.mean - by_hand.mean()) < BOUND * (found.standard_error**2 + error**2) ** 0.5
        )


def test_a_site_that_is_not_named_has_weight_one():
    pair, x = GaussianChain(), GaussianChain().sample(4, seed=0)
    losses = []
    for weight in ({"z1": 2.0}, {"z1": 2.0, "z2": 1.0}):
        torch.manual_seed(0)
        losses.append(make("trace", kl_weight=weight).loss(pair.model, pair.guide, x))
    assert losses[0] == losses[1]


@pytest.mark.parametrize("name", [n for n in ELBOS if n != "disarm"])
@pytest.mark.parametrize("vectorised", [False, True])
def test_free_bits_of_every_estimator(name, vectorised):
    """Of the linear model's two dimensions one has less than the free bits, one has more."""
    pair, x = linear()
    with torch.no_grad():
        pair.encoder.log_scale.copy_(torch.tensor([-0.05, -1.5]))
        pair.encoder.weight[0] *= 0.1
    kl = kl_of(pair, x).detach()
    bits = 0.3
    assert kl.mean(0)[0] < bits < kl.mean(0)[1]
    likelihood = pair.exact.elbo(x).sum() + kl_of(pair, x).sum()
    exact = likelihood - 2.0 * (bits * len(x) + kl_of(pair, x)[:, 1].sum())
    (wanted,) = torch.autograd.grad(exact, [pair.encoder.log_scale])
    particles = max(2, ESTIMATORS[name].fewest_particles)
    elbo = make(name, num_particles=particles, kl_weight=2.0, free_bits=bits)
    elbo.elbo.vectorize_particles = elbo.vectorize_particles = vectorised
    elbo.elbo.max_plate_nesting = 2 if vectorised else elbo.elbo.max_plate_nesting
    values, plain, slopes = [], [], []
    pyro.set_rng_seed(2)
    for _ in range(300):
        pair.zero_grad()
        objective, loss = elbo.losses_and_grads(pair.model, pair.guide, x)
        values.append(-float(objective))
        plain.append(-float(loss))
        slopes.append(-pair.encoder.log_scale.grad - wanted)
    assert agree(mean_of(torch.tensor(values)), exact.item())
    assert agree(mean_of(torch.tensor(plain)), pair.exact.elbo(x).sum().item())
    assert bias_z_score(torch.stack(slopes), torch.full((2,), 1e-9)) < BOUND


@pytest.mark.parametrize("name", ["trace", "trace-graph", "score-function", "leave-one-out"])
def test_free_bits_of_discrete_latents(name):
    """A hidden bit still learns from the likelihood, by its score."""
    pair = BinaryBelief().double()
    x = pair.sample(5, seed=1)
    q = Bernoulli(logits=pair.encoder(x))
    kl = kl_divergence(q, Bernoulli(logits=pair.prior_logits.expand_as(q.logits)))
    bits = kl.detach().mean(0).sort().values[:2].mean().item()
    active = kl.detach().mean(0) > bits
    assert 0 < active.sum() < 3
    log_joint, log_q = pair.exact.terms(x)
    likelihood = (log_q.exp() * (log_joint - log_q)).sum() + kl.sum()
    exact = likelihood - kl[:, active].sum() - bits * len(x) * (~active).sum()
    (wanted,) = torch.autograd.grad(exact, [pair.encoder.weight])
    elbo = make(name, free_bits=bits)
    pyro.set_rng_seed(0)
    values, slopes = [], []
    for _ in range(600):
        pair.zero_grad()
        values.append(-float(elbo.loss_and_grads(pair.model, pair.guide, x)))
        slopes.append((-pair.encoder.weight.grad - wanted).flatten())
    assert agree(mean_of(torch.tensor(values)), exact.item())
    assert bias_z_score(torch.stack(slopes), torch.full((len(slopes[0]),), 1e-9)) < BOUND


@pytest.mark.parametrize("make_pair", [lambda: linear()[0], lambda: BinaryBelief().double()])
def test_the_elbo_beside_the_objective_with_twins(make_pair):
    """An estimator that runs the program more often than it has particles."""
    pair = make_pair()
    x = pair.sample(4, seed=1)
    elbo = make("disarm", kl_weight=0.5)
    pyro.set_rng_seed(0)
    plain = []
    for _ in range(300):
        plain.append(-float(elbo.losses_and_grads(pair.model, pair.guide, x)[1]))
    assert agree(mean_of(torch.tensor(plain)), pair.exact.elbo(x).sum().item())
    with pytest.raises(NotImplementedError, match="once for each particle"):
        make("disarm", free_bits=0.1)


def test_the_plate_that_subsamples_scales_weight_and_floor_alike():
    x = torch.tensor([0.5, -0.3, 1.2, 0.8])

    def model(x):
        with pyro.plate("data", 8, subsample=torch.arange(4)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", 8, subsample=torch.arange(4)):
            pyro.sample("z", dist.Normal(pyro.param("half", torch.tensor(0.5)) * x, 0.7))

    kl = kl_divergence(Normal(x / 2, 0.7), Normal(0.0, 1.0)).mean()
    options = {"kl_weight": 3.0}
    whole = explain_elbo(make("analytic-kl", **options), (model, guide), x)
    assert whole["z"].value.mean == pytest.approx(-3.0 * 8 * float(kl), rel=1e-9)
    floor = explain_elbo(make("analytic-kl", free_bits=0.9, **options), (model, guide), x)
    assert float(kl) < 0.9
    assert floor["z"].value.mean == pytest.approx(-3.0 * 8 * 0.9, rel=1e-9)


@pytest.mark.parametrize("guide", [AutoNormal, AutoDiagonalNormal])
def test_an_autoguide_whose_density_is_that_of_an_auxiliary_site(guide):
    x = torch.tensor([0.5, -0.3])

    def model(x):
        rate = pyro.sample("rate", dist.LogNormal(0.0, 1.0))
        with pyro.plate("data", 2):
            pyro.sample("x", dist.Normal(rate, 1.0), obs=x)

    auto = guide(model)
    auto(x)
    whole = [mean_value(make("trace", kl_weight=w), model, auto, x, count=800) for w in (1.0, 3.0)]
    likelihood = mean_value(make("trace", kl_weight=0.0), model, auto, x, count=800)
    assert agree(whole[1], 3 * whole[0].mean - 2 * likelihood.mean, bound=12)
    named = make("trace", kl_weight={"rate": 3.0})
    if guide is AutoNormal:
        torch.manual_seed(0)
        first = named.loss(model, auto, x)
        torch.manual_seed(0)
        assert first == make("trace", kl_weight=3.0).loss(model, auto, x)
    else:
        with pytest.raises(NotImplementedError, match="density may be that of several latents"):
            named.loss(model, auto, x)
    with pytest.raises(NotImplementedError, match="no density of each dimension"):
        make("trace", free_bits=0.1).loss(model, auto, x)


def test_the_elbo_beside_the_objective_is_that_of_the_same_draws():
    pair, x = linear()
    weighted = make("trace", kl_weight=0.2, free_bits=0.3)
    torch.manual_seed(3)
    objective, negative_elbo = weighted.losses_and_grads(pair.model, pair.guide, x)
    torch.manual_seed(3)
    assert float(negative_elbo) == pytest.approx(
        make("trace").loss(pair.model, pair.guide, x), rel=1e-12
    )
    torch.manual_seed(3)
    assert float(objective) == pytest.approx(weighted.loss(pair.model, pair.guide, x), rel=1e-12)


def test_the_ledger_shows_the_weights():
    pair = BernoulliVAE((1, 4, 4), latent_dim=3, hidden=(8,), seed=0)
    x = pair.sample(6, seed=1)
    plain = explain_elbo("analytic-kl", pair, x)
    ledger = explain_elbo(make("analytic-kl", kl_weight=4.0), pair, x)
    assert ledger["z"].kl_weight == 4.0
    assert ledger["x"].kl_weight == 1.0
    assert ledger["z"].value.mean == pytest.approx(4 * plain["z"].value.mean, rel=1e-9)
    assert ledger.objective == "KL weight 4"
    assert "| weight |" in ledger.to_markdown()
    assert "weight" not in plain.to_markdown()


def test_weighted_estimators_are_compared_with_each_other_alone():
    pair, x = linear()
    twice = {name: make(name, kl_weight=2.0) for name in ("trace", "analytic-kl")}
    result = compare_elbos(pair, x, {**twice, "plain": make("trace")}, num_replicates=300)
    assert result["trace"].reference == "analytic-kl"
    assert abs(result["trace"].bias_z_score) < BOUND
    assert abs(result["trace"].gradient_bias_z_score) < BOUND
    assert result["plain"].reference == "closed form"


@pytest.mark.parametrize(
    "name", ["iwae", "dreg", "renyi", "vimco", "reweighted-wake-sleep", "exact"]
)
def test_bounds_without_a_divergence_apart_are_refused(name):
    with pytest.raises(NotImplementedError, match="an estimator of the ELBO"):
        make(name, num_particles=2, kl_weight=0.5)
    with pytest.raises(NotImplementedError, match="an estimator of the ELBO"):
        ESTIMATORS[name].make(num_particles=2, free_bits=0.5)


def test_weights_that_are_none():
    with pytest.raises(NotImplementedError):
        WeightedELBO(TraceTailAdaptive_ELBO(num_particles=2, vectorize_particles=True))
    for wrong in (-1, float("nan"), float("inf"), torch.tensor(-0.5), {"z": -1.0}):
        with pytest.raises(ValueError, match="finite and at least 0"):
            make("trace", kl_weight=wrong)
    for wrong in ("1", True, torch.ones(2), torch.tensor(1), {"z": "a"}, [1.0]):
        with pytest.raises(TypeError, match="kl_weight"):
            make("trace", kl_weight=wrong)
    with pytest.raises(ValueError, match="free_bits"):
        make("trace", free_bits=-0.1)
    with pytest.raises(TypeError, match="free_bits"):
        make("trace", free_bits="0.1")
    with pytest.raises(TypeError, match="without weights"):
        make(make("trace", kl_weight=2.0), kl_weight=2.0)
    pair, x = linear()
    with pytest.raises(ValueError, match="Did you mean 'z'"):
        make("trace", kl_weight={"zz": 2.0}).loss(pair.model, pair.guide, x)


def test_the_number_one_changes_nothing():
    assert type(make("trace", kl_weight=1.0, free_bits=0.0)) is Trace_ELBO


def test_a_compiled_step_reads_a_tensor_anew_and_is_traced_once(caplog):
    x = LinearGaussian(data_dim=3, latent_dim=2, seed=0).sample(4, seed=1)
    found = []
    for cls in (SVI, functools.partial(CompiledSVI, backend="eager")):
        pair = LinearGaussian(data_dim=3, latent_dim=2, seed=0)
        weight = torch.tensor(0.0)
        elbo = make("analytic-kl", kl_weight={"z": weight}, free_bits=0.01)
        svi = cls(pair.model, pair.guide, Adam({"lr": 0.01}), loss=elbo)
        torch.manual_seed(0)
        losses = []
        for step in range(8):
            weight.fill_(step / 4)
            with caplog.at_level("INFO", logger="ppl_vae.inference"):
                losses.append(float(svi.step(x)))
        found.append(losses)
    assert found[0] == pytest.approx(found[1], rel=1e-12)
    assert svi.is_compiled
    assert "tracing again" not in caplog.text


@pytest.mark.parametrize("name", ["analytic-kl", "enumerate"])
def test_the_first_estimate_is_of_its_own_draws(name):
    """The look for a plan, which only the first one takes, is no run of the estimate."""
    pair = CASES["hierarchical-vae"]()
    x = pair.sample(4, seed=0)
    elbo = make(name, kl_weight=0.5, free_bits=0.1)
    elbo.elbo.max_plate_nesting = 1
    found = []
    for _ in range(2):
        pyro.set_rng_seed(3)
        pair.zero_grad()
        numbers = [float(n) for n in elbo.losses_and_grads(pair.model, pair.guide, x)]
        found.append([*numbers, *(float(p.grad.sum()) for p in pair.parameters())])
    assert found[0] == found[1]
