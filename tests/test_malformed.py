"""Arguments of another kind are refused in words, wherever a path, a function or sizes belong."""

import pyro
import pytest
import torch
from torch import nn

from ppl_vae import (
    ArrayData,
    BernoulliVAE,
    CountVAE,
    GaussianChain,
    HierarchicalVAE,
    ImageData,
    LinearGaussian,
    SemiSupervisedVAE,
    active_units,
    check_kl,
    compare_elbos,
    evaluate,
    expectation,
    fit,
    load,
    load_pair,
    log_evidence,
    pair_from_modules,
    save_pair,
)
from ppl_vae.pair import leaving_no_params

NORMAL = torch.distributions.Normal(0.0, 1.0)
X = torch.zeros(4, 3, dtype=torch.float64)
IMAGES = torch.zeros(2, 1, 2, 2, dtype=torch.uint8)


def linear():
    return LinearGaussian(3, 1, seed=0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: save_pair(linear(), 3), "path as a path; got int"),
        (lambda: load_pair(None), "path as a path; got NoneType"),
        (lambda: load_pair(b"folder"), "path as a path; got bytes"),
        (lambda: fit(linear(), X, run_dir=1.5, progress=False), "run_dir as a path; got float"),
        (lambda: load("digits", data_dir=0), "data_dir as a path; got int"),
        (lambda: load("digits", labels="yes"), "labels as a bool; got str"),
        (lambda: BernoulliVAE(None, 2), "image_shape as a list of sizes; got NoneType"),
        (lambda: BernoulliVAE((1, 2, 2), 2, 16), "hidden as a list of sizes; got int"),
        (lambda: CountVAE(3, hidden=2.5), "hidden as a list of sizes; got float"),
        (
            lambda: SemiSupervisedVAE((1, 2, 2), alpha=torch.zeros(0).numpy()),
            "alpha as a number; got ndarray",
        ),
        (lambda: HierarchicalVAE((1, 2, 2), 3), "latent_dims as a list of sizes; got int"),
        (lambda: HierarchicalVAE((1, 2, 2), likelihood=None), "a likelihood; got None"),
        (
            lambda: BernoulliVAE((1, 2, 2), sees_mask=torch.zeros(3)),
            "sees_mask as True or False; got Tensor",
        ),
        (lambda: compare_elbos(linear(), X, 7), "estimators as names; got int"),
        (lambda: log_evidence(linear(), X, progress="yes"), "progress as a function; got str"),
        (lambda: log_evidence(linear(), X, plate=5.0), "plate as a name; got float"),
        (lambda: log_evidence(linear(), X, split=torch.zeros(0)), "split as a name or None"),
        (lambda: evaluate(linear(), X, device=b"\xfa"), "device as 'auto', 'cpu' or a GPU"),
        (
            lambda: fit(linear(), X, compile=torch.zeros(3).numpy(), progress=False),
            "compile as 'auto', True or False",
        ),
        (
            lambda: check_kl(lambda q, p: q.loc, NORMAL, NORMAL, reduction=torch.zeros(3)),
            "reduction as one of mean, sum, none",
        ),
        (
            lambda: pair_from_modules(
                nn.Linear(4, 2), nn.Linear(1, 4), latent_dim=1, image_shape=4
            ),
            "image_shape as a list of sizes; got int",
        ),
        (lambda: GaussianChain(initial=2), "initial as a mapping; got int"),
        (lambda: check_kl(0, NORMAL, NORMAL), "function as a function; got int"),
        (lambda: expectation(NORMAL, "z"), "function as a function; got str"),
        (lambda: evaluate(linear(), X, progress=1), "progress as a function; got int"),
        (lambda: active_units(linear(), X, threshold=[1]), "threshold as a number; got list"),
        (lambda: ImageData(IMAGES, labels=0), "labels as a tensor of integers; got int"),
        (lambda: ImageData(IMAGES, classes=3), "classes as a list of names; got int"),
        (lambda: ArrayData(X, beside=(X,)), "beside as a mapping; got tuple"),
        (lambda: ArrayData(X, features={"x": 3}), "features of x as names; got int"),
        (lambda: BernoulliVAE((1, 2, 2), 1).encode(0), "x as a tensor; got int"),
    ],
)
def test_another_kind_is_named(call, words):
    with pytest.raises((TypeError, ValueError), match=f"expected {words}"):
        call()


def test_a_mask_that_is_no_name_and_a_device_that_is_an_array():
    with pytest.raises(ValueError, match="mask as the name of a program's argument"):
        ArrayData(X, mask=0)
    with pytest.raises(ValueError, match="device as 'auto', 'cpu' or a GPU"):
        log_evidence(linear(), X, device=torch.zeros(2).numpy())


def test_the_param_store_is_left_as_it_was_where_a_parameter_has_two_names():
    shared, store = nn.Linear(1, 1), pyro.get_param_store()
    pyro.param("before", torch.ones(()))
    before = dict(store.items())
    with leaving_no_params():
        pyro.module("one", shared)
        pyro.module("two", shared)
        assert len(store) == 5
    assert dict(store.items()) == before
    assert store.param_name(before["before"]) == "before"
    del store["before"]
