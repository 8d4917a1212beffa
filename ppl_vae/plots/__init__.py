"""Pictures: arrays and Axes in, Axes out.

Nothing here knows torch or a pair, so every function serves any model's numbers.

| picture | function |
|---|---|
| inputs, samples | `image_grid` |
| inputs above reconstructions | `reconstructions` |
| a walk over the latent plane | `latent_walk` |
| codes by label | `latent_scatter` |
| ELBO by epoch, train and test | `elbo_history` |
| posterior against guide, one latent dimension | `posterior_against_guide` |
| posterior against guide, two latent dimensions | `posterior_plane` |
| evidence gap, a bar an image | `evidence_gap` |
| gradient variances by estimator | `gradient_variance_bars` |
| ranks of simulated latents | `rank_ecdf` |
| means with intervals, by setting | `means_with_intervals` |
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ppl_vae.plots.calibration import rank_ecdf
from ppl_vae.plots.curves import elbo_history, gradient_variance_bars, posterior_against_guide
from ppl_vae.plots.figure import (
    BLUE,
    COLOURS,
    DPI,
    GREEN,
    GREY,
    ORANGE,
    RED,
    save,
    subplots,
)
from ppl_vae.plots.gap import evidence_gap
from ppl_vae.plots.images import image_grid, reconstructions, tile
from ppl_vae.plots.latent import (
    MAX_LABELS,
    latent_scatter,
    latent_walk,
    principal_components,
)
from ppl_vae.plots.posterior import posterior_plane
from ppl_vae.plots.sweeps import means_with_intervals

__all__ = [
    "BLUE",
    "COLOURS",
    "DPI",
    "GREEN",
    "GREY",
    "MAX_LABELS",
    "ORANGE",
    "RED",
    "Axes",
    "Figure",
    "elbo_history",
    "evidence_gap",
    "gradient_variance_bars",
    "image_grid",
    "latent_scatter",
    "latent_walk",
    "means_with_intervals",
    "posterior_against_guide",
    "posterior_plane",
    "principal_components",
    "rank_ecdf",
    "reconstructions",
    "save",
    "subplots",
    "tile",
]
