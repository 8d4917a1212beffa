"""Every entry of the bank: the wrong ones with their findings, the right ones without any."""

import pytest
import torch
from objective_bank import PAIRS, RIGHT, WRONG

from ppl_vae import MODELS, check_elbo

# The suite takes a few; all of them are slow. `experiments/check_elbo.py` runs all over seeds.
SOME_WRONG = WRONG[::20]
SOME_RIGHT = RIGHT[::16]


def check(entry, seed=0):
    torch.set_default_dtype(torch.float32)
    name, config = PAIRS[entry.pair]
    pair = MODELS[name](**config)
    if entry.pair == "toy":
        x = pair.sample(5, seed=seed, num_datasets=16)
    else:
        x = pair.sample(24, seed=seed)
    return check_elbo(
        entry.make(pair), pair, x, kind=entry.kind, reduction=entry.reduction, seed=seed
    )


def has_its_finding(entry):
    result = check(entry)
    assert not result.passed
    assert any(
        (f.kind, f.term) == entry.finding and entry.says in f.message for f in result.findings
    ), [str(f) for f in result.findings]


@pytest.mark.parametrize("entry", SOME_WRONG, ids=lambda e: e.name)
def test_wrong_objectives_are_diagnosed(entry):
    has_its_finding(entry)


@pytest.mark.parametrize("entry", SOME_RIGHT, ids=lambda e: e.name)
def test_right_objectives_pass(entry):
    assert check(entry).passed


@pytest.mark.parametrize(
    ("name", "seed"),
    [("a clamp that is never met", 29), ("autocast", 11), ("k3, numpy's noise", 22)],
)
def test_right_objectives_pass_where_they_once_did_not(name, seed):
    """A perturbation that met the clamp, bfloat16 gradients, and noise of infinite variance."""
    (entry,) = [entry for entry in RIGHT if entry.name == name]
    assert check(entry, seed).passed


@pytest.mark.slow
@pytest.mark.parametrize("entry", WRONG, ids=lambda e: e.name)
def test_all_wrong_objectives_are_diagnosed(entry):
    has_its_finding(entry)


@pytest.mark.slow
@pytest.mark.parametrize("entry", RIGHT, ids=lambda e: e.name)
def test_all_right_objectives_pass(entry):
    assert check(entry).passed


def test_the_bank_is_large_and_its_names_are_its_own():
    assert len(WRONG) >= 40
    assert len(RIGHT) >= 40
    names = [entry.name for entry in WRONG + RIGHT]
    assert len(set(names)) == len(names)
    assert all(entry.finding for entry in WRONG)
    assert {entry.pair for entry in WRONG + RIGHT} == set(PAIRS)
