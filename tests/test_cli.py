import json
import os
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from ppl_vae.cli import app


@pytest.fixture
def run():
    return lambda *words: CliRunner().invoke(app, list(map(str, words)))


def test_help_takes_no_torch_and_little_time():
    best = min(_seconds([sys.executable, "-m", "ppl_vae", "--help"]) for _ in range(3))
    # Half a second is the aim on a quiet machine; with torch it would be several.
    assert best < 1.0


def _seconds(command):
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def test_list_shows_every_name(run):
    from ppl_vae import ESTIMATORS, MODELS
    from ppl_vae.data import DATASETS

    os.environ["COLUMNS"] = "200"
    text = run("list").output
    for name in [*MODELS, *ESTIMATORS, *DATASETS]:
        assert name in text


def test_compare_prints_and_writes(run, tmp_path):
    result = run(
        "compare", "exponential-normal", "--replicates", 50, "--out", tmp_path, "--device", "cpu"
    )
    assert result.exit_code == 0, result.output
    assert "closed form" in result.output
    assert (tmp_path / "exponential-normal" / "comparison.csv").exists()
    page = (tmp_path / "report.html").read_text()
    assert "<table" in page
    assert "data:image/png;base64," in page


def test_train_then_compare_the_checkpoint_then_resume(run, tmp_path):
    folder = tmp_path / "run"
    words = ("train", "bernoulli-vae", "--out", folder, "--device", "cpu")
    result = run(*words, "--epochs", 1)
    assert result.exit_code == 0, result.output
    assert "ELBO per example, test, after 1 epochs" in result.output
    result = run(*words, "--epochs", 1)
    assert result.exit_code == 2
    assert "holds one" in result.output
    assert run(*words, "--epochs", 2, "--resume").exit_code == 0
    assert len((folder / "metrics.csv").read_text().splitlines()) == 3
    assert json.loads((folder / "config.json").read_text())["num_epochs"] == 2
    result = run("compare", "--checkpoint", folder, "--replicates", 10, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "BernoulliVAE, 64 examples" in result.output
    assert run("report", folder).exit_code == 0
    assert "elbo" in (folder / "report.html").read_text()


def test_train_a_toy(run):
    result = run("train", "exponential-normal", "--elbo", "exact", "--epochs", 2)
    assert result.exit_code == 0
    assert "ELBO per example, train" in result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compare", "bernouli-vae"], "Did you mean 'bernoulli-vae'"),
        (["compare", "bernoulli-vae", "--data", "mnits"], "Did you mean 'mnist'"),
        (["compare", "exponential-normal", "--estimators", "trase"], "Did you mean 'trace'"),
        (["compare", "exponential-normal", "--replicates", "3"], "num_replicates of at least 10"),
        (["compare", "exponential-normal", "--checkpoint", "x"], "PAIR or --checkpoint"),
        (["compare", "--checkpoint", "nowhere"], "pair.json"),
        (["train", "bernoulli-vae", "--lr", "-1"], "--lr finite and above 0"),
        (["train", "bernoulli-vae", "--resume"], "--out with --resume"),
        (["train", "bernoulli-vae", "--device", "tpu"], "Choose 'auto'"),
        (["report", "nowhere"], "folder with tables or pictures"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, message, run):
    result = run(*words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_missing_mnist_is_exit_code_2(run, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("no network")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", refuse)
    result = run("compare", "bernoulli-vae", "--data", "mnist", "--data-dir", tmp_path)
    assert result.exit_code == 2
    assert "train-images-idx3-ubyte.gz" in result.stderr
    assert str(tmp_path / "MNIST" / "raw") in result.stderr


def test_an_output_folder_that_cannot_be_written(run, tmp_path):
    (tmp_path / "file").write_text("")
    result = run("compare", "exponential-normal", "--out", tmp_path / "file")
    assert result.exit_code == 2
    assert "folder that can be written" in result.stderr


def test_a_loss_that_is_not_finite_is_exit_code_1(run):
    result = run("train", "bernoulli-vae", "--lr", 1e30, "--epochs", 2, "--device", "cpu")
    assert result.exit_code == 1
    assert "the loss became" in result.stderr.splitlines()[-1]
