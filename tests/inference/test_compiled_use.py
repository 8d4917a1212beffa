"""What CompiledSVI draws, evaluates and runs through, and in which precision."""

import logging

import pytest
import torch
from cases import CASES
from compiled_steps import trained
from parameters import equal, parameters
from pyro.infer import Trace_ELBO
from pyro.optim import SGD as PyroSGD
from pyro.optim import Adam

from ppl_vae import BernoulliVAE, CompiledSVI
from ppl_vae.elbos import make
from ppl_vae.inference.compilation.cost import steps_to_repay
from ppl_vae.inference.compilation.tracing.graph import trace


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


@pytest.mark.parametrize("backend", ["eager", "inductor"])
def test_bfloat16_is_near(backend, monkeypatch, caplog):
    pair = CASES["bernoulli-vae"]().float()
    x = pair.sample(5, seed=0)
    optim = Adam({"lr": 1e-3})
    cpu_has_bf16 = "ppl_vae.inference.compilation.inductor.precision.cpu_has_bf16"
    monkeypatch.setattr(cpu_has_bf16, lambda: False)
    svi = CompiledSVI(
        pair.model, pair.guide, optim, make("trace-mean-field"), backend=backend, precision="bf16"
    )
    with caplog.at_level(logging.INFO, logger="ppl_vae.inference"):
        svi.step(x)
        loss = svi.step(x)
    assert svi.is_compiled
    assert "bfloat16 changes the loss" in caplog.text
    assert "this processor has no bfloat16" in caplog.text
    full = CompiledSVI(pair.model, pair.guide, optim, make("trace-mean-field"), backend="eager")
    torch.manual_seed(3)
    expected = full.evaluate_loss(x)
    torch.manual_seed(3)
    assert svi.step(x) == pytest.approx(expected, rel=2e-2)
    assert loss == pytest.approx(expected, rel=0.5)


def test_unknown_backends_and_precisions_are_refused():
    pair = CASES["exponential-normal"]()
    for options, message in (
        ({"backend": "inductr"}, "Did you mean 'inductor'"),
        ({"precision": "fp8"}, "precision as one of bf16"),
    ):
        with pytest.raises(ValueError, match=message):
            CompiledSVI(pair.model, pair.guide, Adam({}), Trace_ELBO(), **options)


@pytest.mark.parametrize(("hidden", "compiled_at"), [((4,), 1), ((4,) * 4, 4)])
def test_a_step_whose_updates_are_many_is_compiled_once_that_is_repaid(
    hidden, compiled_at, monkeypatch
):
    """Both programs have fewer than 400 operations; Adam for 20 tensors adds as many to one."""
    lowered, steps = [], []

    def as_traced(body, given, name):
        lowered.append(len(steps))
        return lambda given: body(*given)

    monkeypatch.setattr("ppl_vae.inference.compilation.chunk.lower", as_traced)
    name = "ppl_vae.inference.compilation.cost.steps_to_repay"
    monkeypatch.setattr(name, lambda module, *, share, traced: 3)
    pair = BernoulliVAE((1, 2, 2), latent_dim=1, hidden=hidden, seed=0)
    x = torch.ones(3, 1, 2, 2)
    svi = CompiledSVI(pair.model, pair.guide, Adam({"lr": 1e-3}), Trace_ELBO())
    for _ in range(6):
        svi.step(x)
        steps.append(x)
    assert lowered == [compiled_at]
    assert svi.why_eager is None


@pytest.mark.parametrize("product", [torch.matmul, lambda x, w: torch.addmm(w[:1], x, w)])
def test_a_matrix_that_the_program_holds_counts_like_one_that_it_is_given(product):
    """A design matrix in a closure: large graphs with one ended in torch's own TypeError."""
    x, w = torch.ones(2, 3), torch.ones(3, 40)
    steps = [
        steps_to_repay(trace(function, given).module, share=1.0, traced=True)
        for function, given in (
            (lambda x: [product(x, w)], [x]),
            (lambda x, w: [product(x, w)], [x, w]),
        )
    ]
    assert steps[0] == steps[1] > 0
