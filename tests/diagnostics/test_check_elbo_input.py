"""What `check_elbo` refuses: objectives, options and data."""

import pytest
import torch
import torch.nn.functional as F

from ppl_vae import BernoulliVAE, check_elbo


@pytest.fixture
def pair():
    return BernoulliVAE((1, 4, 4), latent_dim=2, hidden=(8,), seed=1)


@pytest.fixture
def x(pair):
    return pair.sample(16, seed=0)


def right(pair):
    def objective(x):
        loc, scale = pair.encode(x)
        logits = pair.decode(loc + scale * torch.randn_like(scale))
        nll = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum((1, 2, 3))
        return (nll + (0.5 * (loc**2 + scale**2 - 1) - scale.log()).sum(-1)).mean()

    return objective


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda v, p: v.item(), TypeError, "returns a tensor, a scalar; got float"),
        (lambda v, p: 3, TypeError, "returns a tensor, a scalar; got int"),
        (lambda v, p: v.long(), TypeError, "of a floating dtype; got torch.int64"),
        (lambda v, p: v[None], ValueError, r"of shape \(\), a scalar, .* got shape \(1,\)"),
        (lambda v, p: v * float("nan"), ValueError, "a finite objective; got nan"),
        (lambda v, p: v.detach(), ValueError, "with a gradient; got a detached tensor"),
        (
            lambda v, p: torch.ones((), requires_grad=True) * 2,
            ValueError,
            "of the pair's own parameters",
        ),
        (
            lambda v, p: [p.encoder.net[0].bias.data.add_(1.0), v][1],
            ValueError,
            "leaves the parameters alone; got one that changed them",
        ),
    ],
    ids=["float", "int", "long", "shape", "nan", "detached", "foreign", "step"],
)
def test_bad_objectives_are_refused(pair, x, spoil, error, message):
    before = {n: t.clone() for n, t in pair.state_dict().items()}
    with pytest.raises(error, match=message):
        check_elbo(lambda x: spoil(right(pair)(x), pair), pair, x)
    assert all(torch.equal(before[n], t) for n, t in pair.state_dict().items())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"kind": "los"}, ValueError, "kind as one of elbo, loss; got 'los'"),
        ({"reduction": "avg"}, ValueError, "reduction as one of mean, sum, none"),
        ({"num_replicates": 3}, ValueError, "num_replicates of at least 10; got 3"),
        ({"num_replicates": 2.5}, TypeError, "num_replicates as an int"),
    ],
)
def test_bad_options_are_refused(pair, x, options, error, message):
    with pytest.raises(error, match=message):
        check_elbo(right(pair), pair, x, **options)


def test_bad_inputs_are_refused(pair, x):
    with pytest.raises(TypeError, match="objective as a function of the data"):
        check_elbo(right(pair)(x), pair, x)
    with pytest.raises(ValueError, match="pixels that are 0 or 1"):
        check_elbo(right(pair), pair, x * 0.5)
    with pytest.raises(TypeError, match=r"a ppl_vae.Pair, or a Pyro model"):
        check_elbo(right(pair), "pair", x)
