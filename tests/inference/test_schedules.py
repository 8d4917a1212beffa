"""Warm-ups of the KL's weight, and the table of weights of a run."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from ppl_vae.inference.steps.schedules import CyclicalWarmup, LinearWarmup, kl_weights

LINEAR = [LinearWarmup(), LinearWarmup(fraction=1.0), LinearWarmup(fraction=0.25, start=0.5)]


@pytest.mark.parametrize("warmup", LINEAR, ids=str)
def test_a_linear_warmup_is_a_line_and_then_one(warmup):
    assert warmup(0.0) == warmup.start
    assert warmup(1.0) == 1
    assert warmup(warmup.fraction) == 1
    middle = (warmup.start + 1) / 2
    assert warmup(warmup.fraction / 2) == pytest.approx(middle, rel=1e-15)
    assert warmup((1 + warmup.fraction) / 2) == 1


def test_a_start_of_one_is_no_warmup():
    assert (kl_weights(LinearWarmup(start=1.0), 7) == 1).all()


@pytest.mark.parametrize("fraction", [0.5, 1.0, 0.3])
@pytest.mark.parametrize("cycles", range(1, 13))
def test_a_cyclical_warmup_is_that_of_fu_et_al(cycles, fraction):
    """Their equations 6 and 7, whose step t counts from 1, in whole numbers."""
    for num_steps in (cycles, 12 * cycles, 97, 1000):
        table = kl_weights(CyclicalWarmup(cycles, fraction), num_steps)
        for step, got in enumerate(table.tolist()):
            tau = step * cycles % num_steps / num_steps
            want = tau / fraction if tau <= fraction else 1.0
            assert got == pytest.approx(want, rel=0, abs=1e-12)
    assert CyclicalWarmup(cycles, fraction)(1.0) == 1


def test_one_cycle_is_a_linear_warmup():
    done = [step / 64 for step in range(65)]
    assert [CyclicalWarmup(1, 0.25)(d) for d in done] == [LinearWarmup(0.25)(d) for d in done]


def test_a_number_stays_a_number():
    for value in (0, 1, 2.5, np.float32(2.5), np.int64(2), torch.tensor(2.5)):
        got = kl_weights(value, 10)
        assert type(got) is float
        assert got == value


def test_the_table_of_any_function():
    seen = []

    def weight(done):
        seen.append(done)
        return torch.tensor(done**2)

    table = kl_weights(weight, 5)
    assert seen == [0.0, 0.2, 0.4, 0.6, 0.8]
    assert table.dtype == torch.float64
    torch.testing.assert_close(table, torch.tensor(seen, dtype=torch.float64) ** 2)
    assert kl_weights(lambda done: 1, 3).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("bad", [-0.1, math.nan, math.inf])
def test_a_weight_out_of_range_says_where(bad):
    with pytest.raises(ValueError, match=f"kl_weight finite and at least 0; got {bad}"):
        kl_weights(bad, 4)
    with pytest.raises(ValueError, match=rf"kl_weight\(0.75\) finite and at least 0; got {bad}"):
        kl_weights(lambda done: bad if done > 0.6 else 1.0, 4)


@pytest.mark.parametrize(
    "bad", [None, "1", True, 1j, {"z": 1.0}, torch.ones(2), torch.tensor([True])]
)
def test_a_weight_that_is_no_number_says_where(bad):
    with pytest.raises(TypeError, match="kl_weight as a"):
        kl_weights(bad, 4)
    with pytest.raises(TypeError, match=r"kl_weight\(0.5\) as a"):
        kl_weights(lambda done: bad if done == 0.5 else 1.0, 4)


def test_no_steps():
    with pytest.raises(ValueError, match="num_steps of at least 1; got 0"):
        kl_weights(1.0, 0)


@pytest.mark.parametrize("warmup", [LinearWarmup, CyclicalWarmup])
def test_a_rise_is_a_part_of_training(warmup):
    for fraction in (0.0, -0.5, math.nan):
        with pytest.raises(ValueError, match="fraction finite and above 0"):
            warmup(fraction=fraction)
    with pytest.raises(ValueError, match="fraction at most 1; got 1000. Give the part"):
        warmup(fraction=1000)
    with pytest.raises(TypeError, match="fraction as a number; got str"):
        warmup(fraction="0.3")


def test_bad_start_and_cycles():
    for start in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=rf"start in \[0, 1\]; got {start}"):
            LinearWarmup(start=start)
    with pytest.raises(TypeError, match="start as a number; got NoneType"):
        LinearWarmup(start=None)
    with pytest.raises(ValueError, match="cycles of at least 1; got 0"):
        CyclicalWarmup(cycles=0)
    with pytest.raises(TypeError, match="cycles as an int; got float"):
        CyclicalWarmup(cycles=2.0)


@pytest.mark.parametrize("warmup", [LinearWarmup(), CyclicalWarmup()], ids=str)
def test_a_step_number_is_no_fraction(warmup):
    for done in (-0.1, 17, math.nan):
        with pytest.raises(ValueError, match=r"the fraction of training done in \[0, 1\]; got"):
            warmup(done)


def test_they_cannot_be_changed_and_can_be_written_down():
    with pytest.raises(dataclasses.FrozenInstanceError):
        LinearWarmup().fraction = 0.5
    assert str(CyclicalWarmup()) == "CyclicalWarmup(cycles=4, fraction=0.5)"
    saved = json.loads(json.dumps(dataclasses.asdict(LinearWarmup(0.2, 0.1))))
    assert LinearWarmup(**saved) == LinearWarmup(0.2, 0.1)
