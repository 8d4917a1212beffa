"""Batches: tensors, tuples and mappings as a program's arguments, and what is refused."""

from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_vae import (
    ExponentialNormal,
    active_units,
    bidirectional_evidence,
    check_elbo,
    compare_elbos,
    evaluate,
    explain_elbo,
    inference_gap,
    log_evidence,
)
from ppl_vae.batch import Batch, as_batch
from ppl_vae.functions import as_argument, as_program
from ppl_vae.models import ConditionalVAE


class Regression(nn.Module):
    """A code given numbers and a class, as a user would write it: no `Pair`."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Linear(3 + 2, 4)
        self.decoder = nn.Linear(2 + 2, 3)

    def row(self, y):
        return torch.stack([y == 0, y == 1], -1).to(torch.get_default_dtype())

    def encode(self, x, y):
        loc, log_scale = self.encoder(torch.cat([x, self.row(y)], -1)).chunk(2, -1)
        return loc, log_scale.exp()

    def decode(self, z, y):
        row = self.row(y).expand(*z.shape[:-1], 2)
        return self.decoder(torch.cat([z, row], -1))

    def model(self, x, y, scale=None):
        pyro.module("regression", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decode(z, y), 1.0).to_event(1), obs=x)

    def guide(self, x, y, scale=None):
        pyro.module("regression", self)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(*self.encode(x, y)).to_event(1))

    def loss(self, x, y):
        loc, scale = self.encode(x, y)
        z = loc + scale * torch.randn_like(scale)
        kl = (-scale.log() + (scale**2 + loc**2 - 1) / 2).sum(-1)
        log_p = dist.Normal(self.decode(z, y), 1.0).log_prob(x).sum(-1)
        return (kl - log_p).mean()


@pytest.fixture
def regression():
    return Regression()


x, y = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)).double(), torch.arange(8) % 2
FORMS = {"tuple": (x, y), "list": [x, y], "mapping": {"y": y, "x": x}, "None": (x, y, None)}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_numbers(regression, form):
    program = regression.model, regression.guide
    found = [log_evidence(program, batch, num_samples=20).mean for batch in (FORMS[form], (x, y))]
    assert torch.equal(*found)


def test_what_binds_one_argument_gives_the_same_as_a_batch(regression):
    bound = partial(regression.model, y=y), partial(regression.guide, y=y)
    apart = log_evidence(bound, x, method="quadrature").mean
    together = log_evidence((regression.model, regression.guide), (x, y), method="quadrature").mean
    assert torch.allclose(apart, together, atol=1e-6)


def test_every_diagnostic_takes_functions_of_several_arguments(regression):
    program, batch = (regression.model, regression.guide), (x, y)
    exact = log_evidence(program, batch, method="quadrature")
    for method, options in (("iwae", {"num_samples": 500}), ("ais", {"num_temperatures": 10})):
        found = log_evidence(program, batch, method=method, **options)
        error = found.standard_error.hypot(exact.standard_error)
        assert bool(((found.mean - exact.mean).abs() < 4.5 * error).all()), method
    result = compare_elbos(program, batch, ["trace", "analytic-kl"], num_replicates=200)
    assert abs(result["trace"].bias_z_score) < 4.5
    ledger = explain_elbo("analytic-kl", program, batch, num_draws=100)
    gap = ledger.value.mean - result["trace"].value.mean
    assert (
        abs(gap)
        < 4.5 * (ledger.value.standard_error**2 + result["trace"].value.standard_error ** 2) ** 0.5
    )
    total = inference_gap(program, batch, num_samples=50).total
    assert bool((total.mean > -4.5 * total.standard_error - 1e-6).all())
    assert evaluate(program, batch, num_samples=50).active_units["z"].variance.shape == (2,)
    assert active_units(program, batch)["z"].variance.shape == (2,)


def test_simulated_data_take_the_place_of_what_is_observed(regression):
    program = regression.model, regression.guide
    found = bidirectional_evidence(program, (x, y), num_temperatures=20)
    assert torch.equal(found.x.args[1], y)
    assert not torch.equal(found.x.args[0], x)
    exact = log_evidence(program, found.x, method="quadrature").mean
    below, above = found.lower, found.upper
    assert bool((below.mean < exact + 4.5 * below.standard_error + 1e-6).all())
    assert bool((above.mean > exact - 4.5 * above.standard_error - 1e-6).all())


@pytest.mark.parametrize("batch", [(x, y), {"x": x, "y": y}], ids=["tuple", "mapping"])
def test_an_objective_is_called_as_the_program_is(regression, batch):
    program = regression.model, regression.guide
    assert check_elbo(regression.loss, program, batch).passed
    wrong = check_elbo(lambda x, y: 2 * regression.loss(x, y), program, batch)
    assert "2.0000" in wrong.findings[0].message


BAD = {
    "lengths": ((x, y[:3]), ValueError, "first dimension is the examples"),
    "no first dimension": ((x, torch.tensor(1)), ValueError, "first dimension is the examples"),
    "a number": ((x, 3), TypeError, "entry 1 of the batch as a torch tensor or None; got int"),
    "a string as key": ({"x": x, 1: y}, TypeError, "the key 1"),
    "an unknown key": ({"x": x, "labels": y}, TypeError, "missing a required argument: 'y'"),
    "too many": ((x, y, x, x), TypeError, "too many positional arguments"),
    "too few": ((x,), TypeError, "one tensor (8, 3): missing a required argument: 'y'"),
    "None without a default": ((x, None), ValueError, "a tensor for 'y', for which"),
    "nothing": ((None, None), ValueError, "at least one tensor in a batch"),
    "an array": (x.numpy(), TypeError, "a tuple of tensors or a mapping"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_batches_are_refused_with_the_reason(regression, kind):
    batch, error, words = BAD[kind]
    program = regression.model, regression.guide
    for call in (
        lambda: log_evidence(program, batch, num_samples=2),
        lambda: compare_elbos(program, batch, ["trace"], num_replicates=10),
        lambda: check_elbo(regression.loss, program, batch),
        lambda: explain_elbo("trace", program, batch),
    ):
        with pytest.raises(error, match="expected ") as caught:
            call()
        assert words in str(caught.value)


def test_a_pair_refuses_arguments_that_it_does_not_take():
    pair = ConditionalVAE((1, 2, 2), 3, 2, (4,), seed=0)
    images = pair.sample(4, seed=0)
    for batch, words in (
        ((images,), "missing a required argument: 'y'"),
        ((images, torch.zeros(4)), "whole numbers"),
        ((images, torch.arange(4)), "y from 0 to 2"),
        ((images, torch.zeros(4, 1).long()), r"shape \(batch,\)"),
        ((images.half(), torch.zeros(4).long()), "dtype"),
    ):
        with pytest.raises((TypeError, ValueError), match=words):
            pair.check(batch if len(batch) > 1 else batch[0])
        with pytest.raises((TypeError, ValueError)):
            pair.check({"x": batch[0], "y": batch[1]} if len(batch) > 1 else {"x": batch[0]})


def test_one_tensor_in_a_tuple_is_that_tensor():
    pair = ExponentialNormal()
    data = torch.tensor([1.0, 2.0])
    assert as_batch((data,)) is data
    assert as_argument(pair, {"x": data}).data_ptr() == data.data_ptr()
    subject, argument = as_program(pair, [data])
    assert subject is pair
    assert torch.equal(argument, data)


def test_a_batch_moves_converts_and_splits_as_one():
    batch = Batch((torch.arange(6.0).reshape(3, 2), torch.tensor([0, 1, 2]), None))
    half = batch.to(torch.float16)
    assert [t.dtype for t in half.tensors] == [torch.float16, torch.int64]
    assert [len(part) for part in batch.split(2)] == [2, 1]
    assert batch[[2, 0]].args[1].tolist() == [2, 0]
    assert batch[1:].args[2] is None
    assert (len(batch), batch.dim(), batch.numel(), str(batch.device)) == (3, 2, 9, "cpu")
    assert repr(batch) == "batch((3, 2), (3,), None)"
