"""Log-likelihoods of pixels: Bernoulli, continuous Bernoulli and Normal."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def bernoulli_parts(fn: Any, x: Tensor) -> dict[str, Tensor]:  # noqa: ANN401
    """Return the parts of the pixels that are 1, and that are 0."""
    return {"ones": -x * F.softplus(-fn.logits), "zeros": -(1 - x) * F.softplus(fn.logits)}


def normal_parts(fn: Any, x: Tensor) -> dict[str, Tensor]:  # noqa: ANN401
    """Return the squared error and the logarithm of the scale."""
    gap = (x - fn.loc) / fn.scale
    return {"squares": -0.5 * gap**2, "log": (-fn.scale.log()).expand(gap.shape)}


def wrong_bernoulli(fn: Any, x: Tensor) -> dict[str, Tensor]:  # noqa: ANN401
    """Return what is met in place of a cross-entropy of logits."""
    p = torch.sigmoid(fn.logits)
    high, low = torch.log(x).clamp_min(-100), torch.log1p(-x).clamp_min(-100)
    return {
        "sigmoid twice": x * F.logsigmoid(p) + (1 - x) * F.logsigmoid(-p),
        "squared error": -((x - p) ** 2),
        "squared error of logits": -((x - fn.logits) ** 2),
        "absolute error": -(x - p).abs(),
        "arguments swapped": p * high + (1 - p) * low,
        "colours inverted": (1 - x) * F.logsigmoid(fn.logits) + x * F.logsigmoid(-fn.logits),
        "probability": -((1 - x) - p).abs(),
        "its decoder gives probabilities, which the pair takes for logits "
        "(decoder_output='probs'?)": _of_probabilities(fn.logits, x),
    }


def wrong_normal(fn: Any, x: Tensor) -> dict[str, Tensor]:  # noqa: ANN401
    """Return what is met in place of a Normal log-density."""
    loc, scale = fn.loc.expand(torch.broadcast_shapes(fn.loc.shape, x.shape)), fn.scale
    return {
        "absolute error": -(x - loc).abs(),
        "loc through a sigmoid": -0.5 * ((x - loc.sigmoid()) / scale) ** 2 - scale.log(),
        "loc through tanh": -0.5 * ((x - loc.tanh()) / scale) ** 2 - scale.log(),
        "squared error, scale left out": -((x - loc) ** 2),
        "scale as variance": -0.5 * (x - loc) ** 2 / scale - 0.5 * scale.log(),
        "scale squared": -0.5 * ((x - loc) / scale**2) ** 2 - 2 * scale.log(),
        "not squared scale": -0.5 * (x - loc) ** 2 / scale - scale.log(),
        "cross-entropy": x * F.logsigmoid(loc) + (1 - x) * F.logsigmoid(-loc),
    }


def _of_probabilities(p: Tensor, x: Tensor) -> Tensor:
    edge = torch.finfo(p.dtype).eps
    p = p.clamp(edge, 1 - edge)
    return x * p.log() + (1 - x) * (-p).log1p()


def continuous_bernoulli_parts(fn: Any, x: Tensor) -> dict[str, Tensor]:  # noqa: ANN401
    """Return a cross-entropy's two parts, and the logarithm of what normalises it on [0, 1]."""
    parts = bernoulli_parts(fn, x)
    return parts | {"log C (the normaliser)": fn.log_prob(x) - parts["ones"] - parts["zeros"]}


def wrong_continuous_bernoulli(fn: Any, x: Tensor) -> dict[str, Tensor]:  # noqa: ANN401
    """Return what is met in place of a continuous Bernoulli, beside wrong parameters."""
    right, mean = fn.log_prob(x), fn.mean
    entropy = sum(bernoulli_parts(fn, x).values())
    inverse = type(fn)(logits=mean.logit(), validate_args=False)
    return wrong_bernoulli(fn, x) | {
        "a Bernoulli's cross-entropy: the log normaliser is left out": entropy,
        "the log normaliser has the wrong sign": 2 * entropy - right,
        "a Bernoulli's cross-entropy with the mean for probs": x * mean.log()
        + (1 - x) * torch.log1p(-mean),
        "its mean is taken for probs": inverse.log_prob(x),
    }
