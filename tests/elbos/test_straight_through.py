"""Draws that are discrete and pass a gradient back are not reparameterised."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceEnum_ELBO

from ppl_vae import check_elbo, compare_elbos, fit
from ppl_vae.elbos import ESTIMATORS
from ppl_vae.elbos.serving import choose, those_that_serve, why_not_served
from ppl_vae.elbos.sites.draws import Program

X = torch.tensor([[0.3], [1.8], [-0.4]], dtype=torch.float64)
LOCS = torch.tensor([-1.0, 0.5, 2.0], dtype=torch.float64)


PRIOR = torch.tensor([0.1, 0.4, -0.2], dtype=torch.float64)
SLOPE = torch.tensor([-0.5, 0.2, 0.7], dtype=torch.float64)


def model(x):
    with pyro.plate("data", len(x)):
        prior = pyro.param("prior", PRIOR.clone())
        z = pyro.sample("z", dist.OneHotCategorical(logits=prior))
        pyro.sample("x", dist.Normal((z * LOCS).sum(-1), 1.0), obs=x[:, 0])


def guide_of(family):
    def guide(x):
        slope = pyro.param("slope", SLOPE.clone())
        with pyro.plate("data", len(x)):
            pyro.sample("z", family(logits=x * slope))

    return guide


STRAIGHT = guide_of(dist.OneHotCategoricalStraightThrough)
PLAIN = guide_of(dist.OneHotCategorical)


def elbo(x):
    """By a sum over the three values."""
    log_q = (x * pyro.param("slope", SLOPE.clone())).log_softmax(-1)
    log_p = pyro.param("prior", PRIOR.clone()).log_softmax(-1) + dist.Normal(LOCS, 1.0).log_prob(x)
    return (log_q.exp() * (log_p - log_q)).sum()


def test_only_what_holds_every_draw_fixed_serves():
    program = Program(model, STRAIGHT, (X,), {})
    serving, left_out = those_that_serve(program)
    assert set(serving) == {"score-function", "reweighted-wake-sleep"}
    for name in set(ESTIMATORS) - {*serving, "exact"}:
        assert "OneHotCategoricalStraightThrough, whose gradient is biased" in left_out[name]
    assert "whose gradient is biased" in why_not_served(TraceEnum_ELBO(), program)
    assert choose(program) == "score-function"
    with pytest.raises(NotImplementedError, match="Estimators that serve .*: 'score-function'"):
        compare_elbos((model, STRAIGHT), X, ["trace"])


def test_its_value_is_the_sum_over_all_values():
    found = compare_elbos((model, STRAIGHT), X, num_replicates=400)
    assert abs(found["score-function"].value.z_score(elbo(X).item())) < 4.5


def test_enumeration_has_no_noise_where_it_is_plain():
    enumerated = pyro.infer.config_enumerate(PLAIN)
    rows = {"enum": TraceEnum_ELBO(max_plate_nesting=1)}
    found = compare_elbos((model, enumerated), X, rows, num_replicates=20)
    assert found["enum"].value.mean == pytest.approx(elbo(X).item(), rel=1e-12)
    assert found["enum"].gradient_variance["overall"].mean < 1e-20


def test_the_checker_takes_its_score():
    pair = (model, STRAIGHT)
    found = check_elbo(lambda x: -elbo(x), pair, X.repeat(4, 1), reduction="sum")
    assert found.passed, str(found)


def test_fit_takes_pairs_only():
    with pytest.raises(TypeError, match="Pair"):
        fit((model, STRAIGHT), X)
