"""Images and layers by hand: robust errors, pixels in another order, a floor for one layer."""

import torch
import torch.nn.functional as F
from diagnostics.small_programs import Program
from torch.distributions import Normal, kl_divergence

from ppl_vae import BernoulliVAE, ConvGaussianVAE, HierarchicalVAE

IMAGE = (1, 2, 3)


def _draw(pair, x):
    loc, scale = pair.encode(x)
    z = loc + scale * torch.randn_like(scale)
    return z, (0.5 * (loc**2 + scale**2 - 1) - scale.log()).sum(-1)


def _k3(pair, x):
    q, p = Normal(*pair.encode(x)), Normal(0.0, 1.0)
    z = q.rsample()
    log_ratio = (p.log_prob(z) - q.log_prob(z)).sum(-1)
    return z, log_ratio.exp() - 1 - log_ratio


def _gaussian(name, error, *says):
    """An objective whose reconstruction term is a function of what is decoded, and of x."""

    def make():
        pair = ConvGaussianVAE(latent_dim=3, learn_scale=True, image_shape=(1, 4, 4), seed=1)

        def objective(x):
            z, kl = _draw(pair, x)
            return (error(pair.decode(z), x, pair.log_scale) + kl).mean()

        return pair, pair.sample(24, seed=2), objective

    return Program(name, make, says)


def _huber(loc, x, log_scale):
    error = (x - loc) / log_scale.exp()
    loss = F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=0.5)
    constant = -Normal(0.0, log_scale.exp()).log_prob(torch.zeros_like(x))
    return (loss + constant).sum(IMAGE)


def _coloured(name, order, *says, draw=_draw, weight=1.0):
    """An objective that compares the decoder's pixels with those of x in some order."""

    def make():
        pair = BernoulliVAE((3, 4, 4), latent_dim=3, hidden=(12,), seed=1)

        def objective(x):
            z, kl = draw(pair, x)
            each = F.binary_cross_entropy_with_logits(pair.decode(z), order(x), reduction="none")
            return (each.sum(IMAGE) + weight * kl).mean()

        return pair, pair.sample(24, seed=2), objective

    return Program(name, make, says)


def _layers(name, upper, *says):
    """An objective of two layers in which a function of the upper one's KL stands for it."""

    def make():
        pair = HierarchicalVAE((1, 4, 4), latent_dims=(4, 3), guide="bottom-up", seed=1)

        def objective(x):
            q1 = Normal(*pair.encoder[0](x.flatten(1)))
            z1 = q1.rsample()
            q2 = Normal(*pair.encoder[1](z1))
            z2 = q2.rsample()
            p1 = Normal(*pair.prior[0](z2))
            lower = (q1.log_prob(z1) - p1.log_prob(z1)).sum(-1)
            kl = kl_divergence(q2, Normal(torch.zeros_like(z2), torch.ones_like(z2)))
            return (lower + upper(kl) - pair.likelihood(z1).log_prob(x)).mean()

        return pair, pair.sample(24, seed=2), objective

    return Program(name, make, says)


PIXELS = [
    _gaussian(
        "root of the mean squared error",
        lambda loc, x, _: (x - loc).square().mean(IMAGE).sqrt(),
        "each example's mean squared error (RMSE)",
    ),
    _gaussian("Huber, in units of the scale", _huber, "Huber loss with delta 0.5"),
    _gaussian(
        "smooth L1",
        lambda loc, x, _: F.smooth_l1_loss(loc, x, reduction="none", beta=0.3).sum(IMAGE),
        "smooth L1 (Huber) loss with beta 0.3",
    ),
    _coloured("CHW", lambda x: x),
    _coloured(
        "HWC",
        lambda x: x.permute(0, 2, 3, 1).reshape(x.shape),
        "HWC taken for CHW",
    ),
    _coloured("transposed", lambda x: x.transpose(-1, -2), "CWH taken for CHW"),
    _coloured("k3", lambda x: x, draw=_k3),
    _coloured("2 x k3", lambda x: x, "KL", "= 2", draw=_k3, weight=2.0),
    _layers("two layers", lambda kl: kl.sum(-1)),
    _layers("a floor for a layer", lambda kl: kl.sum(-1).clamp_min(1.0), "z2", "above 1 nats"),
    _layers(
        "a floor for a layer's dimensions",
        lambda kl: kl.clamp_min(0.3).sum(-1),
        "each dimension's KL of the layer z2",
        "above 0.3 nats",
    ),
    _layers(
        "a ceiling for a layer", lambda kl: kl.sum(-1).clamp_max(0.7), "z2", "cut off above 0.7"
    ),
]
