"""True posteriors on a grid over two latent dimensions, and their pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from matplotlib.axes import Axes
from torch import Tensor

from ppl_vae import checks, plots
from ppl_vae.diagnostics.gap.gaussian_code import GaussianCode
from ppl_vae.diagnostics.gap.gaussians import Gaussians
from ppl_vae.seeding import derive, seeded

_SIDES = (81, 81, 141)  # the first finds the mass, the next draw in on it, the last is shown
_DROP = 8.0  # nats below the mode: a Gaussian has 3 in 10,000 of its mass there
_SPAN = 3.0  # standard deviations of the Gaussians that are to be seen


@dataclass(frozen=True)
class PosteriorGrid:
    """A posterior density at the points of a rectangular grid.

    Attributes:
        first: values of the first latent dimension, (columns,).
        second: values of the second, (rows,).
        density: p(z | x), (rows, columns).
    """

    first: Tensor
    second: Tensor
    density: Tensor

    @property
    def mass(self) -> float:
        """How much of the posterior lies on the grid: the sum of the density over its cells."""
        area = (self.first[1] - self.first[0]) * (self.second[1] - self.second[0])
        return float(self.density.sum() * area)


def posterior_grid(
    code: GaussianCode, log_evidence: float, shown: Sequence[Gaussians]
) -> PosteriorGrid:
    """Return p(z | x) of one example where its mass is, and where `shown` have theirs.

    Args:
        code: of one example, with two latent dimensions. The search for the mass begins with the
            spread of draws from the prior, of torch's global stream.
        log_evidence: log p(x), in nats.
        shown: Gaussians that are to be inside of the picture, each of one example.
    """
    draws = code.prior_draws(256)[:, 0]
    low, high = _box(Gaussians(draws.mean(0, keepdim=True), draws.std(0).diag()[None]), 5.0)
    edges = [_box(gaussians, _SPAN) for gaussians in shown]
    kept_low = torch.stack([edge[0] for edge in edges]).amin(0)
    kept_high = torch.stack([edge[1] for edge in edges]).amax(0)
    low, high = low.minimum(kept_low), high.maximum(kept_high)
    lines, log_joint = [], low
    for number, side in enumerate(_SIDES):
        unit = torch.linspace(0, 1, side, dtype=low.dtype, device=low.device)
        lines = [a + (b - a) * unit for a, b in zip(low, high, strict=True)]
        points = torch.cartesian_prod(*lines)
        log_joint = code.log_joint(points.unsqueeze(1)).squeeze(1).nan_to_num(-math.inf)
        if number < len(_SIDES) - 1:
            mass = points[log_joint > log_joint.max() - _DROP]
            cell = (high - low) / (side - 1)
            low = kept_low.minimum(mass.amin(0) - cell)
            high = kept_high.maximum(mass.amax(0) + cell)
    density = (log_joint - log_evidence).exp().reshape(len(lines[0]), -1)
    return PosteriorGrid(lines[0], lines[1], density.mT)


def draw_posteriors(
    code: GaussianCode,
    log_evidence: Tensor,
    gaussians: Mapping[str, Gaussians],
    *,
    titles: Sequence[str],
    axes: Sequence[Axes] | None = None,
) -> list[Axes]:
    """Draw p(z | x) of some examples, with Gaussians over it.

    Args:
        code: of these examples.
        log_evidence: log p(x), (batch,).
        gaussians: by name, one per example, each.
        titles: one per example.
        axes: where, at least one per example; a new figure if None.

    Raises:
        NotImplementedError: a code that has not two dimensions.
        ValueError: fewer Axes than examples.
    """
    if code.latent_dim != 2:
        raise NotImplementedError(
            checks.message(
                "a code of two dimensions",
                f"one of {code.latent_dim}",
                "Draw the gaps as bars instead: plot().",
            )
        )
    count = code.num_examples
    if axes is None:
        columns = min(count, 3)
        grid = plots.subplots(-(-count // columns), columns, size=(3.7, 3.5))[1].ravel()
        for unused in grid[count:]:
            unused.set_axis_off()
        axes = list(grid)
    if len(axes) < count:
        raise ValueError(
            checks.message(f"at least {count} Axes", f"{len(axes)}", "Pass more, or lower count.")
        )
    for number in range(count):
        one = slice(number, number + 1)
        with seeded(derive(0, "posterior grid"), log_evidence.device):
            grid = posterior_grid(
                code.part(one), float(log_evidence[number]), [g[one] for g in gaussians.values()]
            )
        plots.posterior_plane(
            grid.first.cpu().numpy(),
            grid.second.cpu().numpy(),
            grid.density.cpu().numpy(),
            {
                name: (g.loc[number].cpu().numpy(), g.scale_tril[number].cpu().numpy())
                for name, g in gaussians.items()
            },
            axes[number],
            title=titles[number],
            legend=number == 0,
        )
    return list(axes[:count])


def _box(gaussians: Gaussians, span: float) -> tuple[Tensor, Tensor]:
    loc, reach = gaussians.loc[0], span * gaussians.scale_tril[0].norm(dim=-1)
    return loc - reach, loc + reach
