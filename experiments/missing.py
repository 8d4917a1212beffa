"""What missing pixels cost: evidence and imputation beside the exact conditional of the model.

    python experiments/missing.py

Of the digits a share of the pixels is hidden, completely at random, in training and in testing.
Two models of which everything can be known are trained on ``(x, mask)``:

* the linear VAE on grey pixels: evidence, ELBO and E[hidden | observed] are closed forms. It is
  also trained on all pixels and only tested with hidden ones;
* a Bernoulli VAE with two latent numbers on black and white pixels, whose encoder sees the mask or
  does not: evidence and E[hidden | observed] by a sum over a fine grid of the two numbers, which
  is held against adaptive quadrature on ten images.

Hidden pixels are imputed by ``pair.reconstruct``, through the guide's mean, and the error of that
is set beside the error of the exact conditional mean and of each pixel's mean over the training
images. Errors in the table are standard errors over the test images.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import pyro
import torch
import typer
from torch import Tensor
from torch.nn.functional import softplus

from ppl_vae import (
    BernoulliVAE,
    LinearGaussian,
    Pair,
    evaluate,
    fit,
    load,
    log_evidence,
    plots,
    seeded,
)

RATES = (0.0, 0.2, 0.5, 0.8)
LATENT_DIM = 10
CHECKED = 10
EPOCHS = {"linear": 300, "Bernoulli": 150}
BATCH_SIZES = {"linear": 128, "Bernoulli": 64}
LEARNING_RATES = {"linear": 0.02, "Bernoulli": 3e-3}


def main(
    images: Annotated[int, typer.Option(help="Test images of the Bernoulli VAE.")] = 360,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for the table and the picture.")] = Path(
        "out/missing"
    ),
    *,
    smoke: Annotated[bool, typer.Option("--smoke", help="Seconds, with little training.")] = False,
) -> None:
    """Train at every rate of missing pixels; write a table and a figure."""
    out.mkdir(parents=True, exist_ok=True)
    rates = (0.0, 0.5) if smoke else RATES
    epochs = dict.fromkeys(EPOCHS, 2) if smoke else EPOCHS
    common = {"epochs": epochs, "seed": seed, "device": device}
    rows = linear(rates, common) + bernoulli(rates, 4 if smoke else images, common)
    table = pd.DataFrame(rows)
    table.to_csv(out / "numbers.csv", index=False, float_format="%.6f")
    shown = for_reading(table)
    shown.to_csv(out / "missing.csv", index=False)
    print(shown.to_string(index=False))
    draw(table, out / "missing.png")


def linear(rates: tuple[float, ...], common: dict[str, Any]) -> list[dict[str, Any]]:
    """Return rows of the linear VAE, trained with hidden pixels and on all of them."""
    x, test = (digits(part, "none") for part in ("train", "test"))
    seed = common["seed"]
    rows, complete = [], None
    for rate in rates:
        shown, test_shown = hidden(x, rate, seed), hidden(test, rate, seed + 1)
        means = column_means(x, shown)
        pair = LinearGaussian(x.shape[1], LATENT_DIM, noise_scale=0.3, seed=seed)
        with torch.no_grad():
            pair.decoder.loc.copy_(means)
        train(pair, "linear", x, shown, **common)
        pair = pair.double().cpu()
        complete = pair if complete is None else complete
        trained = {"observed pixels": pair} | ({"all pixels": complete} if rate else {})
        for how, each in trained.items():
            at = (test.double(), test_shown)
            with torch.no_grad():
                exact = each.decode(each.exact.posterior(*at).mean)
                values = each.exact.log_evidence(*at), each.exact.elbo(*at)
            imputed = {"guide": each.reconstruct(*at), "exact": exact, "column means": means}
            row = {"model": "linear", "encoder": "", "trained on": how, "missing": rate}
            rows.append(row | per_pixel(*values, test_shown) | errors(imputed, *at))
    return rows


def bernoulli(
    rates: tuple[float, ...], count: int, common: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return rows of the Bernoulli VAE, whose encoder sees the mask or does not."""
    x, test = (digits(part, "threshold") for part in ("train", "test"))
    test, seed = test[:count], common["seed"]
    rows, largest = [], 0.0
    for rate in rates:
        shown, test_shown = hidden(x, rate, seed), hidden(test, rate, seed + 1)
        for sees_mask in (False, True):
            pair = BernoulliVAE((1, 8, 8), 2, (128,), sees_mask=sees_mask, seed=seed)
            train(pair, "Bernoulli", x, shown, **common)
            pair = pair.cpu()
            options = {"num_samples": 2, "num_elbo_samples": 200}
            found = evaluate(pair, (test, test_shown), **options, seed=seed, device="cpu")
            at = (test.double(), test_shown)
            pair = pair.double()
            log_p, exact = by_grid(pair, *at)
            if sees_mask and rate == rates[-1]:
                few = tuple(each[:CHECKED] for each in at)
                check = log_evidence(pair, few, method="quadrature", device="cpu")
                largest = float((log_p[:CHECKED] - check.mean).abs().max())
            imputed = {
                "guide": pair.reconstruct(*at).flatten(1),
                "exact": exact,
                "column means": column_means(x, shown),
            }
            row = {
                "model": "Bernoulli",
                "encoder": "sees the mask" if sees_mask else "does not",
                "trained on": "observed pixels",
                "missing": rate,
            }
            values = per_pixel(log_p, found.elbo.mean, test_shown)
            rows.append(row | values | errors(imputed, *at))
    print(f"the grid and the quadrature differ by at most {largest:.1g} nats\n")
    return rows


def digits(split: str, binarize: str) -> Tensor:
    """Return flat images, (count, 64)."""
    images = load("digits", split=split, binarize=binarize)
    return images.batch(slice(None), dtype=torch.float32).flatten(1)


def hidden(x: Tensor, rate: float, seed: int) -> Tensor:
    """Return a mask, True where observed; what is hidden at one rate is so at larger ones."""
    with seeded(seed):
        return torch.rand(x.shape) >= rate


def column_means(x: Tensor, shown: Tensor) -> Tensor:
    """Return the mean of every pixel over the images that show it, (64,)."""
    return (x * shown).sum(0) / shown.sum(0).clamp_min(1)


def train(
    pair: Pair,
    kind: str,
    x: Tensor,
    shown: Tensor,
    *,
    epochs: dict[str, int],
    seed: int,
    device: str,
) -> None:
    """Run SVI with Adam, its step decaying to a thousandth along a cosine."""
    rate = LEARNING_RATES[kind]
    optimizer = pyro.optim.CosineAnnealingLR(
        {
            "optimizer": torch.optim.Adam,
            "optim_args": {"lr": rate},
            "T_max": epochs[kind],
            "eta_min": rate / 1000,
        }
    )
    fit(
        pair,
        (x, shown),
        optimizer=optimizer,
        num_epochs=epochs[kind],
        batch_size=BATCH_SIZES[kind],
        seed=seed,
        device=device,
        compile=False,
        progress=False,
    )


@torch.no_grad()
def by_grid(
    pair: BernoulliVAE, x: Tensor, shown: Tensor, extent: float = 6.0, points: int = 241
) -> tuple[Tensor, Tensor]:
    """Return log p(observed), (batch), and E[x | observed], (batch, 64), by a sum over z.

    The logarithm of ``sum over z of p(z) p(observed | z) step^2``, z on a grid over the plane.
    """
    line = torch.linspace(-extent, extent, points, dtype=x.dtype)
    z = torch.cartesian_prod(line, line)
    logits = pair.decode(z).flatten(1)
    prior = torch.distributions.Normal(z.new_zeros(2), z.new_ones(2)).log_prob(z).sum(-1)
    joint = (x * shown) @ logits.mT - shown.to(x) @ softplus(logits).mT + prior
    log_p = joint.logsumexp(-1) + 2 * (line[1] - line[0]).log()
    return log_p, joint.softmax(-1) @ logits.sigmoid()


def per_pixel(evidence: Tensor, elbo: Tensor, shown: Tensor) -> dict[str, float]:
    """Return evidence, ELBO and their difference per observed pixel, each with its error."""
    count = shown.sum(-1)
    found = {"log p(x)": evidence, "ELBO": elbo, "gap": evidence - elbo}
    row = {}
    for name, values in found.items():
        values = values.double() / count
        row[name] = values.mean().item()
        row[f"{name}, error"] = values.std().item() / len(values) ** 0.5
    return row


def errors(imputed: dict[str, Tensor], x: Tensor, shown: Tensor) -> dict[str, float | None]:
    """Return the root mean squared error of hidden pixels, with its error, by each way.

    The mean is over an image's hidden pixels and then over the images; the error of its root is
    the error of the mean over twice the root.
    """
    row: dict[str, float | None] = {}
    count = (~shown).sum(-1)
    some = count > 0
    for name, values in imputed.items():
        row[name] = row[f"{name}, error"] = None
        if some.any():
            squares = (values - x).square() * ~shown
            each = squares.sum(-1)[some].double() / count[some]
            row[name] = root = each.mean().sqrt().item()
            row[f"{name}, error"] = each.std().item() / len(each) ** 0.5 / (2 * root)
    return row


def for_reading(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with value and error in one column."""
    shown = table[["model", "encoder", "trained on", "missing"]].copy()
    for name in ("log p(x)", "ELBO", "gap", "guide", "exact", "column means"):
        digits = 3 if name in ("log p(x)", "ELBO", "gap") else 4
        shown[name] = [
            "" if pd.isna(value) else f"{value:.{digits}f} ± {error:.{digits}f}"
            for value, error in zip(table[name], table[f"{name}, error"], strict=True)
        ]
    return shown


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw evidence and ELBO of the linear VAE, and the error of both models' imputation."""
    _, axes = plots.subplots(1, 3, size=(4.4, 3.6))
    first, second, third = axes[0]
    lines = table[table.model == "linear"]
    of = {how: lines[(lines["trained on"] == how)] for how in ("observed pixels", "all pixels")}
    for (how, part), style in zip(of.items(), ("-", "--"), strict=True):
        for name, colour in (("log p(x)", plots.BLUE), ("ELBO", plots.RED)):
            bars(first, part, name, f"{name}, trained on {how}", colour, style)
        for name, colour in (("guide", plots.RED), ("exact", plots.BLUE)):
            bars(second, part, name, f"{name}, trained on {how}", colour, style)
    bars(second, of["observed pixels"], "column means", "column means", plots.GREY, ":")
    lines = table[table.model == "Bernoulli"]
    for how, style in (("sees the mask", "-"), ("does not", "--")):
        part = lines[lines.encoder == how]
        says = "encoder sees the mask" if style == "-" else "encoder does not"
        for name, colour in (("guide", plots.RED), ("exact", plots.BLUE)):
            bars(third, part, name, f"{name}, {says}", colour, style)
    bars(third, part, "column means", "column means", plots.GREY, ":")
    first.set(title="linear VAE", ylabel="nats per observed pixel")
    second.set(title="linear VAE", ylabel="error of hidden pixels (RMS)")
    third.set(title="Bernoulli VAE", ylabel="error of hidden pixels (RMS)")
    for ax in axes[0]:
        ax.set_xlabel("share of the pixels that is missing")
        ax.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(0, -0.2))
    plots.save(first, path)


def bars(
    ax: plots.Axes, part: pd.DataFrame, name: str, label: str, colour: str, style: str
) -> None:
    """Draw one column of the table against the rate, with two standard errors."""
    part = part[part[name].notna()]
    ax.errorbar(
        part.missing,
        part[name].astype(float),
        2 * part[f"{name}, error"].astype(float),
        color=colour,
        linestyle=style,
        marker="o",
        markersize=3,
        capsize=2,
        label=label,
    )


if __name__ == "__main__":
    typer.run(main)
