"""The estimator that sums discrete latents out, against sums by hand."""

import itertools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceEnum_ELBO
from torch import nn

from ppl_vae import SemiSupervisedVAE, compare_elbos, fit
from ppl_vae.elbos import TraceEnumerate_ELBO
from ppl_vae.elbos.serving import choose
from ppl_vae.elbos.sites.draws import Program

X = torch.tensor([0.3, -1.2, 2.0, 0.1], dtype=torch.float64)


class Mixture(nn.Module):
    """Two components and a Normal code whose prior depends on the component."""

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([0.2, -0.4, 0.1]))
        self.means = nn.Parameter(torch.tensor([-1.0, 0.5, 2.0]))
        self.slopes = nn.Parameter(torch.tensor([0.3, -0.2, 0.5]))
        self.locs = nn.Parameter(torch.tensor([0.1, 0.4, -0.3]))

    def guide_logits(self, x):
        return x.unsqueeze(-1) * self.slopes

    def model(self, x):
        pyro.module("mixture", self)
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Categorical(logits=self.logits))
            z = pyro.sample("z", dist.Normal(self.means[y], 1.0))
            pyro.sample("x", dist.Normal(z, 0.5), obs=x)

    def guide(self, x):
        pyro.module("mixture", self)
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Categorical(logits=self.guide_logits(x)))
            pyro.sample("z", dist.Normal(x / 2 + self.locs[y], 0.7))

    def exact(self, x):
        """The ELBO, a sum over the components of closed forms."""
        log_q = self.guide_logits(x).log_softmax(-1)
        log_p = self.logits.log_softmax(-1)
        total = 0.0
        for k in range(3):
            loc = x / 2 + self.locs[k]
            kl = -math.log(0.7) + (0.49 + (loc - self.means[k]) ** 2 - 1) / 2
            energy = -math.log(0.5) - 0.5 * math.log(2 * math.pi)
            energy = energy - ((x - loc) ** 2 + 0.49) / (2 * 0.25)
            total = total + log_q[:, k].exp() * (energy - kl + log_p[k] - log_q[:, k])
        return total.sum()


def gradients(value, module):
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, list(module.parameters()))])


def test_value_and_gradient_have_the_expectation_of_the_sum_over_states():
    mixture = Mixture()
    exact = mixture.exact(X)
    slopes = gradients(exact, mixture)
    elbo = TraceEnumerate_ELBO()
    torch.manual_seed(0)
    found = [elbo.differentiable_loss(mixture.model, mixture.guide, X) for _ in range(400)]
    values = -torch.stack([each.detach() for each in found])
    rows = -torch.stack([gradients(each, mixture) for each in found])
    assert abs(values.mean() - exact) < 4.5 * values.std() / 20
    errors = rows.std(0) / 20
    assert bool(((rows.mean(0) - slopes).abs() <= 4.5 * errors + 1e-12).all())
    # The prior's own parameters see no draw: their terms are sums of closed forms.
    names = [n for n, p in mixture.named_parameters() for _ in range(p.numel())]
    quiet = [error < 1e-12 for error in errors]
    assert {n for n, q in zip(names, quiet, strict=True) if q} == {"logits", "means"}


def test_what_the_program_says_of_enumeration_does_not_matter():
    mixture = Mixture()
    losses = []
    for how in (None, "sequential", "parallel"):

        def marked(program, how=how):
            return pyro.infer.config_enumerate(program, how) if how else program

        torch.manual_seed(0)
        elbo = TraceEnumerate_ELBO()
        losses.append(elbo.loss(marked(mixture.model), marked(mixture.guide), X))
    assert losses[0] == losses[1] == losses[2]


@pytest.mark.parametrize(
    "infer", [{"num_samples": 1}, {"num_samples": 3, "enumerate": "parallel", "expand": True}]
)
def test_a_summed_number_is_not_sampled_several_times(infer):
    def program(x, infer=infer):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Bernoulli(0.3), infer=infer)
            pyro.sample("x", dist.Normal(y, 1.0), obs=x)

    def guide(x, infer=infer):
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Bernoulli(0.6), infer=infer)

    expected = TraceEnumerate_ELBO().loss(program, guide, X, {})
    assert TraceEnumerate_ELBO().loss(program, guide, X) == expected


@pytest.mark.parametrize("how", ["sequential", "parallel"])
def test_a_mark_on_a_draw_without_finitely_many_states_is_left_out(how):
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x, fn=dist.Normal(0.5, 1.0), infer={"enumerate": how}):  # noqa: B006, B008
        with pyro.plate("data", len(x)):
            pyro.sample("z", fn, infer=infer)

    losses = []
    for marked in (guide, lambda x: guide(x, infer={})):
        torch.manual_seed(0)
        losses.append(TraceEnumerate_ELBO().loss(model, marked, X))
    assert losses[0] == losses[1]
    with pytest.raises(NotImplementedError, match=r"the guide's site 'z'.*Poisson"):
        TraceEnumerate_ELBO().loss(model, lambda x: guide(x, fn=dist.Poisson(1.0)), X)


def test_a_state_of_the_model_alone_is_summed_within_the_logarithm():
    mixture = Mixture()

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2, 0.7))

    torch.manual_seed(0)
    ours = TraceEnumerate_ELBO(num_particles=50).loss(mixture.model, guide, X)
    torch.manual_seed(0)
    theirs = TraceEnum_ELBO(num_particles=50).loss(
        pyro.infer.config_enumerate(mixture.model, "parallel"), guide, X
    )
    assert abs(ours - theirs) < 1e-9


def test_bits_in_a_plate_of_their_own_are_summed_to_rounding():
    logits, weights = torch.tensor([0.4, -0.3]), torch.tensor([[1.0, -2.0]])

    def model(x):
        with pyro.plate("data", len(x), dim=-1):
            bits = [pyro.sample(f"b{i}", dist.Bernoulli(logits=logits[i])) for i in range(2)]
            mean = sum(w * b for w, b in zip(weights[0], bits, strict=True))
            pyro.sample("x", dist.Normal(mean, 1.0), obs=x)

    q = torch.tensor([0.2, 0.9])

    def guide(x):
        pyro.param("q", q)
        with pyro.plate("data", len(x), dim=-1):
            for i in range(2):
                pyro.sample(f"b{i}", dist.Bernoulli(q[i]))

    expected = 0.0
    for bits in itertools.product((0.0, 1.0), repeat=2):
        b = torch.tensor(bits)
        log_q = dist.Bernoulli(q).log_prob(b).sum()
        log_p = dist.Bernoulli(logits=logits).log_prob(b).sum()
        log_p = log_p + dist.Normal((weights[0] * b).sum(), 1.0).log_prob(X)
        expected = expected + (log_q.exp() * (log_p - log_q)).sum()
    found = TraceEnumerate_ELBO().loss(model, guide, X)
    assert abs(found + expected) < 1e-12


def test_it_has_less_noise_than_a_score_and_is_chosen():
    pair = SemiSupervisedVAE((1, 2, 2), 3, 2, (4,), seed=1)
    x = pair.sample(5, seed=0)
    result = compare_elbos(pair, x, ["enumerate", "trace"], num_replicates=200, device="cpu")
    names = ("enumerate", "trace")
    summed, drawn = (result[name].gradient_variance["classifier"].mean for name in names)
    assert 10 * summed < drawn
    assert abs(result["enumerate"].bias_z_score) < 4.5
    assert choose(Program(pair.model, pair.guide, (x,), {})) == "enumerate"
    labels = torch.tensor([0, 1, 2, 0, 1])
    assert choose(Program(pair.model, pair.guide, (x, labels), {})) == "trace-mean-field"


def test_the_auxiliary_loss_alone_teaches_the_classifier_from_labels():
    pair = SemiSupervisedVAE((1, 2, 2), 3, 2, (4,), alpha=5.0, seed=1)
    without = SemiSupervisedVAE((1, 2, 2), 3, 2, (4,), alpha=0.0, seed=1)
    x, y = pair.sample(30, seed=0), torch.arange(30) % 3
    x = (x + 0.0 * y[:, None, None, None]).clone()
    x[:, 0, 0, 0] = (y == 0).double()
    before = without.classify(x)
    options = {"num_epochs": 40, "batch_size": 10, "progress": False, "device": "cpu"}
    options |= {"validation": (x, y), "optimizer": lambda p: torch.optim.Adam(p, 0.02)}
    history = fit(pair, (x, y), **options)
    silent = fit(without, (x, y), **options)
    assert history.auxiliary[-1] < 0.8 * history.auxiliary[0]
    assert silent.auxiliary == []
    assert torch.equal(without.classify(x), before)
    assert pair.classify(x)[y == 0, 0].mean() > 0.6
    assert "auxiliary" in history.to_csv().splitlines()[0]


def test_a_prior_needs_no_derivative_of_its_draws():
    """A mixture has no rsample; only the guide draws."""

    def model(x):
        with pyro.plate("data", len(x)):
            parts = dist.Normal(torch.tensor([-1.0, 2.0]), 1.0)
            weights = dist.Categorical(torch.tensor([0.3, 0.7]))
            z = pyro.sample("z", dist.MixtureSameFamily(weights, parts))
            pyro.sample("x", dist.Normal(z, 0.5), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2, 0.7))

    losses = []
    for cls in (TraceEnumerate_ELBO, Trace_ELBO):
        # Known, so that no draw is spent on counting plates and both see the same noise.
        elbo = cls(num_particles=20, max_plate_nesting=1)
        torch.manual_seed(0)
        losses.append(float(elbo.loss(model, guide, X)))
    assert abs(losses[0] - losses[1]) < 1e-9


def test_what_cannot_be_summed_is_refused():
    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Poisson(1.0))

    with pytest.raises(NotImplementedError, match="'z'"):
        TraceEnumerate_ELBO().loss(guide, guide, X)
    with pytest.raises(TypeError, match="num_particles"):
        TraceEnumerate_ELBO(num_particles=1.5)
