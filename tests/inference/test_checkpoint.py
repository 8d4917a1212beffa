import json

import pytest
import torch
from cases import CASES
from saved import change_pair

from ppl_vae import BernoulliVAE, ExponentialNormal, Pair, load_pair, save_pair


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_dtype_and_random_state_survive(name, dtype, tmp_path):
    pair = CASES[name]().to(dtype)
    save_pair(pair, tmp_path)
    state = torch.get_rng_state()
    twin = load_pair(tmp_path, trust=("binary_pair",))
    assert torch.equal(state, torch.get_rng_state())
    assert twin.dtype is dtype
    for first, second in zip(pair.parameters(), twin.parameters(), strict=True):
        assert torch.equal(first, second)


def test_no_pickle_is_written(tmp_path):
    save_pair(ExponentialNormal(), tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"pair.json", "pair.safetensors"}
    json.loads((tmp_path / "pair.json").read_text())


def test_a_folder_without_a_pair(tmp_path):
    with pytest.raises(FileNotFoundError, match="pair.json"):
        load_pair(tmp_path)


@pytest.mark.parametrize("name", ["pair.json", "pair.safetensors"])
def test_a_damaged_file(name, tmp_path):
    save_pair(ExponentialNormal(), tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=f"{name}; got (a )?damaged"):
        load_pair(tmp_path)


def test_a_checkpoint_of_another_architecture(tmp_path):
    save_pair(BernoulliVAE((1, 3, 3), hidden=(5,)), tmp_path)
    change_pair(tmp_path, lambda content: content["config"].update(hidden=[7]))
    with pytest.raises(ValueError, match="takes its parameters"):
        load_pair(tmp_path)


def test_a_class_that_is_no_pair_is_not_built(tmp_path):
    save_pair(ExponentialNormal(), tmp_path)
    change_pair(tmp_path, lambda content: content.update({"class": "subprocess:Popen"}))
    with pytest.raises(ValueError, match="no ppl_vae.Pair"):
        load_pair(tmp_path, trust=("subprocess",))


def test_a_local_class_and_a_module_are_refused(tmp_path):
    class Local(ExponentialNormal):
        pass

    with pytest.raises(ValueError, match="top of a module"):
        save_pair(Local(), tmp_path)
    with pytest.raises(TypeError, match="a ppl_vae.Pair"):
        save_pair(torch.nn.Linear(1, 1), tmp_path)


def test_the_manual_names_what_is_missing():
    pair = Pair()
    for call in (lambda: pair.model(None), lambda: pair.guide(None), lambda: pair.blank(1)):
        with pytest.raises(NotImplementedError, match="Pair does not define"):
            call()
