"""What the divergences of one variable take, give back and refuse."""

import math

import pyro
import pytest
import torch

from ppl_vae.closed_forms import kl

POSITIVE = {
    kl.kl_normal_normal: (False, True, False, True),
    kl.kl_normal_standard: (False, True),
    kl.kl_normal_standard_from_log_variance: (False, False),
    kl.kl_exponential_exponential: (True, True),
    kl.kl_gamma_gamma: (True, True, True, True),
    kl.kl_laplace_laplace: (False, True, False, True),
    kl.kl_bernoulli_bernoulli: (False, False),
}
NAMES = {
    function: function.__code__.co_varnames[: function.__code__.co_argcount]
    for function in POSITIVE
}
PLACES = [(function, k) for function, kinds in POSITIVE.items() for k in range(len(kinds))]


def test_the_public_names():
    assert sorted(kl.__all__) == sorted(f.__name__ for f in [*POSITIVE, kl.kl_mvn_mvn])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("function", POSITIVE)
def test_shapes_dtypes_and_numbers(function, dtype):
    count = len(POSITIVE[function])
    shapes = [(3, 1), (4,), (2, 1, 1), ()][-count:]
    arguments = [torch.rand(shape).add(0.5).to(dtype) for shape in shapes]
    value = function(*arguments)
    assert value.shape == torch.broadcast_shapes(*shapes)
    assert value.dtype == dtype
    wide = function(*(x.double() for x in arguments))
    assert torch.equal(value, wide.to(dtype))
    number = arguments[0].flatten()[0].item()
    mixed = function(number, *arguments[1:])
    assert mixed.dtype == dtype
    assert torch.equal(mixed, function(arguments[0].flatten()[0], *arguments[1:]))
    assert function(*[torch.ones(0, 2)] * count).shape == (0, 2)
    assert function(*[0.5] * count).dtype == torch.float64


@pytest.mark.parametrize("function", POSITIVE)
def test_numbers_at_the_edges_of_float64(function):
    kinds = POSITIVE[function]
    for exponents in [(-300, 300), (300, -300), (-300, -300), (300, 300), (-320, -320)]:
        for shift in (0.0, 1.0):
            pair = [10.0**e * (1 + shift * (k == 1)) for k, e in enumerate(exponents)]
            numbers = [
                pair[k >= len(kinds) / 2] if positive else shift * (-1) ** k
                for k, positive in enumerate(kinds)
            ]
            assert function(*numbers).item() >= 0


@pytest.mark.parametrize(("function", "k"), PLACES)
def test_bad_values(function, k):
    positive, name = POSITIVE[function][k], NAMES[function][k]
    good = [torch.ones(3)] * len(POSITIVE[function])

    def replaced(value):
        return [*good[:k], value, *good[k + 1 :]]

    with pytest.raises(ValueError, match=f"expected {name}: no NaN; got 1 of 3 entries"):
        function(*replaced(torch.tensor([1.0, math.nan, 1.0])))
    wanted = "finite numbers above 0 only" if positive else "finite numbers only"
    for bad in [math.inf, -math.inf, *([0.0, -1.0] if positive else [])]:
        with pytest.raises(ValueError, match=f"expected {name}: {wanted}; got 1 of 3 entries"):
            function(*replaced(torch.tensor([1.0, bad, 1.0])))
    with pytest.raises(ValueError, match=rf"expected shapes that broadcast; got .*{name} \(2,\)"):
        function(*replaced(torch.ones(2)))
    with pytest.raises(TypeError, match=f"expected {name} of a floating dtype; got dtype torch.i"):
        function(*replaced(torch.ones(3, dtype=torch.int64)))
    with pytest.raises(TypeError, match=f"expected {name} as a number or a floating-point tensor"):
        function(*replaced("1"))


@pytest.mark.parametrize("function", POSITIVE)
def test_transforms_run_where_values_are_not_checked(function):
    arguments = [torch.rand(5).add(0.5) for _ in POSITIVE[function]]
    expected = [function(*row) for row in zip(*arguments, strict=True)]
    with pyro.validation_enabled(is_validate=False):
        slopes = torch.func.vmap(torch.func.grad(function))(*arguments)
        narrow = torch.func.vmap(torch.func.grad(function))(*(x.float() for x in arguments))
        values = torch.func.vmap(function)(*arguments)
    torch.testing.assert_close(values, torch.stack(expected), rtol=1e-14, atol=0)
    torch.testing.assert_close(slopes.float(), narrow, rtol=1e-3, atol=1e-6)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_devices_agree(dtype):
    tolerance = 2e-7 if dtype == torch.float32 else 1e-13
    for function, kinds in POSITIVE.items():
        arguments = [torch.rand(1000).mul(4).exp().to(dtype) for _ in kinds]
        arguments[-1][:500] = arguments[0][:500] * (1 + 1e-9)
        value = function(*(x.cuda() for x in arguments))
        assert value.is_cuda
        torch.testing.assert_close(value.cpu(), function(*arguments), rtol=tolerance, atol=0)
    factors = [torch.rand(2, 40, 40).tril(-1) + torch.eye(40) for _ in range(2)]
    factors = [x.to(dtype) for x in factors]
    value = kl.kl_mvn_mvn(0.0, factors[0].cuda(), 1.0, factors[1].cuda())
    expected = kl.kl_mvn_mvn(0.0, factors[0], 1.0, factors[1])
    torch.testing.assert_close(value.cpu(), expected, rtol=tolerance, atol=0)
