"""Pairs by huggingface_hub's mixin, in folders; the Hub itself is played."""

import copy
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from saved import flip

from ppl_vae import (
    BernoulliVAE,
    ExponentialNormal,
    LinearGaussian,
    Pair,
    evaluate,
    fit,
    load_pair,
    save_pair,
)
from ppl_vae.data import load

hub = pytest.importorskip("huggingface_hub")


PAIR = BernoulliVAE((1, 8, 8), latent_dim=2, hidden=(4,), seed=0)


def small():
    return copy.deepcopy(PAIR)


@pytest.fixture(scope="module")
def found():
    test = load("digits", split="test")
    return evaluate(small(), test, num_samples=50, num_elbo_samples=10, device="cpu")


def equal(pair, other):
    state, again = pair.state_dict(), other.state_dict()
    return type(pair) is type(other) and all(torch.equal(state[n], again[n]) for n in state)


def test_a_pair_comes_back_from_its_folder(tmp_path):
    pair = small()
    pair.save_pretrained(tmp_path / "new")
    for cls, name in ((Pair, tmp_path / "new"), (BernoulliVAE, str(tmp_path / "new"))):
        assert equal(pair, cls.from_pretrained(name))
    assert equal(pair, load_pair(tmp_path / "new"))
    save_pair(pair, tmp_path / "plain")
    assert equal(pair, Pair.from_pretrained(tmp_path / "plain"))
    assert json.loads((tmp_path / "new" / "config.json").read_text()) == {
        "library_name": "ppl_vae",
        "class": "ppl_vae.models.bernoulli_vae:BernoulliVAE",
    }


def test_the_card_holds_the_evaluation_with_its_protocol(tmp_path, found):
    small().save_pretrained(tmp_path, evaluation=found)
    card = hub.ModelCard.load(tmp_path / "README.md")
    (result,) = card.data.eval_results
    assert card.data.library_name == "ppl_vae"
    assert (result.dataset_name, result.dataset_split) == ("digits", "test")
    assert (result.metric_type, result.metric_value) == ("nll", found.evidence.nll.mean)
    assert result.metric_args == {
        "standard_error": found.evidence.nll.standard_error,
        "interval_95": list(found.evidence.interval),
        "estimator": "iwae",
        "num_samples": 50,
        "num_examples": 360,
        "binarize": "dynamic",
    }
    assert found.evidence.describe() in card.text
    for sentence in (*found.conclusions, "| ELBO |", f'Pair.from_pretrained("{tmp_path.name}")'):
        assert sentence in card.text


def test_a_new_save_does_not_leave_an_old_evaluation(tmp_path, found):
    small().save_pretrained(tmp_path, evaluation=found)
    small().save_pretrained(tmp_path)
    card = hub.ModelCard.load(tmp_path / "README.md")
    assert card.data.eval_results is None
    assert "None was given." in card.text


def test_a_class_from_elsewhere_must_be_trusted(tmp_path, monkeypatch):
    source = "from ppl_vae import ExponentialNormal\nclass Mine(ExponentialNormal): pass\n"
    (tmp_path / "elsewhere.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    from elsewhere import Mine  # pyright: ignore[reportMissingImports]

    Mine().save_pretrained(tmp_path / "pair")
    assert 'trust=("elsewhere",)' in (tmp_path / "pair" / "README.md").read_text()
    del sys.modules["elsewhere"]
    for cls in (Pair, Mine, ExponentialNormal):
        with pytest.raises(ValueError, match="elsewhere:Mine, of which nothing was imported"):
            cls.from_pretrained(tmp_path / "pair")
    assert "elsewhere" not in sys.modules
    pair = Pair.from_pretrained(tmp_path / "pair", trust=("elsewhere",))
    assert type(pair).__module__ == "elsewhere"
    with pytest.raises(TypeError, match="trust as a tuple of package names; got 'elsewhere'"):
        Pair.from_pretrained(tmp_path / "pair", trust="elsewhere")


def test_damage_is_found(tmp_path):
    small().save_pretrained(tmp_path)
    flip(tmp_path / "pair.safetensors", 4000)
    with pytest.raises(ValueError, match="damaged"):
        Pair.from_pretrained(tmp_path)


def test_push_and_pull(tmp_path, monkeypatch, found):
    told = {}

    def create_repo(self, repo_id, **options):
        told.update(options)
        return hub.RepoUrl(f"https://huggingface.co/{repo_id}")

    def upload_folder(self, *, repo_id, folder_path, **options):
        shutil.copytree(folder_path, tmp_path / repo_id)
        return "the commit"

    def snapshot_download(repo_id, *, allow_patterns, revision, **options):
        told["pulled"] = allow_patterns, revision
        return str(tmp_path / repo_id)

    def hf_hub_download(repo_id, filename, **options):
        return str(tmp_path / repo_id / filename)

    monkeypatch.setattr(hub.HfApi, "create_repo", create_repo)
    monkeypatch.setattr(hub.HfApi, "upload_folder", upload_folder)
    monkeypatch.setattr("ppl_vae.interop.hub.snapshot_download", snapshot_download)
    monkeypatch.setattr("huggingface_hub.hub_mixin.hf_hub_download", hf_hub_download)
    pair = small()
    assert pair.push_to_hub("me/digits", evaluation=found, private=True) == "the commit"
    assert told["private"] is True
    assert sorted(p.name for p in (tmp_path / "me" / "digits").iterdir()) == [
        "README.md",
        "config.json",
        "pair.json",
        "pair.safetensors",
    ]
    card = (tmp_path / "me" / "digits" / "README.md").read_text()
    assert 'Pair.from_pretrained("me/digits")' in card
    # Whatever a stranger's config.json says, it decides nothing.
    config = tmp_path / "me" / "digits" / "config.json"
    config.write_text('{"held": 1, "address": "x", "trust": ["os"], "class": "os:path"}')
    assert equal(pair, Pair.from_pretrained("me/digits", revision="v1"))
    assert told["pulled"] == (["pair.json", "pair.safetensors"], "v1")


def test_a_run_folder_can_be_read_and_is_not_written_over(tmp_path):
    pair = LinearGaussian(4, 2, seed=0)
    options = {"num_epochs": 1, "progress": False, "device": "cpu"}
    fit(pair, pair.sample(10, seed=0), run_dir=tmp_path, **options)
    assert equal(pair, Pair.from_pretrained(tmp_path))
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(FileExistsError, match="a config.json of something else; .* holds a run"):
        pair.save_pretrained(tmp_path)
    assert (tmp_path / "config.json").read_bytes() == before


def test_bad_input(tmp_path, monkeypatch, found):
    small().save_pretrained(tmp_path)
    for name in (tmp_path / "none", "./none", "a b//c", ""):
        with pytest.raises(FileNotFoundError, match='or a repository such as "user/name"; got'):
            Pair.from_pretrained(name)
    with pytest.raises(TypeError, match="class LinearGaussian; got a BernoulliVAE in"):
        LinearGaussian.from_pretrained(tmp_path)
    with pytest.raises(TypeError, match="folder as a path; got int"):
        small().save_pretrained(3)
    with pytest.raises(TypeError, match="evaluation as an Evaluation; got float. Pass what"):
        small().save_pretrained(tmp_path, evaluation=1.0)
    with pytest.raises(ValueError, match="class LinearGaussian; got one of a BernoulliVAE"):
        LinearGaussian(4, 2).save_pretrained(tmp_path / "x", evaluation=found)
    moved = small()
    with torch.no_grad():
        moved.decoder.net[0].bias[0] += 1e-6
    with pytest.raises(ValueError, match="parameters that it has now; got one with others. Eval"):
        moved.save_pretrained(tmp_path / "x", evaluation=found)
    assert not Path(tmp_path / "x").exists()
    monkeypatch.delitem(sys.modules, "ppl_vae.interop.hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"huggingface_hub; .* pip install 'ppl_vae\[hub\]'"):
        small().save_pretrained(tmp_path)


def test_where_a_pair_is_saved(tmp_path, monkeypatch):
    pair = LinearGaussian(4, 2)
    (tmp_path / "file").touch()
    with pytest.raises(
        PermissionError, match="a folder that can be written, .*file; got one that"
    ):
        pair.save_pretrained(tmp_path / "file")
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    pair.save_pretrained(".")
    assert 'Pair.from_pretrained("mine")' in Path("README.md").read_text()


def test_pairs_do_not_import_the_library():
    code = "import sys, ppl_vae; ppl_vae.Pair; sys.exit('huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
