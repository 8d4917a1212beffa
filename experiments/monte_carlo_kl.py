"""A 500-sample KL against the analytic one, example by example; and how it goes wrong.

    python experiments/monte_carlo_kl.py

The encoder of a Bernoulli VAE, trained briefly on the digits, gives q(z | x); p(z) is standard
Normal. Three questions: do the sampled divergences agree with the analytic ones within their
standard errors; how often is a one-sample estimate negative, which no divergence is; and which
numbers come out when noise is drawn with scale 0.01 instead of 1, or when the analytic divergence
is summed over a batch while the sampled one is per example.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
import typer
from torch import Tensor
from torch.distributions import Distribution, Exponential, Independent, Normal

from ppl_vae import BernoulliVAE, fit, load, plots, seeded
from ppl_vae.closed_forms import exponential_normal, kl
from ppl_vae.diagnostics import Estimate, monte_carlo_kl

COLOURS = {"k1": plots.BLUE, "k2": plots.GREEN, "k3": plots.RED}
WRONG_SCALE, BATCH_SIZE, DRAWS = 0.01, 100, 2000


def main(
    data: Annotated[str, typer.Option(help="digits or mnist.")] = "digits",
    data_dir: Annotated[Path | None, typer.Option(help="Folder of MNIST.")] = None,
    epochs: Annotated[int, typer.Option(help="Of training before.")] = 100,
    samples: Annotated[int, typer.Option(help="Draws for each example.")] = 500,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for tables and pictures.")] = Path(
        "out/monte_carlo_kl"
    ),
    *,
    smoke: Annotated[bool, typer.Option("--smoke", help="Less training.")] = False,
) -> None:
    """Train, compare, count; write tables and a figure."""
    out.mkdir(parents=True, exist_ok=True)
    train, test = (load(data, split=split, data_dir=data_dir) for split in ("train", "test"))
    pair = BernoulliVAE(train.image_shape, seed=seed)
    fit(pair, train, num_epochs=2 if smoke else epochs, device=device, seed=seed, progress=False)
    with seeded(seed), torch.no_grad():
        loc, scale = pair.encode(test.batch(slice(None), dtype=pair.dtype).to(pair.device))
    loc, scale = loc.double(), scale.double()
    q, p = Normal(loc, scale), Normal(torch.zeros_like(loc), 1.0)
    whole_q, whole_p = Independent(q, 1), Independent(p, 1)
    analytic = kl.kl_normal_standard(loc, scale).sum(-1)
    found = {
        name: monte_carlo_kl(whole_q, whole_p, num_samples=samples, estimator=name, seed=seed)
        for name in COLOURS
    }
    save_agreement(found, analytic, out)
    figure, axes = plots.subplots(2, 2)
    draw_z_scores(found, analytic, axes[0, 1])
    mistakes(found["k1"], loc, scale, analytic, samples, seed, out, axes[0, 0])
    table = negative_shares(q, p, seed, axes[1])
    table.to_csv(out / "negative_shares.csv", index=False)
    print(table.to_string(index=False, float_format="{:.4f}".format))
    figure.savefig(out / "monte_carlo_kl.png", dpi=plots.DPI)


def save_agreement(found: dict[str, Estimate[Tensor]], analytic: Tensor, out: Path) -> None:
    """Write every example's estimates, and a summary of how they agree with the analytic KL."""
    columns, rows = {"analytic": analytic.tolist()}, []
    for name, estimate in found.items():
        columns[name] = estimate.mean.tolist()
        columns[f"{name} standard error"] = estimate.standard_error.tolist()
        z = estimate.z_score(analytic)
        rows.append(
            {
                "estimator": name,
                "mean KL": estimate.mean.mean().item(),
                "mean analytic": analytic.mean().item(),
                "z: mean": z.mean().item(),
                "z: deviation": z.std().item(),
                "z: largest": z.abs().max().item(),
                "|z| < 1": (z.abs() < 1).double().mean().item(),
                "|z| < 2": (z.abs() < 2).double().mean().item(),
                "warning": estimate.warning,
            }
        )
    pd.DataFrame(columns).round(6).to_csv(out / "per_example.csv", index_label="example")
    table = pd.DataFrame(rows)
    table.to_csv(out / "agreement.csv", index=False)
    print(table.drop(columns="warning").to_string(index=False, float_format="{:.3f}".format))
    print(*(f"{row['estimator']}: {row['warning']}" for row in rows if row["warning"]), sep="\n")


def draw_z_scores(found: dict[str, Estimate[Tensor]], analytic: Tensor, ax: plots.Axes) -> None:
    """Draw how far the estimates are from the analytic KL, in their standard errors."""
    for name, estimate in found.items():
        z = estimate.z_score(analytic).sort().values.cpu()
        ax.step(z, torch.linspace(0, 1, len(z)), where="mid", color=COLOURS[name], label=name)
    line = torch.linspace(-4, 4, 100)
    label = "Normal(0, 1)"
    ax.plot(line, torch.special.ndtr(line), color="black", linewidth=0.8, label=label)
    ax.set_xscale("symlog", linthresh=4, linscale=2)
    ticks = (-30, -10, -4, -2, 0, 2, 4, 10, 30)
    ax.set_xticks(ticks, map(str, ticks))
    ax.set(xlabel="z-score", ylabel="share of examples below")
    ax.set_title("distance from the analytic KL in standard errors")
    ax.legend(frameon=False, loc=(0.56, 0.3))


def mistakes(
    sampled: Estimate[Tensor],
    loc: Tensor,
    scale: Tensor,
    analytic: Tensor,
    samples: int,
    seed: int,
    out: Path,
    ax: plots.Axes,
) -> None:
    """Make the two classic mistakes; print and draw what they give."""
    q, p = Normal(loc, scale), Normal(0.0, 1.0)
    with seeded(seed, loc.device):
        z = loc + scale * WRONG_SCALE * torch.randn(samples, *loc.shape).to(loc)
    wrong = (q.log_prob(z) - p.log_prob(z)).sum(-1).mean(0)
    # What noise of variance v gives on average; v = 1 is the divergence.
    v = WRONG_SCALE**2
    expected = ((loc**2 + v * (scale**2 - 1)) / 2 - scale.log()).sum(-1)
    batch = analytic[:BATCH_SIZE]
    rows = {
        "analytic, mean over the test set": analytic.mean(),
        f"sampled, {samples} draws": sampled.mean.mean(),
        f"sampled, noise scale {WRONG_SCALE}": wrong.mean(),
        f"  predicted, noise scale {WRONG_SCALE}": expected.mean(),
        f"analytic, mean of {len(batch)} examples": batch.mean(),
        f"sampled, mean of {len(batch)} examples": sampled.mean[:BATCH_SIZE].mean(),
        f"analytic, summed over {len(batch)} examples": batch.sum(),
    }
    table = pd.DataFrame({"KL": rows.keys(), "nats": [v.item() for v in rows.values()]})
    table.to_csv(out / "mistakes.csv", index=False)
    print(table.to_string(index=False, float_format="{:.4f}".format))
    ax.errorbar(
        analytic.cpu(),
        sampled.mean.cpu(),
        sampled.standard_error.cpu(),
        fmt=".",
        markersize=3,
        linewidth=0.5,
        color=plots.BLUE,
        label=f"{samples} draws",
    )
    ax.plot(analytic.cpu(), wrong.cpu(), ".", markersize=3, color=plots.RED)
    ax.plot([], [], ".", color=plots.RED, label=f"noise with scale {WRONG_SCALE}")
    ends = [0, 1.05 * analytic.max().item()]
    ax.plot(ends, ends, color="black", linewidth=0.8, label="equal")
    ax.set(xlabel="analytic KL, nats", ylabel="sampled KL, nats", title="one point per example")
    ax.legend(frameon=False)


def negative_shares(q: Normal, p: Normal, seed: int, axes: plots.Axes) -> pd.DataFrame:
    """Count and draw how often log q(z) - log p(z) is negative at one draw, and its closed forms.

    For Exponentials by their rates, and for every dimension of the encoder's codes.
    """
    rates = torch.logspace(-1, 1, 42, dtype=torch.float64, device=q.loc.device)
    one = torch.ones_like(rates)
    cases = {
        "Exponential(r) to Exponential(1)": (
            negative_share(Exponential(rates), Exponential(one), seed),
            exponential_normal.probability_of_negative_kl(rates, 1.0),
        ),
        "encoder to prior, each dimension": (
            negative_share(q, p, seed).flatten(),
            negative_normal(q.loc, q.scale).flatten(),
        ),
    }
    rows = []
    for ax, (case, (drawn, exact)) in zip(axes, cases.items(), strict=True):
        z = ((drawn - exact) / (exact * (1 - exact) / DRAWS).sqrt()).cpu()
        rows.append(
            {
                "case": case,
                "pairs": len(z),
                "drawn": drawn.mean().item(),
                "closed form": exact.mean().item(),
                "z: deviation": z.std().item(),
                "z: largest": z.abs().max().item(),
            }
        )
        ax.set_title(f"one-sample KL below 0: {case}", fontsize="medium")
    drawn, exact = (t.cpu() for t in cases["Exponential(r) to Exponential(1)"])
    # The closed form jumps at r = 1.
    for side in (rates < 1, rates > 1):
        axes[0].plot(rates[side].cpu(), exact[side.cpu()], color="black", linewidth=0.8)
    axes[0].plot([], color="black", linewidth=0.8, label="closed form")
    axes[0].plot(rates.cpu(), drawn, ".", color=plots.BLUE, label=f"{DRAWS} draws")
    axes[0].set(xscale="log", xlabel="r", ylabel="share of negative estimates")
    axes[0].legend(frameon=False)
    drawn, exact = (t.cpu() for t in cases["encoder to prior, each dimension"])
    axes[1].plot(exact, drawn, ".", markersize=3, color=plots.BLUE, label=f"{DRAWS} draws")
    axes[1].axline((0, 0), slope=1, color="black", linewidth=0.8, label="equal")
    axes[1].set(xlabel="closed form", ylabel="share of negative estimates")
    axes[1].legend(frameon=False)
    return pd.DataFrame(rows)


def negative_share(q: Distribution, p: Distribution, seed: int) -> Tensor:
    """Return which share of the one-sample estimates is negative, by counting."""
    with seeded(seed, q.mean.device):
        z = q.sample(torch.Size([DRAWS]))
    return (q.log_prob(z) < p.log_prob(z)).double().mean(0)


def negative_normal(loc: Tensor, scale: Tensor) -> Tensor:
    """Return P(log q(z) < log p(z)), z ~ q = Normal(loc, scale), p = Normal(0, 1), scale not 1.

    At z = loc + scale e the difference is a e^2 + 2 b e + c with the numbers below: negative
    outside of its roots where q is the narrower, between them, if there are any, where it is not.
    """
    a, b, c = (scale**2 - 1) / 2, loc * scale / 2, loc**2 / 2 - scale.log()
    root = (b**2 - a * c).clamp_min(0.0).sqrt() / a.abs()
    between = torch.special.ndtr(root - b / a) - torch.special.ndtr(-root - b / a)
    return torch.where(scale < 1, 1 - between, between)


if __name__ == "__main__":
    typer.run(main)
