"""What every distribution of our own must do as a Pyro distribution."""

import copy
import pickle

import pyro
import pytest
import torch

from ppl_vae.likelihoods import (
    Categorical,
    ContinuousBernoulli,
    NegativeBinomial,
    StudentT,
    ZeroInflatedNegativeBinomial,
)

CASES = {
    "negative binomial": (NegativeBinomial, {"log_mean": 1.2, "log_total_count": 0.4}),
    "zero-inflated": (
        ZeroInflatedNegativeBinomial,
        {"gate_logits": -0.3, "log_mean": 1.2, "log_total_count": 0.4},
    ),
    "continuous Bernoulli": (ContinuousBernoulli, {"logits": 2.5}),
    "continuous Bernoulli, flat": (ContinuousBernoulli, {"logits": 1e-4}),
    "Student's t": (StudentT, {"df": 9.0, "loc": 0.7, "scale": 1.6}),
    "categorical": (Categorical, {"logits": (0.3, -1.0, 1.4)}),
}
OUTSIDE = {
    NegativeBinomial: 1.5,
    ZeroInflatedNegativeBinomial: -1.0,
    ContinuousBernoulli: 1.2,
    StudentT: float("nan"),
    Categorical: 3.0,
}
pytestmark = pytest.mark.parametrize("name", CASES)


def made(name, shape=(), dtype=None, **options):
    cls, values = CASES[name]
    tensors = {k: torch.tensor(v, dtype=dtype) for k, v in values.items()}
    return cls(**{k: t.expand((*shape, *t.shape)) for k, t in tensors.items()}, **options)


def test_draws_have_its_mean_and_variance(name):
    x = made(name).sample((400_000,))
    fn = made(name)
    error = x.std() / len(x) ** 0.5
    assert abs(x.mean() - fn.mean) < 4.5 * error
    squares = (x - fn.mean).square()
    assert abs(squares.mean() - fn.variance) < 4.5 * squares.std() / len(x) ** 0.5


def test_probabilities_sum_to_one(name):
    fn = made(name)
    if fn.has_rsample:
        low, high = (-3e3, 3e3) if isinstance(fn, StudentT) else (0.0, 1.0)
        x = torch.linspace(low, high, 2_000_001)
        total = torch.trapezoid(fn.log_prob(x).exp(), x)
    else:
        last = 3 if isinstance(fn, Categorical) else 400
        total = fn.log_prob(torch.arange(float(last))).exp().sum()
    torch.testing.assert_close(total, torch.ones(()), rtol=1e-8, atol=0)


def test_it_expands_and_takes_events(name):
    one, many = made(name), made(name).expand((5, 4))
    assert type(many) is type(one)
    assert many.batch_shape == (5, 4)
    x = many.sample((3,))
    assert x.shape == (3, 5, 4)
    assert torch.equal(many.log_prob(x), one.log_prob(x))
    assert torch.equal(many.mean, one.mean.expand(5, 4))
    assert torch.equal(many.variance, one.variance.expand(5, 4))
    event = many.to_event(1)
    assert (event.batch_shape, event.event_shape) == ((5,), (4,))
    torch.testing.assert_close(event.log_prob(x), many.log_prob(x).sum(-1))
    assert event.expand((2, 5)).sample().shape == (2, 5, 4)


def test_it_validates_what_it_is_told_to(name):
    value = torch.tensor(OUTSIDE[CASES[name][0]])
    with pytest.raises(ValueError, match="support"):
        made(name, validate_args=True).log_prob(value)
    with pytest.raises(ValueError, match="support"):
        made(name, validate_args=True).expand((2,)).log_prob(value)
    if CASES[name][0] is not Categorical:  # whose labels are indices
        assert made(name, validate_args=False).log_prob(value).shape == ()
    cls, values = CASES[name]
    with pytest.raises(ValueError, match="constraint"):
        cls(**{k: torch.tensor(v) * torch.nan for k, v in values.items()}, validate_args=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_dtype_is_that_of_the_parameters(name, dtype):
    fn = made(name, (6,), dtype)
    x = fn.sample((2,))
    assert {x.dtype, fn.log_prob(x).dtype, fn.mean.dtype, fn.variance.dtype} == {dtype}
    assert fn.support.check(x).all()
    double = made(name, (6,), torch.float64).log_prob(x.double())
    torch.testing.assert_close(fn.log_prob(x).double(), double, rtol=1e-5, atol=1e-5)


def test_reparameterised_draws_follow_the_parameters(name):
    cls, values = CASES[name]
    tensors = {k: torch.tensor(v, requires_grad=True) for k, v in values.items()}
    fn = cls(**tensors)
    if not fn.has_rsample:
        assert not fn.sample().requires_grad
        return
    # The mean of draws' derivatives is the mean's derivative.
    found = [torch.zeros(()) for _ in tensors]
    many = [t.detach().expand(200_000).clone().requires_grad_() for t in tensors.values()]
    x = cls(**dict(zip(tensors, many, strict=True))).rsample()
    expected = torch.autograd.grad(fn.mean, list(tensors.values()), allow_unused=True)
    found = torch.autograd.grad(x.sum(), many)
    for each, right in zip(found, expected, strict=True):
        right = 0.0 if right is None else right
        assert abs(each.mean() - right) < 4.5 * each.std() / len(each) ** 0.5 + 1e-12


def test_it_is_a_site_with_particles_and_a_copy(name):
    fn = pickle.loads(pickle.dumps(copy.deepcopy(made(name))))
    with pyro.plate("particles", 3, dim=-2), pyro.plate("data", 2, dim=-1):
        x = pyro.sample("x", fn)
    assert x.shape == (3, 2)
    assert torch.equal(fn.log_prob(x), made(name).log_prob(x))


def test_gradients_agree_with_differences(name):
    cls, values = CASES[name]
    x = made(name).sample((4,))
    names = list(values)
    tensors = [torch.tensor(v, requires_grad=True) for v in values.values()]

    def log_prob(*args):
        return cls(**dict(zip(names, args, strict=True))).log_prob(x)

    assert torch.autograd.gradcheck(log_prob, tensors)
