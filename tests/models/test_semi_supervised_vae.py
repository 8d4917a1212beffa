"""The semi-supervised VAE: its ELBO and its classifier's term by hand, and labels of any width."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO

from ppl_vae import fit, log_evidence
from ppl_vae.models import ConditionalVAE, SemiSupervisedVAE

WIDTHS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
LABELS = torch.tensor([0, 2, 1, 1])


def vae(**options):
    return SemiSupervisedVAE((1, 2, 2), 3, 1, (4,), seed=0, **options).double()


@pytest.fixture
def images():
    return vae().sample(4, seed=0)


def test_the_label_is_summed_out_of_the_evidence(images):
    pair = vae()
    options = {"method": "quadrature", "device": "cpu"}
    each = [log_evidence(pair, (images, torch.full((4,), y)), **options).mean for y in range(3)]
    # log p(x) = log of the sum over y of p(x, y), of which each is known.
    exact = torch.stack(each).logsumexp(0)
    found = log_evidence(pair, images, num_samples=20_000, device="cpu")
    assert bool(((found.mean - exact).abs() < 4.5 * found.standard_error + 1e-6).all())
    labelled = torch.tensor([True, False, False, True])
    some = log_evidence(pair, (images, LABELS, labelled), num_samples=20_000, device="cpu")
    wanted = torch.where(labelled, torch.stack(each)[LABELS, torch.arange(4)], exact)
    assert bool(((some.mean - wanted).abs() < 4.5 * some.standard_error + 1e-6).all())


@pytest.mark.parametrize("width", WIDTHS, ids=str)
def test_the_classifiers_term_is_alpha_times_its_cross_entropy(images, width):
    pair, labels = vae(alpha=0.3), LABELS.to(width)
    log_q = pair.classify(images).log()[torch.arange(4), LABELS]
    assert torch.allclose(pair.auxiliary_loss(images, labels), -0.3 * log_q.sum())
    labelled = torch.tensor([True, False, True, False])
    some = pair.auxiliary_loss(images, torch.where(labelled, labels, -1), labelled)
    assert torch.allclose(some, -0.3 * log_q[labelled].sum())
    frozen = {"optimizer": lambda p: torch.optim.SGD(p, lr=0.0), "num_epochs": 1}
    history = fit(pair, (images, labels), **frozen, progress=False, device="cpu")
    assert abs(history.auxiliary[0] + 0.3 * log_q.mean().item()) < 1e-12


@pytest.mark.parametrize("width", WIDTHS, ids=str)
@pytest.mark.parametrize("cls", [ConditionalVAE, SemiSupervisedVAE])
def test_labels_of_any_width_give_the_same_elbo(images, cls, width):
    pair = cls((1, 2, 2), 3, 1, (4,), seed=0).double()
    found = []
    for labels in (LABELS, LABELS.to(width)):
        pyro.set_rng_seed(0)
        found.append(Trace_ELBO().loss(pair.model, pair.guide, images, labels))
    pyro.set_rng_seed(0)
    loc, scale = pair.encode(images, LABELS)
    z = loc + scale * torch.randn(4, 1)
    elbo = pair.likelihood(z, LABELS).log_prob(images).sum()
    elbo += dist.Normal(0.0, 1.0).log_prob(z).sum() - dist.Normal(loc, scale).log_prob(z).sum()
    if cls is SemiSupervisedVAE:
        elbo -= 4 * torch.tensor(3.0).log()
    assert found[0] == found[1]
    assert abs(found[0] + elbo.item()) < 1e-10


def test_a_label_of_minus_1_is_pointed_to_labelled(images):
    with pytest.raises(ValueError, match=r"labels from -1 to 1. .* known by labelled, \(y >= 0\)"):
        vae().check((images, torch.tensor([0, -1, 1, 1])))
