"""The compiled step does what Pyro's does: every pair, every estimator, every optimiser."""

import copy
import logging

import pyro
import pyro.distributions as dist
import pytest
import torch
from cases import CASES
from parameters import equal, parameters
from pyro.infer import SVI, RenyiELBO, Trace_ELBO, TraceMeanField_ELBO
from pyro.optim import SGD as PyroSGD
from pyro.optim import Adam, AdamW, ClippedAdam, ExponentialLR, RMSprop, StepLR

from ppl_vae import ESTIMATORS, CompiledSVI
from ppl_vae.elbos import make

pytestmark = pytest.mark.filterwarnings("ignore:Failed to verify mean field")

# Two particles where the estimator takes an importance-weighted bound, one elsewhere.
PARTICLES = {"iwae": 2, "dreg": 2, "renyi": 2}


def trained(svi, module, x, num_steps=3):
    """Losses and parameters after some steps from the same seed."""
    torch.manual_seed(1)
    losses = [svi.step(x) for _ in range(num_steps)]
    return losses, parameters(module)


def every_pair_and_estimator():
    """The larger pairs with two estimators only, unless slow tests are asked for."""
    for name in CASES:
        large = name.startswith(("conv", "hierarchical"))
        for elbo in ESTIMATORS:
            slow = [pytest.mark.slow] if large and elbo not in ("trace", "dreg") else []
            yield pytest.param(name, elbo, marks=slow, id=f"{name}-{elbo}")


@pytest.mark.parametrize(("name", "elbo"), list(every_pair_and_estimator()))
def test_traced_losses_and_gradients_are_pyros_to_the_last_bit(name, elbo):
    """An optimiser that is not part of the graph takes the same steps if gradients are equal."""
    results = []
    for cls, options in ((SVI, {}), (CompiledSVI, {"backend": "eager"})):
        pair = CASES[name]()
        x = pair.sample(5, seed=0)
        loss = make(elbo, num_particles=PARTICLES.get(elbo, 1))
        svi = cls(pair.model, pair.guide, RMSprop({"lr": 1e-3}), loss, **options)
        try:
            results.append(trained(svi, pair, x))
        except NotImplementedError:
            pytest.skip("the estimator does not serve this pair")
    assert svi.is_compiled, svi.why_eager
    assert results[0][0] == results[1][0]
    assert equal(results[0][1], results[1][1])


OPTIMIZERS = {
    "adam": lambda: Adam({"lr": 0.01}),
    "adam, weight decay, clipped": lambda: Adam(
        {"lr": 0.01, "weight_decay": 0.1, "amsgrad": True}, {"clip_norm": 0.3}
    ),
    "adamw": lambda: AdamW({"lr": 0.01, "weight_decay": 0.1}),
    "sgd": lambda: PyroSGD({"lr": 0.01, "momentum": 0.9, "nesterov": True}, {"clip_value": 0.1}),
    "clipped adam": lambda: ClippedAdam({"lr": 0.01, "lrd": 0.9, "clip_norm": 0.5}),
    "exponential schedule": lambda: ExponentialLR(
        {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.01}, "gamma": 0.5}
    ),
    "step schedule": lambda: StepLR(
        {"optimizer": torch.optim.SGD, "optim_args": {"lr": 0.01}, "step_size": 2}
    ),
    "not in the graph": lambda: RMSprop({"lr": 0.01}),
    "by parameter": lambda: Adam(lambda name: {"lr": 0.1 if "bias" in name else 0.01}),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_optimizers_take_pyros_steps(optimizer):
    results, states = [], []
    for cls, options in ((SVI, {}), (CompiledSVI, {"backend": "eager"})):
        pyro.clear_param_store()
        pair = CASES["bernoulli-vae"]()
        x = pair.sample(5, seed=0)
        optim = optimizer()
        svi = cls(pair.model, pair.guide, optim, Trace_ELBO(), **options)
        torch.manual_seed(1)
        losses = []
        for _ in range(6):
            losses.append(svi.step(x))
            if hasattr(optim, "step"):
                optim.step()
        results.append((losses, parameters(pair)))
        states.append({n.partition("$$$")[2]: s for n, s in optim.get_state().items()})
    assert svi.is_compiled
    for first, second in zip(*(r[1] for r in results), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-15)
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-12)
    torch.testing.assert_close(states[0], states[1], rtol=1e-12, atol=1e-15)


def plates_and_params(x):
    """Constrained parameters, a subsampling plate, a mask, a scale, two latents, a loop."""

    def model(x):
        spread = pyro.param("spread", torch.tensor(0.7), constraint=dist.constraints.positive)
        top = pyro.sample("top", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x), subsample_size=4) as index, pyro.poutine.scale(scale=0.5):
            z = pyro.sample("z", dist.Normal(top, 1.0).mask(x[index] > 0))
            pyro.sample("x", dist.Normal(z, spread), obs=x[index])
        for i in pyro.plate("loop", 3):
            pyro.sample(f"y{i}", dist.Normal(top, 1.0 + i), obs=x[i])

    def guide(x):
        loc = pyro.param("loc", torch.zeros(len(x)), event_dim=0)
        scale = pyro.param("scale", torch.ones(len(x)), constraint=dist.constraints.positive)
        simplex = pyro.param("w", torch.ones(2) / 2, constraint=dist.constraints.simplex)
        pyro.sample("top", dist.Normal(simplex[0], 1.0))
        with pyro.plate("data", len(x), subsample_size=4) as index, pyro.poutine.scale(scale=0.5):
            pyro.sample("z", dist.Normal(loc[index], scale[index]).mask(x[index] > 0))

    return model, guide


LOSSES = {
    "trace": lambda: Trace_ELBO(),
    "particles": lambda: Trace_ELBO(num_particles=3),
    "vectorized": lambda: Trace_ELBO(
        num_particles=3, vectorize_particles=True, max_plate_nesting=1
    ),
    "mean field": lambda: TraceMeanField_ELBO(),
    "renyi": lambda: RenyiELBO(alpha=0.5, num_particles=3),
}


@pytest.mark.parametrize("loss", ["trace", "particles", "mean field", "renyi"])
def test_plates_masks_scales_and_constrained_parameters(loss):
    x = torch.randn(9)
    results = []
    for cls, options in ((SVI, {}), (CompiledSVI, {"backend": "eager"})):
        pyro.clear_param_store()
        model, guide = plates_and_params(x)
        svi = cls(model, guide, Adam({"lr": 0.01}), LOSSES[loss](), **options)
        torch.manual_seed(1)
        losses = [svi.step(x) for _ in range(4)]
        store = pyro.get_param_store()
        results.append((losses, [store[n].detach().clone() for n in sorted(store.keys())]))
    assert svi.is_compiled, svi.why_eager
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-13)
    for first, second in zip(*(r[1] for r in results), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-15)


class Normed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(
            torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.3)
        )

    def forward(self, x):
        return self.net(x)


def test_buffers_are_updated_and_train_and_eval_are_told_apart():
    x = torch.randn(6, 3)
    torch.manual_seed(3)
    first = Normed()
    nets = (first, copy.deepcopy(first))
    outcomes = []
    for net, (cls, options) in zip(
        nets, ((SVI, {}), (CompiledSVI, {"backend": "eager"})), strict=True
    ):
        pyro.clear_param_store()

        def model(x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(torch.zeros(4), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x.sum(-1))

        def guide(x, net=net):
            pyro.module("net", net)
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(net(x), 1.0).to_event(1))

        svi = cls(model, guide, PyroSGD({"lr": 1e-3}), Trace_ELBO(), **options)
        torch.manual_seed(1)
        losses = [svi.step(x) for _ in range(4)]
        net.eval()
        losses += [svi.step(x) for _ in range(2)]
        outcomes.append((losses, [t.clone() for t in net.state_dict().values()]))
    assert svi.is_compiled, svi.why_eager
    assert outcomes[0][0] == pytest.approx(outcomes[1][0], rel=1e-13)
    for one, other in zip(*(o[1] for o in outcomes), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_compiled_agrees_with_pyro_under_the_same_noise(dtype, tolerance, caplog):
    """One pair in the fast suite; all of them in the slow one."""
    compare_compiled("bernoulli-vae", "trace-mean-field", dtype, tolerance)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("elbo", ESTIMATORS)
@pytest.mark.parametrize("name", CASES)
def test_compiled_agrees_for_every_pair_and_estimator(name, elbo):
    compare_compiled(name, elbo, torch.float64, 1e-12)


def compare_compiled(name, elbo, dtype, tolerance):
    torch.set_default_dtype(dtype)
    results = []
    for cls in (SVI, CompiledSVI):
        pair = CASES[name]()
        x = pair.sample(5, seed=0)
        loss = make(elbo, num_particles=PARTICLES.get(elbo, 1))
        svi = cls(pair.model, pair.guide, PyroSGD({"lr": 1e-3}), loss)
        try:
            results.append(trained(svi, pair, x))
        except NotImplementedError:
            pytest.skip("the estimator does not serve this pair")
    assert svi.is_compiled, svi.why_eager
    assert results[0][0] == pytest.approx(results[1][0], rel=tolerance)
    for one, other in zip(*(r[1] for r in results), strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def test_noise_is_fresh_and_follows_the_seed():
    pair = CASES["exponential-normal"]()
    x = pair.sample(5, seed=0)
    optim = PyroSGD({"lr": 0.0})
    svi = CompiledSVI(pair.model, pair.guide, optim, Trace_ELBO(), backend="eager")
    first = trained(svi, pair, x, 200)[0]
    assert len(set(first)) == 200
    again = trained(svi, pair, x, 200)[0]
    assert again == first
    exact = -pair.exact.elbo(x).item()
    losses = torch.tensor(svi.run(x, num_steps=4000).tolist())
    assert abs(losses.mean() - exact) < 4.5 * losses.std() / 4000**0.5


def test_evaluate_loss_changes_nothing():
    pair = CASES["linear-gaussian"]()
    x = pair.sample(5, seed=0)
    svi = CompiledSVI(pair.model, pair.guide, Adam({"lr": 0.1}), Trace_ELBO(), backend="eager")
    svi.step(x)
    before = parameters(pair)
    torch.manual_seed(4)
    loss = svi.evaluate_loss(x)
    torch.manual_seed(4)
    assert loss == Trace_ELBO().loss(pair.model, pair.guide, x)
    assert equal(before, parameters(pair))


def test_an_epoch_covers_the_data_and_follows_the_seed():
    pair = CASES["linear-gaussian"]()
    x = pair.sample(50, seed=0)
    svi = CompiledSVI(pair.model, pair.guide, PyroSGD({"lr": 0.0}), make("exact"), backend="eager")
    losses = svi.epoch(x, 8)
    assert losses.shape == (7,)
    expected = make("exact").loss(pair.model, pair.guide, x)
    assert losses.sum().item() == pytest.approx(expected, rel=1e-12)
    assert svi.epoch(x, 8).sum().item() == pytest.approx(expected, rel=1e-12)
    assert svi.is_compiled


def test_bfloat16_is_near_and_is_refused_without_the_processor(monkeypatch, caplog):
    pair = CASES["bernoulli-vae"]().float()
    x = pair.sample(5, seed=0)
    optim = Adam({"lr": 1e-3})
    monkeypatch.setattr("ppl_vae.inference.compilation.precision.cpu_has_bf16", lambda: True)
    svi = CompiledSVI(
        pair.model, pair.guide, optim, make("trace-mean-field"), backend="eager", precision="bf16"
    )
    with caplog.at_level(logging.INFO, logger="ppl_vae.inference"):
        svi.step(x)
        loss = svi.step(x)
    assert svi.is_compiled
    assert "bfloat16 changes the loss" in caplog.text
    assert loss == pytest.approx(svi.evaluate_loss(x), rel=0.5)
    monkeypatch.setattr("ppl_vae.inference.compilation.precision.cpu_has_bf16", lambda: False)
    with pytest.raises(ValueError, match="a processor with bfloat16; got one without"):
        CompiledSVI(pair.model, pair.guide, optim, make("trace"), precision="bf16")


def test_unknown_backends_and_precisions_are_refused():
    pair = CASES["exponential-normal"]()
    for options, message in (
        ({"backend": "inductr"}, "Did you mean 'inductor'"),
        ({"precision": "fp8"}, "precision as one of bf16"),
    ):
        with pytest.raises(ValueError, match=message):
            CompiledSVI(pair.model, pair.guide, Adam({}), Trace_ELBO(), **options)
