"""An estimator that cannot be right for a program is refused before its first number."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from binary_pair import BinaryBelief
from cases import CASES, DISCRETE
from pyro.infer import RenyiELBO, TraceMeanField_ELBO
from pyro.optim import Adam

from ppl_vae import ESTIMATORS, CompiledSVI, compare_elbos, fit
from ppl_vae.diagnostics import explain_elbo
from ppl_vae.elbos.serving import choose, those_that_serve
from ppl_vae.elbos.sites.draws import Program

REFUSED = (
    r"reparameterised distribution at the guide's site 'z'; got Bernoulli, which has no rsample"
)
SERVING = ["trace", "trace-graph", "enumerate", "score-function", "leave-one-out", "disarm"]
SERVING += ["straight-through", "vimco", "reweighted-wake-sleep", "exact"]
NAMED = f"Estimators that serve this program: {', '.join(map(repr, SERVING))}."
PATHWISE = ["trace-mean-field", "analytic-kl", "sticking-the-landing", "iwae", "dreg"]
PATHWISE += ["generalised-dreg", "renyi"]


class _OfAUser(TraceMeanField_ELBO):
    """A subclass is no registered estimator, and as wrong as its base."""


@pytest.fixture
def pair():
    return BinaryBelief()


@pytest.fixture
def x(pair):
    return pair.sample(20, seed=0)


def program_of(pair, x):
    return Program(pair.model, pair.guide, (x,), {})


@pytest.mark.parametrize("elbo", PATHWISE)
@pytest.mark.parametrize(
    "use",
    [
        lambda elbo, pair, x: fit(pair, x, elbo=elbo, num_epochs=1, progress=False),
        lambda elbo, pair, x: compare_elbos(pair, x, [elbo], num_replicates=10),
        lambda elbo, pair, x: compare_elbos(
            pair, x, {"mine": ESTIMATORS[elbo].make()}, num_replicates=10
        ),
        explain_elbo,
    ],
    ids=["fit", "compare", "compare, ready", "explain"],
)
def test_a_discrete_latent_is_refused_by_what_needs_reparameterised_ones(use, elbo, pair, x):
    before = [p.clone() for p in pair.parameters()]
    with pytest.raises(NotImplementedError, match=REFUSED) as caught:
        use(elbo, pair, x)
    assert NAMED in str(caught.value)
    assert "Trace Shapes" not in str(caught.value)
    assert all(map(torch.equal, before, pair.parameters()))
    assert len(pyro.get_param_store()) == 0


@pytest.mark.parametrize(
    "loss", [TraceMeanField_ELBO(), _OfAUser(), RenyiELBO(alpha=0, num_particles=2)]
)
def test_compiled_steps_refuse_what_pyro_would_get_wrong_silently(loss, pair, x):
    svi = CompiledSVI(pair.model, pair.guide, Adam({"lr": 0.1}), loss)
    before = [p.clone() for p in pair.parameters()]
    with pyro.validation_enabled(False), pytest.raises(NotImplementedError, match=REFUSED):  # noqa: FBT003
        svi.step(x)
    assert all(map(torch.equal, before, pair.parameters()))


def test_renyi_is_pyros_where_it_is_right_in_the_limit(pair, x, caplog):
    """Of many particles, and with alpha 0 that is a gradient of 0 for the guide."""
    svi = CompiledSVI(
        pair.model, pair.guide, Adam({"lr": 0.1}), RenyiELBO(alpha=0.5, num_particles=2)
    )
    before = [p.clone() for p in pair.parameters()]
    with pyro.validation_enabled(False):  # noqa: FBT003
        svi.step(x)
    svi.optim = Adam({"lr": 0.1})
    svi.step(x)
    assert not any(map(torch.equal, before, pair.parameters()))
    assert caplog.text.count("'z' has no rsample, so that RenyiELBO's gradient is right") == 1


def test_without_names_those_that_serve_are_compared_and_the_others_told(pair, x):
    result = compare_elbos(pair, x, num_replicates=200)
    assert [row.name for row in result.rows] == SERVING
    assert set(result.left_out) == {*PATHWISE}
    assert {r.name for r in result.rows if r.looks_biased} <= {"straight-through"}
    assert "Left out: " in result.to_markdown()
    assert "Trace Shapes" not in result.to_markdown()


@pytest.mark.parametrize("name", CASES)
def test_the_left_out_are_those_whose_step_fails(name):
    pair = CASES[name]()
    x = pair.sample(3, seed=0)
    serving, left_out = those_that_serve(program_of(pair, x))
    assert {*serving, *left_out} == {*ESTIMATORS}
    reparameterised = name not in DISCRETE
    assert ("dreg" in serving) is reparameterised
    assert {"trace", "score-function"} <= {*serving}
    assert ("exact" in serving) is hasattr(pair.exact, "elbo")


def test_the_default_of_fit_is_right_for_the_pair(tmp_path):
    expected = {
        "binary-belief": "leave-one-out",
        "semi-supervised-vae": "enumerate",
        "gaussian-chain, bottom-up": "analytic-kl",
        "hierarchical-vae": "analytic-kl",
        "bernoulli-vae": "trace-mean-field",
        "exponential-normal": "trace-mean-field",
    }
    for name, elbo in expected.items():
        pair = CASES[name]()
        assert choose(program_of(pair, pair.sample(3, seed=0))) == elbo


def test_the_default_follows_the_gradient_by_enumeration(pair, x):
    """One step of SGD on a large batch of copies: its mean gradient is the exact one's."""
    loss = -pair.exact.elbo(x).mean()
    wanted = torch.autograd.grad(loss, list(pair.parameters()))
    before = [p.clone() for p in pair.parameters()]
    many = x.repeat(5000, 1)
    options = {"batch_size": len(many), "num_epochs": 1, "progress": False, "device": "cpu"}
    fit(pair, many, optimizer=lambda p: torch.optim.SGD(p, lr=1.0), **options)
    moved = torch.cat([(a - b).flatten() for a, b in zip(before, pair.parameters(), strict=True)])
    wanted = torch.cat([g.flatten() for g in wanted])
    # The encoder's share, which lacks its score terms under the mean-field estimator.
    assert torch.cosine_similarity(moved, wanted, dim=0) > 0.999
    assert (moved - wanted).norm() < 0.03 * wanted.norm()


def test_scales_that_differ_choose_the_estimator_that_honours_both():
    def model(x):
        with pyro.plate("data", len(x)), pyro.poutine.scale(scale=0.5):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        loc = pyro.param("loc", torch.tensor(0.0))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc.expand(len(x)), 1.0))

    program = Program(model, guide, (torch.ones(3),), {})
    assert choose(program) == "analytic-kl"


def test_a_wrong_shape_keeps_pyros_table():
    """Only our own words are shortened: the shapes help where the text is Pyro's."""

    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros(7), 1.0))

    with pytest.raises(ValueError, match="Trace Shapes"):
        compare_elbos((model, model), torch.ones(3), ["trace"], num_replicates=10)
