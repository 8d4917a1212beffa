"""Log-likelihoods of real numbers with heavier tails than a Normal's: Laplace and Student's t."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Cauchy, Laplace, Normal


def laplace_parts(fn: Any, x: Tensor) -> dict[str, Tensor]:  # noqa: ANN401
    """Return the two parts of -|x - loc| / scale - log(2 scale)."""
    error = -(x - fn.loc).abs() / fn.scale
    return {"-|x - loc| / scale": error, "-log(2 scale)": -(2 * fn.scale).log() + 0 * error}


def wrong_laplace(fn: Any, x: Tensor) -> dict[str, Tensor]:  # noqa: ANN401
    """Return what is met in place of a Laplace log-density, beside wrong parameters."""
    gap, scale = x - fn.loc, fn.scale
    same = {"loc": fn.loc, "validate_args": False}
    return {
        "squared error": -gap.square(),
        "squared error over the scale, not the absolute one": -gap.square() / scale
        - (2 * scale).log(),
        "absolute error, scale left out": -gap.abs(),
        "Huber's error (smooth L1)": -torch.where(
            gap.abs() < 1, 0.5 * gap.square(), gap.abs() - 0.5
        ),
        "a Normal of the same loc and scale": Normal(scale=scale, **same).log_prob(x),
        "a Normal of the same mean and variance": Normal(scale=2**0.5 * scale, **same).log_prob(x),
        "half of |x - loc| / scale, as in a Normal": -0.5 * gap.abs() / scale - (2 * scale).log(),
        "the scale is taken for the standard deviation": Laplace(
            scale=scale / 2**0.5, **same
        ).log_prob(x),
    }


def student_t_parts(fn: Any, x: Tensor) -> dict[str, Tensor]:  # noqa: ANN401
    """Return the three parts of Student's t: its kernel, its scale, and what df alone makes."""
    df = fn.df
    kernel = -(df + 1) / 2 * ((x - fn.loc) / fn.scale).square().div(df).log1p()
    log_scale = -fn.scale.log() + 0 * kernel
    return {
        "-(df + 1)/2 log(1 + ((x - loc) / scale)^2 / df)": kernel,
        "-log(scale)": log_scale,
        "lgamma((df + 1)/2) - lgamma(df/2) - log(pi df)/2": fn.log_prob(x) - kernel - log_scale,
    }


def wrong_student_t(fn: Any, x: Tensor) -> dict[str, Tensor]:  # noqa: ANN401
    """Return what is met in place of Student's t, beside wrong parameters."""
    df, loc, scale = fn.df, fn.loc, fn.scale
    square = ((x - loc) / scale).square()
    kernel = (square / df).log1p()
    constant = fn.log_prob(x) + (df + 1) / 2 * kernel
    spread = torch.where(df > 2, ((df - 2) / df).abs().sqrt(), 1.0)
    same = {"loc": loc, "validate_args": False}
    return {
        "df is left out: a Normal of the same loc and scale": Normal(scale=scale, **same).log_prob(
            x
        ),
        "df is left out: a Cauchy, whose df is 1": Cauchy(scale=scale, **same).log_prob(x),
        "scale is taken for the standard deviation": type(fn)(
            df=df, loc=loc, scale=scale * spread, validate_args=False
        ).log_prob(x),
        "the power is df/2, not (df + 1)/2": constant - df / 2 * kernel,
        "the power's factor 1/2 is left out": constant - (df + 1) * kernel,
        "the power (df + 1)/2 is left out": constant - kernel,
        "the square is not divided by df": constant - (df + 1) / 2 * square.log1p(),
        "the square is divided by scale, not scale^2": constant
        - (df + 1) / 2 * (square * scale / df).log1p(),
        "squared error": -(x - loc).square(),
        "absolute error": -(x - loc).abs(),
    }
