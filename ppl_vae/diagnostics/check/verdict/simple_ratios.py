"""What a weight or a constant is likely to be: simple ratios of the quantities at hand."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from ppl_vae.batch import Data
from ppl_vae.diagnostics.check.truth import Truth
from ppl_vae.diagnostics.estimate import Estimate, plus_minus

LOG_2PI = math.log(2 * math.pi)
RELATIVE = 3e-3
# The relative error from which a weight's value is not guessed.
GUESSED = 0.05


@dataclass(frozen=True)
class Quantities:
    """Sizes from which mistaken factors are made.

    Attributes:
        pixels: numbers in one example.
        latents: numbers in one example's latents, all sites together.
        others: further names to sizes: image sides, sites, the batch that was passed.
        normal_pixels: whether the likelihood is Normal, so that each number has a constant.
        normal_latents: whether prior and guide are Normal.
    """

    pixels: int
    latents: int
    others: dict[str, int]
    normal_pixels: bool
    normal_latents: bool

    @classmethod
    def of(cls, truth: Truth, x: Data, *, normal_pixels: bool) -> Quantities:
        """Read the sizes from the data and the pair's latents."""
        latents = truth.latents or []
        count = sum(latent.event_shape.numel() for latent in latents)
        others: dict[str, int] = {}
        if x.dim() == 4:
            others |= {"the image's rows": x.shape[2], "the image's channels": x.shape[1]}
            others["the image's columns"] = x.shape[3]
        if len(latents) > 1:
            others |= {f"the dimensions of {n.name}": n.event_shape.numel() for n in latents}
        others["the number of examples that was passed"] = len(x)
        pixels = x.numel() // len(x) if x.dim() > 1 else x.numel()
        normal = all(latent.kind == "normal" for latent in latents) and bool(latents)
        return cls(pixels, count, others, normal_pixels, normal)

    def factors(self) -> dict[str, float]:
        """Return the sizes above 1, by what they count; the likeliest first."""
        found = {"the pixels": self.pixels, "the latent dimensions": self.latents}
        found |= self.others
        found["pixels and latent dimensions"] = self.pixels * self.latents
        return {name: float(size) for name, size in found.items() if size > 1}


def near(value: float, reference: float, error: float) -> bool:
    """Return whether a number is another, within its error and a little."""
    gap = abs(value - reference)
    return gap <= max(3 * min(error, 0.1 * abs(reference)), RELATIVE * abs(reference), 1e-12)


def ratio(weight: float, error: float, quantities: Quantities) -> tuple[str, str]:
    """Return a weight's likely value and cause, both empty where none is recognised.

    Example:
        >>> sizes = Quantities(784, 2, {}, False, True)
        >>> ratio(0.0012755, 1e-9, sizes)
        ('1/784', 'averaged over the pixels?')
    """
    if abs(weight) <= max(3 * error, 1e-6) and error < 0.1:
        return "0", "left out, or detached from what it depends on?"
    sign, size = ("-", -weight) if weight < 0 else ("", weight)
    turned = "the sign is wrong" if sign else ""
    if near(size, 1.0, error):
        return f"{sign}1", turned
    if error > GUESSED * size:
        return "", turned
    for value, text, cause in _simple(quantities.factors()):
        if near(size, value, error):
            return f"{sign}{text}", " and it is ".join(filter(None, (turned, cause)))
    return "", turned


def _simple(sizes: dict[str, float]) -> Iterator[tuple[float, str, str]]:
    """Yield values, how they are written, and what they come from; the likeliest first."""
    yield 2.0, "2", "counted twice, or a half left out?"
    if 2.0 not in sizes.values():
        yield 0.5, "1/2", "a half too many?"
    for top, also in ((1, ""), (2, ", and doubled"), (0.5, ", and halved")):
        for name, count in sizes.items():
            many = "averaged over" if count > 2 else "averaged over, or halved by,"
            yield top / count, f"{top:g}/{count:.0f}", f"{many} {name}{also}?"
    yield 1 / math.log(2), "1/log 2", "in bits, not nats?"
    for name, count in sizes.items():
        text = f"1/log 2/{count:.0f}"
        yield 1 / math.log(2) / count, text, f"in bits, not nats, and averaged over {name}?"
    for name, count in sizes.items():
        if count > 2:
            yield count, f"{count:.0f}", f"multiplied by, or summed again over, {name}?"
    for count in (3, 4, 5, 6, 7, 8, 10, 16, 20, 25, 50, 64, 100, 128, 256, 512, 1000):
        yield count, f"{count}", ""
        yield 1 / count, f"1/{count}", ""


def constant(value: float, error: float, q: Quantities, weights: dict[str, float]) -> str:
    """Return what a constant per example, in nats, is likely to be made of, or nothing."""
    log, half = "log 2 pi", f"{q.latents}/2"
    likelihood, prior = weights["log_likelihood"] * q.pixels, weights["log_prior"] * q.latents
    entropy = -weights["entropy"] * q.latents
    parts: dict[str, float] = {}
    if q.normal_pixels:
        parts[f"{q.pixels}/2 {log} (the likelihood's normalising constant)"] = likelihood * LOG_2PI
    if q.normal_latents:
        parts[f"{half} {log} (the prior's normalising constant)"] = prior * LOG_2PI
        parts[f"{half} {log} (the guide's normalising constant)"] = entropy * LOG_2PI
        parts[f"{half} (the 1 of 1 + log scale^2 in the KL)"] = entropy
    allowed = max(3 * error, 2e-3 * abs(value))
    particles = q.others.get("the particles", 1)
    if particles > 1 and abs(abs(value) - math.log(particles)) <= allowed:
        return f"log {particles}, of the particles: their weights summed, not averaged?"
    words = {1: "missing", -1: "there twice"}
    words |= {2: "there with the wrong sign", -2: "there three times"}
    for count in (1, 2):
        for chosen in itertools.combinations(parts.items(), count):
            for factors in itertools.product(words, repeat=count):
                pairs = list(zip(chosen, factors, strict=True))
                if abs(sum(f * size / 2 for (_, size), f in pairs) - value) <= allowed:
                    return "; ".join(f"{name} is {words[f]}" for (name, _), f in pairs)
    return ""


def shown(weight: Estimate[float]) -> str:
    """Return a weight with its standard error, to four decimals where that is very small.

    Example:
        >>> shown(Estimate(1 / 784, 1e-9, 10))
        '0.0013 ± 0.0000'
    """
    mean, error = weight.mean, weight.standard_error
    if error < 5e-5 and abs(mean) < 5e-4 and abs(mean) > 10 * error:
        return f"{mean:.3g} ± {error:.1g}"
    return f"{round(mean, 4) + 0.0:.4f} ± {error:.4f}" if error < 5e-5 else plus_minus(mean, error)
