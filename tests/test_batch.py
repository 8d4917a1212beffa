"""Batches: tensors, tuples and mappings as a program's arguments, and what is refused."""

import math
from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from ppl_vae import (
    ArrayData,
    ExponentialNormal,
    LinearGaussian,
    Pair,
    active_units,
    bidirectional_evidence,
    check_elbo,
    compare_elbos,
    evaluate,
    explain_elbo,
    fit,
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


class Words(nn.Module):
    """A code of a sentence; words are whole numbers, and the only argument."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.decoder = nn.Embedding(5, 2), nn.Linear(1, 5)

    def likelihood(self, z):
        logits = self.decoder(z).unsqueeze(-2)
        return dist.Categorical(logits=logits.expand(*z.shape[:-1], 7, 5)).to_event(1)

    def model(self, x):
        pyro.module("words", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.sample("x", self.likelihood(z), obs=x)

    def guide(self, x):
        pyro.module("words", self)
        with pyro.plate("data", len(x)):
            loc, log_scale = self.embedding(x).mean(-2).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))


class WordsPair(Pair):
    takes_whole_numbers = True

    def __init__(self):
        super().__init__()
        self.words = Words()

    def model(self, x):
        self.begin(x)
        self.words.model(x)

    def guide(self, x):
        self.begin(x)
        self.words.guide(x)


@pytest.mark.parametrize("form", [lambda words: words, lambda words: {"x": words}])
def test_words_alone_are_data(form):
    words = torch.arange(28).reshape(4, 7) ** 2 % 5
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    program = Words()
    log_p = program.likelihood(torch.tensor(nodes)[:, None, None]).log_prob(words)
    log_weights = torch.tensor(weights).log() - math.log(2 * math.pi) / 2
    exact = torch.logsumexp(log_p + log_weights[:, None], 0)
    functions = program.model, program.guide
    found = log_evidence(functions, form(words), method="quadrature").mean
    assert torch.allclose(found, exact, atol=1e-6)
    found = log_evidence(WordsPair(), form(words), method="quadrature", device="cpu").mean
    assert torch.allclose(found, exact, atol=1e-6)
    result = compare_elbos(functions, form(words), ["trace"], num_replicates=50)["trace"]
    ledger = explain_elbo("trace", functions, form(words), num_draws=100).value
    error = math.hypot(result.value.standard_error, ledger.standard_error)
    assert abs(result.value.mean - ledger.mean) < 4.5 * error
    assert active_units(functions, form(words))["z"].variance.shape == (1,)
    options = {"num_epochs": 2, "batch_size": 2, "progress": False, "device": "cpu"}
    by_loader = DataLoader(TensorDataset(words), 2)
    for data in (form(words), TensorDataset(words), ArrayData(words), by_loader):
        assert all(math.isfinite(each) for each in fit(WordsPair(), data, **options).train_elbo)


def test_one_argument_by_name_is_that_of_a_tensor():
    pair, options = LinearGaussian(3, 2, seed=0), {"method": "exact", "device": "cpu"}
    named = log_evidence(pair, ArrayData({"x": x}), **options).mean
    assert torch.equal(named, pair.exact.log_evidence(x))


def test_where_one_batch_is_taken_arrays_give_one():
    for measure in (compare_elbos, partial(explain_elbo, "trace"), active_units):
        with pytest.raises(TypeError, match=r"Pass one batch, data.batch\(slice\(0, 100\)\)"):
            measure(LinearGaussian(3, 2, seed=0), ArrayData(x))


@pytest.mark.parametrize("form", [lambda words: words, lambda words: {"x": words}])
def test_whole_numbers_are_refused_by_programs_of_floats(form):
    linear = nn.Linear(3, 2)

    def guide(x):
        pyro.module("linear", linear)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(linear(x), 1.0).to_event(1))

    program = partial(Regression().model, y=y), guide
    for call in (log_evidence, compare_elbos, partial(explain_elbo, "trace"), active_units):
        with pytest.raises(TypeError, match="x of a floating dtype, or a program of whole numb"):
            call(program, form(x.long()))
    for call in (log_evidence, fit):
        with pytest.raises(TypeError, match="x of a floating dtype; got dtype torch.int64"):
            call(LinearGaussian(3, 2, seed=0), form(x.long()))


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
