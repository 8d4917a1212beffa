"""Whose code runs when a pair is loaded, and what its constructor is given."""

import sys

import pytest
from saved import change_pair

from ppl_vae import BernoulliVAE, ExponentialNormal, load_pair, save_pair

FOREIGN = """
import pathlib
from ppl_vae import ExponentialNormal, Pair

pathlib.Path(__file__).with_suffix(".ran").touch()


class Mine(ExponentialNormal):
    class Inner(ExponentialNormal):
        pass


class Strict(Pair):
    def __init__(self, size, *, rate):
        super().__init__(size=size, rate=rate)
"""


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    """A folder with a pair of a package that is not yet imported; whether its code has run."""
    package = tmp_path / "packages" / "foreign_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "pairs.py").write_text(FOREIGN)
    (package / "broken.py").write_text("raise RuntimeError('no luck')")
    monkeypatch.syspath_prepend(package.parent)
    folder = tmp_path / "pair"
    save_pair(ExponentialNormal(prior_rate=2.0), folder)
    name(folder, "foreign_package.pairs:Mine")
    yield folder, lambda: (package / "pairs.ran").exists()
    for module in [m for m in sys.modules if m.startswith("foreign_package")]:
        del sys.modules[module]


def name(folder, found):
    change_pair(folder, lambda content: content.update({"class": found}))


@pytest.mark.parametrize("trust", [(), ("foreign",), ("foreign_package.pair",), ("pairs",), ("",)])
def test_a_foreign_class_is_refused_and_nothing_is_imported(trust, foreign):
    folder, has_run = foreign
    with pytest.raises(ValueError, match="foreign_package.pairs:Mine") as error:
        load_pair(folder, trust=trust)
    assert 'load_pair(path, trust=("foreign_package",))' in str(error.value)
    assert not has_run()
    assert "foreign_package" not in sys.modules


@pytest.mark.parametrize("trust", [("foreign_package",), ["other", "foreign_package.pairs"]])
def test_it_is_loaded_if_its_package_is_trusted(trust, foreign):
    folder, has_run = foreign
    pair = load_pair(folder, trust=trust)
    assert (type(pair).__name__, pair.config["prior_rate"]) == ("Mine", 2.0)
    assert has_run()
    save_pair(pair, folder)
    name(folder, "foreign_package.pairs:Mine.Inner")
    assert type(load_pair(folder, trust=trust)).__name__ == "Inner"


class Narrower(ExponentialNormal):
    def __init__(self, width=2):
        super().__init__(prior_rate=width)


def test_a_pair_that_could_not_be_built_again_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match=r"got prior_rate, .* for Narrower\(width=2\)\. Give sup"):
        save_pair(Narrower(), tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_module_that_was_imported_already_is_no_more_trusted(foreign):
    folder, _ = foreign
    load_pair(folder, trust=("foreign_package",))
    with pytest.raises(ValueError, match="of which nothing was imported"):
        load_pair(folder)


def test_one_name_is_no_tuple(foreign):
    with pytest.raises(TypeError, match=r'For example trust=\("my_package",\)'):
        load_pair(foreign[0], trust="foreign_package")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ("os:system", "of which nothing was imported"),
        ("ppl_vae_evil:Mine", "of which nothing was imported"),
        ("ppl_vae.checks:torch", "a class torch in ppl_vae.checks; got none"),
        ("ppl_vae.checks:torch.nn.Linear", "a class torch.nn.Linear"),
        ("ppl_vae.pair:nothing", "a class nothing in ppl_vae.pair; got none"),
        ("ppl_vae.pair:", "a class  in ppl_vae.pair; got none"),
        ("ppl_vae.nets:MLP", "ppl_vae.nets:MLP, which is no ppl_vae.Pair"),
        ("ppl_vae.nowhere:MLP", "ModuleNotFoundError"),
        ("foreign_package.broken:Mine", "RuntimeError: no luck"),
        ("__main__:Mine", "a program that defines it"),
        ("", "of which nothing was imported"),
        (3, "no class, config and dtype"),
    ],
)
def test_names_that_lead_to_no_pair(found, message, foreign):
    folder, _ = foreign
    name(folder, found)
    with pytest.raises(ValueError, match=message):
        load_pair(folder, trust=("foreign_package",))


def test_a_class_of_the_running_program_needs_no_import(foreign, monkeypatch):
    class Mine(ExponentialNormal):
        pass

    name(foreign[0], "__main__:Mine")
    monkeypatch.setattr(sys.modules["__main__"], "Mine", Mine, raising=False)
    assert type(load_pair(foreign[0])) is Mine


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"latent_dims": 3}, "got 'latent_dims'. Did you mean 'latent_dim'?"),
        ({"image_shape": "abc"}, "can be built and takes its parameters"),
        ({"image_shape": [1, 3, 3], "latent_dim": 7}, r"saved with .ppl_vae 0.1.0, torch 2"),
    ],
)
def test_the_configuration_is_checked_against_the_constructor(config, message, tmp_path):
    save_pair(BernoulliVAE((1, 3, 3), hidden=(4,)), tmp_path)
    change_pair(tmp_path, lambda content: content.update(config=config))
    with pytest.raises(ValueError, match=message):
        load_pair(tmp_path)


def test_all_arguments_that_are_missing_are_named(foreign):
    folder, _ = foreign
    name(folder, "foreign_package.pairs:Strict")
    change_pair(folder, lambda content: content.update(config={}))
    with pytest.raises(ValueError, match="with size, rate; got one without size, rate"):
        load_pair(folder, trust=("foreign_package",))
