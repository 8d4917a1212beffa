"""The linear Gaussian model's shapes, its cost, and what it says to bad input."""

import math
import time

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ppl_vae.closed_forms import linear_gaussian as lg


def example(d=6, k=3, n=4, noise_scale=0.7, dtype=torch.float64):
    x, weight, loc = torch.randn(n, d), torch.randn(d, k), torch.randn(d)
    noise = torch.tensor(noise_scale)
    return tuple(t.to(dtype) for t in (x, weight, loc, noise))


def full_guide(*batch, k=3):
    return torch.randn(*batch, k), torch.randn(*batch, k, k).tril(-1) + torch.diag_embed(
        torch.rand(*batch, k) + 0.3
    )


# Shapes and dtypes


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_batches_and_dtypes(dtype):
    _, weight, loc, noise = example(dtype=dtype)
    x = torch.randn(5, 4, 6, dtype=dtype)
    posterior = lg.posterior(x, weight, loc, noise)
    assert (posterior.batch_shape, posterior.event_shape) == ((5, 4), (3,))
    assert posterior.mean.dtype == posterior.scale_tril.dtype == dtype
    assert posterior.scale_tril.stride()[:2] == (0, 0)
    evidence = lg.log_evidence(x, weight, loc, noise)
    assert (evidence.shape, evidence.dtype) == ((5, 4), dtype)
    assert evidence[3, 2] == lg.log_evidence(x[3, 2], weight, loc, noise)
    many = torch.randn(2, 1, 4, 3, dtype=dtype)
    assert lg.elbo(x, weight, loc, noise, many, 0.5).shape == (2, 5, 4)
    tril = torch.eye(3, dtype=dtype).expand(7, 1, 1, 3, 3)
    values = lg.elbo_full(x, weight, loc, noise, many[0, 0, 0], tril)
    assert (values.shape, values.dtype) == ((7, 5, 4), dtype)
    one = lg.elbo(x[0, 0], weight, loc, noise, many[0, 0, 0], torch.ones(3, dtype=dtype))
    torch.testing.assert_close(values[6, 0, 0], one)


# Cost


class Allocations(TorchDispatchMode):
    """Records the size of the largest result, and every result whose shape ends in `shape`."""

    def __init__(self, shape):
        super().__init__()
        self.shape, self.largest, self.found = shape, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for item in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(item, torch.Tensor):
                self.largest = max(self.largest, item.untyped_storage().nbytes())
                self.found += item.shape[-2:] == self.shape
        return result


@pytest.mark.parametrize("function", ["log_evidence", "posterior", "elbo", "elbo_full"])
def test_ten_thousand_images_take_a_second_and_no_square_of_their_pixels(function):
    n, d, k = 10_000, 784, 50
    x, weight, loc, noise = example(d, k, n, noise_scale=0.5)
    guide = {
        "elbo": (torch.randn(n, k), torch.rand(n, k) + 0.5),
        "elbo_full": (torch.randn(n, k), 0.2 * torch.eye(k).repeat(n, 1, 1)),
    }.get(function, ())
    arguments = (x, weight, loc, noise, *guide)
    call = getattr(lg, function)
    with Allocations((d, d)) as allocations:
        call(*arguments)
    assert allocations.found == 0
    assert allocations.largest <= max(t.untyped_storage().nbytes() for t in (x, *guide))
    seconds = []
    for _ in range(3):
        start = time.process_time()
        call(*arguments)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 2.0  # processor time: one second on each of two cores


# Bad input


@pytest.mark.parametrize("function", [lg.log_evidence, lg.posterior])
def test_bad_models(function):
    x, weight, loc, noise = example()
    with pytest.raises(ValueError, match=r"weight of shape \(d, k\); got \(6,\)"):
        function(x, loc, loc, noise)
    with pytest.raises(ValueError, match="weight with at least one entry"):
        function(x, weight[:, :0], loc, noise)
    with pytest.raises(ValueError, match=r"x of shape \(\*batch, d\) with d = 6.*got \(4, 5\)"):
        function(x[:, :5], weight, loc, noise)
    with pytest.raises(ValueError, match=r"x of shape .*; got \(\)"):
        function(1.0, weight, loc, noise)
    with pytest.raises(ValueError, match=r"loc of shape \(6,\) or \(\); got \(4, 6\)"):
        function(x, weight, x, noise)
    with pytest.raises(ValueError, match=r"noise_scale of shape \(\) \(one number\); got \(6,\)"):
        function(x, weight, loc, noise.expand(6))
    with pytest.raises(ValueError, match="noise_scale: finite numbers above 0 only"):
        function(x, weight, loc, 0.0)
    with pytest.raises(ValueError, match="x with at least one entry"):
        function(x[:0], weight, loc, noise)
    with pytest.raises(ValueError, match="x: finite numbers only"):
        function(x / 0, weight, loc, noise)
    with pytest.raises(ValueError, match="weight: no NaN"):
        function(x, weight * math.nan, loc, noise)
    with pytest.raises(TypeError, match="x of a floating dtype"):
        function(x.long(), weight, loc, noise)


def test_bad_guides():
    model = example(n=4)
    mean, tril = full_guide(4)
    scale = tril.diagonal(dim1=-2, dim2=-1)
    for function, spread in ((lg.elbo, scale), (lg.elbo_full, tril)):
        with pytest.raises(ValueError, match=r"guide_loc of shape .*; got \(4, 2\)"):
            function(*model, mean[:, :2], spread)
        with pytest.raises(ValueError, match="guide_loc: finite numbers only"):
            function(*model, mean / 0, spread)
        with pytest.raises(ValueError, match=r"got the batch of x \(4,\), the batch of guide_loc"):
            function(*model, mean[:3], spread)
        with pytest.raises(ValueError, match="noise_scale: finite numbers above 0 only"):
            function(*model[:3], -1.0, mean, spread)
        with pytest.raises(TypeError, match="guide_loc of a floating dtype"):
            function(*model, mean.long(), spread)
    with pytest.raises(ValueError, match=r"guide_scale of shape .*; got \(4, 1\)"):
        lg.elbo(*model, mean, scale[:, :1])
    with pytest.raises(ValueError, match="guide_scale: finite numbers above 0 only"):
        lg.elbo(*model, mean, -scale)
    with pytest.raises(ValueError, match=r"guide_scale_tril of shape .*; got \(4, 3\)"):
        lg.elbo_full(*model, mean, scale)
    with pytest.raises(ValueError, match="lower triangular matrices only.*Cholesky factor"):
        lg.elbo_full(*model, mean, tril @ tril.mT)
    with pytest.raises(ValueError, match="diagonal of guide_scale_tril: finite numbers above 0"):
        lg.elbo_full(*model, mean, -tril)
    with pytest.raises(ValueError, match="guide_scale_tril: finite numbers only"):
        lg.elbo_full(*model, mean, tril + torch.full((3, 3), math.inf).tril(-1))
