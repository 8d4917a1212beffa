"""The page of a folder: planted results, damaged ones, and several side by side."""

import json
import re
import zlib
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from planted_results import VERDICT, comparison, run

from ppl_vae.report import write_report
from ppl_vae.report.blocks import Cell
from ppl_vae.report.charts import line_chart, ratio_chart
from ppl_vae.report.contents.run import Run
from ppl_vae.report.contents.side_by_side import verdicts
from ppl_vae.report.files import MOST_BYTES, read_picture
from ppl_vae.report.scales import log_ticks, nice_ticks

WICKED = "<script>alert('x')</script>"


class Text(HTMLParser):
    """The words of a page, its tags, and its tables as lists of rows."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.words, self.tables, self.inside = [], [], [], ""
        self.feed(page.read_text())
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.inside = tag
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_data(self, data):
        if self.inside in ("style", "script"):
            return
        self.words.append(data)
        if self.inside in ("td", "th"):
            self.tables[-1][-1][-1] += data

    def handle_endtag(self, tag):
        self.inside = ""

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def test_a_comparison_begins_with_what_it_says(tmp_path):
    page = Text(write_report(comparison(tmp_path)))
    text = page.text
    headings = re.findall(r"<h[12][^>]*>(.*?)</h", (tmp_path / "report.html").read_text())
    assert headings == [
        "BernoulliVAE, 64 examples",
        "At a glance",
        "What was measured",
        "Sites",
        "How this was made",
    ]
    first_table = next(i for i, (tag, _) in enumerate(page.tags) if tag == "table")
    verdict = next(i for i, (_, a) in enumerate(page.tags) if a.get("class") == "verdict")
    assert verdict < first_table
    assert VERDICT in text
    assert "2 ELBO estimators, with 100 gradients of each, in float32 on cpu." in text
    assert page.tables[0] == [
        ["estimator", "ELBO", "verdict"],
        ["trace", "-9.0 ± 0.1", "✗ biased"],
        ["dreg", "-10.0 ± 0.2", "✓ no bias seen"],
        ["iwae", "-11 ± 1", "– not tested"],  # noqa: RUF001
    ]
    assert "SNR is a ratio." in text
    assert "ppl-vae compare" in text
    for fact in ("2.15", "one of ours", "seed"):
        assert fact in text
    labels = [a["aria-label"] for a in page.all("div") if a.get("role") == "img"]
    assert "times the least: dreg 1; trace 4.1." in labels[0]
    assert "beyond it lie trace" in labels[1]


def test_a_run_shows_training_evidence_and_its_worst_examples(tmp_path):
    page = Text(write_report(run(tmp_path / "a")))
    assert ("title", {}) in page.tags
    assert "BernoulliVAE on digits" in page.text
    assert "The mean log evidence is at least -26." in page.text
    assert "ended at -23 nats an example after 3 epochs" in page.text
    assert "its best was -21, at epoch 2." in page.text
    worst = next(t for t in page.tables if t[0][:2] == ["example", "log evidence"])
    assert len(worst) == 11
    found = [float(line[1]) for line in worst[1:]]
    assert found == sorted(found)
    table = pd.read_csv(tmp_path / "a" / "evaluation" / "examples.csv", index_col=0)
    assert int(worst[1][0]) == table["log_evidence"].idxmin()
    quantiles = next(t for t in page.tables if t[0][0] == "column")
    assert float(quantiles[1][4]) == pytest.approx(table["log_evidence"].median(), rel=1e-5)
    assert "evaluation/examples.csv" in [a["href"] for a in page.all("a")]
    assert any(
        a["alt"].startswith("Ten images that the pair explains least") for a in page.all("img")
    )


def test_a_run_says_how_it_was_made(tmp_path):
    run(tmp_path)
    for folder, command in ((tmp_path, "train a"), (tmp_path / "evaluation", "evaluate b")):
        record = {"command": f"ppl-vae {command}", "hardware": {"processor": "ours"}}
        (folder / "provenance.json").write_text(json.dumps(record))
    (tmp_path / "train.toml").write_text('pair = "bernoulli-vae"\n')
    page = Text(write_report(tmp_path))
    assert page.text.index("ppl-vae train a") < page.text.index("ppl-vae evaluate b")
    assert "train.toml holds the training's options" in page.text
    options = next(t for t in page.tables if t[0] == ["option", "value"])
    assert ["batch_size", "8"] in options
    assert "not recorded" not in page.text


def test_what_was_not_recorded_is_said(tmp_path):
    comparison(tmp_path)
    (tmp_path / "provenance.json").unlink()
    assert "Versions, hardware and command were not recorded" in Text(write_report(tmp_path)).text


def test_words_of_others_stay_words(tmp_path):
    comparison(tmp_path, name=WICKED)
    pd.DataFrame({WICKED: [WICKED, "b"]}).to_csv(tmp_path / "more.csv", index=False)
    target = write_report(tmp_path)
    page = Text(target)
    assert WICKED not in target.read_text()
    assert len(page.all("script")) == 1
    assert page.text.count(WICKED) >= 4


def test_what_is_unknown_is_shown_all_the_same(tmp_path):
    run(tmp_path)
    (tmp_path / "extra.csv").write_text("a,b\n1,2\n")
    Image.new("RGB", (8, 8)).save(tmp_path / "extra.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "calibration_ranks.png")
    (tmp_path / "calibration.csv").write_text("dimension,p_value\n0,0.4\n")
    (tmp_path / "calibration.json").write_text('{"conclusions": ["Ranks look uniform."]}')
    page = Text(write_report(tmp_path))
    assert [["a", "b"], ["1", "2"]] in page.tables
    assert [["dimension", "p value"], ["0", "0.4"]] in page.tables
    assert "Ranks look uniform." in page.text
    assert page.text.index("calibration ranks") < page.text.rindex("Further results")


def test_a_folder_of_many_pictures_is_cut_short(tmp_path):
    for number in range(33):
        Image.new("L", (4, 4)).save(tmp_path / f"{number}.png")
    page = Text(write_report(tmp_path))
    assert len(page.all("img")) == 30
    assert "3 more files are left out." in page.text


def test_a_long_table_is_summarised(tmp_path):
    run(tmp_path, count=100_000)
    page = write_report(tmp_path)
    assert page.stat().st_size < 1_000_000
    assert "Quantiles over 100000 examples" in page.read_text()


def test_every_picture_is_small_enough(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (900, 900, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    source, width, height = read_picture(tmp_path / "noise.png")
    assert (width, height) == (900, 900)
    assert len(source) * 3 / 4 < MOST_BYTES + 100


DAMAGES = {
    "config.json": (lambda b: b[:20], "config.json is damaged"),
    "evaluation/evaluation.json": (lambda b: b"[1, 2]", "evaluation.json holds no object"),
    "metrics.csv": (lambda b: b"", "metrics.csv holds no table (it is empty)"),
    "evaluation/examples.csv": (lambda b: b[:-9], "does not end with a whole line"),
    "evaluation/worst.png": (lambda b: b[:-30], "worst.png is no whole picture"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file_is_a_sentence(name, tmp_path):
    spoil, message = DAMAGES[name]
    path = run(tmp_path) / name
    path.write_bytes(spoil(path.read_bytes()))
    page = Text(write_report(tmp_path))
    assert message in page.text
    assert "Training" in page.text or name == "metrics.csv"


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b'a,b\n"1,2\n', b"a\n1\n1,2,3\n"])
def test_a_table_that_is_none(content, tmp_path):
    run(tmp_path)
    (tmp_path / "evaluation" / "examples.csv").write_bytes(content)
    assert "examples.csv" in Text(write_report(tmp_path)).text


@pytest.mark.parametrize(
    "change",
    [
        {"tables": 3},
        {"tables": [{"caption": "c"}]},
        {"tables": [{"caption": "c", "header": ["a"], "rows": [["1", "2"]]}]},
        {"conclusions": "none", "marks": [1]},
    ],
)
def test_results_of_another_form(change, tmp_path):
    path = comparison(tmp_path) / "comparison.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert "BernoulliVAE, 64 examples" in Text(write_report(tmp_path)).text


def test_a_picture_that_is_too_large_to_open(tmp_path):
    def chunk(kind, content):
        whole = kind + content
        return len(content).to_bytes(4) + whole + zlib.crc32(whole).to_bytes(4)

    size = (100_000).to_bytes(4)
    header = chunk(b"IHDR", size + size + bytes([8, 0, 0, 0, 0]))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header)
    assert "bomb.png is no whole picture" in Text(write_report(tmp_path)).text


def test_a_comparison_of_an_older_version_is_its_table(tmp_path):
    comparison(tmp_path)
    (tmp_path / "comparison.json").unlink()
    assert Text(write_report(tmp_path)).tables[0][0][0] == "estimator"


def test_comparisons_of_two_pairs_are_two_parts(tmp_path):
    comparison(tmp_path / "one")
    comparison(tmp_path / "two")
    page = Text(write_report(tmp_path))
    assert "ELBO estimators on 2 pairs" in page.text
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {"result-1", "result-2"} <= set(ids)


def test_runs_side_by_side_on_one_page(tmp_path):
    names = [run(tmp_path / name, shift=shift) for name, shift in (("a", 0.0), ("b", 2.0))]
    page = write_report(*names, out=tmp_path / "sub" / "both.html")
    assert page == tmp_path / "sub" / "both.html"
    text = Text(page)
    assert "b has more evidence than a, by 2 nats an example" in text.text
    assert [line[0] for line in text.tables[0]] == ["run", "a", "b"]
    assert "../a/evaluation/examples.csv" in [a["href"] for a in text.all("a")]


def test_runs_of_one_name_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = write_report(run(tmp_path / "x" / "run"), run(tmp_path / "y" / "run"))
    assert page.resolve() == tmp_path / "report.html"
    assert [line[0] for line in Text(page).tables[0]][1:] == ["x/run", "y/run"]


def test_a_run_and_a_comparison_on_one_page(tmp_path):
    folders = comparison(tmp_path / "a"), run(tmp_path / "b")
    page = Text(write_report(*folders, out=tmp_path / "page.html"))
    assert "2 results side by side" in page.text
    assert "Which run explains more" not in page.text


def planted(name, values, **changes):
    evaluation = {"data": "digits", "split": "test", "num_examples": len(values)}
    table = None if values is None else pd.DataFrame({"log_evidence": values})
    return Run(name, {}, evaluation | changes, None, table)


NOISE = np.random.default_rng(1).normal(size=200)


def test_a_verdict_on_runs_is_paired():
    """A constant difference is known exactly, whatever the spread of the examples."""
    lines = verdicts([planted("a", 10 * NOISE), planted("b", 10 * NOISE + 0.01)])
    assert lines == [
        "b has more evidence than a, by 0.01 nats an example (95% interval 0.01 to 0.01, paired)."
    ]


def test_no_verdict_on_runs_within_the_interval():
    other = np.random.default_rng(2).normal(size=200)
    lines = verdicts([planted("a", NOISE), planted("b", other)])
    assert lines[0].startswith("No difference in mean evidence beyond the intervals between")
    assert len(lines) == 1


def test_a_clear_and_an_unclear_run_get_a_sentence_each():
    runs = [planted("a", NOISE), planted("b", NOISE[::-1]), planted("c", NOISE - 5)]
    lines = verdicts(runs)
    assert len(lines) == 2
    assert "a and b" in lines[0].replace("b and a", "a and b")
    assert "than c, by" in lines[1]


def test_the_interval_of_a_difference_is_the_normal_one():
    extra = np.tile([0.5, 1.5], 100)
    deviation = 0.5 * np.sqrt(200 / 199)
    half = 1.959964 * deviation / np.sqrt(200)
    (line,) = verdicts([planted("a", NOISE), planted("b", NOISE + extra)])
    low, high = map(float, re.search(r"interval (\S+) to (\S+),", line).groups())
    assert (low, high) == (pytest.approx(1 - half, abs=5e-3), pytest.approx(1 + half, abs=5e-3))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"data": "mnist"}, "data"),
        ({"num_samples": 9}, "num samples"),
        ({"split": "train"}, "split"),
    ],
)
def test_runs_of_other_data_or_protocol_are_not_ranked(change, word):
    (line,) = verdicts([planted("a", NOISE), planted("b", NOISE + 9, **change)])
    assert line == f"These evaluations differ in {word}, so that the runs are not ranked."


def test_runs_without_an_evaluation_are_not_ranked():
    bare = Run("c")
    (line,) = verdicts([planted("a", NOISE), bare])
    assert "none is ranked" in line
    lines = verdicts([planted("a", NOISE), planted("b", NOISE + 1), bare])
    assert lines[-1] == "Not evaluated, and not ranked: c."
    damaged = planted("d", [float("nan")] * 200)
    assert "d" in verdicts([planted("a", NOISE), planted("b", NOISE + 1), damaged])[-1]


def test_a_folder_with_nothing(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(FileNotFoundError, match="folder with tables or pictures.*one without"):
        write_report(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(TypeError, match="Name one or more folders"):
        write_report()
    (tmp_path / "file").write_text("")
    with pytest.raises(PermissionError, match="a page that can be written"):
        write_report(run(tmp_path / "run"), out=tmp_path / "file" / "page.html")


def test_cells_sort_by_the_number_they_begin_with():
    texts = ["-9.0 ± 0.1", "530 kB", "1,200", "inf", "1e-3", "trace", "information", "-"]
    numbers = [-9.0, 530e3, 1200.0, float("inf"), 1e-3, None, None, None]
    assert [Cell.of(text).number for text in texts] == numbers


@pytest.mark.parametrize(
    ("low", "high", "ticks"), [(0, 1, [0, 0.5, 1]), (-40, -20, [-40, -35, -30, -25, -20])]
)
def test_ticks_are_round_numbers(low, high, ticks):
    assert nice_ticks(low, high) == ticks
    assert log_ticks(0, 1) == [1, 2, 5, 10]


def test_a_curve_goes_up_where_its_values_do():
    chart = line_chart({"train": ([1, 2], [0.0, 1.0])}, x_label="x", y_label="y", caption="c")
    (first, second) = re.findall(r"([\d.]+) ([\d.]+)", chart.lines[0].path)
    assert float(first[0]) < float(second[0])
    assert float(first[1]) > float(second[1])  # SVG counts from the top
    assert line_chart({"a": ([1], [float("nan")])}, x_label="", y_label="", caption="") is None


def test_ratios_are_placed_by_their_logarithm():
    rows = [("a", 1.0, 1.0, 1.0), ("b", 10.0, 5.0, 20.0), ("c", 100.0, 50.0, 200.0)]
    chart = ratio_chart(rows, caption="", alt="", x_label="")
    a, b, c = (row.dots[0][0] for row in chart.rows)
    assert b - a == pytest.approx(c - b)
    assert chart.rows[1].text == "10 (5 to 20)"
