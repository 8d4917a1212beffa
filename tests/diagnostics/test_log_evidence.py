"""The evidence by four methods, against closed forms and against each other."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoDelta, AutoNormal
from scipy.special import betaln, gammaln

from ppl_vae import (
    AmortizedExponentialNormal,
    BernoulliVAE,
    ExponentialNormal,
    GaussianChain,
    ImageData,
    LinearGaussian,
    log_evidence,
)
from ppl_vae.closed_forms import gaussian_chain
from ppl_vae.diagnostics.memory import peak_bytes

BOUND = 4.5


def near_posterior(latent_dim):
    """A linear pair whose guide is close to the posterior, so that weights behave."""
    pair = LinearGaussian(4, latent_dim, noise_scale=0.7, seed=1)
    posterior = pair.exact.posterior(pair.blank(1))
    weight, scale = pair.decoder.weight, pair.decoder.log_scale.exp()
    with torch.no_grad():
        covariance = posterior.covariance_matrix[0]
        pair.encoder.weight.copy_(covariance @ weight.T / scale**2)
        pair.encoder.log_scale.copy_(1.1 * covariance.diagonal().sqrt()).log_()
    return pair


PAIRS = {
    "toy, one data set": lambda: (
        ExponentialNormal(guide_rate=0.7),
        torch.tensor([1.2, 0.7, 1.1]),
    ),
    "toy, several": lambda: (
        AmortizedExponentialNormal(seed=1),
        ExponentialNormal().sample(4, seed=0, num_datasets=5),
    ),
    "linear, one latent": lambda: (near_posterior(1), near_posterior(1).sample(5, seed=0)),
    "linear, two latents": lambda: (near_posterior(2), near_posterior(2).sample(5, seed=0)),
    "chain, top-down": lambda: (GaussianChain(), 2 * torch.randn(5, 1)),
    "chain, bottom-up": lambda: (GaussianChain(guide="bottom-up"), 2 * torch.randn(5, 1)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_all_methods_agree(name):
    pair, x = PAIRS[name]()
    exact = log_evidence(pair, x, method="exact")
    truth = pair.exact.log_evidence(x).reshape(-1)
    torch.testing.assert_close(exact.mean, truth.detach(), rtol=0, atol=0)
    assert bool((exact.standard_error == 0).all())
    found = log_evidence(pair, x, method="quadrature")
    assert bool(((found.mean - truth).abs() <= found.standard_error).all())
    assert bool((found.standard_error < 1e-4).all())
    assert found.warning == ""
    for method, options in (("iwae", {}), ("ais", {"num_temperatures": 40})):
        found = log_evidence(pair, x, method=method, **options)
        assert found.mean.shape == truth.shape
        assert bool((found.per_example().z_score(truth).abs() < BOUND).all()), method
        assert bool((found.effective_sample_size <= found.num_samples + 1e-6).all())


def test_all_methods_agree_on_a_bernoulli_vae():
    """Nothing is closed there: quadrature is the truth for the other two."""
    pair = BernoulliVAE((1, 3, 3), latent_dim=2, hidden=(6, 5), seed=1)
    x = pair.sample(6, seed=0)
    truth = log_evidence(pair, x, method="quadrature")
    tighter = log_evidence(pair, x, method="quadrature", tolerance=1e-7, seed=3)
    assert bool((truth.standard_error < 1e-4).all())
    assert bool(((truth.mean - tighter.mean).abs() <= truth.standard_error).all())
    for method in ("iwae", "ais"):
        found = log_evidence(pair, x, method=method, num_temperatures=40)
        assert bool((found.per_example().z_score(tighter.mean).abs() < BOUND).all())
    # Every image at once: the evidences of all 2^9 images sum to 1.
    every = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 9).reshape(-1, 1, 3, 3)
    small = BernoulliVAE((1, 3, 3), latent_dim=1, hidden=(6,), seed=1)
    found = log_evidence(small, every, method="quadrature", tolerance=1e-6)
    assert abs(found.mean.logsumexp(0).item()) < 1e-6


def test_a_float32_pair_is_integrated_in_float64():
    pair = near_posterior(2).float()
    x = pair.sample(5, seed=0)
    found = log_evidence(pair, x, method="quadrature")
    truth = log_evidence(pair.double(), x.double(), method="exact").mean
    assert found.mean.dtype is torch.float32
    assert bool(((found.mean - truth).abs() < 1e-4).all())


def bimodal(x):
    """z^2 is seen, so the posterior has modes at both roots; the guide knows one of them."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
        pyro.sample("x", dist.Normal(z**2, 0.1), obs=x)


def one_mode(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x.sqrt(), 0.05))


def test_quadrature_finds_a_mode_that_the_guide_does_not_know():
    x = torch.tensor([1.0, 2.5, 4.0])
    found = log_evidence((bimodal, one_mode), x, method="quadrature")
    z = torch.linspace(-6, 6, 400_001)
    log_joint = dist.Normal(0.0, 1.0).log_prob(z) + dist.Normal(z**2, 0.1).log_prob(x[:, None])
    truth = (log_joint.logsumexp(1)) + math.log(12 / 400_000)
    assert bool(((found.mean - truth).abs() <= found.standard_error).all())
    one_sided = log_evidence((bimodal, one_mode), x)
    assert bool((one_sided.mean < truth - 0.5).all())


def conjugate(x):
    """A positive and a bounded latent, each with its own observation."""
    with pyro.plate("data", len(x)):
        rate = pyro.sample("rate", dist.Gamma(x.new_tensor(2.0), 1.5))
        share = pyro.sample("share", dist.Beta(x.new_tensor(2.0), 3.0))
        pyro.sample("x", dist.Poisson(rate), obs=x[:, 0])
        pyro.sample("y", dist.Binomial(10, share), obs=x[:, 1])


def conjugate_guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("share", dist.Beta(2.0 + x[:, 1], 9.0))
        pyro.sample("rate", dist.Gamma(2.0 + x[:, 0], 2.0))


@pytest.mark.parametrize("method", ["iwae", "ais", "quadrature"])
def test_constrained_latents(method):
    x = torch.tensor([[0.0, 3.0], [4.0, 9.0], [2.0, 0.0]])
    n, y = x[:, 0].numpy(), x[:, 1].numpy()
    truth = (
        gammaln(2 + n) - gammaln(2) - gammaln(n + 1) + 2 * math.log(1.5) - (2 + n) * math.log(2.5)
    ) + (gammaln(11) - gammaln(y + 1) - gammaln(11 - y) + betaln(2 + y, 13 - y) - betaln(2, 3))
    found = log_evidence((conjugate, conjugate_guide), x, method=method, num_temperatures=40)
    gap = (found.mean - torch.as_tensor(truth)).abs()
    factor = 1 if method == "quadrature" else BOUND
    assert bool((gap <= factor * found.standard_error).all())
    assert bool((found.standard_error < (1e-4 if method == "quadrature" else 0.2)).all())


def test_the_standard_error_is_one():
    """z-scores over many data sets have mean 0 and variance 1 within their own errors."""
    pair = AmortizedExponentialNormal(seed=1)
    x = pair.sample(2, seed=0, num_datasets=400)
    found = log_evidence(pair, x, num_samples=4000)
    z = found.per_example().z_score(pair.exact.log_evidence(x).detach())
    z = z[found.pareto_k < 0.5]
    assert len(z) > 200
    assert abs(z.mean().item()) < BOUND / len(z) ** 0.5 + float(found.standard_error.mean())
    assert abs(z.std().item() - 1) < BOUND / (2 * len(z)) ** 0.5


def test_the_bias_is_half_the_squared_error():
    pair = ExponentialNormal(guide_rate=0.7)
    x = torch.tensor([1.2, 0.7, 1.1]).expand(5_000, 3)
    found = log_evidence(pair, x, num_samples=20)
    gap = found.mean - pair.exact.log_evidence(x[0]).detach()
    error = gap.std() / len(gap) ** 0.5
    assert gap.mean() < -BOUND * error  # there is one
    assert abs(gap.mean() - found.bias.mean()) < BOUND * error + 0.1 * found.bias.mean().abs()


def test_an_exact_guide_has_equal_weights():
    pair = LinearGaussian(4, 1, noise_scale=0.7, seed=1)
    x = pair.sample(3, seed=0)
    posterior = pair.exact.posterior(x)
    with torch.no_grad():
        scale = posterior.covariance_matrix[0, 0, 0].sqrt()
        noise = pair.decoder.log_scale.exp()
        pair.encoder.weight.copy_(scale**2 * pair.decoder.weight.T / noise**2)
        pair.encoder.log_scale.fill_(scale.log())
    found = log_evidence(pair, x, num_samples=100)
    torch.testing.assert_close(found.mean, pair.exact.log_evidence(x).detach())
    assert bool((found.standard_error < 1e-12).all())
    assert bool((found.effective_sample_size - 100).abs().max() < 1e-9)
    assert bool((found.pareto_k == -math.inf).all())


def test_a_program_that_cannot_be_vectorised_is_run_for_each_particle():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
            # Right for one particle; for several it is wrong, and the shapes say nothing.
            pyro.sample("x", dist.Normal(z * len(z) / len(x), 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2, 0.8))

    x = torch.tensor([0.3, -1.0])
    truth = dist.Normal(0.0, math.sqrt(2)).log_prob(x)
    found = log_evidence((model, guide), x, num_samples=400)
    assert bool((found.per_example().z_score(truth).abs() < BOUND).all())
    with pytest.raises(NotImplementedError, match="run for many particles at once"):
        log_evidence((model, guide), x, method="ais")


def test_without_a_plate_all_data_are_one_example():
    def model(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample(
            "x", dist.Normal(z.unsqueeze(-1), 1.0).expand([*z.shape, 3]).to_event(1), obs=x
        )

    def guide(x):
        pyro.sample("z", dist.Normal(x.mean() * 0.75, 0.6))

    x = torch.tensor([0.5, 1.0, -0.2])
    covariance = torch.eye(3) + 1
    truth = dist.MultivariateNormal(torch.zeros(3), covariance).log_prob(x)
    for method in ("iwae", "quadrature", "ais"):
        found = log_evidence((model, guide), x, method=method, num_temperatures=40)
        assert found.mean.shape == (1,)
        assert abs(found.mean - truth) < BOUND * found.standard_error


def test_discrete_latents_are_weighed():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Bernoulli(x.new_tensor(0.3)))
            pyro.sample("x", dist.Normal(3 * z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Bernoulli(torch.full_like(x, 0.5)))

    x = torch.tensor([0.2, 2.0, 3.5])
    parts = [dist.Normal(3.0 * z, 1.0).log_prob(x) + math.log(p) for z, p in ((0, 0.7), (1, 0.3))]
    truth = torch.stack(parts).logsumexp(0)
    found = log_evidence((model, guide), x)
    assert bool((found.per_example().z_score(truth).abs() < BOUND).all())
    for method in ("ais", "quadrature"):
        with pytest.raises(NotImplementedError, match="continuous latents"):
            log_evidence((model, guide), x, method=method)


def test_automatic_guides_have_a_density_but_points_do_not():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Exponential(x.new_tensor(1.0)))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    x = torch.tensor([1.3, 0.4])
    guide = AutoNormal(model, init_scale=0.7)
    guide(x)
    found = log_evidence((model, guide), x, num_samples=20_000)
    pair = ExponentialNormal()
    truth = pair.exact.log_evidence(x.unsqueeze(-1)).detach()
    assert bool((found.per_example().z_score(truth).abs() < BOUND).all())
    with pytest.raises(NotImplementedError, match="a guide with a density"):
        log_evidence((model, AutoDelta(model)), x)
    with pytest.raises(NotImplementedError, match="auxiliary site"):
        log_evidence((model, guide), x, method="ais")


def test_blocks_do_not_change_the_numbers_and_keep_the_budget():
    pair = BernoulliVAE((1, 6, 6), latent_dim=2, hidden=(8,), seed=1)
    x = pair.sample(7, seed=0)
    large, other = (log_evidence(pair, x, max_bytes=n * 2**20) for n in (64, 2000))
    assert torch.equal(large.mean, other.mean)
    budget = 400_000
    peak = peak_bytes(lambda: log_evidence(pair, x, max_bytes=budget, num_samples=300))
    assert peak < 1.5 * budget + 7 * 300 * 8 * 8
    small = log_evidence(pair, x, max_bytes=budget)
    both = small.standard_error.hypot(large.standard_error)
    assert bool(((small.mean - large.mean).abs() < BOUND * both).all())
    with pytest.raises(ValueError, match="max_bytes for one sample of one example at least"):
        log_evidence(pair, x, max_bytes=100)


def test_seeds_and_state():
    pair = ExponentialNormal()
    x = torch.tensor([1.2, 0.7, 1.1])
    state = torch.get_rng_state()
    before = [p.detach().clone() for p in pair.parameters()]
    for method in ("iwae", "ais", "quadrature"):
        options = {"method": method, "num_temperatures": 5, "num_samples": 20}
        first, again, other = (log_evidence(pair, x, seed=s, **options) for s in (3, 3, 4))
        assert torch.equal(first.mean, again.mean)
        assert method == "quadrature" or not torch.equal(first.mean, other.mean)
    assert torch.equal(state, torch.get_rng_state())
    assert len(pyro.get_param_store()) == 0
    assert all(torch.equal(*both) for both in zip(before, pair.parameters(), strict=True))
    generator = torch.Generator().manual_seed(3)
    drawn = [log_evidence(pair, x, seed=generator, num_samples=20).mean for _ in range(2)]
    assert not torch.equal(*drawn)


def test_what_is_printed_names_everything():
    images = torch.randint(256, (12, 1, 3, 3), dtype=torch.uint8)
    data = ImageData(images, binarize="dynamic", name="squares", split="test")
    pair = BernoulliVAE((1, 3, 3), latent_dim=2, hidden=(5,), seed=1)
    found = log_evidence(pair, data, num_samples=500)
    text = str(found)
    low, high = found.interval
    for part in (
        "NLL",
        "iwae",
        "500 samples",
        "dynamic",
        "split test",
        "12 examples",
        "95% inter",
    ):
        assert part in text
    assert f"[{low:.6g}, {high:.6g}]" in text
    assert found.nll.mean == -found.average.mean == -found.mean.mean()
    assert found.average.standard_error == pytest.approx(found.mean.std().item() / 12**0.5)
    parts = math.hypot(found.spread_error, found.monte_carlo_error)
    assert parts == pytest.approx(found.average.standard_error)
    again = log_evidence(pair, data, num_samples=500)
    assert torch.equal(found.mean, again.mean)  # the same binarisation too
    tensor = log_evidence(pair, data.batch(slice(0, 12)), num_samples=10, split="validation")
    assert "split validation, binarisation as given" in str(tensor)
    assert list(found.to_dataframe()) == [
        "mean",
        "standard_error",
        "effective_sample_size",
        "pareto_k",
    ]


def test_one_example_has_its_own_error_only():
    found = log_evidence(ExponentialNormal(), torch.tensor([1.2, 0.7]), num_samples=100)
    assert found.average.standard_error == pytest.approx(found.standard_error.item())
    assert found.spread_error == 0
    assert "1 example" in str(found)


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


def test_the_chain_in_two_dimensions_a_number():
    """Two numbers an example have four latents: the sum over both, by weights and annealing."""
    pair = GaussianChain(2)
    x = torch.randn(4, 2)
    truth = gaussian_chain.log_evidence(x).sum(-1)
    for method in ("iwae", "ais"):
        found = log_evidence(pair, x, method=method, num_temperatures=30)
        assert bool((found.per_example().z_score(truth).abs() < BOUND).all())


def test_the_pair_is_evaluated_in_evaluation_mode_and_left_in_its_own():
    pair = BernoulliVAE((1, 3, 3), latent_dim=2, hidden=(8,), seed=1)
    pair.decoder.net.append(torch.nn.Dropout(0.5))
    x = pair.sample(3, seed=0)
    noisy = log_evidence(pair, x, num_samples=50)
    assert pair.training
    assert torch.equal(noisy.mean, log_evidence(pair.eval(), x, num_samples=50).mean)
