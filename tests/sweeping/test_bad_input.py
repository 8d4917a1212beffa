"""What a sweep's file, folder and backend may be; the rest is refused before a job is run."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from ppl_vae.cli import app
from ppl_vae.cli.sweep.grid import read_trials
from ppl_vae.inference.saving.interruption import run_scope
from ppl_vae.sweeping import engines
from ppl_vae.sweeping.folder import SweepFolder

TOY = 'pairs = ["exponential-normal"]\n'


@pytest.fixture
def sweep(tmp_path):
    """The exit code and what is said of a sweep's file with this text."""

    def run(text, *words):
        (tmp_path / "a.toml").write_text(text)
        result = CliRunner().invoke(app, ["sweep", str(tmp_path / "a.toml"), *map(str, words)])
        return result.exit_code, result.output.replace(str(tmp_path), "")

    return run


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TOY + "epoch = 3", "'epoch'. Did you mean 'epochs'?"),
        (TOY + "seed_s = 3", "'seed_s'. Did you mean 'seeds'?"),
        ("pairs = ['bernuli-vae']", "'bernuli-vae'. Did you mean 'bernoulli-vae'?"),
        ("pairs = [{name = 'bernuli-vae'}]", "'bernuli-vae'. Did you mean 'bernoulli-vae'?"),
        ("pairs = [{latent_dim = 2}]", "expected name in every table of pairs; got {'latent_dim'"),
        (
            "pairs = [{name = 'bernoulli-vae', latent_dims = 2}]",
            "'latent_dims'. Did you mean 'latent_dim'?",
        ),
        (
            "pairs = [{name = 'bernoulli-vae', latent_dim = 'two'}]",
            "expected latent_dim as an int; got str. Pass a whole number.",
        ),
        (TOY + "elbos = ['trase']", "'trase'. Did you mean 'trace'?"),
        ("pairs = 'bernoulli-vae'\ndata = ['digits', 'mnits']", "Did you mean 'mnist'?"),
        ("pairs = [3]", "expected pair as a text; got 3. Change it in the file."),
        (TOY + "schedule = 'cosin'", "'cosin'. Did you mean 'cosine'?"),
        (TOY + "keep = ['last', 'bets']", "'bets'. Did you mean 'best'?"),
        (TOY + "log = ['tensorbord']", "'tensorbord'. Did you mean 'tensorboard'?"),
        (TOY + "learning_rate = [0.1, -1]", "expected --lr finite and above 0; got -1."),
        (TOY + "epochs = 0", "expected --epochs of at least 1; got 0."),
        (TOY + "patience = 0", "expected patience of at least 1; got 0."),
        (TOY + "particles = 2", "expected --elbo with --particles; got none."),
        (TOY + "epochs = [1, 2.5]", "expected epochs as a whole number; got 2.5."),
        (TOY + "seeds = ['a']", "expected seed as a whole number; got 'a'."),
        (TOY + "learning_rate = 'fast'", "expected learning_rate as a number; got 'fast'."),
        (TOY + "clip_norm = true", "expected clip_norm as a number; got True."),
        (TOY + "kl_weight = 'x'", "expected kl_weight as a number or a table; got 'x'."),
        (TOY + "log = 'mlflow'", "expected log as a list of texts; got 'mlflow'."),
        (TOY + "device = ['cpu', 'cuda']", "expected device as a text; got ['cpu', 'cuda']."),
        (
            "pairs = [{name = 'bernoulli-vae', seed = 2}]",
            "expected option of BernoulliVAE as one of image_shape, ",
        ),
        (TOY + "evidence_samples = 1", "expected evidence_samples of at least 2, or 0; got 1."),
        (TOY + "evidence_samples = [9]", "expected evidence_samples as an int; got list."),
        (TOY + "seeds = []", "expected seeds with at least one value; got an empty list."),
        (TOY + "seed = 1\nseeds = [2]", "expected seeds or seed; got both. Leave out one."),
        (TOY + "out = 'x'", "expected /a.toml without out; got one. Give --out to the command."),
        ("seeds = [1]", "expected pairs in /a.toml; got none. Name some of exponential-normal,"),
        ("pairs = ", "expected TOML in /a.toml; got Invalid value"),
    ],
)
def test_a_file_is_refused_in_one_line(sweep, text, said):
    code, output = sweep(text)
    assert (code, output.count("\n")) == (2, 1)
    assert said in output


def test_what_is_not_there_is_named(sweep, tmp_path, monkeypatch):
    code, output = sweep(TOY, "--backend", "rai")
    assert (code, "Did you mean 'ray'?" in output) == (2, True)
    code, output = sweep(TOY, "--workers", 0)
    assert (code, output) == (
        2,
        "ppl-vae: expected --workers of at least 1; got 0. Choose a larger one.\n",
    )
    (tmp_path / "a").touch()
    code, output = sweep(TOY)
    assert (code, "expected a folder that can be written" in output) == (2, True)
    result = CliRunner().invoke(app, ["sweep", str(tmp_path / "no.toml")])
    assert (result.exit_code, "no.toml; got none. Name a sweep's file" in result.output) == (
        2,
        True,
    )
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    for backend, module in (("ray", "ray"), ("dask", "distributed")):
        code, output = sweep(TOY, "--backend", backend)
        assert code == 2
        assert output == (
            f"ppl-vae: expected the library {module}; got an environment without it. "
            f"pip install 'ppl_vae[{backend}]'\n"
        )


def opened(path, jobs):
    with_scope = run_scope()(SweepFolder)
    return with_scope(path, jobs, ["seed", "status"])


def test_a_folder_of_another_sweep_is_refused_and_a_larger_one_goes_on(tmp_path):
    jobs = {"k0": {"pair": "a", "seed": 0}, "k1": {"pair": "a", "seed": 1}}
    opened(tmp_path, jobs).append("k0", {"seed": 0, "status": "done"})
    with pytest.raises(FileExistsError, match=r"one with 1 jobs that this .* as pair a, seed 1\."):
        opened(tmp_path, {"k0": jobs["k0"], "k2": {"pair": "a", "seed": 2}})
    larger = opened(tmp_path, jobs | {"k2": {"pair": "a", "seed": 2}})
    assert larger.rows == {"k0": {"key": "k0", "seed": "0", "status": "done"}}


def test_a_folder_serves_one_sweep_at_a_time(tmp_path):
    @run_scope()
    def twice():
        SweepFolder(tmp_path, {}, [])
        SweepFolder(tmp_path, {}, [])

    with pytest.raises(BlockingIOError, match="in which no other run goes on"):
        twice()


def test_a_row_that_was_cut_off_is_none(tmp_path):
    jobs = {key: {"seed": 0} for key in ("k0", "k1")}
    folder = opened(tmp_path, jobs)
    folder.append("k0", {"seed": 0, "status": "failed\nin two lines"})
    folder.append("k1", {"seed": 1, "status": "done"})
    table = tmp_path / "sweep.csv"
    table.write_bytes(table.read_bytes()[:-3])
    assert list(opened(tmp_path, jobs).rows) == ["k0"]
    assert table.read_text() == "key,seed,status\nk0,0,failed in two lines\n"


@pytest.mark.parametrize("damage", [b"hello\n", b"key;seed;status\nk0;0;done\n", b"\xff\xfek\n"])
def test_a_damaged_table_is_left_as_it_is(tmp_path, damage):
    opened(tmp_path, {"k0": {"seed": 0}})
    (tmp_path / "sweep.csv").write_bytes(damage)
    with pytest.raises(ValueError, match="columns key and status in .*sweep.csv; got one that"):
        opened(tmp_path, {"k0": {"seed": 0}})
    assert (tmp_path / "sweep.csv").read_bytes() == damage


@pytest.mark.parametrize("jobs", [[], {"k0": 3}, "k0", None])
def test_a_damaged_plan_is_left_as_it_is(tmp_path, jobs):
    plan = json.dumps({"jobs": jobs})
    (tmp_path / "sweep.json").write_text(plan)
    with pytest.raises(ValueError, match=r"JSON in .*sweep.json; got damaged .*settings by name"):
        opened(tmp_path, {"k0": {"seed": 0}})
    assert (tmp_path / "sweep.json").read_text() == plan


def test_rows_are_the_same_before_and_after_a_restart(tmp_path):
    jobs = {"k0": {"seed": 0}}
    before = opened(tmp_path, jobs)
    before.append("k0", {"seed": 0, "status": "failed\nin two lines"})
    assert before.rows["k0"]["status"] == opened(tmp_path, jobs).rows["k0"]["status"]


def test_lists_are_dimensions_and_keys_are_of_what_is_trained(tmp_path):
    file = tmp_path / "a.toml"
    file.write_text(
        "pairs = ['bernoulli-vae', {name = 'bernoulli-vae', latent_dim = 5, hidden = [8]}]\n"
        "elbos = ['trace', 'iwae']\nseeds = [0, 1, 1]\nlog = ['tensorboard']\nwarmup = 0.5\n"
        "options = {hidden = [16]}\n"
    )
    trials = read_trials(file)
    assert len(trials) == 2 * 2 * 2
    first, *_, last = trials.values()
    assert last.settings == {
        "pair": "bernoulli-vae",
        "hidden": [8],
        "latent_dim": 5,
        "data": "digits",
        "elbo": "iwae",
        "log": ["tensorboard"],
        "warmup": 0.5,
        "seed": 1,
    }
    assert (first.options.options, first.options.log) == ({"hidden": [16]}, ["tensorboard"])
    assert list(read_trials(file, device="cpu")) == list(trials)
    swapped = replace(last.options, options={"latent_dim": 5, "hidden": [8]})
    assert replace(last, options=swapped).key == last.key
    assert replace(last, evidence_samples=7).key != last.key
    assert replace(last, options=replace(swapped, epochs=3)).key != last.key


def test_a_pair_that_draws_its_data_has_no_other(tmp_path):
    file = tmp_path / "a.toml"
    file.write_text("pairs = ['exponential-normal', 'linear-gaussian']\ndata = ['digits']\n")
    trials = read_trials(file)
    assert [each.settings["data"] for each in trials.values()] == [
        "draws of exponential-normal",
        "digits",
    ]
    file.write_text(TOY + "binarize = ['static', 'threshold']\n")
    assert len(read_trials(file)) == 1
