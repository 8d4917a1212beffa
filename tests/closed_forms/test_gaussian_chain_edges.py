"""The Gaussian chain's shapes, its dtypes, and what it says to bad input."""

import math

import pytest
import torch

from ppl_vae.closed_forms import gaussian_chain as chain

BOTTOM_UP = {"a": 0.6, "s1": 0.7, "b": 0.5, "s2": 0.8}
TOP_DOWN = {"c": 0.4, "s2": 0.8, "d": 0.3, "e": 0.6, "s1": 0.7}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_parameters_broadcast_and_nothing_is_summed(dtype):
    x = torch.randn(4, 3, dtype=dtype)
    a = torch.rand(2, 1, 1, dtype=dtype)
    value = chain.elbo(x, **(BOTTOM_UP | {"a": a}))
    assert (value.shape, value.dtype) == ((2, 4, 3), dtype)
    one = chain.elbo_bottom_up(x[1, 2], **(BOTTOM_UP | {"a": a[1, 0, 0]}))
    assert one == value[1, 1, 2]
    bias = chain.mean_field_bias(x, b=a, s1=0.7)
    assert (bias.shape, bias.dtype) == ((2, 4, 3), dtype)
    none = chain.mean_field_bias(x, guide="top-down", **(TOP_DOWN | {"c": a}))
    assert (none.shape, none.dtype) == ((2, 4, 3), dtype)
    assert (none == 0).all()
    assert chain.log_evidence(x).dtype == dtype
    posterior = chain.posterior(x)
    assert (posterior.batch_shape, posterior.event_shape) == ((4, 3), (2,))
    assert posterior.mean.dtype == dtype


def test_numbers_will_do():
    assert chain.elbo(1.3, **BOTTOM_UP).shape == ()
    assert chain.mean_field_bias(b=0.5, s1=0.7).item() == pytest.approx(-0.245)
    assert chain.mean_field_bias(guide="top-down") == 0
    assert chain.log_evidence(1.3).shape == ()
    assert chain.posterior(1.3).batch_shape == ()


# Bad input


@pytest.mark.parametrize("function", [chain.elbo, chain.mean_field_bias])
def test_unknown_guide_and_parameters(function):
    with pytest.raises(ValueError, match="guide as one of bottom-up, top-down; got 'botom-up'"):
        function(1.3, guide="botom-up", **BOTTOM_UP)
    with pytest.raises(TypeError, match="bottom-up guide's parameters.*; got no b"):
        function(1.3, a=0.6, s1=0.7, s2=0.8)
    with pytest.raises(TypeError, match="top-down guide's parameters.*; got an unknown a"):
        function(1.3, guide="top-down", a=0.6, **TOP_DOWN)
    with pytest.raises(ValueError, match="s1: finite numbers above 0 only"):
        function(1.3, **(BOTTOM_UP | {"s1": 0.0}))
    with pytest.raises(ValueError, match="b: finite numbers only"):
        function(1.3, **(BOTTOM_UP | {"b": math.inf}))
    with pytest.raises(ValueError, match="x: no NaN"):
        function(math.nan, **BOTTOM_UP)
    with pytest.raises(ValueError, match="x with at least one entry"):
        function(torch.empty(0), **BOTTOM_UP)
    with pytest.raises(ValueError, match=r"shapes that broadcast; got x \(3,\), a \(2,\)"):
        function(torch.randn(3), **(BOTTOM_UP | {"a": torch.randn(2)}))
    with pytest.raises(TypeError, match="x of a floating dtype"):
        function(torch.tensor([1]), **BOTTOM_UP)


@pytest.mark.parametrize("function", [chain.log_evidence, chain.posterior])
def test_bad_data(function):
    with pytest.raises(ValueError, match="x with at least one entry"):
        function(torch.empty(0))
    with pytest.raises(ValueError, match="x: finite numbers only"):
        function(torch.tensor([1.0, -math.inf]))
    with pytest.raises(TypeError, match="x as a number or a floating-point tensor"):
        function("1.3")


@pytest.mark.parametrize("function", [chain.elbo_bottom_up, chain.elbo_top_down])
def test_either_elbo_checks_its_arguments(function):
    parameters = BOTTOM_UP if function is chain.elbo_bottom_up else TOP_DOWN
    with pytest.raises(ValueError, match="s2: finite numbers above 0 only"):
        function(1.3, **(parameters | {"s2": -1.0}))
    with pytest.raises(TypeError, match="s1 as a number or a floating-point tensor"):
        function(1.3, **(parameters | {"s1": None}))
    with pytest.raises(ValueError, match="shapes that broadcast"):
        function(torch.randn(3), **(parameters | {"s1": torch.rand(2) + 1}))
