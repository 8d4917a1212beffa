"""Damage to saved files, and saves that were ended within: whole files or a refusal."""

import os
import random
import shutil

import pytest
import torch
from saved import as_before_hashes, change_pair, flip

from ppl_vae import ExponentialNormal, LinearGaussian, load_pair, save_pair
from ppl_vae.inference.saving import sealed
from ppl_vae.inference.saving.sealed import read_sealed, write_sealed

FILES = ["pair.json", "pair.safetensors"]
OURS = "^expected .*; got .*"


def saved(folder, seed=0):
    pair = LinearGaussian(3, 1, seed=seed)
    save_pair(pair, folder)
    return pair


def same(pair, twin):
    return all(map(torch.equal, pair.state_dict().values(), twin.state_dict().values()))


@pytest.mark.parametrize("name", FILES)
def test_every_flipped_bit_is_refused(name, tmp_path):
    pair = saved(tmp_path)
    path = tmp_path / name
    whole = path.read_bytes()
    draw = random.Random(0)
    bits = [8 * byte + draw.randrange(8) for byte in range(len(whole))]
    for bit in bits + draw.sample(range(8 * len(whole)), 150):
        flip(path, bit)
        with pytest.raises(ValueError, match=OURS):
            load_pair(tmp_path)
        flip(path, bit)
    assert same(pair, load_pair(tmp_path))


@pytest.mark.parametrize("name", FILES)
def test_every_truncation_and_every_longer_file_is_refused(name, tmp_path):
    saved(tmp_path)
    path = tmp_path / name
    whole = path.read_bytes()
    for content in [*(whole[:size] for size in range(len(whole))), whole + b"\n", whole * 2]:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=OURS):
            load_pair(tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_the_file_of_another_pair_is_refused(name, tmp_path):
    saved(tmp_path / "a", seed=1)
    saved(tmp_path / "b", seed=2)
    shutil.copy(tmp_path / "b" / name, tmp_path / "a" / name)
    with pytest.raises(ValueError, match="a damaged file .or of another save"):
        load_pair(tmp_path / "a")


@pytest.mark.parametrize("missing", FILES)
def test_a_missing_file(missing, tmp_path):
    saved(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(FileNotFoundError, match=f"a file .*{missing}; got none"):
        load_pair(tmp_path)


def test_files_from_before_hashes_load_with_a_warning(tmp_path):
    pair = saved(tmp_path)
    as_before_hashes(tmp_path)
    with pytest.warns(UserWarning, match="pair.json is from before files held hashes"):
        assert same(pair, load_pair(tmp_path))


def test_damage_to_them_is_refused_where_it_shows(tmp_path):
    saved(tmp_path)
    as_before_hashes(tmp_path)
    path = tmp_path / "pair.safetensors"
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with (
            pytest.warns(UserWarning, match="before files"),
            pytest.raises(ValueError, match=OURS),
        ):
            load_pair(tmp_path)


def test_the_description_holds_versions_and_the_hash(tmp_path):
    saved(tmp_path)
    content, _ = read_sealed(tmp_path, "pair")
    assert set(content) == {"class", "config", "dtype", "versions"}
    assert content["versions"]["torch"] == torch.__version__
    text = (tmp_path / "pair.json").read_text()
    assert f'"sha256": "{sealed.sha256((tmp_path / FILES[1]).read_bytes()).hexdigest()}"' in text


class Killed(BaseException):
    """The process has died: nothing runs any more, no cleaning up either."""


class Death:
    """Lets the calls that change files go on until `after` of them, and none after."""

    def __init__(self, monkeypatch, after):
        self.left = after
        for owner, name in [(os, "replace"), (os, "link"), (os, "unlink"), (os, "fsync")]:
            monkeypatch.setattr(owner, name, self.counted(getattr(owner, name)))

    def counted(self, call):
        def counting(*args, **kwargs):
            if self.left == 0:
                raise Killed
            self.left -= 1
            return call(*args, **kwargs)

        return counting


def died(monkeypatch, after, save):
    with monkeypatch.context() as patch:
        Death(patch, after)
        try:
            save()
        except Killed:
            return True
    return False


def tensors(number):
    return {"x": torch.full((4,), float(number))}


@pytest.mark.parametrize("links", [True, False])
def test_wherever_a_save_is_ended_all_is_whole_and_the_next_save_works(
    links, tmp_path, monkeypatch
):
    """Every two moments of two saves in a row, after three that went well."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # hundreds of saves
    if not links:

        def refuse(*_):
            raise OSError("no links here")

        monkeypatch.setattr(os, "link", refuse)

    def save(folder, number):
        write_sealed(folder, "now", {"number": number}, tensors(number), keep_as="before")

    def read(folder, name):
        content, held = read_sealed(folder, name)
        assert torch.equal(held["x"], tensors(content["number"])["x"])
        return content["number"]

    moments = 0
    for first in range(40):
        ended = False
        for second in range(40):
            folder = tmp_path / f"{first}-{second}"
            folder.mkdir()
            for number in (1, 2, 3):
                save(folder, number)
            ended = died(monkeypatch, first, lambda folder=folder: save(folder, 4))
            now = read(folder, "now")
            assert now in (3, 4)
            assert ended or now == 4
            assert read(folder, "before") in (2, 3)
            again = died(monkeypatch, second, lambda folder=folder: save(folder, 5))
            assert read(folder, "now") in (now, 5)
            assert read(folder, "before") in (2, 3, 4)
            moments += 1
            save(folder, 6)
            assert read(folder, "now") == 6
            assert read(folder, "before") in (now, 5)
            assert not list(folder.glob("*.part"))
            if not again:
                break
        if not ended:
            break
    assert not ended  # the last went through
    assert moments > 50


def test_wherever_saving_a_pair_is_ended_the_folder_holds_a_whole_one(tmp_path, monkeypatch):
    old, new = LinearGaussian(3, 1, seed=1), LinearGaussian(3, 1, seed=2)
    ended, after, found = True, 0, []
    while ended:
        folder = tmp_path / str(after)
        save_pair(old, folder)
        ended = died(monkeypatch, after, lambda folder=folder: save_pair(new, folder))
        loaded = load_pair(folder)
        found.append(same(loaded, new))
        assert found[-1] or same(loaded, old)
        after += 1
    assert found == sorted(found)  # old until one moment, new from then on
    assert len(set(found)) == 2


def test_a_pair_that_is_saved_while_it_is_read(tmp_path, monkeypatch):
    saved(tmp_path, seed=1)
    read = sealed.read_bytes

    def slow(path):
        content = read(path)
        if path.suffix == ".json":
            monkeypatch.setattr(sealed, "read_bytes", read)
            saved(tmp_path, seed=2)
        return content

    monkeypatch.setattr(sealed, "read_bytes", slow)
    assert same(load_pair(tmp_path), LinearGaussian(3, 1, seed=2))


def test_a_configuration_that_json_cannot_hold(tmp_path):
    pair = ExponentialNormal()
    save_pair(pair, tmp_path)
    pair.config = {"prior_rate": torch.tensor(1.0)}
    with pytest.raises(TypeError, match="a configuration of JSON's types"):
        save_pair(pair, tmp_path)
    assert load_pair(tmp_path).config["prior_rate"] == 1.0


@pytest.mark.parametrize("dtype", ["load", "int64", 3, None, ["float32"]])
def test_a_dtype_that_is_none(dtype, tmp_path):
    saved(tmp_path)
    change_pair(tmp_path, lambda content: content.update(dtype=dtype))
    with pytest.raises(ValueError, match="no class, config and dtype"):
        load_pair(tmp_path)
