"""What `fit` refuses, and what it keeps when a run fails."""

import functools

import pyro
import pyro.distributions as dist
import pytest
import torch
from parameters import equal, parameters

from ppl_vae import Pair, compare_elbos, fit, load, load_pair, log_evidence
from ppl_vae.inference import NonFiniteLossError

quiet = functools.partial(fit, progress=False, device="cpu")


class Explosive(Pair):
    """Its guide's scale overflows as soon as the parameter has grown."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(1.0))

    def model(self, x):
        self.begin(x)
        with pyro.plate("data", len(x)):
            z1 = pyro.sample("z1", dist.Normal(0.0, 1.0))
            z2 = pyro.sample("z2", dist.Normal(0.0, 1.0))
            return pyro.sample("x", dist.Normal(z1 + z2, 1.0), obs=x)

    def guide(self, x):
        self.begin(x)
        with pyro.plate("data", len(x)):
            pyro.sample("z1", dist.Normal(x, 1.0))
            pyro.sample("z2", dist.Normal(0.0, (1e3 * self.weight.expand(len(x))).exp()))


def test_a_loss_that_is_not_finite_stops_and_names_step_and_site(tmp_path):
    pair = Explosive()
    with torch.no_grad():
        pair.weight.fill_(1e-4)
    optimizer = functools.partial(torch.optim.SGD, lr=2e-8, maximize=True)
    x = torch.ones(8)
    with pytest.raises(NonFiniteLossError, match="site 'z2'") as error:
        quiet(
            pair,
            x,
            elbo="trace",
            optimizer=optimizer,
            num_epochs=50,
            batch_size=4,
            run_dir=tmp_path,
        )
    assert error.value.site == "z2"
    assert error.value.step in (1, 2)
    assert pair.weight.isfinite()
    assert load_pair(tmp_path, trust=(Explosive.__module__,)).weight.isfinite()
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert len(lines) == error.value.epoch


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"num_epochs": 0}, ValueError, "num_epochs of at least 1"),
        ({"batch_size": 1.5}, TypeError, "batch_size as an int"),
        ({"elbo": "trace-meanfield"}, ValueError, "Did you mean 'trace-mean-field'"),
        ({"elbo": 3}, TypeError, "estimator's name or a pyro.infer.ELBO"),
        ({"elbo": "exact"}, NotImplementedError, "closed-form ELBO"),
        ({"optimizer": 3}, TypeError, "a torch or Pyro optimiser"),
        ({"device": "tpu9"}, ValueError, "Choose 'auto'"),
        ({"data": [1, 2]}, TypeError, "data as a tensor, a tuple or mapping"),
        ({"data": torch.zeros(3, 5)}, ValueError, "expected x of shape"),
        (
            {"data": torch.full((3, 64), 0.5, dtype=torch.float64)},
            ValueError,
            "pixels that are 0 or 1 only",
        ),
        (
            {"data": torch.full((3, 64), 1.5, dtype=torch.float64)},
            ValueError,
            "pixels that are 0 or 1 only",
        ),
        ({"validation": torch.zeros(3, 5)}, ValueError, "expected x of shape"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_input_is_refused_before_any_work(change, error, message, vae, data, tmp_path):
    before = parameters(vae)
    arguments = {"data": data, "num_epochs": 1, "run_dir": tmp_path / "run", **change}
    with pytest.raises(error, match=message):
        fit(vae, **{"device": "cpu", "progress": False, **arguments})
    assert equal(before, parameters(vae))
    assert not (tmp_path / "run" / "pair.json").exists()


def test_grey_images_are_refused(vae):
    with pytest.raises(ValueError, match="pixels that are 0 or 1 only"):
        quiet(vae, load("digits", binarize="none"), num_epochs=1)


def test_an_optimizer_over_other_parameters_is_refused(vae, data):
    other = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    with pytest.raises(ValueError, match="optimizer over the pair's parameters"):
        quiet(vae, data, optimizer=other, num_epochs=1)


class WithoutParameters(Pair):
    def model(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2, 0.5**0.5))


def test_a_pair_without_a_parameter_to_train_is_refused(vae):
    vae.requires_grad_(requires_grad=False)
    x = vae.sample(5, seed=0)
    for train in (
        lambda pair, x: quiet(pair, x, num_epochs=1),
        lambda pair, x: compare_elbos(pair, x, ["trace"], num_replicates=10),
    ):
        with pytest.raises(ValueError, match=r"to train; got \d+ of which none requires"):
            train(vae, x)
        with pytest.raises(ValueError, match="to train; got none. Give it"):
            train(WithoutParameters(), torch.zeros(3))
    # What trains nothing serves it.
    found = log_evidence(WithoutParameters(), torch.zeros(3), num_samples=5).mean
    assert torch.allclose(found, dist.Normal(0.0, 2**0.5).log_prob(torch.zeros(3)))


def test_a_run_folder_that_cannot_be_written(vae, data, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PermissionError, match="a folder that can be written"):
        quiet(vae, data, num_epochs=1, run_dir=tmp_path / "file")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_names_the_site_too():
    pair = Explosive()
    with torch.no_grad():
        pair.weight.fill_(1e-4)
    optimizer = functools.partial(torch.optim.SGD, lr=2e-8, maximize=True)
    with pytest.raises(NonFiniteLossError, match="site 'z2'"):
        fit(pair, torch.ones(8), elbo="trace", optimizer=optimizer, num_epochs=50, device="cuda")
