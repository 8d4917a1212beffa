"""What experiments/gpu.py is built on: rows that stay, an end in time, draws that are the same."""

import csv
import sys
import time
from pathlib import Path

import pytest
import torch

from ppl_vae import ESTIMATORS

sys.path.append(str(Path(__file__).parents[1] / "experiments"))

from gpu_parts import agreement, records  # noqa: E402

CPU = torch.device("cpu")


def passing():
    return {"off by": 1e-7}


def failing():
    raise AssertionError("the value is off")


def not_served():
    raise NotImplementedError("needs a plate")


def test_what_has_a_row_is_not_done_again(tmp_path):
    kept = records.Records(tmp_path / "rows.csv", "a card")
    kept.do([("one", passing), ("two", failing), ("three", not_served)], CPU)
    again = records.Records(tmp_path / "rows.csv", "a card")
    again.do([("one", failing), ("four", passing)], CPU)
    outcomes = {row["case"]: row["outcome"] for row in again.rows()}
    assert outcomes == {
        "one": "passed",
        "two": "FAILED: the value is off",
        "three": "not served: NotImplementedError: needs a plate",
        "four": "passed",
    }


def test_other_code_is_measured_again_and_other_cards_stay(tmp_path, monkeypatch):
    path = tmp_path / "rows.csv"
    records.Records(path, "a card").add("one", outcome="passed")
    records.Records(path, "another card").add("one", outcome="passed")
    monkeypatch.setattr(records, "sources", lambda: "other code")
    kept = records.Records(path, "a card")
    assert not kept.has("one")
    kept.add("one", outcome="FAILED: now")
    with path.open() as file:
        rows = [(row["card"], row["outcome"]) for row in csv.DictReader(file)]
    assert rows == [("a card", "FAILED: now"), ("another card", "passed")]


def test_time_that_is_over_ends_what_catches_every_exception(tmp_path):
    def stubborn():
        while True:
            try:
                time.sleep(10)
            except Exception:  # noqa: BLE001
                continue

    kept = records.Records(tmp_path / "rows.csv", "a card")
    began = time.perf_counter()
    with records.within(0.2):
        kept.do([("one", passing), ("endless", stubborn), ("never", passing)], CPU)
    assert time.perf_counter() - began < 5
    assert [row["case"] for row in kept.rows()] == ["one"]


@pytest.mark.parametrize(
    "draw",
    [
        lambda: torch.randn(3),
        lambda: torch.empty(3).exponential_(),
        lambda: torch.distributions.Gamma(torch.ones(3), 1.0).sample(),
        lambda: torch.randperm(5),
        lambda: torch.bernoulli(torch.full((20,), 0.5)),
    ],
)
def test_draws_on_the_cpu_are_torchs_own(draw):
    torch.manual_seed(3)
    expected = draw()
    torch.manual_seed(3)
    with agreement.DrawnOnCPU():
        assert torch.equal(draw(), expected)


def test_a_wrong_gradient_on_the_device_is_told(monkeypatch):
    """The second of the two, which stands for the device's, is off by one part in a thousand."""
    check = agreement._Gradient("bernoulli-vae", "trace", torch.float32, CPU)
    on, calls = check._on, []

    def perturbed(device):
        loss, gradients = on(device)
        calls.append(device)
        return loss, [g * (1 + 1e-3 * (len(calls) - 1)) for g in gradients]

    monkeypatch.setattr(check, "_on", perturbed)
    with pytest.raises(AssertionError, match="a gradient is off by 1.00e-03"):
        check()


def test_every_estimator_and_pair_is_compared():
    names = [name for name, _ in agreement.gradients(CPU, smoke=False)]
    assert len(names) == len(agreement.PAIRS) * len(ESTIMATORS) * 2
