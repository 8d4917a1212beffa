"""Priors and posteriors by composition: their densities, their choice, and what serves them."""

import builtins
import copy
import json
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from cases import CASES
from estimates import value_and_gradient
from pyro.contrib.zuko import ZukoToPyro
from pyro.infer import Trace_ELBO
from scipy.special import logsumexp
from scipy.stats import norm
from standard_errors import BOUND
from torch import nn

from ppl_vae import (
    BernoulliVAE,
    BinaryLatentVAE,
    ConditionalVAE,
    CountVAE,
    DiagonalNormal,
    FlowDistribution,
    FlowPosterior,
    FlowPrior,
    IAFPosterior,
    LinearGaussian,
    MixturePrior,
    StandardNormal,
    VampPrior,
    load_pair,
    log_evidence,
    save_pair,
)
from ppl_vae.elbos import TraceAnalyticKL_ELBO, TraceSTL_ELBO, make
from ppl_vae.elbos.serving import choose
from ppl_vae.elbos.sites.draws import Program

zuko = pytest.importorskip("zuko")

PRIORS = {
    "mixture": lambda: MixturePrior(3),
    "vamp": lambda: VampPrior(3),
    "maf": lambda: FlowPrior("maf", transforms=2, hidden=(5,)),
    "nsf": lambda: FlowPrior("nsf", transforms=1, hidden=(5,)),
    "nice": lambda: FlowPrior("nice", transforms=2, hidden=(5,)),
}
POSTERIORS = {
    "diagonal": lambda: DiagonalNormal(),
    "maf": lambda: FlowPosterior("maf", transforms=2, hidden=(5,)),
    "nsf": lambda: FlowPosterior("nsf", transforms=1, hidden=(5,)),
    "nice": lambda: FlowPosterior("nice", transforms=2, hidden=(5,)),
    "iaf": lambda: IAFPosterior(2, hidden=(5,)),
}


def made(prior="standard-normal", posterior="diagonal-normal", dim=2):
    return BernoulliVAE((1, 2, 2), dim, (4,), prior=prior, posterior=posterior, seed=1)


def by_jacobian(fn, noise_of, base, z):
    """The density of one value by autograd's Jacobian of the map to the noise."""
    jacobian = torch.autograd.functional.jacobian(noise_of, z)
    return base.log_prob(noise_of(z)) + torch.linalg.slogdet(jacobian).logabsdet


# --- densities against independent sources


def test_a_mixture_prior_is_a_sum_of_normals():
    pair = made(MixturePrior(3))
    family = pair.prior_family
    with torch.no_grad():
        family.logits += torch.tensor([0.5, -1.0, 0.2])
        family.log_scale += torch.randn(3, 2)
    z = torch.randn(7, 2)
    loc, scale = family.loc.detach().numpy(), family.log_scale.detach().exp().numpy()
    log_weights = family.logits.log_softmax(-1).detach().numpy()
    each = norm.logpdf(z.numpy()[:, None], loc, scale).sum(-1) + log_weights
    found = pair.prior().log_prob(z).detach()
    torch.testing.assert_close(found, torch.tensor(logsumexp(each, -1)), rtol=1e-10, atol=0)


@pytest.mark.parametrize("posterior", ["diagonal", "maf"])
def test_a_vamp_prior_is_the_mean_of_the_guide_at_its_inputs(posterior):
    pair = made(VampPrior(3), POSTERIORS[posterior]())
    z, inputs = torch.randn(7, 2), pair.prior_family.inputs.sigmoid()
    each = [pair.posterior(u[None]).log_prob(z) for u in inputs]
    by_hand = torch.stack(each).logsumexp(0) - math.log(3)
    torch.testing.assert_close(pair.prior().log_prob(z), by_hand, rtol=1e-10, atol=0)


def test_pseudo_inputs_are_in_the_range_of_the_data():
    pair = BernoulliVAE((1, 2, 2), 2, (4,), prior=VampPrior(2), likelihood="poisson", seed=1)
    seen = []
    pair.encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    pair.prior()
    expected = nn.functional.softplus(pair.prior_family.inputs).log1p().reshape(2, 4)
    torch.testing.assert_close(seen[0], expected)


@pytest.mark.parametrize("name", ["maf", "nsf", "nice"])
def test_a_flow_prior_by_autograds_jacobian(name):
    pair = made(PRIORS[name](), dim=3)
    fn = pair.prior()
    base = dist.Normal(torch.zeros(3), torch.ones(3)).to_event(1)
    for z in torch.randn(4, 3):
        expected = by_jacobian(fn, fn.noise, base, z)
        torch.testing.assert_close(fn.log_prob(z), expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", ["maf", "nsf", "nice", "iaf"])
def test_a_flow_posterior_by_autograds_jacobian(name):
    pair = made(posterior=POSTERIORS[name](), dim=3)
    x = pair.sample(1, seed=0)
    fn, base = pair.posterior(x), dist.Normal(*pair.encode(x)).to_event(1)

    def noise_of(z):
        if name != "iaf":
            return fn.noise(z[None])[0]
        value = z[None]
        for transform in reversed(fn.transforms):
            value = transform.inv(value)
        return value[0]

    z = fn.rsample().detach()[0]
    expected = by_jacobian(fn, noise_of, base, z)[0]
    torch.testing.assert_close(fn.log_prob(z[None])[0], expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", ["maf", "nsf", "nice"])
def test_draws_with_their_densities_are_draws_then_densities(name):
    pair = made(posterior=POSTERIORS[name]())
    fn = pair.posterior(pair.sample(3, seed=0))
    torch.manual_seed(0)
    z, log_prob = fn.rsample_and_log_prob((4,))
    torch.manual_seed(0)
    again = fn.rsample((4,))
    assert z.shape == (4, 3, 2)
    torch.testing.assert_close(z, again, rtol=0, atol=0)
    torch.testing.assert_close(log_prob, fn.log_prob(z), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(fn.at(fn.noise(z)), z, rtol=1e-6, atol=1e-7)
    assert fn.support.check(z).all()
    assert not fn.sample().requires_grad


@pytest.mark.parametrize("family", [*PRIORS, "posterior maf", "posterior iaf"])
def test_expanded_it_has_the_same_density(family):
    role, _, name = family.rpartition(" ")
    pair = made(posterior=POSTERIORS[name]()) if role else made(PRIORS[name]())
    fn = pair.posterior(pair.sample(3, seed=0)) if role else pair.prior()
    wide = fn.expand((5, 3))
    z = wide.sample()
    assert wide.batch_shape == (5, 3)
    assert z.shape == (5, 3, 2)
    torch.testing.assert_close(wide.log_prob(z), fn.log_prob(z), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", ["maf", "nsf", "nice"])
def test_a_flow_remembers_no_draw(name):
    """The density of a value that it drew is that of its parameters as they are."""
    pair = made(posterior=POSTERIORS[name]())
    x = pair.sample(3, seed=0)
    fn = pair.posterior(x)
    z = fn.rsample()
    before = fn.log_prob(z).detach()
    with torch.no_grad():
        for parameter in pair.posterior_family.parameters():
            parameter.add_(0.3)
    after, afresh = fn.log_prob(z), pair.posterior(x).log_prob(z.clone())
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, afresh, rtol=1e-12, atol=0)


def test_an_iaf_guide_is_made_anew_for_each_batch():
    pair = made(posterior=IAFPosterior(2, hidden=(5,)))
    x = pair.sample(3, seed=0)
    z = pair.posterior(x).rsample()
    with torch.no_grad():
        for parameter in pair.posterior_family.parameters():
            parameter.add_(0.3)
    found = pair.posterior(x).log_prob(z)
    torch.testing.assert_close(found, pair.posterior(x).log_prob(z.clone()), rtol=1e-10, atol=0)


# --- exact cases


def with_exact_guide(prior="standard-normal"):
    """A linear VAE whose MAF, affine, holds the posterior, a correlated Normal.

    With noise e = L^-1 (z - m(x)) of the posterior and the guide's base Normal(V (x - b), 1), the
    first noise is scale * z + shift with scale = 1 / L_ii and shift linear in z and x.
    """
    guide = FlowPosterior("maf", transforms=1, hidden=())
    pair = LinearGaussian(3, 2, noise_scale=0.7, prior=prior, posterior=guide, seed=1)
    x = pair.sample(4, seed=0)
    truth = LinearGaussian(3, 2, noise_scale=0.7, seed=1).exact.posterior(x)
    lower = truth.scale_tril[0].detach().inverse()  # noise = lower (z - m), m = gain (x - b)
    gain = truth.loc.detach().mT @ torch.linalg.pinv((x - pair.decoder.loc).detach()).mT
    (hyper,) = [m for m in pair.modules() if type(m).__name__ == "MaskedLinear"]
    with torch.no_grad():
        pair.encoder.weight.copy_(lower @ gain)
        pair.encoder.loc.zero_()
        pair.encoder.log_scale.zero_()
        hyper.weight.zero_()
        # T(z) has the distribution of lower m + e: T(z) = lower z.
        hyper.weight[2, 0] = lower[1, 0]
        slope = math.log(1e-3)
        log_scale = lower.diagonal().log()
        hyper.bias.zero_()
        hyper.bias[1::2] = log_scale / (1 - (log_scale / slope).abs())
    return pair, x


def test_an_affine_flow_holds_the_exact_posterior_without_noise_in_the_gradient():
    pair, x = with_exact_guide()
    truth, guide = pair.exact.posterior(x), pair.posterior_family(*pair.encode(x))
    z = truth.sample((5,))
    torch.testing.assert_close(guide.log_prob(z), truth.log_prob(z), rtol=1e-9, atol=1e-9)
    of_guide = [*pair.encoder.parameters(), *pair.posterior_family.parameters()]
    gradients = {}
    for cls in (TraceSTL_ELBO, TraceAnalyticKL_ELBO):
        torch.manual_seed(0)
        value, gradients[cls] = value_and_gradient(cls(), pair.model, pair.guide, (x,), of_guide)
        expected = pair.exact.log_evidence(x).sum().detach()
        torch.testing.assert_close(value, expected, rtol=1e-9, atol=0)
    assert gradients[TraceSTL_ELBO].abs().max() < 1e-10
    assert gradients[TraceAnalyticKL_ELBO].abs().max() > 0.1
    assert not hasattr(pair.exact, "elbo")


@pytest.mark.parametrize("prior", ["mixture", "vamp"])
def test_evidence_of_a_linear_decoder_by_quadrature(prior):
    pair = LinearGaussian(3, 2, noise_scale=0.7, prior=PRIORS[prior](), seed=1)
    x = pair.sample(4, seed=0)
    found = log_evidence(pair, x, method="quadrature", device="cpu")
    # What quadrature calls its error is a bound.
    assert ((found.mean - pair.exact.log_evidence(x)).abs() <= found.standard_error).all()
    assert (found.standard_error < 1e-3).all()
    z = torch.randn(4, 2)
    likelihood = dist.Normal(pair.decode(z), 0.7).to_event(1).log_prob(x)
    joint = pair.prior().log_prob(z) + likelihood
    posterior = pair.exact.posterior(x).log_prob(z)
    torch.testing.assert_close(joint - posterior, pair.exact.log_evidence(x))


@pytest.mark.parametrize(
    ("prior", "posterior"), [("standard", "iaf"), ("mixture", "iaf"), ("vamp", "nsf")]
)
def test_annealing_agrees_with_quadrature(prior, posterior):
    families = {**PRIORS, "standard": StandardNormal}
    made = {"prior": families[prior](), "posterior": POSTERIORS[posterior]()}
    pair = BernoulliVAE((1, 3, 3), 2, (8,), **made, seed=0)
    x = pair.sample(3, seed=1)
    exact = log_evidence(pair, x, method="quadrature", device="cpu").mean
    options = {"num_samples": 64, "num_temperatures": 50, "num_leapfrog": 3}
    found = log_evidence(pair, x, method="ais", device="cpu", **options)
    assert (found.per_example().z_score(exact).abs() < BOUND).all()
    assert (found.standard_error < 0.2).all()


def test_what_is_exact_of_a_mixture_holds_with_missing_numbers():
    pair = LinearGaussian(3, 2, noise_scale=0.7, prior=MixturePrior(2), seed=1)
    x = pair.sample(3, seed=0)
    mask = torch.tensor([[True, False, True], [False, False, False], [True, True, True]])
    evidence, posterior = pair.exact.log_evidence(x, mask), pair.exact.posterior(x, mask)
    assert evidence[1] == 0
    z = torch.randn(3, 2)
    torch.testing.assert_close(posterior.log_prob(z)[1], pair.prior().log_prob(z)[1])
    likelihood = dist.Normal(pair.decode(z), 0.7).mask(mask).to_event(1).log_prob(x)
    joint = pair.prior().log_prob(z) + likelihood
    torch.testing.assert_close(joint - posterior.log_prob(z), evidence)


def test_closed_forms_end_where_they_do_not_hold():
    assert LinearGaussian(3, 2, prior=FlowPrior(hidden=(4,)), seed=1).exact is None
    flowing = {"prior": VampPrior(2), "posterior": FlowPosterior(hidden=(4,))}
    assert LinearGaussian(3, 2, **flowing, seed=1).exact is None


# --- how they are chosen


def test_the_defaults_are_what_they_were(tmp_path):
    plain, named = made(), made(StandardNormal(), "diagonal-normal")
    assert plain.config == named.config
    assert not {"prior", "posterior"} & set(plain.config)
    assert set(plain.state_dict()) == set(named.state_dict())
    assert {name.partition(".")[0] for name in plain.state_dict()} == {"encoder", "decoder"}
    x = plain.sample(3, seed=0)
    torch.manual_seed(0)
    loc, scale = plain.encode(x)
    z = loc + scale * torch.randn(3, 2)
    torch.manual_seed(0)
    torch.testing.assert_close(plain.guide(x), z)


@pytest.mark.parametrize(
    ("given", "config"),
    [
        (MixturePrior(3), {"name": "mixture", "components": 3}),
        ({"name": "vamp", "components": 2}, {"name": "vamp", "components": 2}),
        ("flow", {"name": "flow", "kind": "maf", "transforms": 3, "hidden": [64, 64]}),
    ],
)
def test_a_prior_travels_as_plain_data(given, config, tmp_path):
    pair = made(given, POSTERIORS["nice"]())
    assert pair.config["prior"] == json.loads(json.dumps(pair.config["prior"])) == config
    save_pair(pair, tmp_path)
    twin = load_pair(tmp_path)
    z = torch.randn(3, 2)
    torch.testing.assert_close(pair.prior().log_prob(z), twin.prior().log_prob(z))
    assert twin.config == pair.config


def test_one_choice_serves_several_pairs():
    prior = MixturePrior(3)
    first, second = made(prior), made(prior)
    assert not list(prior.parameters())
    assert first.prior_family.loc is not second.prior_family.loc
    torch.testing.assert_close(first.prior_family.loc, second.prior_family.loc)


def test_the_seed_is_of_the_prior_too():
    pair = BernoulliVAE((1, 2, 2), 2, (4,), prior=MixturePrior(3), seed=2)
    assert not torch.allclose(pair.prior_family.loc, made(MixturePrior(3)).prior_family.loc)


def test_pairs_of_labels_and_counts_take_them():
    y = torch.tensor([0, 1, 2])
    prior, posterior = PRIORS["maf"](), POSTERIORS["iaf"]()
    labelled = ConditionalVAE((1, 2, 2), 3, 2, (4,), prior=prior, posterior=posterior, seed=1)
    x = labelled.sample(3, y=y, seed=0)
    assert labelled.reconstruct(x, y).shape == x.shape
    assert math.isfinite(Trace_ELBO().loss(labelled.model, labelled.guide, x, y))
    counted = CountVAE(4, 2, (4,), prior=MixturePrior(2), posterior=posterior, seed=1)
    x = counted.sample(3, seed=0) + 1
    assert counted.reconstruct(x).shape == x.shape
    assert math.isfinite(Trace_ELBO().loss(counted.model, counted.guide, x))


def test_a_reconstruction_is_at_the_value_of_no_noise():
    pair = made(posterior=POSTERIORS["maf"]())
    x = pair.sample(3, seed=0)
    z = pair.posterior(x).at(pair.encode(x)[0])
    torch.testing.assert_close(pair.reconstruct(x), pair.likelihood(z).mean)


def test_bits_share_the_program_of_other_codes():
    assert BinaryLatentVAE.model is BernoulliVAE.model
    assert BinaryLatentVAE.guide is BernoulliVAE.guide


# --- bad input


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: MixturePrior(0), ValueError, "components of at least 1"),
        (lambda: VampPrior(0), ValueError, "components of at least 1"),
        (lambda: MixturePrior(2.0), TypeError, "components as an int"),
        (lambda: FlowPrior("maff"), ValueError, "kind of flow as one of maf.*Did you mean 'maf'"),
        (lambda: FlowPrior(transforms=0), ValueError, "transforms of at least 1"),
        (lambda: FlowPosterior(hidden=8), TypeError, "hidden as a list of sizes"),
        (lambda: made(MixturePrior), TypeError, "prior as one of StandardNormal.*override"),
        (lambda: made(3), TypeError, "prior as one of .*got int"),
        (lambda: made(DiagonalNormal()), TypeError, "prior as one of .*got DiagonalNormal"),
        (lambda: made("mixtur"), ValueError, "prior as one of .*Did you mean 'mixture'"),
        (lambda: made("mixture"), ValueError, "components of MixturePrior.*none"),
        (
            lambda: made({"name": "mixture", "component": 3}),
            ValueError,
            "option of MixturePrior as one of components.*Did you mean 'components'",
        ),
        (lambda: made(posterior="flw"), ValueError, "posterior as one of .*Did you mean 'flow'"),
        (lambda: made(posterior=IAFPosterior(), dim=1), ValueError, "latent_dim for IAF.*least 2"),
        (
            lambda: made(posterior=IAFPosterior(hidden=(1,))),
            ValueError,
            "hidden for IAFPosterior of at least 2",
        ),
        (
            lambda: ConditionalVAE((1, 2, 2), 3, 2, (4,), prior=VampPrior(2)),
            NotImplementedError,
            "takes the data alone.*Choose MixturePrior",
        ),
        (
            lambda: made(VampPrior(2), POSTERIORS["iaf"]()).prior(),
            NotImplementedError,
            "taken at any code.*IAFPosterior",
        ),
        (
            lambda: FlowDistribution(zuko.flows.MAF(2)),
            TypeError,
            "zuko flow returns; got MAF. Call the flow",
        ),
    ],
)
def test_bad_input_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_missing_zuko_is_named_with_its_extra(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "zuko":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"zuko.*pip install 'ppl_vae\[flows\]'"):
        made(FlowPrior())
    assert made(MixturePrior(2), POSTERIORS["iaf"]()).prior() is not None


def test_a_flow_of_another_size_than_the_code_is_refused():
    flow = zuko.flows.MAF(features=3, transforms=1)
    pair = made()

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", FlowDistribution(flow()))

    x = pair.sample(4, seed=0)
    with pytest.raises(ValueError, match="codes of 2 numbers, the latent_dim of .* got 3"):
        Trace_ELBO().loss(pair.model, guide, x)


def test_checks_stay_on_after_zuko_is_imported():
    made(FlowPrior())
    assert torch.distributions.Distribution._validate_args


# --- what serves them


def test_free_bits_are_refused_where_dimensions_depend():
    for pair in (made(MixturePrior(2)), made(posterior=POSTERIORS["maf"]())):
        x = pair.sample(3, seed=0)
        elbo = make("trace", free_bits=0.1)
        with pytest.raises(NotImplementedError, match="sum over the dimensions of site 'z'"):
            elbo.loss(pair.model, pair.guide, x)


@pytest.mark.parametrize("name", ["linear-gaussian, mixture prior", "bernoulli-vae, flows"])
def test_what_has_no_closed_kl_is_sampled(name):
    pair = CASES[name]()
    x = pair.sample(3, seed=0)
    torch.manual_seed(0)
    found = value_and_gradient(
        TraceAnalyticKL_ELBO(), pair.model, pair.guide, (x,), [*pair.parameters()]
    )
    torch.manual_seed(0)
    plain = value_and_gradient(Trace_ELBO(), pair.model, pair.guide, (x,), [*pair.parameters()])
    torch.testing.assert_close(found, plain, rtol=1e-9, atol=1e-9)
    with pytest.raises(NotImplementedError, match="no closed form is known for"):
        TraceAnalyticKL_ELBO(strict=True).loss(pair.model, pair.guide, x)


def test_a_flow_of_the_same_value_and_gradient_by_pyros_adapter():
    flow = zuko.flows.MAF(features=2, context=4, transforms=1, hidden_features=(4,)).double()
    pair = made()
    x = pair.sample(4, seed=0)
    found = []
    for wrap in (FlowDistribution, ZukoToPyro):

        def guide(x, wrap=wrap):
            with pyro.plate("data", len(x)):
                pyro.sample("z", wrap(flow(x.flatten(1))))

        for elbo in ("trace", "sticking-the-landing", "dreg"):
            torch.manual_seed(0)
            given = (make(elbo), pair.model, guide, (x,), [*flow.parameters()])
            found.append(torch.cat([v.reshape(-1) for v in value_and_gradient(*given)]))
    for ours, theirs in zip(found[:3], found[3:], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)


def test_a_flow_has_the_support_that_pyros_adapter_lacks():
    flow, x = zuko.flows.MAF(2, transforms=1, hidden_features=(4,)).double(), torch.zeros(2)

    def program(wrap):
        def model(x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", wrap(flow()))
                pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x)

        def guide(x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))

        return model, guide

    options = {"method": "ais", "num_samples": 4, "device": "cpu"}
    assert log_evidence(program(FlowDistribution), x, **options).mean.isfinite().all()
    with pytest.raises(NotImplementedError, match="support at site 'z'; got ZukoToPyro.*FlowDis"):
        log_evidence(program(ZukoToPyro), x, **options)


def test_an_estimator_of_the_default_is_right_for_flows():
    pair = CASES["bernoulli-vae, flows"]()
    program = Program(pair.model, pair.guide, (pair.sample(3, seed=0),), {})
    assert choose(program) == "analytic-kl"


def test_copies_of_a_pair_with_flows_are_independent():
    pair = CASES["bernoulli-vae, flows"]()
    twin = copy.deepcopy(pair)
    with torch.no_grad():
        next(iter(twin.prior_family.parameters())).add_(1.0)
    z = torch.randn(3, 2)
    assert not torch.allclose(pair.prior().log_prob(z), twin.prior().log_prob(z))
