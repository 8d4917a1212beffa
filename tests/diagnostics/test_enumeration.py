"""`TraceEnum_ELBO` on programs whose states are summed by hand."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceEnum_ELBO

from ppl_vae import CompiledSVI, check_elbo, compare_elbos, explain_elbo

STATES, EXAMPLES = 3, 8
FAMILIES = {
    "Categorical": lambda logits: dist.Categorical(logits=logits),
    "OneHotCategorical": lambda logits: dist.OneHotCategorical(logits=logits),
}
HOW = ("parallel", "sequential", None)


class Mixture(torch.nn.Module):
    """A mixture with a learned guide over its components, and the sum over them by hand."""

    def __init__(self, family, how, *, in_model=False):
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.decoder = torch.nn.Linear(2, STATES), torch.nn.Linear(STATES, 2)
        self._family, self._in_model = FAMILIES[family], in_model
        self._infer = {} if how is None else {"enumerate": how}

    def _loc(self, y):
        if y.dtype != torch.get_default_dtype() or y.shape[-1:] != (STATES,):
            y = torch.nn.functional.one_hot(y.long(), STATES).to(torch.get_default_dtype())
        return self.decoder(y)

    def model(self, x):
        pyro.module("mixture", self)
        with pyro.plate("data", len(x)):
            infer = self._infer if self._in_model else {}
            y = pyro.sample("y", self._family(torch.zeros(STATES)), infer=infer)
            pyro.sample("x", dist.Normal(self._loc(y), 1.0).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("mixture", self)
        if not self._in_model:
            with pyro.plate("data", len(x)):
                pyro.sample("y", self._family(self.encoder(x)), infer=self._infer)

    def elbo(self, x):
        """Return the ELBO of the guide, or the log-evidence where the model sums its states."""
        log_x = dist.Normal(self._loc(torch.arange(STATES))[:, None], 1.0).to_event(1).log_prob(x)
        joint = log_x.T - torch.tensor(float(STATES)).log()
        if self._in_model:
            return joint.logsumexp(-1).sum()
        log_q = self.encoder(x).log_softmax(-1)
        return (log_q.exp() * (joint - log_q)).sum()


def data():
    return torch.randn(EXAMPLES, 2, generator=torch.Generator().manual_seed(1))


def by_pyro():
    return TraceEnum_ELBO(max_plate_nesting=1)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_comparison_sums_what_the_program_enumerates(family, how):
    program, x = Mixture(family, how), data()
    compared = compare_elbos(
        (program.model, program.guide), x, {"enum": by_pyro()}, num_replicates=200
    )
    value, exact = compared["enum"].value, program.elbo(x).item()
    if how is None:
        assert abs(value.z_score(exact)) < 4.5
    else:
        assert value.mean == pytest.approx(exact, rel=1e-12)
        assert compared["enum"].value_variance.mean < 1e-20


@pytest.mark.parametrize("how", HOW)
def test_the_ledger_says_what_is_enumerated(how):
    program, x = Mixture("Categorical", how), data()
    ledger = explain_elbo(by_pyro(), (program.model, program.guide), x)
    row = ledger["y"].treatment
    assert row.is_valid
    assert row.how == ("sampled" if how is None else "enumerated")
    assert abs(ledger.value.z_score(program.elbo(x).item())) < 4.5


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("family", FAMILIES)
def test_an_enumerated_objective_is_right_and_with_a_term_added_is_not(family, how):
    program, x = Mixture(family, how), data()
    pair = program.model, program.guide
    assert check_elbo(lambda x: by_pyro().differentiable_loss(*pair, x) / len(x), pair, x).passed
    wrong = check_elbo(lambda x: -program.elbo(x) / len(x) + program.encoder(x).mean(), pair, x)
    assert not wrong.passed


@pytest.mark.parametrize("how", HOW[:2])
def test_a_compiled_step_has_pyros_loss(how):
    program, x = Mixture("Categorical", how), data()
    svi = CompiledSVI(
        program.model, program.guide, pyro.optim.Adam({"lr": 0.0}), by_pyro(), backend="eager"
    )
    assert svi.step(x) == pytest.approx(-program.elbo(x).item(), rel=1e-12)


@pytest.mark.filterwarnings("ignore:Found vars in model but not guide")
def test_states_that_the_model_sums_are_compared_and_refused_where_parts_are_needed():
    program, x = Mixture("Categorical", "parallel", in_model=True), data()
    pair = program.model, program.guide
    compared = compare_elbos(pair, x, {"enum": by_pyro()}, num_replicates=10)
    assert compared["enum"].value.mean == pytest.approx(program.elbo(x).item(), rel=1e-12)
    with pytest.raises(NotImplementedError, match="'y', which is summed in the model"):
        explain_elbo(by_pyro(), pair, x)
    with pytest.raises(ValueError, match="a site 'y' in the guide"):
        check_elbo(lambda x: by_pyro().differentiable_loss(*pair, x) / len(x), pair, x)
    for estimator in ("trace", "analytic-kl"):
        with pytest.raises(ValueError, match="a site 'y' in the guide"):
            explain_elbo(estimator, pair, x)


def test_numbers_that_pyro_cannot_enumerate_are_refused_in_our_words():
    def model(x):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Bernoulli(torch.full((2,), 0.3)).to_event(1))
            pyro.sample("x", dist.Normal(y, 1.0).to_event(1), obs=x)

    def guide(x):
        logits = pyro.param("logits", torch.zeros(2))
        with pyro.plate("data", len(x)):
            fn = dist.Bernoulli(logits=logits).to_event(1)
            pyro.sample("y", fn, infer={"enumerate": "parallel"})

    for call in (
        lambda: compare_elbos((model, guide), data(), {"enum": by_pyro()}, num_replicates=10),
        lambda: explain_elbo(by_pyro(), (model, guide), data()),
    ):
        with pytest.raises(NotImplementedError, match="in a plate of their own") as caught:
            call()
        assert "Trace Shapes" not in str(caught.value)


@pytest.mark.parametrize("joint", [False, True])
def test_the_ledger_of_our_estimator_says_what_it_sums_and_takes_in_closed_form(joint):
    weights = torch.tensor([1.0, -0.5])

    def bits(logits):
        if joint:
            return pyro.sample("z", dist.Bernoulli(logits=logits).to_event(1)) @ weights
        return pyro.sample("z", dist.Bernoulli(logits=logits[..., 0]))

    def model(x):
        with pyro.plate("data", len(x), dim=-1):
            u = pyro.sample("u", dist.Normal(bits(torch.zeros(2)), 1.0))
            v = pyro.sample("v", dist.LogNormal(u, 1.0))
            pyro.sample("x", dist.Normal(v, 0.5), obs=x)

    def guide(x):
        with pyro.plate("data", len(x), dim=-1):
            slopes = pyro.param("slopes", torch.ones(2))
            u = pyro.sample("u", dist.Normal(bits(x.unsqueeze(-1) * slopes) + x, 0.7))
            pyro.sample("v", dist.Gamma(1 + u.square(), 1.0))

    x = torch.tensor([0.4, -0.2, 1.1])
    ledger = explain_elbo("enumerate", (model, guide), x)
    how = {row.treatment.site: row.treatment.how for row in ledger.rows}
    assert how == {"z": "enumerated", "u": "closed form", "v": "sampled", "x": "given"}
    compared = compare_elbos((model, guide), x, ["trace"], num_replicates=1000)["trace"].value
    gap = ledger.value.mean - compared.mean
    assert abs(gap) < 4.5 * (ledger.value.standard_error**2 + compared.standard_error**2) ** 0.5
