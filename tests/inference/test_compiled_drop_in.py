"""What Pyro users write beside a plain pair: autoguides, enumeration, baselines, numbers."""

import math
from argparse import Namespace
from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import pyro.distributions.transforms as transforms
import pytest
import torch
from pyro import poutine
from pyro.infer import (
    SVI,
    JitTrace_ELBO,
    ReweightedWakeSleep,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
    config_enumerate,
)
from pyro.infer import autoguide as auto
from pyro.infer.util import torch_item
from pyro.ops.indexing import Vindex
from pyro.optim import Adam, ClippedAdam, ExponentialLR, PyroOptim

from ppl_vae import CompiledSVI

NUM_STEPS = 6
DATA = torch.linspace(-2, 2, 24, dtype=torch.float64).reshape(8, 3)


def both(model, make_guide, loss=Trace_ELBO, call=lambda step: ((DATA,), {}), optim=None):
    """Losses and parameters by Pyro and by a graph, from the same seed, and the compiled one."""
    optim = optim or (lambda: Adam({"lr": 0.01}))
    outcomes, compiled = [], []
    for cls, options in ((SVI, {}), (CompiledSVI, {"backend": "eager"})):
        pyro.clear_param_store()
        torch.manual_seed(0)
        svi = cls(model, make_guide(model), optim(), loss(), **options)
        losses = []
        for step in range(NUM_STEPS):
            args, kwargs = call(step)
            losses.append(svi.step(*args, **kwargs))
            compiled.append(cls is CompiledSVI and svi.is_compiled)
        store = pyro.get_param_store()
        outcomes.append((losses, {name: store[name].detach().clone() for name in store}))
    (losses, parameters), (found, ours) = outcomes
    assert np.array(found) == pytest.approx(np.array(losses), rel=1e-13)
    assert parameters.keys() == ours.keys()
    for name, value in parameters.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-12, atol=1e-14)
    return sum(compiled), svi


def hierarchy(x):
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
    scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(loc, scale).to_event(1), obs=x)


def guide_list(model):
    parts = auto.AutoGuideList(model)
    parts.append(auto.AutoNormal(poutine.block(model, expose=["loc"])))
    parts.append(auto.AutoDelta(poutine.block(model, expose=["scale"])))
    return parts


FLOW = partial(transforms.iterated, 2, transforms.affine_autoregressive)
AUTOGUIDES = {
    "normal": auto.AutoNormal,
    "diagonal": auto.AutoDiagonalNormal,
    "multivariate": auto.AutoMultivariateNormal,
    "low rank": auto.AutoLowRankMultivariateNormal,
    "iaf": auto.AutoIAFNormal,
    "flow": lambda model: auto.AutoNormalizingFlow(model, FLOW),
    "delta": auto.AutoDelta,
    "laplace": auto.AutoLaplaceApproximation,
    "structured": auto.AutoStructured,
    "gaussian": auto.AutoGaussian,
    "list": guide_list,
    "autoregressive messenger": auto.AutoRegressiveMessenger,
    "normal messenger": auto.AutoNormalMessenger,
    "hierarchical messenger": auto.AutoHierarchicalNormalMessenger,
    "median": lambda model: auto.AutoNormal(model, init_loc_fn=auto.init_to_median),
}


@pytest.mark.parametrize("name", AUTOGUIDES)
def test_autoguides_compile(name):
    compiled, svi = both(hierarchy, AUTOGUIDES[name])
    assert compiled == NUM_STEPS - 1, svi.why_eager


@pytest.mark.parametrize("make", [auto.AutoNormal, auto.AutoDelta])
def test_an_autoguide_subsamples(make):
    def model(x):
        with pyro.plate("data", len(x), subsample_size=4) as index:
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z[:, None], 1.0).to_event(1), obs=x[index])

    def plates(x):
        return pyro.plate("data", len(x), subsample_size=4)

    compiled, svi = both(model, partial(make, create_plates=plates))
    assert compiled == NUM_STEPS - 1, svi.why_eager


def mixture(x):
    weights = pyro.param("weights", torch.ones(3) / 3, constraint=dist.constraints.simplex)
    locs = pyro.param("locs", torch.tensor([-1.0, 0.0, 1.0]))
    with pyro.plate("data", len(x)):
        k = pyro.sample("k", dist.Categorical(weights), infer={"enumerate": "parallel"})
        j = pyro.sample("j", dist.Bernoulli(0.3), infer={"enumerate": "parallel"})
        loc = Vindex(torch.stack([locs, -locs]))[j.long(), k]
        pyro.sample("x", dist.Normal(loc, 1.0), obs=x.sum(-1))


def markov(x):
    rows = pyro.param("rows", torch.ones(3, 3) / 3, constraint=dist.constraints.simplex)
    k = 0
    for i in pyro.markov(range(len(x))):
        k = pyro.sample(f"k{i}", dist.Categorical(rows[k]), infer={"enumerate": "parallel"})
        pyro.sample(f"x{i}", dist.Normal(k.double(), 1.0), obs=x[i, 0])


def impossible_state(x):
    """A state of probability zero has an infinite cost, which is no part of the expectation."""
    logit = pyro.param("logit", torch.tensor(0.2))
    with pyro.plate("data", len(x)):
        k = pyro.sample("k", dist.Categorical(torch.tensor([0.5, 0.5, 0.0])))
        pyro.sample("x", dist.Normal(k.double() * logit, 1.0), obs=x[:, 0])


@config_enumerate
def impossible_guide(x):
    first = pyro.param("first", torch.tensor(0.4), constraint=dist.constraints.unit_interval)
    with pyro.plate("data", len(x)):
        pyro.sample("k", dist.Categorical(torch.stack([first, 1 - first, 0 * first])))


def nothing(*_):
    pass


@pytest.mark.parametrize(
    ("model", "guide", "options"),
    [
        (mixture, nothing, {"max_plate_nesting": 1}),
        (mixture, nothing, {}),
        (mixture, nothing, {"num_particles": 2, "vectorize_particles": True}),
        (markov, nothing, {"max_plate_nesting": 0}),
        (impossible_state, impossible_guide, {"max_plate_nesting": 1}),
    ],
    ids=["vindex", "unknown nesting", "particles", "markov", "impossible state"],
)
def test_enumeration_compiles(model, guide, options):
    compiled, svi = both(model, lambda _: guide, partial(TraceEnum_ELBO, **options))
    assert compiled == NUM_STEPS - 1, svi.why_eager


def bits(x):
    locs = pyro.param("locs", torch.tensor([-1.0, 1.0]))
    with pyro.plate("data", len(x)):
        bit = pyro.sample("bit", dist.Bernoulli(0.4))
        pyro.sample("x", dist.Normal(locs[bit.long()], 1.0), obs=x[:, 0])


def bits_guide(baseline, x):
    half = torch.full((len(x),), 0.5)
    probs = pyro.param("probs", half, constraint=dist.constraints.unit_interval)
    with pyro.plate("data", len(x)):
        pyro.sample("bit", dist.Bernoulli(probs), infer={"baseline": baseline()})


@pytest.mark.parametrize(
    "baseline",
    [
        dict,
        lambda: {"use_decaying_avg_baseline": True},
        lambda: {"baseline_value": pyro.param("value", torch.zeros(8))},
    ],
    ids=["none", "average", "value"],
)
def test_baselines_compile(baseline):
    compiled, svi = both(bits, lambda _: partial(bits_guide, baseline), TraceGraph_ELBO)
    assert compiled == NUM_STEPS - 1, svi.why_eager


def weighted(x, weight=1.0, *, flag=True):
    with pyro.plate("data", len(x)):
        with poutine.scale(scale=weight):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z if flag else 2 * z, 1.0), obs=x[:, 0])


def weighted_guide(x, weight=1.0, *, flag=True):
    loc = pyro.param("loc", torch.tensor(0.3))
    with pyro.plate("data", len(x)), poutine.scale(scale=weight):
        pyro.sample("z", dist.Normal(loc * x[:, 0], 1.0))


def with_weight(weight):
    """A program whose weight is a function of the number that it is called with."""

    def of(program):
        return lambda x, number: program(x, weight(number))

    return of(weighted), of(weighted_guide)


@pytest.mark.parametrize("number", [lambda step: step + 1, lambda step: 0.1 + step / 10])
def test_a_number_is_an_input_from_its_second_value_on(number):
    compiled, svi = both(
        weighted, lambda _: weighted_guide, call=lambda step: ((DATA, number(step)), {})
    )
    assert compiled == NUM_STEPS - 1, svi.why_eager
    assert len(svi._graphs) == 1


def test_flags_and_numbers_choose_among_graphs():
    compiled, svi = both(
        weighted,
        lambda _: weighted_guide,
        call=lambda step: ((DATA,), {"weight": 0.1 + step / 10, "flag": step % 2 == 0}),
    )
    assert compiled >= NUM_STEPS - 3, svi.why_eager
    assert len(svi._graphs) == 2


@pytest.mark.parametrize(
    "weight",
    [
        lambda number: min(1.0, 0.1 + number / 4),
        lambda number: math.exp(-number),
        lambda number: number if isinstance(number, float) else 0.5,
        lambda number: 1 / len(range(int(number) + 1)),
        lambda number: {0.25: 0.5, 0.5: 1.0}.get(number, 2.0),
    ],
    ids=["min", "exp", "isinstance", "size", "key"],
)
def test_a_number_that_python_must_know_is_no_input(weight):
    """Values that come back have graphs; that there is no wrong loss is seen by `both`."""
    model, guide = with_weight(weight)
    compiled, svi = both(
        model, lambda _: guide, call=lambda step: ((DATA, step % 2 / 4 + 0.25), {})
    )
    assert compiled >= NUM_STEPS - 4, svi.why_eager


def test_a_number_that_is_looked_up_is_no_input():
    """Its later values decide, though those at which it was traced are in no table."""
    model, guide = with_weight(lambda number: {4: 0.3}.get(number, 1.0))
    both(model, lambda _: guide, call=lambda step: ((DATA, step), {}))


def test_a_new_value_at_every_step_is_left_to_pyro():
    model, guide = with_weight(lambda number: math.exp(-number))
    _, svi = both(model, lambda _: guide, call=lambda step: ((DATA, float(step)), {}))
    assert "second call of its kind" in svi.why_eager


@pytest.mark.parametrize(
    ("loss", "optim"),
    [
        (partial(ReweightedWakeSleep, num_particles=2, vectorize_particles=False), None),
        (partial(JitTrace_ELBO, ignore_jit_warnings=True), None),
        (Trace_ELBO, lambda: ClippedAdam({"lr": 0.01, "lrd": 0.9})),
        (Trace_ELBO, lambda: Adam(lambda name: {"lr": 0.01 if name == "loc" else 0.1})),
        (
            Trace_ELBO,
            lambda: ExponentialLR(
                {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.01}, "gamma": 0.9}
            ),
        ),
    ],
    ids=["wake-sleep", "jit", "clipped", "per parameter", "schedule"],
)
@pytest.mark.filterwarnings("ignore:`torch.jit.trace` is deprecated")
def test_other_losses_and_optimisers(loss, optim):
    compiled, svi = both(weighted, lambda _: weighted_guide, loss, optim=optim)
    assert compiled == NUM_STEPS - 1, svi.why_eager


@pytest.mark.parametrize(
    "change",
    [
        lambda model: poutine.lift(model, prior=dist.Normal(0.0, 1.0)),
        lambda model: poutine.condition(model, data={"z": DATA[:, 1]}),
        lambda model: poutine.mask(model, mask=DATA[:, 0] > 0),
        lambda model: poutine.scale(model, scale=0.5),
        lambda model: poutine.block(model, hide=["other"]),
    ],
    ids=["lift", "condition", "mask", "scale", "block"],
)
def test_handlers(change):
    model = change(weighted)
    guide = (
        (lambda x: None)
        if "z" in poutine.trace(model).get_trace(DATA).observation_nodes
        else weighted_guide
    )
    compiled, svi = both(model, lambda _: guide)
    assert compiled == (NUM_STEPS - 1 if guide is weighted_guide else 0), svi.why_eager


def test_a_permutation_is_read_and_watched():
    flow = transforms.affine_autoregressive(3, hidden_dims=[8])

    def model(x):
        pyro.module("flow", flow)
        with pyro.plate("data", len(x)):
            base = dist.Normal(torch.zeros(3), 1.0).to_event(1)
            pyro.sample("x", dist.TransformedDistribution(base, [flow]), obs=x)

    pyro.clear_param_store()
    svi = CompiledSVI(model, nothing, Adam({"lr": 0.0}), Trace_ELBO(), backend="eager")
    losses = [svi.step(DATA.clone()) for _ in range(3)]
    assert svi.is_compiled, svi.why_eager
    assert losses == pytest.approx([svi.evaluate_loss(DATA.clone())] * 3)
    order = flow.arn.get_permutation()
    order.copy_(order.flip(0))
    now = svi.step(DATA.clone())
    assert now != pytest.approx(losses[0])
    assert now == pytest.approx(svi.evaluate_loss(DATA.clone()))


def test_what_svi_has_it_has():
    svi = CompiledSVI(weighted, weighted_guide, Adam({"lr": 0.01}), Trace_ELBO(), backend="eager")
    plain = SVI(weighted, weighted_guide, Adam({"lr": 0.01}), Trace_ELBO())
    assert isinstance(svi, SVI)
    assert set(dir(plain)) <= set(dir(svi))
    assert svi.why_eager == "no step was taken yet"
    results = []
    for each in (plain, svi):
        pyro.clear_param_store()
        torch.manual_seed(0)
        results.append([each.loss_and_grads(each.model, each.guide, DATA)])
        store = pyro.get_param_store()
        results[-1].append(store["loc"].grad.clone())
        results[-1] += [each.loss(each.model, each.guide, DATA), each.evaluate_loss(DATA)]
    assert results[0] == results[1]


def test_lbfgs_is_refused():
    optim = PyroOptim(torch.optim.LBFGS, {"lr": 0.1})
    with pytest.raises(NotImplementedError, match="LBFGS, which calls the loss itself"):
        CompiledSVI(weighted, weighted_guide, optim, Trace_ELBO())


def by_settings(x, settings):
    scale = getattr(settings, "scale", 1.0) + sum(settings.more)
    loc = pyro.param("loc", torch.tensor(0.3))
    pyro.sample("z", dist.Normal(loc, scale))
    with pyro.plate("data", len(x), subsample_size=settings.batch_size) as index:
        pyro.sample("x", dist.Normal(loc * settings.weights[0], scale), obs=x[index, 0])


def by_settings_guide(x, settings):
    scale = pyro.param("scale", torch.tensor(0.7), constraint=dist.constraints.positive)
    pyro.sample("z", dist.Normal(scale, settings.half(2.0)))


@pytest.mark.parametrize(
    "change",
    [
        lambda settings: None,
        lambda settings: setattr(settings, "batch_size", 3),
        lambda settings: setattr(settings, "scale", 2.0),
        lambda settings: settings.more.append(0.5),
        lambda settings: settings.weights[0].mul_(2),
        lambda settings: settings.weights.__setitem__(0, torch.tensor(4.0)),
    ],
    ids=["none", "number", "new attribute", "longer list", "tensor in place", "other tensor"],
)
def test_an_object_among_the_arguments_is_watched(change):
    made = []

    def call(step):
        if step == 0:
            made[:] = [Namespace(batch_size=4, more=[0.1], half=lambda x: x / 2)]
            made[0].weights = [torch.tensor(1.5)]
        if step == 3:
            change(made[0])
        return (DATA, made[0]), {}

    compiled, svi = both(by_settings, lambda _: by_settings_guide, call=call)
    assert compiled == NUM_STEPS - 1, svi.why_eager


class Settings:
    def __init__(self, number):
        self.number = number

    def weight(self, number):
        return self.number * number


def test_functions_made_anew_for_each_step_are_arguments():
    """Their numbers become inputs; a method is the same one whenever it is looked up."""
    settings = Settings(0.5)
    model, guide = with_weight(lambda functions: functions[0](functions[1](2.0)))
    compiled, svi = both(
        model,
        lambda _: guide,
        call=lambda step: ((DATA, [partial(pow, 0.1 + step / 10), settings.weight]), {}),
    )
    assert compiled == NUM_STEPS - 1, svi.why_eager
    assert len(svi._graphs) == 1


@pytest.mark.parametrize(
    "make",
    [lambda: np.ones(2), lambda: iter([1]), lambda: {1}, lambda: torch.Generator()],
    ids=["array", "iterator", "set", "generator"],
)
def test_an_argument_that_may_change_unseen_is_left_to_pyro(make):
    model, guide = with_weight(lambda _: 1.0)
    settings = Namespace(parts=[make()])
    _, svi = both(model, lambda _: guide, call=lambda step: ((DATA, settings), {}))
    assert "an argument is of type" in svi.why_eager


def test_a_new_object_at_every_step_is_left_to_pyro():
    model, guide = with_weight(lambda settings: settings.weight)
    compiled, svi = both(
        model, lambda _: guide, call=lambda step: ((DATA, Namespace(weight=0.1 + step)), {})
    )
    assert compiled == 1
    assert "second call of its kind" in svi.why_eager


def one_of_several(x):
    locs = pyro.param("locs", torch.tensor([[-1.0, 0.0, 1.0], [2.0, 0.5, 0.3]]))
    logits = pyro.param("logits", torch.tensor([0.1, -0.2, 0.3]))
    row = pyro.sample("row", dist.Bernoulli(0.5)).long()
    total = locs[row].sum() + locs[-1, 0]
    for i in range(len(x)):
        k = pyro.sample(f"k{i}", dist.Categorical(logits=torch.zeros(3)))
        loc = locs[row, k] + locs[:, k].sum() + locs[..., k, None][0, 0] * total
        pyro.sample(f"x{i}", dist.Normal(loc, 1.0 + logits[k].exp()), obs=x[i, 0])


def one_of_several_guide(x):
    pyro.sample("row", dist.Bernoulli(pyro.param("half", torch.tensor(0.4))))
    for i in range(len(x)):
        probs = pyro.param(f"probs{i}", torch.ones(3) / 3, constraint=dist.constraints.simplex)
        pyro.sample(f"k{i}", dist.Categorical(probs))


def test_a_draw_is_an_index():
    compiled, svi = both(one_of_several, lambda _: one_of_several_guide)
    assert compiled == NUM_STEPS - 1, svi.why_eager


def scored(x):
    loc = pyro.param("loc", torch.tensor(0.3))
    with pyro.plate("data", len(x)):
        bit = pyro.sample("bit", dist.Bernoulli(0.4))
        z = pyro.sample("z", dist.Normal(loc, 1.0))
        pyro.sample("x", dist.Normal(z + bit, 1.0), obs=x[:, 0])


def scored_guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("bit", dist.Bernoulli(pyro.param("half", torch.tensor(0.5))))
        pyro.sample("z", dist.Normal(pyro.param("mean", torch.tensor(0.1)), 0.9))


def penalised(elbo):
    def loss(model, guide, x):
        penalty = pyro.param("loc", torch.tensor(0.3)).square()
        return elbo.differentiable_loss(model, guide, x) + penalty

    return loss


ESTIMATED = [
    (Trace_ELBO, scored, scored_guide),
    (TraceMeanField_ELBO, weighted, weighted_guide),
]


@pytest.mark.parametrize("how", [penalised, lambda elbo: elbo.differentiable_loss])
@pytest.mark.parametrize(("cls", "model", "guide"), ESTIMATED)
def test_a_loss_function_with_an_estimator_in_it(how, cls, model, guide):
    compiled, svi = both(model, lambda _: guide, lambda: how(cls(num_particles=2)))
    assert compiled == NUM_STEPS - 1, svi.why_eager


def test_a_loss_function_that_needs_a_number_is_left_to_pyro():
    def loss(model, guide, x):
        value = Trace_ELBO().differentiable_loss(model, guide, x)
        return value * (2.0 if torch_item(value) > 25 else 1.0)

    _, svi = both(scored, lambda _: scored_guide, lambda: loss)
    assert "reads a tensor's value in Python" in svi.why_eager


def labelled(x, y=None):
    """Either network is registered at each step, and used only where the labels are unknown."""
    with pyro.plate("data", len(x)):
        y = pyro.sample("y", dist.Normal(0.0, 1.0), obs=y)
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(y + z, 1.0), obs=x[:, 0])


def labelled_guide(networks, x, y=None):
    pyro.module("networks", networks)
    with pyro.plate("data", len(x)):
        if y is None:
            pyro.sample("y", dist.Normal(networks[0](x)[:, 0], 1.0))
        pyro.sample("z", dist.Normal(networks[1](x)[:, 0], 1.0))


@pytest.mark.parametrize(
    "optim",
    [
        lambda: Adam({"lr": 0.01}),
        lambda: PyroOptim(torch.optim.RMSprop, {"lr": 0.01, "momentum": 0.9}),
    ],
    ids=["in the graph", "by itself"],
)
@pytest.mark.parametrize("known", ["010101", "100100", "001101"])
def test_a_parameter_that_a_step_only_registers_goes_on_by_its_momentum(known, optim):
    def guide(_):
        networks = torch.nn.ModuleList([torch.nn.Linear(3, 1), torch.nn.Linear(3, 1)])
        return partial(labelled_guide, networks)

    compiled, svi = both(
        labelled,
        guide,
        call=lambda step: ((DATA, DATA[:, 1] if known[step] == "1" else None), {}),
        optim=optim,
    )
    assert compiled >= NUM_STEPS - 3, svi.why_eager


def grown(x, number):
    """Each number has a parameter of its own, drawn when it is first met."""
    loc = pyro.param(f"loc{number}", lambda: torch.randn(()))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z + loc, 1.0), obs=x[:, 0])


def grown_guide(x, number):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(pyro.param("mean", torch.tensor(0.1)), 1.0))


@pytest.mark.parametrize("numbers", ["011111", "001011", "010011"])
def test_a_parameter_of_a_later_step_is_met_by_pyro_first(numbers):
    compiled, svi = both(
        grown, lambda _: grown_guide, call=lambda step: ((DATA, numbers[step]), {})
    )
    assert compiled >= 1, svi.why_eager


class Trainer:
    """A model, its guide, and who trains them, in one object."""

    def __init__(self, cls, **options):
        self.weight = 0.5
        self.svi = cls(self.model, self.guide, Adam({"lr": 0.01}), Trace_ELBO(), **options)

    def model(self, x):
        return weighted(x, self.weight)

    def guide(self, x):
        return weighted_guide(x, self.weight)


def test_an_object_may_hold_its_own_svi():
    losses = []
    for cls, options in ((SVI, {}), (CompiledSVI, {"backend": "eager"})):
        pyro.clear_param_store()
        torch.manual_seed(0)
        trainer = Trainer(cls, **options)
        losses.append([trainer.svi.step(DATA[: 8 - step // 3]) for step in range(8)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-12)
    assert trainer.svi.is_compiled
    assert len(trainer.svi._graphs) == 3
    assert set(trainer.svi._graphs._traces.values()) == {1}
