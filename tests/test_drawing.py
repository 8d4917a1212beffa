"""Models that draw their data: what is observed is drawn, what is computed stays computed."""

import pyro
import pyro.distributions as dist
import torch
from torch import nn

from ppl_vae import Pair, bidirectional_evidence, seeded
from ppl_vae.drawing import drawing


class Doubled(Pair):
    """x | z ~ Normal(2 z, 1) of three numbers, with 2 z as a site of its own within the plate."""

    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(()))

    def blank(self, n):
        return torch.zeros(n, 3)

    def model(self, x):
        self.begin(x)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(len(x)), 1.0))
            mean = pyro.deterministic("mean", 2 * z.unsqueeze(-1) + x.new_zeros(3), event_dim=1)
            pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)

    def guide(self, x):
        self.begin(x)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.loc + x.mean(-1), 1.0))


def test_a_computed_site_within_a_plate_stays_computed():
    pair, like = Doubled(), torch.zeros(4000, 3)
    with seeded(0):
        trace = pyro.poutine.trace(drawing(pair.model)).get_trace(like)
    mean = 2 * trace.nodes["z"]["value"].unsqueeze(-1).expand(-1, 3)
    assert torch.equal(trace.nodes["mean"]["value"], mean)
    noise = trace.nodes["x"]["value"] - mean
    assert abs(noise.mean()) < 4.5 / 12000**0.5
    assert abs(noise.std() - 1) < 4.5 / 24000**0.5


def test_samples_and_two_sided_evidence_of_such_a_pair():
    pair = Doubled()
    x = pair.sample(4000, seed=1)
    assert x.shape == (4000, 3)
    # Each number has variance 4 + 1, and two of them the covariance 4.
    covariance = x.T.cov()
    truth = 4 + torch.eye(3)
    assert ((covariance - truth).abs() < 4.5 * (50 / 4000) ** 0.5).all()
    found = bidirectional_evidence(pair, torch.zeros(5, 3), num_temperatures=50)
    exact = dist.MultivariateNormal(torch.zeros(3), truth).log_prob(found.x)
    assert (found.lower.per_example().z_score(exact).abs() < 4.5).all()
