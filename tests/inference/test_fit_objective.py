"""What `fit` maximises: weights of the KL divergence, free bits, and what it reports of them."""

import functools

import pytest
import torch
from estimates import agree
from small_vae import vae, values
from torch import nn

from ppl_vae import CyclicalWarmup, LinearGaussian, LinearWarmup, fit
from ppl_vae.diagnostics.comparison.replicates import mean_of
from ppl_vae.elbos import make
from ppl_vae.inference.batches import TensorBatches
from ppl_vae.inference.monitoring.measures import Measures, is_measured
from ppl_vae.inference.steps.objective import Objective

QUIET = {"progress": False, "device": "cpu", "compile": False}


def test_the_objective_is_weighted_and_the_elbo_is_not(digits):
    pair = vae()
    history = fit(pair, digits, kl_weight=4.0, num_epochs=3, elbo="trace", **QUIET)
    table = history.to_dataframe()
    assert (table.objective < table.train_elbo).all()
    assert (table.kl_weight == 4.0).all()
    # Before its first step the pair's ELBO is what the first epoch reports, up to one draw.
    fresh = vae()
    torch.manual_seed(0)
    draws = [-make("trace").loss(fresh.model, fresh.guide, digits) / 60 for _ in range(200)]
    draws = torch.tensor(draws)
    once = fit(fresh, digits, kl_weight=4.0, num_epochs=1, batch_size=60, elbo="trace", **QUIET)
    assert abs(once.train_elbo[0] - draws.mean()) < 4.5 * draws.std()


def test_evaluation_is_never_weighted(digits):
    found = []
    for weight in (1.0, 50.0):
        pair = vae()
        for parameter in pair.parameters():
            parameter.requires_grad_(requires_grad=False)
        pair.decoder.net[0].bias.requires_grad_()
        frozen = functools.partial(torch.optim.SGD, lr=0.0)
        options = {"optimizer": frozen, "num_epochs": 1, **QUIET}
        history = fit(pair, digits, validation=digits, kl_weight=weight, **options)
        found.append(
            (history.test_elbo, history.columns["kl.z"], history.columns["log_likelihood"])
        )
    assert found[0] == found[1]


@pytest.mark.parametrize("schedule", [LinearWarmup(0.5), CyclicalWarmup(2), lambda done: 2 * done])
def test_a_warm_up_gives_each_step_its_weight(digits, schedule):
    seen = []
    pair = vae()
    history = fit(
        pair,
        digits,
        kl_weight=schedule,
        elbo=Spy(seen),
        num_epochs=4,
        batch_size=20,
        **QUIET,
    )
    weights = [schedule(i / 12) for i in range(12)]
    assert history.columns["kl_weight"] == pytest.approx(weights[2::3])
    assert seen == pytest.approx(weights)


class Spy(type(make("trace"))):
    """Notes the scale of the latent at each step."""

    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def _get_trace(self, model, guide, args, kwargs):
        traces = super()._get_trace(model, guide, args, kwargs)
        if torch.is_grad_enabled():
            self.seen.append(float(traces[0].nodes["z"]["scale"]))
        return traces


def test_weights_of_sites_some_of_which_follow_a_schedule():
    pair = LinearGaussian(data_dim=3, latent_dim=2, seed=0)
    x = pair.sample(20, seed=0)
    history = fit(pair, x, kl_weight={"z": LinearWarmup(1.0, start=0.5)}, num_epochs=4, **QUIET)
    assert history.columns["kl_weight.z"] == pytest.approx([0.5, 0.625, 0.75, 0.875])


def test_a_compiled_warm_up_takes_the_same_steps(digits):
    found = []
    for how in (False, True):
        pair = vae()
        options = {"num_epochs": 4, "batch_size": 25, "compile": how}
        history = fit(
            pair, digits, kl_weight=LinearWarmup(0.6), free_bits=0.05, **{**QUIET, **options}
        )
        found.append((values(pair), torch.tensor([history.objective, history.train_elbo])))
    for first, second in zip(*found, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-8, atol=1e-8)


def test_free_bits_hold_the_divergence_up(digits):
    kl = []
    for free_bits in (0.0, 2.0):
        pair = vae()
        history = fit(
            pair,
            digits,
            free_bits=free_bits,
            num_epochs=60,
            optimizer=functools.partial(torch.optim.Adam, lr=1e-2),
            **QUIET,
        )
        kl.append(history.columns["kl.z"][-1])
    assert kl[1] > 3 * kl[0]


def test_a_weighted_estimator_is_taken_as_it_is(digits):
    pairs = [vae(), vae()]
    fit(pairs[0], digits, elbo=make("trace", kl_weight=3.0), num_epochs=2, **QUIET)
    fit(pairs[1], digits, elbo="trace", kl_weight=3.0, num_epochs=2, **QUIET)
    assert torch.equal(*map(values, pairs))


def test_a_run_under_a_warm_up_resumes_as_if_it_had_not_stopped(digits, tmp_path):
    def run(pair, folder, epochs, **more):
        options = {"kl_weight": LinearWarmup(0.5), "run_dir": tmp_path / folder, **QUIET}
        return fit(pair, digits, num_epochs=epochs, batch_size=20, **options, **more)

    whole, stopped = vae(), vae()
    run(whole, "whole", 4)

    class Stop(Exception):
        pass

    def stop(epoch, _):
        if epoch == 2:
            raise Stop

    with pytest.raises(Stop):
        run(stopped, "parts", 4, log=stop)
    fresh = vae()
    history = run(fresh, "parts", 4, resume=True)
    assert torch.equal(values(whole), values(fresh))
    assert len(history) == 4
    with pytest.raises(ValueError, match="over 4 epochs"):
        run(vae(), "whole", 6, resume=True)


def test_bad_weights(digits):
    for wrong, message in [
        (-1.0, "finite and at least 0"),
        (lambda done: done - 0.5, "finite and at least 0"),
        ({"y": 2.0}, "kl_weight's site as one of z"),
        ({"z": lambda done: float("nan")}, "finite and at least 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            fit(vae(), digits, kl_weight=wrong, num_epochs=2, **QUIET)
    with pytest.raises(ValueError, match="free_bits"):
        fit(vae(), digits, free_bits=-1.0, **QUIET)
    with pytest.raises(TypeError, match="kl_weight"):
        fit(vae(), digits, kl_weight="much", **QUIET)
    with pytest.raises(NotImplementedError, match="an estimator of the ELBO"):
        fit(vae(), digits, elbo=make("iwae", num_particles=3), kl_weight=0.5, **QUIET)


def test_a_bad_weight_loses_no_run(digits, tmp_path):
    fit(vae(), digits, num_epochs=1, run_dir=tmp_path, **QUIET)
    before = (tmp_path / "metrics.csv").read_text()
    with pytest.raises(ValueError, match="kl_weight"):
        fit(vae(), digits, kl_weight={"y": 2.0}, run_dir=tmp_path, overwrite=True, **QUIET)
    assert (tmp_path / "metrics.csv").read_text() == before


def test_parts_of_the_elbo_are_measured_often_at_first():
    assert sum(map(is_measured, range(1, 10_001))) == 100 + 90 + 90


def test_measures_are_those_of_the_closed_form():
    pair = LinearGaussian(data_dim=4, latent_dim=2, seed=0)
    x = pair.sample(1000, seed=1)
    measures = Measures(pair, TensorBatches(x, whole=False))
    torch.manual_seed(0)
    found = [measures.now() for _ in range(40)]
    elbos = mean_of(torch.tensor([each["log_likelihood"] - each["kl.z"] for each in found]))
    assert agree(elbos, pair.exact.elbo(x).mean().item())
    assert found[0]["active_units"] == 2


def test_weights_of_a_loader_without_a_length_change_by_the_epoch():
    pair = nn.Linear(1, 1).double()
    options = {"num_steps": None, "num_epochs": 4, "like": pair.weight}
    objective = Objective(make("trace"), LinearWarmup(1.0), 0.0, **options)
    assert [float(objective.of_epoch(epoch)) for epoch in (1, 2, 4)] == [0.0, 0.25, 0.75]
