"""What calibration takes: labels, masks, library sizes, data sets; what it refuses, and why."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from cases import BATCHES, CASES, batch_case
from exact_guides import linear_gaussian
from pyro import poutine
from pyro.infer.autoguide import AutoDelta, AutoNormal

from ppl_vae import (
    ConditionalVAE,
    ExponentialNormal,
    GammaPoisson,
    LinearGaussian,
    Pair,
    SemiSupervisedVAE,
    calibration,
)

FEW = {"num_simulations": 20, "num_draws": 7, "device": "cpu"}


def plated(body):
    """A program on one number per example, in the plate over the examples."""

    def program(x):
        with pyro.plate("data", len(x)):
            body(x)

    return program


def draw_pair(x):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(z, 1.0), obs=x)


model = plated(draw_pair)
guide = plated(lambda x: pyro.sample("z", dist.Normal(x / 2, 0.5**0.5)))


@pytest.mark.parametrize("case", CASES)
def test_every_pair(case):
    found = calibration(CASES[case](), **FEW)
    assert found.ranks.shape == (20, len(found.names))
    assert bool(((found.p_values > 0) & (found.p_values <= 1)).all())


@pytest.mark.parametrize("case", [case for case in BATCHES if "some labels" not in case])
def test_every_batch(case):
    pair, batch = batch_case(case)
    found = calibration(pair, like=batch, **FEW)
    assert found.ranks.shape == (20, len(found.names))


def test_labels_are_given_and_taken_in_turn():
    seen = []

    class Recording(ConditionalVAE):
        def guide(self, x, y, mask=None):
            seen.append(y)
            return super().guide(x, y, mask)

    pair = Recording((1, 2, 2), 3, 2, (4,), seed=1)
    y = torch.tensor([2, 0, 1])
    in_order = torch.tensor([2, 0, 1, 2, 0])
    for context in (y, (y,), {"y": y}):
        seen.clear()
        calibration(pair, context=context, num_simulations=5, num_draws=3, device="cpu")
        assert torch.equal(seen[-1], in_order)


def test_observed_labels_are_drawn_with_the_images():
    def program(x, y):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    def posterior(x, y):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal((x + y) / 3, 3**-0.5))

    zeros = torch.zeros(1)
    assert calibration((program, posterior), like=(zeros, zeros)).p_value > 0.01
    pair = SemiSupervisedVAE((1, 2, 2), 3, 2, (4,), seed=1)
    assert calibration(pair, context=torch.tensor([0, 1]), **FEW).names == ("z[0]", "z[1]")
    assert calibration(pair, **FEW).names == ("y", "z[0]", "z[1]")


def test_a_mask_hides_from_the_guide_what_was_drawn():
    pair = linear_gaussian()
    some = {"mask": torch.tensor([[True, False, False], [False, False, False]])}
    assert calibration(pair, context=some).p_value < 1e-6

    def posterior(x, mask):
        exact = pair.exact.posterior(x, mask)
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.MultivariateNormal(exact.loc, scale_tril=exact.scale_tril))

    like = {"x": torch.zeros(2, 3), **some}
    assert calibration((pair.model, posterior), like=like).p_value > 0.01


def test_the_size_of_a_data_set():
    pair = GammaPoisson(2.0, 0.5)
    sizes = []

    def guide(x):
        sizes.append(x.shape)
        pair.guide(x)

    for like, size in ((torch.zeros(7), 7), (torch.zeros(2, 7), 7), (None, 5)):
        calibration(pair, like=like, **FEW)
        calibration((pair.model, guide), like=torch.zeros(1, size), **FEW)
        assert sizes[-1] == (20, size)
    wide = calibration(ExponentialNormal(guide_rate=3.0), like=torch.zeros(50), device="cpu")
    narrow = calibration(ExponentialNormal(guide_rate=3.0), device="cpu")
    assert wide.p_value != narrow.p_value


def test_computed_sites_and_summed_ones():
    def body(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("kind", dist.Bernoulli(0.3), infer={"enumerate": "parallel"})
        loc = pyro.deterministic("loc", 1.0 * z)
        pyro.sample("x", dist.Normal(loc, 1.0), obs=x)

    found = calibration((plated(body), guide), like=torch.zeros(2))
    assert found.names == ("z",)
    assert found.p_value > 0.01


def factored(x):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.factor("weight", -((z - x) ** 2))


def transformed(x):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(z, 1.0), obs=x.exp())


def hidden(x):
    with poutine.mask(mask=torch.arange(len(x)) > 0):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def part(x):
    with pyro.plate("data", len(x), subsample_size=2) as index:
        draw_pair(x[index])


def part_of_guide(x):
    with pyro.plate("data", len(x), subsample_size=2) as index:
        pyro.sample("z", dist.Normal(x[index] / 2, 1.0))


def known(x):
    pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)


def constant(x):
    with pyro.plate("data", 3):
        pyro.sample("z", dist.Normal(torch.zeros(3), 1.0))


@pytest.mark.parametrize(
    ("functions", "error", "message"),
    [
        ((plated(factored), guide), NotImplementedError, "the factor 'weight'"),
        ((plated(transformed), guide), NotImplementedError, "gives back what is drawn"),
        ((plated(hidden), guide), NotImplementedError, "site 'z' under a mask"),
        ((part, part_of_guide), NotImplementedError, "a model without subsampling"),
        ((model, part_of_guide), NotImplementedError, "a guide without subsampling"),
        ((model, constant), NotImplementedError, "Amortise the guide"),
        ((model, AutoDelta(model)), NotImplementedError, "A point has no uncertainty"),
        ((model, AutoNormal(model)), NotImplementedError, "Amortise the guide"),
        ((guide, guide), NotImplementedError, "a model that observes its data"),
        ((model, plated(lambda x: None)), ValueError, "a site 'z' in the guide"),
        ((plated(known), plated(lambda x: None)), ValueError, "nothing to rank"),
        ((model, model), ValueError, "sites"),
    ],
)
def test_programs_that_are_refused(functions, error, message):
    with pytest.raises(error, match=message):
        calibration(functions, like=torch.zeros(3), **FEW)


def test_nan_is_refused():
    nowhere = plated(lambda x: pyro.sample("z", dist.Normal(x * math.nan, 1.0)))
    with pyro.validation_enabled(False), pytest.raises(ValueError, match="got NaN"):  # noqa: FBT003
        calibration((model, nowhere), like=torch.zeros(3), **FEW)


def test_shared_latents_need_one_data_set():
    class Shared(Pair):
        def __init__(self):
            super().__init__()
            self.loc = torch.nn.Parameter(torch.zeros(()))

        def model(self, x):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            with pyro.plate("data", len(x)):
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

        def guide(self, x):
            pyro.sample("z", dist.Normal(self.loc + x.mean(), 1.0))

        def blank(self, n):
            return torch.zeros(n)

    with pytest.raises(ValueError, match="like=, one data set"):
        calibration(Shared(), **FEW)
    assert calibration(Shared(), like=torch.zeros(6), **FEW).ranks.shape == (20, 1)


LINEAR = LinearGaussian(4, 2, seed=1)
LABELS = torch.tensor([0, 1, 2])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_draws": 0}, ValueError, "num_draws of at least 1"),
        ({"num_draws": 1.5}, TypeError, "num_draws as an int"),
        ({"num_simulations": 1}, ValueError, "num_simulations of at least 2"),
        ({"seed": "0"}, TypeError, "seed as an int"),
        ({"device": "nowhere"}, ValueError, "device as 'auto'"),
        ({"context": LABELS[:0]}, ValueError, "a context of 1 to 1000 rows"),
        ({"context": LABELS.repeat(400)}, ValueError, "got 1200"),
        ({"context": {"label": LABELS}}, ValueError, "context as one of x, y, mask"),
        ({"context": {"y": LABELS, "mask": torch.ones(2, 4) > 0}}, ValueError, "the same in all"),
        ({"context": LABELS + 1}, ValueError, "expected y from 0 to 2"),
        ({"context": [0, 1, 2, 3]}, TypeError, "at most 2 tensors"),
        ({"context": [0]}, TypeError, "y as a torch tensor"),
        ({"context": "labels"}, TypeError, "context as a tensor, a tuple or a mapping"),
        ({"like": torch.zeros(2, 5)}, TypeError, "batch for"),
    ],
)
def test_bad_input(options, error, message):
    pair = ConditionalVAE((1, 2, 2), 3, 2, (4,), seed=1)
    with pytest.raises(error, match=message):
        calibration(pair, **options)


def test_what_is_no_pair_and_functions_without_data():
    with pytest.raises(TypeError, match="a ppl_vae.Pair, or a Pyro model and its guide"):
        calibration(3)
    with pytest.raises(ValueError, match="like=, data of the shape to simulate"):
        calibration((model, guide))
    pair = SemiSupervisedVAE((1, 2, 2), 3, 2, (4,), seed=1)
    with pytest.raises(NotImplementedError, match="an argument 'y', which may fix it"):
        calibration(pair, context=(LABELS, LABELS > 0))
    found = calibration(LINEAR, **FEW)
    with pytest.raises(ValueError, match="level below 1"):
        found.plot(level=2.0)
    with pytest.raises(TypeError, match="level as a number"):
        found.band("0.05")
    with pytest.raises(ValueError, match="count of at least 1"):
        found.print(count=0)
