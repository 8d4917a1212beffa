"""The path from a diagonal guide to the posterior of the linear Gaussian model."""

from __future__ import annotations

import torch
from torch import Tensor

from ppl_vae import checks
from ppl_vae.checks import Real, positive, value_error
from ppl_vae.closed_forms.parts import linear_gaussian_parts as parts


def path_expectation(
    x: Tensor,
    weight: Tensor,
    loc: Real,
    noise_scale: Real,
    guide_loc: Tensor,
    guide_scale: Real,
    beta: Real,
) -> Tensor:
    """Return E_b[log p(x, z) - log q(z)] under the density in proportion to q(z)^(1-b) p(x, z)^b.

    q = Normal(m, diag(q)). Along the path z is Normal with the precision
    ``P = (1 - b) diag(q^-2) + b T'T`` and the mean ``P^-1 ((1 - b) q^-2 m + b A'r)``. At b = 0 the
    expectation is `elbo`; it rises with b, and its integral from 0 to 1 is `log_evidence`.

    Args:
        x: data, (*batch, d).
        weight: W, (d, k); any k from 1.
        loc: b, (d,) or one number.
        noise_scale: s, one number above 0.
        guide_loc: m, (*batch, k), or (k,) for all examples.
        guide_scale: q, standard deviations above 0: (*batch, k), (k,) or one number.
        beta: b, one number from 0 to 1 (or a tensor that broadcasts to the batch).

    Returns:
        Per example, (*batch), in nats; summed over the d and k dimensions.

    Raises:
        TypeError: an argument is not a floating-point tensor (or number, where one will do).
        ValueError: wrong shapes, no data, a NaN or infinity, a scale not above 0, or a beta
            outside of [0, 1].

    Source:
        Products of powers of Normal densities. That the integral is the evidence: Gelman and
        Meng 1998, section 2; Masrani, Le and Wood 2019, equation 6.

    Example:
        A right and a left sum of ten intervals, and what is between them.

        >>> x, weight = torch.tensor([[1.2]]), torch.tensor([[1.0]])
        >>> q = {"guide_loc": torch.tensor([0.3]), "guide_scale": 0.8**0.5}
        >>> curve = path_expectation(x, weight, 0.0, 0.5**0.5, **q, beta=torch.linspace(0, 1, 11))
        >>> curve[:-1].mean(), curve[1:].mean()
        (tensor(-1.6507), tensor(-1.5568))
    """
    x, difference, w, s, m, q, b = parts.prepare(
        x,
        weight,
        loc,
        noise_scale,
        guide_loc=guide_loc,
        guide_scale=guide_scale,
        beta=beta,
    )
    m = parts.guide_mean(m, w)
    if q.dim() == 0:
        q = q.expand(m.shape[-1:])
    parts.require_shape("guide_scale", q, "(*batch, k), (k,) or ()", w.shape[1:])
    q = positive("guide_scale", q).double()
    b = _share(b).double()
    parts.require_batches(x=x[..., 0], guide_loc=m[..., 0], guide_scale=q[..., 0], beta=b)
    t, _ = parts.factor(w, s)
    b = b[..., None]
    narrow = (1 - b) / q.square()
    precision = torch.diag_embed(narrow) + b[..., None] * (t.mT @ t)
    covariance = torch.linalg.inv(precision)
    pull = narrow * m + b * (difference @ w) / s.square()
    mean = (covariance @ pull[..., None])[..., 0]
    spread = (t @ covariance @ t.mT).diagonal(dim1=-2, dim2=-1).sum(-1)
    variance = covariance.diagonal(dim1=-2, dim2=-1)
    log_joint = -parts.log_normaliser(w, s) - (parts.energy(difference, w, s, mean) + spread) / 2
    log_guide = -q.log() - (((mean - m).square() + variance) / q.square()) / 2
    # The k / 2 log(2 pi) of the prior and of the guide cancel.
    return (log_joint - log_guide.sum(-1)).to(x.dtype)


def _share(beta: Tensor) -> Tensor:
    """Return beta if all of it is from 0 to 1."""
    parts.require_finite("beta", beta)
    if checks.values_are_checked() and bool(((beta < 0) | (beta > 1)).any()):
        raise value_error("beta from 0 to 1", f"{beta}", "0 is the guide, 1 the posterior.")
    return beta
