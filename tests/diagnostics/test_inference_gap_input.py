"""What inference_gap refuses, and how it says so."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from cases import CASES
from gaps import linear

from ppl_vae import inference_gap


@pytest.mark.parametrize("name", [n for n in CASES if "hier" in n or "chain" in n])
def test_pairs_with_several_latents_are_refused(name):
    pair = CASES[name]()
    with pytest.raises(NotImplementedError, match="one latent site; got 'z.*', .*log_evidence"):
        inference_gap(pair, pair.sample(3, seed=0), device="cpu")


def test_pairs_without_a_gaussian_guide_are_refused():
    pair = CASES["amortized-exponential-normal"]()
    with pytest.raises(NotImplementedError, match="one Gaussian code per example, .*'z'.*; got"):
        inference_gap(pair, pair.sample(3, seed=0)[None], device="cpu")


def _shared(x):
    pyro.param("a", torch.zeros(()))
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def _shared_guide(x):
    pyro.sample("z", dist.Normal(pyro.param("b", torch.zeros(())), 1.0))


def _positive(x):
    pyro.param("a", torch.zeros(()))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Exponential(1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def _normal_guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(9.0, pyro.param("c", torch.tensor(0.1))))


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        ((_shared, _shared_guide), "'z' in one plate, over the 3 examples; got no plate"),
        ((_positive, _normal_guide), "a prior of 'z' on all real numbers; got one on"),
    ],
)
def test_programs_that_do_not_fit_are_refused(functions, message):
    with pytest.raises(NotImplementedError, match=message):
        inference_gap(functions, torch.randn(3))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"pair": 3}, TypeError, "a ppl_vae.Pair, or a Pyro model and its guide"),
        ({"x": [1.0]}, TypeError, "data as a tensor, a tuple or mapping"),
        ({"x": torch.zeros(2, 7)}, ValueError, "x of shape"),
        ({"x": torch.zeros(0, 5)}, ValueError, "at least one"),
        ({"x": torch.full((2, 5), torch.nan)}, ValueError, "x: finite numbers only"),
        ({"family": "diag"}, ValueError, "family as one of diagonal, full; got 'diag'. Did"),
        ({"method": "iwea"}, ValueError, "Did you mean 'iwae'"),
        ({"method": "quadrature"}, ValueError, "at most 2 latent dimensions"),
        ({"num_samples": 3}, ValueError, "num_samples of at least 4"),
        ({"num_samples": 10.0}, TypeError, "num_samples as an int"),
        ({"num_starts": 0}, ValueError, "num_starts of at least 1"),
        ({"num_steps": 0}, ValueError, "num_steps of at least 1"),
        ({"evidence_tolerance": "a"}, TypeError, "evidence_tolerance as a number"),
        ({"tolerance": 0.0}, ValueError, "tolerance finite and above 0"),
        ({"max_bytes": -1.0}, ValueError, "max_bytes finite and above 0"),
        ({"seed": "a"}, TypeError, "seed as an int"),
        ({"device": "gpu"}, ValueError, "device as 'auto'"),
    ],
    ids=str,
)
def test_bad_input(change, error, message):
    pair, x = linear(3)
    with pytest.raises(error, match=message):
        inference_gap(**{"pair": pair, "x": x, **change})


def test_exact_needs_a_closed_form(network):
    with pytest.raises(NotImplementedError, match="closed-form log evidence"):
        inference_gap(*network, method="exact", device="cpu")


def test_a_broken_guide_is_refused():
    pair, x = linear(3)
    with torch.no_grad():
        pair.encoder.log_scale.fill_(-1000.0)
    with pytest.raises(ValueError, match="the guide's scale of 'z': finite numbers above 0"):
        inference_gap(pair, x, device="cpu")
    with torch.no_grad():
        pair.encoder.loc.fill_(torch.nan)
    with pytest.raises(ValueError, match="the guide's loc of 'z': finite numbers only"):
        inference_gap(pair, x, device="cpu")


@pytest.mark.parametrize("latent_dim", [2, 3])
def test_a_broken_model_is_refused(latent_dim):
    pair, x = linear(latent_dim)
    with torch.no_grad():
        pair.decoder.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match="log p of the site 'x': finite numbers only"):
        inference_gap(pair, x, method="iwae", device="cpu")
