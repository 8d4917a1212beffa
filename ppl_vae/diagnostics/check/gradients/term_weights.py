"""The weight with which each term's gradient enters an objective's."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ppl_vae.diagnostics.estimate import Estimate

NAMES = ("log_likelihood", "log_prior", "entropy")


def regressed(
    table: Tensor, weights: Tensor
) -> tuple[Estimate[float], dict[str, Estimate[float]]]:
    """Return the ratio to the right gradient and the weight of each term, by the jackknife.

    Args:
        table: gradients by block, (blocks, 1 + terms, coordinates): the objective's, then terms'.
        weights: of the terms in the right gradient.
    """
    table = table.double()
    count = len(table)
    total = table.sum(0)
    kept = [i for i in range(len(weights)) if float(total[1 + i].norm()) > 0]

    def solved(mean: Tensor) -> Tensor:
        right = weights @ mean[1:]
        length = right @ right
        ratio = (mean[0] @ right) / length if length > 0 else mean.new_tensor(math.nan)
        terms = mean[1:][kept]
        norm = terms.norm(dim=1, keepdim=True).clamp_min(1e-300)
        fit = torch.linalg.lstsq((terms / norm).T, mean[0][:, None], driver="gelsd").solution
        return torch.cat([ratio[None], fit[:, 0] / norm[:, 0]])

    mean = solved(total / count)
    without = torch.stack([solved((total - each) / (count - 1)) for each in table])
    error = ((without - without.mean(0)).square().sum(0) * (count - 1) / count).sqrt()
    estimates = [Estimate(float(m), float(e), count) for m, e in zip(mean, error, strict=True)]
    return estimates[0], {NAMES[i]: e for i, e in zip(kept, estimates[1:], strict=True)}
