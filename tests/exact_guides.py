"""Pairs whose guide is the posterior, but for an error that is planted."""

import math

import torch

from ppl_vae import GammaPoisson, LinearGaussian


def linear_gaussian(*, scale: float = 1.0, shift: float = 0.0) -> LinearGaussian:
    """One latent number; the guide's scale and mean are off, in standard deviations."""
    pair = LinearGaussian(3, 1, noise_scale=0.7, seed=1)
    with torch.no_grad():
        weight, noise = pair.decoder.weight, pair.decoder.log_scale.exp()
        precision = (weight.square().sum() / noise**2 + 1).reshape(1, 1)
        std = precision.rsqrt().reshape(1)
        pair.encoder.weight.copy_(weight.mT / noise**2 / precision)
        pair.encoder.loc.copy_(shift * std)
        pair.encoder.log_scale.copy_(std.log() + math.log(scale))
    return pair


class ExactGammaPoisson(GammaPoisson):
    """The guide's concentration and rate are those of the posterior, the latter times `wrong`."""

    def __init__(self, concentration: float = 2.0, rate: float = 0.5, wrong: float = 1.0) -> None:
        super().__init__(concentration, rate)
        self.wrong = wrong

    def guide_parameters(self, x):
        rate = (self.rate + x.shape[-1]) * self.wrong
        return self.concentration + x.sum(-1), rate.expand(x.shape[:-1])
