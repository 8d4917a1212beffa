import itertools

import pyro
import pyro.distributions as dist
import pytest
import torch
from estimates import agree, mean_value, replicates
from pyro import poutine
from pyro.infer import RenyiELBO
from pyro.infer.autoguide import AutoDiagonalNormal, AutoNormal

from ppl_vae.diagnostics.comparison.replicates import bias_z_score
from ppl_vae.elbos import TraceDReG_ELBO, TraceIWAE_ELBO

BOTH = [TraceIWAE_ELBO, TraceDReG_ELBO]
X = torch.tensor([-4.0, -1.0, 0.3, 2.0, 3.1, 6.0], dtype=torch.float64)
LOG_SCALE = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)


def model(size=6, rows=None, mask=None, inner=1):
    plate = pyro.plate("data", 6, subsample_size=size, subsample=rows, dim=-2)
    with plate as row, poutine.mask(mask=True if mask is None else mask[row, None]):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("inner", inner, dim=-1):
            pyro.sample("x", dist.Normal(z, 1.0), obs=X[row, None])


def guide(size=6, rows=None, mask=None, inner=1):
    plate = pyro.plate("data", 6, subsample_size=size, subsample=rows, dim=-2)
    with plate as row, poutine.mask(mask=True if mask is None else mask[row, None]):
        pyro.sample("z", dist.Normal(X[row, None] * inner / (inner + 1.5), LOG_SCALE.exp()))


def log_evidence(inner=1):
    """Of X's numbers, each seen `inner` times."""
    covariance = torch.eye(inner) + 1
    return dist.MultivariateNormal(torch.zeros(inner), covariance).log_prob(
        X[:, None].expand(6, inner)
    )


@pytest.mark.parametrize("vectorised", [False, True])
@pytest.mark.parametrize("cls", BOTH)
def test_a_minibatch_is_unbiased_for_the_bound_of_all_data(cls, vectorised):
    elbo = cls(5, vectorize_particles=vectorised, max_plate_nesting=2)
    count = 400 if vectorised else 150
    full = mean_value(elbo, model, guide, count=count // 4)
    part = mean_value(elbo, model, guide, 2, count=count)
    assert agree(full, part)
    assert full.mean < log_evidence().sum() + 4.5 * full.standard_error
    assert part.mean < log_evidence().sum() + 4.5 * part.standard_error


@pytest.mark.parametrize("vectorised", [False, True])
def test_the_mean_over_all_minibatches_is_the_bound_of_all_data(vectorised):
    """The same, without the noise of the choice: every pair of data points once."""
    elbo = TraceIWAE_ELBO(5, vectorize_particles=vectorised, max_plate_nesting=2)
    full = mean_value(elbo, model, guide, count=80)
    total = []
    for seed, rows in enumerate(itertools.combinations(range(6), 2)):
        chosen = torch.tensor(rows)
        total.append(mean_value(elbo, model, guide, 2, chosen, count=12, seed=seed + 1))
    mean = sum(each.mean for each in total) / 15
    error = sum(each.standard_error**2 for each in total) ** 0.5 / 15
    assert abs(mean - full.mean) < 4.5 * (error**2 + full.standard_error**2) ** 0.5


def test_gradients_of_minibatches_agree_with_those_of_all_data():
    for cls in BOTH:
        elbo = cls(4, vectorize_particles=True, max_plate_nesting=2)
        _, part = replicates(elbo, model, guide, (3,), [LOG_SCALE], 150)
        _, full = replicates(elbo, model, guide, (6,), [LOG_SCALE], 150, seed=1)
        assert bias_z_score(part - full, torch.zeros(1)) < 4.5


def test_renyi_exceeds_the_evidence_where_the_weights_per_data_point_do_not():
    """Its weight is a joint one, to the power of full size over subsample size."""
    x = torch.linspace(-2.0, 2.0, 100)

    def model():
        with pyro.plate("data", 100, subsample_size=2, dim=-1) as row:
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[row])

    def guide():
        with pyro.plate("data", 100, subsample_size=2, dim=-1):
            pyro.sample("z", dist.Normal(torch.zeros(2), 0.7))

    evidence = dist.Normal(0.0, 2**0.5).log_prob(x).sum().item()
    many = {"num_particles": 50, "vectorize_particles": True, "max_plate_nesting": 1}
    renyi = mean_value(RenyiELBO(**many), model, guide, count=150)
    ours = mean_value(TraceIWAE_ELBO(**many), model, guide, count=150)
    assert renyi.mean - evidence > max(10, 4.5 * renyi.standard_error)
    assert ours.mean - evidence < 4.5 * ours.standard_error
    assert abs(ours.mean - evidence) < 10


@pytest.mark.parametrize("cls", BOTH)
def test_masked_data_points_count_for_nothing(cls):
    mask = torch.tensor([True, False, True, True, False, True])
    elbo = cls(60, vectorize_particles=True, max_plate_nesting=2)
    evidence = log_evidence()[mask].sum().item()
    masked = mean_value(elbo, model, guide, 6, None, mask, count=80)
    assert masked.mean < evidence + 4.5 * masked.standard_error
    assert evidence - masked.mean < 0.1
    # As if the visible data points were all there are.
    visible = mean_value(elbo, model, guide, 4, torch.nonzero(mask).flatten(), count=80)
    assert agree(masked, type(visible)(4 / 6 * visible.mean, 4 / 6 * visible.standard_error, 80))
    part = mean_value(elbo, model, guide, 3, None, mask, count=300)
    assert agree(part, masked)


@pytest.mark.parametrize("vectorised", [False, True])
def test_inner_plates_are_summed_within_a_data_points_weight(vectorised):
    elbo = TraceIWAE_ELBO(40, vectorize_particles=vectorised, max_plate_nesting=2)
    found = mean_value(elbo, model, guide, 6, None, None, 3, count=25)
    evidence = log_evidence(3).sum().item()
    assert found.mean < evidence + 4.5 * found.standard_error
    assert evidence - found.mean < 0.3


def test_scales_of_the_users_own_stay_within_the_weights():
    """Annealed weights: log p to the power of beta, as a bound on its normaliser."""
    beta = 0.5
    elbo = TraceIWAE_ELBO(200, vectorize_particles=True, max_plate_nesting=2)
    found = mean_value(elbo, poutine.scale(model, scale=beta), guide, count=40)
    grid = torch.linspace(-20, 20, 20001)
    log_joint = dist.Normal(0.0, 1.0).log_prob(grid) + dist.Normal(grid, 1.0).log_prob(X[:, None])
    evidence = (beta * log_joint).exp().mul(40 / 20000).sum(-1).log().sum().item()
    assert abs(found.mean - evidence) < 4.5 * found.standard_error + 0.05


def test_a_plate_of_another_name_may_be_the_one_over_data_points():
    def renamed(function):
        def program(size=6):
            with pyro.plate("rows", 6, subsample_size=size, dim=-1) as row:
                z = pyro.sample("z", dist.Normal(*function(row)))
                if function is prior:
                    pyro.sample("x", dist.Normal(z, 1.0), obs=X[row])

        return program

    def prior(row):
        return torch.zeros(len(row)), 1.0

    def posterior(row):
        return X[row] / 2.5, 1.0

    functions = renamed(prior), renamed(posterior)
    elbo = TraceIWAE_ELBO(5, plate="rows", vectorize_particles=True, max_plate_nesting=1)
    ours = mean_value(elbo, *functions, count=200)
    same = TraceIWAE_ELBO(5, vectorize_particles=True, max_plate_nesting=2)
    assert agree(ours, mean_value(same, model, guide, count=200))
    message = "no plate but 'data' that subsamples; got the plate 'rows', 2 of 6.*plate='rows'"
    with pytest.raises(NotImplementedError, match=message):
        TraceIWAE_ELBO(5).loss(*functions, 2)


def hierarchy(auto):
    def shared():
        scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        with pyro.plate("data", 6, dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, scale))
            pyro.sample("x", dist.Normal(z, 1.0), obs=X)

    return shared, auto(shared)


def local():
    with pyro.plate("data", 6, dim=-1):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=X)


def summary(scale):
    def observed_together():
        with pyro.plate("data", 6, dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=X)
        total = z.sum(-1, keepdim=True) * scale
        pyro.sample("total", dist.Normal(total, 1.0), obs=torch.tensor(2.0))
        pyro.deterministic("twice", 2 * z)

    return observed_together


def loop():
    for row in pyro.plate("data", 6):
        z = pyro.sample(f"z_{row}", dist.Normal(0.0, 1.0))
        pyro.sample(f"x_{row}", dist.Normal(z, 1.0), obs=X[row])


def loop_guide():
    for row in pyro.plate("data", 6):
        pyro.sample(f"z_{row}", dist.Normal(0.0, 1.0))


def subsampled_within():
    with pyro.plate("data", 6, dim=-2):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("pixels", 10, subsample_size=2, dim=-1):
            pyro.sample("x", dist.Normal(z, 1.0), obs=X[:, None].expand(6, 2))


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        (hierarchy(AutoNormal), "inside of the plate 'data'; got site 'scale.*choose 'renyi'"),
        (
            (local, AutoDiagonalNormal(local)),
            "inside of the plate 'data'; got site '_AutoDiagonalNormal_latent' outside",
        ),
        ((summary(1.0), AutoNormal(local)), "on the latents inside.*got site 'total' outside"),
        ((loop, loop_guide), "'data' as a context; got a loop over it. Write: with pyro"),
        (
            (subsampled_within, AutoNormal(subsampled_within)),
            "no plate but 'data' that subsamples; got the plate 'pixels', 2 of 10",
        ),
    ],
    ids=["shared", "joint guide", "joint observation", "loop", "subsampled pixels"],
)
@pytest.mark.parametrize("cls", BOTH)
def test_what_has_no_weight_per_data_point_is_refused(cls, functions, message):
    functions[1]()
    with pytest.raises(NotImplementedError, match=message):
        cls(4).loss(*functions)


@pytest.mark.parametrize("vectorised", [False, True])
def test_observations_outside_that_no_latent_reaches_are_added(vectorised):
    autoguide = AutoNormal(local)
    autoguide()
    elbo = TraceIWAE_ELBO(4, vectorize_particles=vectorised, max_plate_nesting=1)
    for seed in range(3):
        torch.manual_seed(seed)
        alone = elbo.loss(local, autoguide)
        torch.manual_seed(seed)
        both = elbo.loss(summary(0.0), autoguide)
        outside = dist.Normal(0.0, 1.0).log_prob(torch.tensor(2.0)).item()
        assert both - alone == pytest.approx(-outside, rel=1e-9)
