"""The closed-form Normal KL against torch.distributions, and what float32 does to it.

    python experiments/kl_divergence.py

1000 random pairs, locs in (-100, 100), scales in (0, 100), and 50-digit arithmetic as the referee.
The mean squared difference "in mixed precision" (one side in float64, the other in float32) is
then measured over many such draws of 1000 pairs: it is a matter of the narrowest p among them.
"""

from __future__ import annotations

import decimal
from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
import typer
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from ppl_vae import plots
from ppl_vae.closed_forms import kl

NUM_PAIRS = 1000
PUBLISHED = 0.00057
STYLES = {
    ("torch", "float32"): plots.RED,
    ("closed form", "float32"): plots.ORANGE,
    ("torch", "float64"): plots.BLUE,
    ("closed form", "float64"): plots.GREEN,
}


def main(
    draws: Annotated[int, typer.Option(help="Draws of 1000 pairs, in mixed precision.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    out: Annotated[Path, typer.Option(help="Folder for tables and pictures.")] = Path(
        "out/kl_divergence"
    ),
    *,
    smoke: Annotated[bool, typer.Option("--smoke", help="Fewer draws.")] = False,
) -> None:
    """Compare the formulas on random pairs, on nearly equal ones, and over many draws."""
    out.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    pairs = random_pairs(generator).to(device)
    found = errors(pairs)
    rows = []
    for (name, dtype), (values, error) in found.items():
        difference = values - found["closed form", "float64"][0]
        rows.append(
            {
                "formula": name,
                "precision": dtype,
                "max relative error": error.max().item(),
                "mean squared difference": difference.square().mean().item(),
                "negative": int((values < 0).sum()),
            }
        )
    table = pd.DataFrame(rows)
    table.to_csv(out / "errors.csv", index=False)
    print(table.to_string(index=False, float_format="{:.2g}".format))
    ours, theirs = (found[name, "float64"][0] for name in ("closed form", "torch"))
    gap = ((ours - theirs).abs() / theirs).max().item()
    print(f"largest relative difference in float64: {gap:.2g}")
    mixed = mixed_precision(30 if smoke else draws, generator).to(device)
    quantiles = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95], dtype=torch.float64, device=device)
    spread = pd.DataFrame(
        {"quantile": quantiles.tolist()}
        | dict(zip(MIXED, torch.quantile(mixed, quantiles, dim=0).T.tolist(), strict=True))
    )
    spread.to_csv(out / "mixed_precision.csv", index=False)
    print(spread.to_string(index=False, float_format="{:.2g}".format))
    share = (mixed[:, 0] < PUBLISHED).double().mean().item()
    print(f"mean squared difference below {PUBLISHED}: {share:.0%} of {len(mixed)} draws")
    figure, axes = plots.subplots(2, 2)
    draw_errors(found, axes[0, 0])
    draw_close_pairs(axes[0, 1])
    draw_squares(pairs, found, axes[1, 0])
    draw_mixed(mixed[:, 0], axes[1, 1])
    figure.savefig(out / "kl_divergence.png", dpi=plots.DPI)


def random_pairs(generator: torch.Generator, *batch: int) -> Tensor:
    """Return q_loc, q_scale, p_loc, p_scale, (4, *batch, 1000)."""
    shape = (4, *batch, NUM_PAIRS)
    u = torch.rand(shape, generator=generator, dtype=torch.float64).clamp_min(1e-16)
    u[0::2] = 200 * u[0::2] - 100
    u[1::2] *= 100
    return u


def by_torch(q_loc: Tensor, q_scale: Tensor, p_loc: Tensor, p_scale: Tensor) -> Tensor:
    """Return torch's own Normal KL."""
    return kl_divergence(Normal(q_loc, q_scale), Normal(p_loc, p_scale))


FORMULAS = {"closed form": kl.kl_normal_normal, "torch": by_torch}


def referee(pairs: Tensor) -> Tensor:
    """Return the KL of every pair by 50-digit arithmetic on the exact values of its numbers."""
    with decimal.localcontext(prec=50):
        columns = [[decimal.Decimal(v) for v in row] for row in pairs.double().tolist()]
        values = [
            ((s / t) ** 2 - 1 + ((a - b) / t) ** 2) / 2 - (s / t).ln()
            for a, s, b, t in zip(*columns, strict=True)
        ]
    return torch.tensor([float(v) for v in values], dtype=torch.float64, device=pairs.device)


def errors(pairs: Tensor) -> dict[tuple[str, str], tuple[Tensor, Tensor]]:
    """Return by formula and precision: the KL, and its relative error for the numbers it saw."""
    found = {}
    for dtype in (torch.float64, torch.float32):
        seen = pairs.to(dtype)
        exact = referee(seen)
        for name, formula in FORMULAS.items():
            values = formula(*seen).double()
            found[name, str(dtype).removeprefix("torch.")] = values, (values / exact - 1).abs()
    return found


MIXED = ("torch in float32", "closed form in float32", "float64, of numbers rounded to float32")


def mixed_precision(draws: int, generator: torch.Generator) -> Tensor:
    """Return mean squared differences from the float64 closed form, (draws, len(MIXED))."""
    pairs = random_pairs(generator, draws)
    rounded = pairs.float()
    exact = kl.kl_normal_normal(*pairs)
    others = (
        by_torch(*rounded),
        kl.kl_normal_normal(*rounded),
        kl.kl_normal_normal(*rounded.double()),
    )
    return torch.stack([(v.double() - exact).square().mean(-1) for v in others], dim=-1)


def draw_errors(found: dict[tuple[str, str], tuple[Tensor, Tensor]], ax: plots.Axes) -> None:
    """Draw every pair's relative error against its divergence."""
    for key, colour in STYLES.items():
        values, error = found[key]
        shown = error.clamp_min(1e-17).cpu()
        ax.scatter(values.cpu(), shown, s=3, color=colour, label=", ".join(key), rasterized=True)
    ax.set(xscale="log", yscale="log", xlabel="KL(q || p), nats", ylabel="relative error")
    ax.set_title("1000 random pairs (0 is drawn at 1e-17)")
    ax.legend(frameon=False, fontsize="small", markerscale=3, loc="center right")


def draw_close_pairs(ax: plots.Axes) -> None:
    """Draw the relative error where q is nearly p."""
    steps = torch.logspace(-9, 0, 60, dtype=torch.float64)
    loc, one = torch.zeros_like(steps), torch.ones_like(steps)
    for (name, dtype), (_, error) in errors(torch.stack([loc, 1 + steps, loc, one])).items():
        shown = error.clamp_min(1e-17)  # NaN, hence a gap, where rounding makes q equal p
        ax.plot(steps, shown, color=STYLES[name, dtype], label=f"{name}, {dtype}")
    ax.set(xscale="log", yscale="log", xlabel="q.scale - 1", ylabel="relative error")
    ax.set_title("q nearly p = Normal(0, 1), colours as on the left")


def draw_squares(
    pairs: Tensor, found: dict[tuple[str, str], tuple[Tensor, Tensor]], ax: plots.Axes
) -> None:
    """Draw the squared difference of float32 from float64 against p's scale."""
    exact = found["closed form", "float64"][0]
    for name, colour in (("torch", plots.RED), ("closed form", plots.ORANGE)):
        squares = (found[name, "float32"][0] - exact).square().clamp_min(1e-20).cpu()
        ax.scatter(pairs[3].cpu(), squares, s=3, color=colour, label=name, rasterized=True)
    ax.set(xscale="log", yscale="log", xlabel="p.scale", ylabel="squared difference")
    ax.set_title("float32 against float64: the narrowest p decides")
    ax.legend(frameon=False, markerscale=3)


def draw_mixed(squares: Tensor, ax: plots.Axes) -> None:
    """Draw how the mean squared difference in mixed precision is spread."""
    ax.hist(squares.log10().cpu().numpy(), bins=40, color=plots.BLUE)
    at = torch.tensor(PUBLISHED).log10().item()
    ax.axvline(at, color="black", linestyle="--", label=f"{PUBLISHED} (reported)")
    ax.set(xlabel="log10 of the mean squared difference", ylabel="draws of 1000 pairs")
    ax.set_title("torch in float32 against float64")
    ax.legend(frameon=False)


if __name__ == "__main__":
    typer.run(main)
