"""check_elbo and log_evidence on programs whose plates are not those of our own pairs."""

import math
import re

import pyro
import pyro.distributions as dist
import pytest
import torch

from ppl_vae import check_elbo, evaluate, log_evidence


def program(plate="data", *, shared=False, weight=1.0):
    """A code of each example, or one of all; by its own number of dimensions without a plate."""

    def run(x, is_model):
        loc = pyro.param("loc", torch.tensor(0.3))
        slope = pyro.param("slope", torch.tensor(0.5))
        prior = dist.Normal(loc, 1.0)
        mean = slope * (x.mean() if shared else x)
        code = prior if is_model else dist.Normal(mean, 0.6)

        def observe(z):
            if is_model:
                pyro.sample("x", dist.Normal(z, 0.8), obs=x)

        if shared:
            z = pyro.sample("z", code)
            with pyro.plate(plate, len(x)):
                observe(z)
        elif plate is None:
            z = pyro.sample("z", code.expand(x.shape).to_event(1))
            if is_model:
                pyro.sample("x", dist.Normal(z, 0.8).to_event(1), obs=x)
        else:
            with pyro.plate(plate, len(x)), pyro.poutine.scale(scale=weight):
                observe(pyro.sample("z", code))

    return lambda x: run(x, True), lambda x: run(x, False)  # noqa: FBT003


PROGRAMS = {
    "another name": program("observations"),
    "one code of all": program(shared=True),
    "one code of all, another name": program("rows", shared=True),
    "no plate": program(None),
    "scaled": program(weight=3.0),
}
X = torch.tensor([0.4, -1.1, 0.9, 2.0, -0.3, 1.4], dtype=torch.float64)


def written(name, likelihood_weight=1.0):
    """The loss as one writes it by hand, with the KL in closed form."""
    weight = 3.0 if name == "scaled" else 1.0

    def loss(x):
        loc, slope = pyro.param("loc"), pyro.param("slope")
        one = x.new_tensor(0.6)
        mean = slope * (x.mean() if "one code" in name else x)
        z = mean + one * torch.randn_like(mean)
        likelihood = dist.Normal(z, 0.8).log_prob(x).sum()
        kl = (-one.log() + (one**2 + (mean - loc) ** 2 - 1) / 2).sum()
        return weight * (kl - likelihood_weight * likelihood)

    return loss


@pytest.mark.parametrize("name", PROGRAMS)
def test_right_losses_pass_and_wrong_ones_do_not(name):
    found = check_elbo(written(name), PROGRAMS[name], X, reduction="sum", seed=1)
    assert found.passed, str(found)
    pyro.clear_param_store()
    found = check_elbo(written(name, 0.5), PROGRAMS[name], X, reduction="sum", seed=1)
    assert not found.passed


def in_plates(**options):
    """A model and a guide with a plate beside that over the examples, or one that chooses."""

    def run(x, is_model):
        loc = pyro.param("loc", torch.tensor(0.3))
        slope = pyro.param("slope", torch.tensor(0.5))
        with pyro.plate("data", options.get("full", len(x)), **options.get("plate", {})) as place:
            seen = x[place]
            with pyro.plate("inner", 3, dim=options.get("inner", -2)):
                mean = seen.expand(3, -1) if options.get("inner", -2) == -2 else seen
                code = dist.Normal(loc, 1.0) if is_model else dist.Normal(slope * mean, 0.6)
                z = pyro.sample("z", code)
                if is_model:
                    pyro.sample("x", dist.Normal(z, 0.8), obs=mean)

    return lambda x: run(x, True), lambda x: run(x, False)  # noqa: FBT003


def test_a_plate_outside_of_that_over_the_examples():
    def loss(x, weight=1.0):
        loc, one = pyro.param("loc"), x.new_tensor(0.6)
        mean = pyro.param("slope") * x.expand(3, -1)
        z = mean + one * torch.randn_like(mean)
        kl = (-one.log() + (one**2 + (mean - loc) ** 2 - 1) / 2).sum()
        return weight * kl - dist.Normal(z, 0.8).log_prob(x).sum()

    found = check_elbo(loss, in_plates(), X, reduction="sum", seed=1)
    assert found.passed, str(found)
    pyro.clear_param_store()
    found = check_elbo(lambda x: loss(x, 0.5), in_plates(), X, reduction="sum", seed=1)
    assert "the KL has weight" in found.findings[0].message


REFUSED = {
    "chooses": (in_plates(plate={"subsample_size": 3, "dim": -1}), X, "one over 3 at dim=-1"),
    "not the innermost": (
        in_plates(plate={"dim": -2}, inner=-1),
        X.unsqueeze(-1).expand(-1, 3),
        "one over 6 at dim=-2",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_plates_of_examples_are_refused(name):
    pair, x, came = REFUSED[name]
    with pytest.raises(NotImplementedError, match=f"'data' over all 6 examples.*got {came}"):
        check_elbo(lambda x: pyro.param("loc") * x.sum(), pair, x, reduction="sum")


def test_evaluation_wants_an_evidence_of_every_example():
    for name in ("another name", "no plate"):
        with pytest.raises(NotImplementedError, match="over the 6 examples; got 1 evidences"):
            evaluate(PROGRAMS[name], X, num_samples=50)


def test_what_is_scaled_has_no_evidence():
    with pytest.raises(NotImplementedError, match=r"as they are; got site 'z' scaled by 3"):
        log_evidence(PROGRAMS["scaled"], X)


def test_plates_are_named_to_log_evidence():
    truth = dist.Normal(0.3, math.sqrt(1 + 0.64)).log_prob(X)
    found = log_evidence(PROGRAMS["another name"], X, method="quadrature", plate="observations")
    assert bool(((found.mean - truth).abs() <= found.standard_error).all())
    # Without a plate of that name all data are one example, of as many latent numbers.
    with pytest.raises(ValueError, match=re.escape("at most 2 latent dimensions")):
        log_evidence(PROGRAMS["another name"], X, method="quadrature")


def test_a_mixture_prior_is_integrated():
    def model(x):
        with pyro.plate("data", len(x)):
            parts = dist.Normal(x.new_tensor([-2.0, 1.0]), 0.5)
            prior = dist.MixtureSameFamily(dist.Categorical(x.new_tensor([0.3, 0.7])), parts)
            pyro.sample("x", dist.Normal(pyro.sample("z", prior), 1.2), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2, 1.0))

    scale = math.sqrt(0.25 + 1.44)
    parts = [dist.Normal(m, scale).log_prob(X) + math.log(w) for m, w in ((-2.0, 0.3), (1.0, 0.7))]
    found = log_evidence((model, guide), X, method="quadrature")
    gap = (found.mean - torch.stack(parts).logsumexp(0)).abs()
    assert bool((gap <= found.standard_error).all())
