"""The traced gradient against the estimator itself, on the same noise."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from cases import CASES, DISCRETE

from ppl_vae import ExponentialNormal, compare_elbos
from ppl_vae.diagnostics.comparison import gradient_graph, replicator
from ppl_vae.diagnostics.comparison.gradient_graph import GradientGraph
from ppl_vae.diagnostics.comparison.replicator import Replicator
from ppl_vae.elbos import ESTIMATORS
from ppl_vae.inference.compilation.tracing.constants import UntraceableError

SEEDS = torch.arange(5, 21)


def replicators(pair, name, x):
    made = [Replicator(pair, ESTIMATORS[name].make(), x, seed=0, traced=t) for t in (False, True)]
    for each in made:
        each.time()
        each.run(SEEDS)
    return made


def agree(pair, name, x):
    loop, graph = replicators(pair, name, x)
    assert loop._graph is None
    assert graph._graph is not None
    for kind in ("values", "components"):
        first, second = getattr(loop.result(), kind), getattr(graph.result(), kind)
        torch.testing.assert_close(second, first, rtol=1e-10, atol=1e-10)
    for group, variances in loop.result().block_variances.items():
        found = graph.result().block_variances[group]
        torch.testing.assert_close(found, variances, rtol=1e-8, atol=1e-12)


# Everything on the smallest pair of each structure; the rest of the pairs with two estimators.
BOTH = {"trace", "dreg"}
PLANS = [
    (case, name)
    for case in CASES
    for name in ESTIMATORS
    # The last two hold draws fixed, whose noise cannot be separated from their parameters.
    if name not in {"exact", "score-function", "reweighted-wake-sleep"}
    and (name in BOTH or case in {"exponential-normal", "gaussian-chain, bottom-up"})
    and not case.startswith("conv")
    and case not in DISCRETE | {"gamma-poisson"}
]


def test_draws_that_depend_on_parameters_run_one_by_one():
    # A Gamma's noise is no input of a graph.
    pair = CASES["gamma-poisson"]()
    loop, tried = replicators(pair, "trace", pair.sample(4, seed=0))
    assert tried._graph is None
    assert torch.equal(loop.result().values, tried.result().values)


@pytest.mark.filterwarnings("ignore:Failed to verify mean field")
@pytest.mark.parametrize(("case", "name"), PLANS)
def test_the_graph_gives_what_the_estimator_gives(case, name):
    pair = CASES[case]()
    agree(pair, name, pair.sample(4, seed=0))


def test_one_by_one_where_many_would_not_fit(monkeypatch):
    monkeypatch.setattr(gradient_graph, "AT_ONCE_BYTES", 1)
    pair = CASES["bernoulli-vae"]()
    agree(pair, "trace", pair.sample(4, seed=0))


def test_in_pieces_where_not_all_fit(monkeypatch):
    pair = CASES["exponential-normal"]()
    monkeypatch.setattr(gradient_graph, "FEWEST", 1)
    monkeypatch.setattr(gradient_graph, "AT_ONCE_BYTES", 5000)
    agree(pair, "trace", pair.sample(4, seed=0))


def test_what_does_not_depend_on_the_noise_is_not_repeated():
    """The encoder's first product is a constant of the graph: no operation reads x's weight."""
    pair = CASES["bernoulli-vae"]()
    _, graph = replicators(pair, "trace", pair.sample(4, seed=0))
    nodes = [n for n in graph._graph._module.graph.nodes if n.op == "call_function"]
    products = [n for n in nodes if "mm" in str(n.target)]
    # Three products forward in the decoder; backward two for each layer but the first, one there.
    assert len(products) <= 3 + 2 * 3 + 2 * 3 - 1


def test_noise_with_computed_parameters_is_run_one_by_one():
    scale = torch.tensor(2.0, requires_grad=True)

    def run():
        z = dist.Gamma(scale, 1.0, validate_args=False).rsample()
        return [z.detach(), torch.autograd.grad(z, scale)[0].reshape(1)]

    with pytest.raises(UntraceableError, match="noise cannot be separated"):
        GradientGraph(run, [scale], 8, torch.device("cpu"))


def test_a_program_that_draws_elsewhere_is_refused():
    loc = torch.tensor(2.0, requires_grad=True)
    count = iter(range(100))

    def run():
        z = dist.Normal(loc, 1.0, validate_args=False).rsample() + float(next(count))
        return [z.detach(), torch.ones(1)]

    with pytest.raises(UntraceableError, match="more than its noise"):
        GradientGraph(run, [loc], 8, torch.device("cpu"))


def test_a_comparison_is_the_same_either_way(monkeypatch):
    pair = ExponentialNormal(2.0, 0.5, guide_rate=1.5)
    x = pair.sample(5, seed=0)
    results = []
    for least in (10, 10**9):
        monkeypatch.setattr(replicator, "WORTH_TRACING", least)
        results.append(compare_elbos(pair, x, ["trace", "exact", "renyi"], num_replicates=100))
    for first, second in zip(results[0].rows, results[1].rows, strict=True):
        assert first.value.mean == pytest.approx(second.value.mean, rel=1e-10)
        assert first.bias_z_score == pytest.approx(second.bias_z_score, rel=1e-6, abs=1e-6)
    assert len(pyro.get_param_store()) == 0
