"""The pictures that fit a pair."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray
from pyro import poutine
from torch import Tensor

from ppl_vae import checks, plots
from ppl_vae.batch import BatchLike, Data
from ppl_vae.drawing import drawing
from ppl_vae.functions import as_program
from ppl_vae.inference.batches import DataSource, first_examples
from ppl_vae.inference.monitoring.guide_means import guide_means
from ppl_vae.inference.monitoring.history import History
from ppl_vae.inference.monitoring.posterior_picture import exact_posterior
from ppl_vae.pair import Pair, leaving_no_params
from ppl_vae.seeding import Seed, as_int, derive, seeded
from ppl_vae.vae import VAE, ImagePair

NUM_SAMPLES = 64
NUM_RECONSTRUCTIONS = 16
NUM_CODES = 10_000
WALK_EXTENT = 4.0
WALK_STEPS = 20

Pictures = dict[str, Callable[[], Axes]]


def draw_run(path: Path, pair: Pair, data: DataSource, history: History) -> list[Path]:
    """Draw a run's ELBO history and what else fits its pair; return the files."""
    curves = {"train": history.train_elbo, "test": history.test_elbo}
    found: Pictures = {"elbo.png": lambda: plots.elbo_history(curves)}
    x = first_examples(data, NUM_CODES, pair)
    found |= pair_pictures(
        pair, x, _labels(data, len(x)), pixel_range=getattr(data, "pixel_range", None)
    )
    return _write(found, path)


def draw_pictures(
    pair: Pair,
    x: BatchLike,
    folder: str | Path,
    *,
    labels: ArrayLike | Tensor | None = None,
    pixel_range: tuple[float, float] | None = None,
    seed: Seed = 0,
) -> list[Path]:
    """Write the pictures that fit a pair into a folder, as PNGs.

    Pairs of images: ``inputs``, ``samples``, ``reconstructions``; for one or two latent dimensions
    ``latent_walk``; for two or more ``latent_scatter``, one for each latent site if there are
    several, by principal components beyond two dimensions. Pairs with one scalar latent whose
    exact posterior is known: ``posterior``.

    Args:
        pair: what is drawn.
        x: data that the pair can score, (batch, *image_shape) or (batch, pixels) for images, with
            its other arguments in a tuple or mapping; the scatter shows the first 10,000, the
            others the first 64 or 16.
        folder: made if it is not there; files of these names are replaced.
        labels: of the data, (batch,), for the scatter's colours.
        pixel_range: the values that are black and white; the pair's own if None.
        seed: of the samples.

    Returns:
        The files written.

    Raises:
        TypeError: data of a wrong kind.
        ValueError: data that the pair cannot score, or not one label per example.

    Example:
        >>> import tempfile
        >>> from ppl_vae import BernoulliVAE
        >>> pair = BernoulliVAE((1, 8, 8), latent_dim=2, hidden=(16,), seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     files = draw_pictures(pair, pair.sample(16, seed=0), folder)
        >>> [file.stem for file in files]
        ['inputs', 'samples', 'reconstructions', 'latent_walk', 'latent_scatter']
    """
    found = pair_pictures(pair, x, labels, pixel_range=pixel_range, seed=seed)
    Path(folder).mkdir(parents=True, exist_ok=True)
    return _write(found, Path(folder))


def pair_pictures(
    pair: Pair,
    x: BatchLike,
    labels: ArrayLike | Tensor | None = None,
    *,
    pixel_range: tuple[float, float] | None = None,
    seed: Seed = 0,
) -> Pictures:
    """Return what `draw_pictures` draws as functions, by the name of the file."""
    pair, x = as_program(pair, x)
    pair.check(x)
    labels = labels.cpu().numpy() if isinstance(labels, Tensor) else labels
    if labels is not None and np.shape(labels) != (len(x),):
        raise ValueError(
            checks.message(
                f"{len(x)} labels, one per example",
                f"shape {np.shape(labels)}",
                "Pass as many labels as examples, or None.",
            )
        )
    if not isinstance(pair, ImagePair):
        densities = exact_posterior(pair, x)
        if densities is None:
            return {}
        return {"posterior.png": lambda: plots.posterior_against_guide(*densities)}
    low, high = pixel_range or pair.data_options.get("pixel_range", (0.0, 1.0))
    ends = {"vmin": low, "vmax": high}
    return (
        _image_pictures(pair, x, ends, seed)
        | _walk(pair, ends)
        | _scatters(pair, x[:NUM_CODES], labels)
    )


def _image_pictures(pair: ImagePair, x: Data, ends: dict[str, Any], seed: Seed) -> Pictures:
    shape = pair.image_shape
    found: Pictures = {
        "inputs.png": lambda: plots.image_grid(_array(_images(pair, x[:NUM_SAMPLES])), **ends),
        "samples.png": lambda: plots.image_grid(
            _array(prior_means(pair, NUM_SAMPLES, seed=seed)),
            title="means of p(x | z), z from the prior",
            **ends,
        ),
    }
    reconstruct: Callable[[Data], Tensor] | None = getattr(pair, "reconstruct", None)
    if reconstruct is not None:
        few = x[:NUM_RECONSTRUCTIONS]
        found["reconstructions.png"] = lambda: plots.reconstructions(
            _array(_images(pair, few)), _array(reconstruct(few).reshape(-1, *shape)), **ends
        )
    return found


def _images(pair: ImagePair, x: Data) -> Tensor:
    first = next(iter(pair.arguments(x).values()))
    return first.reshape(-1, *pair.image_shape)


def _walk(pair: ImagePair, ends: dict[str, Any]) -> Pictures:
    if not isinstance(pair, VAE) or pair.latent_dim > 2:
        return {}
    decode = decoder(pair)
    if pair.latent_dim == 2:
        walk: dict[str, Any] = {"extent": WALK_EXTENT, "steps": WALK_STEPS, **ends}
        return {"latent_walk.png": lambda: plots.latent_walk(decode, **walk)}
    line = np.linspace(-WALK_EXTENT, WALK_EXTENT, WALK_STEPS)[:, None]
    title = f"z from {-WALK_EXTENT:g} to {WALK_EXTENT:g}"
    return {
        "latent_walk.png": lambda: plots.image_grid(
            decode(line), columns=WALK_STEPS, title=title, **ends
        )
    }


def _scatters(pair: ImagePair, x: Data, labels: ArrayLike | None) -> Pictures:
    means = {name: _array(mean) for name, mean in guide_means(pair, x).items()}
    shown = None if labels is None else np.asarray(labels)[:NUM_CODES]
    if shown is not None and len(np.unique(shown.astype(str))) > plots.MAX_LABELS:
        shown = None
    found: Pictures = {}
    for name, codes in means.items():
        if codes.shape[1] > 1:
            file = "latent_scatter.png" if len(means) == 1 else f"latent_scatter_{name}.png"
            title = f"means of q({name} | x)" if len(means) > 1 else "means of q(z | x)"
            found[file] = _later(plots.latent_scatter, codes, shown, title=title)
    return found


@torch.no_grad()
def prior_means(pair: Pair, count: int, *, seed: Seed = 0) -> Tensor:
    """Return the means of p(x | z) at `count` draws of the latents from the prior.

    Args:
        pair: any whose ``x`` has a distribution with a mean.
        count: of draws, at least 1.
        seed: of the draws.

    Returns:
        (count, *image_shape) for images.

    Raises:
        TypeError: `count` is no int.
        ValueError: `count` below 1.
    """
    pair, blank = as_program(pair, pair.blank(checks.count("count", count)))
    stream = derive(as_int(seed), "prior means")
    with leaving_no_params(), poutine.block(), seeded(stream, pair.device):
        trace: Any = poutine.trace(drawing(pair.model)).get_trace(blank)
    return trace.nodes["x"]["fn"].mean


def decoder(pair: VAE) -> Callable[[NDArray[np.floating]], NDArray[np.floating]]:
    """Return a function from codes, (count, latent_dim), to mean images, as arrays."""

    @torch.no_grad()
    def decode(codes: NDArray[np.floating]) -> NDArray[np.floating]:
        z = torch.as_tensor(codes, dtype=pair.dtype, device=pair.device)
        return _array(pair.likelihood(z).mean)

    return decode


def _labels(data: object, count: int) -> NDArray[Any] | None:
    """Return the labels of the first examples, as names if the classes have some."""
    labels = getattr(data, "labels", None)
    if not isinstance(labels, Tensor) or not getattr(data, "has_labels", True):
        return None
    numbers = labels[:count].cpu().numpy()
    classes = getattr(data, "classes", None)
    return numbers if classes is None else np.asarray(classes)[numbers]


def _later(draw: Callable[..., Axes], *args: object, **kwargs: object) -> Callable[[], Axes]:
    return lambda: draw(*args, **kwargs)


def _write(found: Pictures, folder: Path) -> list[Path]:
    for name, draw in found.items():
        plots.save(draw(), folder / name)
    return [folder / name for name in found]


def _array(images: Tensor) -> NDArray[np.floating]:
    return images.detach().float().cpu().numpy()
