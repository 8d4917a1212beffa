"""What is to be seen in the pictures that the library draws."""

from __future__ import annotations

from pathlib import Path

# File: caption below the picture, and its description for who cannot see it.
PICTURES = {
    "reconstructions": (
        "Inputs, and under each its reconstruction",
        "Rows of input images, each above its reconstruction by the pair.",
    ),
    "samples": (
        "Means of p(x | z) at draws of z from the prior",
        "A grid of images that the model makes at latents drawn from the prior.",
    ),
    "inputs": ("Some of the examples", "A grid of images from the data."),
    "latent_walk": (
        "Means of p(x | z) over a grid of z",
        "Images by the latent they are decoded from, which changes evenly from tile to tile.",
    ),
    "latent_scatter": (
        "Means of q(z | x), coloured by label where there are some",
        "A scatter plot with a point for the guide's mean of every example.",
    ),
    "posterior": (
        "The exact posterior and the guide",
        "Curves of the guide's density over the filled density of the exact posterior.",
    ),
    "posteriors": (
        "The exact posterior (contours) and the guide of some examples",
        "Panels, one an example, with the guide's contours over those of the exact posterior.",
    ),
    "evidence_gap": (
        "Where the gap between evidence and ELBO comes from, the worst examples first",
        "Bars of the approximation's and the amortisation's part of the gap by example, in nats.",
    ),
    "worst": (
        "The ten images of the least evidence, the worst first, above their reconstructions",
        "Ten images that the pair explains least, in the order of the table above.",
    ),
    "comparison": (
        "Gradient variance by parameter group, with standard errors",
        "Bars of the gradient variance by parameter group, one an estimator.",
    ),
    "sweep": (
        "Means over seeds, with 95% intervals where there are several",
        "Dots with intervals by setting; their numbers are in the table of means.",
    ),
    "elbo": ("ELBO by epoch", "Curves of the ELBO per example by epoch."),
}
LATENTS = ("latent_walk", "latent_scatter", "posterior", "posteriors")
IMAGES = ("samples", "reconstructions", "inputs")


def described(path: Path) -> tuple[str, str]:
    """Return caption and description of a picture by its file's name."""
    stem = path.stem
    for name in (stem, stem.rpartition("_")[0]):
        if name in PICTURES:
            caption, alt = PICTURES[name]
            which = stem.removeprefix(name).strip("_")
            return (f"{caption} ({which})", alt) if which else (caption, alt)
    words = stem.replace("_", " ")
    return words, f"The picture {words}; its numbers are in the tables beside it."
