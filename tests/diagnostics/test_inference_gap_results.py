"""What inference_gap gives: an order, a table, averages, a print and pictures."""

import pytest
import torch
from gaps import NAMES, linear
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from rich.console import Console

from ppl_vae import inference_gap
from ppl_vae.diagnostics import InferenceGap
from ppl_vae.diagnostics.gap.posterior_grid import posterior_grid


@pytest.fixture(scope="module")
def gap(network):
    return inference_gap(*network, method="iwae", num_evidence_samples=200, device="cpu")


def test_worst_first(gap):
    assert isinstance(gap, InferenceGap)
    for by in ("total", "approximation", "amortisation"):
        values = getattr(gap, by).mean
        order = gap.worst(3, by=by)
        assert order.tolist() == sorted(range(5), key=lambda n: -float(values[n]))[:3]  # noqa: B023
        assert gap.to_dataframe(by=by).index.tolist()[:3] == order.tolist()
    assert len(gap.worst(99)) == 5
    with pytest.raises(ValueError, match="gap as one of total, approximation, amortisation"):
        gap.worst(1, by="elbo")
    with pytest.raises(ValueError, match="count of at least 1"):
        gap.worst(0)
    with pytest.raises(TypeError, match="count as an int"):
        gap.worst(1.5)


def test_table(gap):
    table = gap.to_dataframe()
    assert table.index.name == "example"
    assert bool(table.total.is_monotonic_decreasing)
    for name in NAMES:
        row = table.sort_index()
        assert row[name].tolist() == getattr(gap, name).mean.tolist()
        assert row[f"{name}_standard_error"].tolist() == getattr(gap, name).standard_error.tolist()
    assert {"gradient_norm", "converged"} < set(table.columns)


def test_averages(gap):
    mean = gap.average("total")
    assert mean.mean == pytest.approx(float(gap.total.mean.mean()))
    assert mean.standard_error == pytest.approx(float(gap.total.mean.std()) / 5**0.5)
    with pytest.raises(ValueError, match="quantity as one of log_evidence"):
        gap.average("kl")


def test_print(gap):
    console = Console(record=True, width=120)
    gap.print(console, count=2)
    text = console.export_text()
    assert "BernoulliVAE, 5 examples: log p(x) by iwae, best diagonal Gaussian" in text
    for name in ("total", "approximation", "amortisation"):
        assert f"{name} gap" in text
        assert str(gap.average(name)) in text
    assert "iwae is below log p(x) in expectation" in text
    assert text.count("±") > 10


def test_bars(gap):
    ax = gap.plot(count=3)
    assert [text.get_text() for text in ax.get_xticklabels()] == [
        str(n) for n in gap.worst(3).tolist()
    ]
    bars = [each for each in ax.containers if isinstance(each, BarContainer)]
    assert [each.get_label() for each in bars] == ["approximation", "amortisation"]
    heights = [patch.get_height() for patch in bars[1].patches]
    assert heights == pytest.approx(gap.amortisation.mean[gap.worst(3)].tolist())


def test_posteriors(gap, tmp_path):
    axes = gap.plot_posteriors(tmp_path / "new", count=2)
    assert (tmp_path / "new" / "posteriors.png").stat().st_size > 3000
    worst = gap.worst(2)
    for ax, number in zip(axes, worst.tolist(), strict=True):
        assert f"example {number}" in ax.get_title()
        middle = [line.get_xydata()[0].tolist() for line in ax.lines if len(line.get_xdata()) == 1]
        assert middle[0] == pytest.approx(gap.guide.loc[number].tolist())
        assert middle[1] == pytest.approx(gap.best.loc[number].tolist())
    figure = Figure()
    given = list(figure.subplots(1, 2))
    assert gap.plot_posteriors(axes=given, count=2) == given
    with pytest.raises(ValueError, match="at least 3 Axes; got 2"):
        gap.plot_posteriors(axes=given, count=3)


def test_only_a_plane_can_be_drawn():
    gap = inference_gap(*linear(3), device="cpu")
    with pytest.raises(NotImplementedError, match="a code of two dimensions; got one of 3"):
        gap.plot_posteriors()


def test_the_grid_holds_the_true_posterior():
    pair, x = linear(2)
    gap = inference_gap(pair, x[:1], device="cpu")
    grid = posterior_grid(gap.code, float(gap.log_evidence.mean[0]), [gap.best, gap.guide])
    points = torch.cartesian_prod(grid.first, grid.second).reshape(141, 141, 2)
    with torch.no_grad():
        expected = pair.exact.posterior(x[:1]).log_prob(points).exp()
    torch.testing.assert_close(grid.density, expected.mT, rtol=1e-9, atol=1e-12)
    assert grid.mass == pytest.approx(1, abs=0.01)
