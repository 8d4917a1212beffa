import math

import pytest
import torch
from mpmath import mp, mpf
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from ppl_vae.closed_forms import gaussian_mixture, linear_gaussian


def parameters(k=2, components=3, d=4, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    model = (draw(d, k), draw(d), 0.7)
    mixture = {
        "logits": draw(components),
        "component_loc": 2 * draw(components, k),
        "component_scale": draw(components, k).exp(),
    }
    return draw(5, d), model, mixture


def test_evidence_is_that_of_a_mixture_of_normals_by_scipy():
    x, (weight, loc, scale), mixture = parameters()
    weights = mixture["logits"].log_softmax(-1).numpy()
    each = []
    for log_w, m, s in zip(
        weights, mixture["component_loc"], mixture["component_scale"], strict=True
    ):
        covariance = weight @ s.diag().square() @ weight.mT + scale**2 * torch.eye(4)
        normal = multivariate_normal((loc + weight @ m).numpy(), covariance.numpy())
        each.append(log_w + normal.logpdf(x.numpy()))
    found = gaussian_mixture.log_evidence(x, weight, loc, scale, **mixture)
    expected = torch.tensor(logsumexp(each, axis=0))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)


def test_evidence_by_quadrature_in_40_digits():
    x, (weight, loc, scale), mixture = parameters(k=1, components=2, d=1)
    found = gaussian_mixture.log_evidence(x[:1], weight, loc, scale, **mixture)
    logits, locs, scales = (
        [mpf(v) for v in mixture[name].flatten().tolist()]
        for name in ("logits", "component_loc", "component_scale")
    )
    w, b, s, y = (mpf(float(v)) for v in (weight, loc, scale, x[0, 0]))

    def normal(z, m, s):
        return mp.exp(-(((z - m) / s) ** 2) / 2) / (s * mp.sqrt(2 * mp.pi))

    with mp.workdps(40):
        total = sum(mp.exp(each) for each in logits)

        def joint(z):
            prior = sum(
                mp.exp(each) / total * normal(z, m, t)
                for each, m, t in zip(logits, locs, scales, strict=True)
            )
            return prior * normal(y, w * z + b, s)

        expected = float(mp.log(mp.quad(joint, mp.linspace(-30, 30, 61))))
    assert found.item() == pytest.approx(expected, rel=1e-10)


def test_posterior_is_joint_over_evidence():
    x, (weight, loc, scale), mixture = parameters()
    prior = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(logits=mixture["logits"]),
        torch.distributions.Independent(
            torch.distributions.Normal(mixture["component_loc"], mixture["component_scale"]), 1
        ),
    )
    z = torch.randn(5, 2, generator=torch.Generator().manual_seed(2))
    likelihood = torch.distributions.Normal(z @ weight.mT + loc, scale).log_prob(x).sum(-1)
    joint = prior.log_prob(z) + likelihood
    found = gaussian_mixture.posterior(x, weight, loc, scale, **mixture)
    assert found.batch_shape == (5,)
    evidence = gaussian_mixture.log_evidence(x, weight, loc, scale, **mixture)
    torch.testing.assert_close(joint - found.log_prob(z), evidence, rtol=1e-10, atol=1e-10)


def test_one_standard_component_is_the_linear_gaussian_model():
    x, model, _ = parameters()
    one = {"logits": torch.tensor([3.0]), "component_loc": torch.zeros(1, 2)}
    one["component_scale"] = torch.ones(1, 2)
    found = gaussian_mixture.log_evidence(x, *model, **one)
    torch.testing.assert_close(found, linear_gaussian.log_evidence(x, *model), rtol=1e-13, atol=0)
    normal, expected = (
        gaussian_mixture.posterior(x, *model, **one),
        linear_gaussian.posterior(x, *model),
    )
    torch.testing.assert_close(normal.mean, expected.mean)
    torch.testing.assert_close(normal.variance, expected.variance)


def test_float32_comes_back_with_the_digits_of_float64():
    x, (weight, loc, scale), mixture = parameters(dtype=torch.float32)
    found = gaussian_mixture.log_evidence(x, weight, loc, scale, **mixture)
    double = {name: value.double() for name, value in mixture.items()}
    expected = gaussian_mixture.log_evidence(
        x.double(), weight.double(), loc.double(), scale, **double
    )
    assert found.dtype is torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=0)


def test_gradient_by_finite_differences():
    x, (weight, loc, scale), mixture = parameters()
    leaves = [value.requires_grad_() for value in mixture.values()]

    def function(*values):
        given = dict(zip(mixture, values, strict=True))
        return gaussian_mixture.log_evidence(x, weight, loc, scale, **given)

    assert torch.autograd.gradcheck(function, leaves)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"component_loc": torch.zeros(2, 2)}, ValueError, r"logits \(components,\).*\(2, 2\)"),
        ({"component_scale": torch.zeros(3, 2)}, ValueError, "component_scale: finite numbers ab"),
        ({"logits": torch.full((3,), math.nan)}, ValueError, "logits: finite numbers only"),
        ({"logits": torch.zeros(3, dtype=torch.long)}, TypeError, "logits of a floating dtype"),
    ],
)
@pytest.mark.parametrize("function", ["log_evidence", "posterior"])
def test_bad_input_is_refused(function, change, error, message):
    x, model, mixture = parameters()
    with pytest.raises(error, match=message):
        getattr(gaussian_mixture, function)(x, *model, **{**mixture, **change})
