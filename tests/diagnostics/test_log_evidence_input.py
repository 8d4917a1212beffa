"""What log_evidence refuses, and how it says so."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from ppl_vae import BernoulliVAE, log_evidence


def five_latents():
    return BernoulliVAE((1, 3, 3), latent_dim=5, hidden=(4,), seed=1)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "iwea"}, ValueError, "Did you mean 'iwae'"),
        ({"num_samples": 1}, ValueError, "num_samples of at least 2"),
        ({"num_samples": 10.0}, TypeError, "num_samples as an int"),
        ({"max_bytes": 0}, ValueError, "max_bytes of at least 1"),
        ({"method": "quadrature", "tolerance": 2.0}, ValueError, "tolerance below 1"),
        ({"method": "quadrature", "tolerance": 0.0}, ValueError, "tolerance finite and above 0"),
        ({"method": "quadrature"}, ValueError, "at most 2 latent dimensions .* got 5"),
        ({"method": "ais", "num_temperatures": 0}, ValueError, "num_temperatures of at least 1"),
        ({"method": "ais", "num_leapfrog": 0}, ValueError, "num_leapfrog of at least 1"),
        ({"method": "exact"}, NotImplementedError, "a pair with a closed-form log evidence"),
    ],
)
def test_bad_options(options, error, message):
    pair = five_latents()
    with pytest.raises(error, match=message):
        log_evidence(pair, pair.blank(2), **options)


def test_bad_data():
    pair = five_latents()
    with pytest.raises(ValueError, match="Resize the images"):
        log_evidence(pair, torch.zeros(2, 1, 4, 4))
    with pytest.raises(ValueError, match="pixels that are 0 or 1"):
        log_evidence(pair, torch.full((2, 1, 3, 3), 0.5))
    with pytest.raises(TypeError, match="data as a tensor"):
        log_evidence(pair, [0.0])
    with pytest.raises(TypeError, match="a Pyro model and its guide"):
        log_evidence(lambda x: x, torch.zeros(2))


def refused(error, message, model, guide, **options):
    with pytest.raises(error, match=message):
        log_evidence((model, guide), torch.tensor([0.5, 1.0]), **options)


def test_programs_without_weights_per_example():
    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))

    def subsamples(x):
        with pyro.plate("data", len(x), subsample_size=1) as index:
            z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[index])

    def positive(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Exponential(torch.ones(())))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def shares(x):
        z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def outside(x):
        positive_or_not(x)
        pyro.factor("extra", torch.tensor(1.0))

    def positive_or_not(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def uniform(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Uniform(torch.full((), -9.0), 9.0))

    def shared_guide(x):
        pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))

    def subsampling_guide(x):
        with pyro.plate("data", len(x), subsample_size=1):
            pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))

    refused(NotImplementedError, "one that subsamples", subsamples, subsampling_guide)
    refused(ValueError, "within the model's support", positive, guide)
    refused(NotImplementedError, "every latent inside of the plate", shares, shared_guide)
    refused(NotImplementedError, "every observation inside", outside, guide)
    refused(
        NotImplementedError,
        "a guide with the model's support",
        positive_or_not,
        uniform,
        method="ais",
    )
    refused(ValueError, "a site 'z' in the guide", positive_or_not, lambda x: None)


def test_a_weight_that_is_no_number():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
            pyro.sample("x", dist.Normal((-z).sqrt(), 1.0, validate_args=False), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))

    with pyro.validation_enabled(False):  # noqa: FBT003
        refused(ValueError, "NaN or infinity in .* draws", model, guide)
