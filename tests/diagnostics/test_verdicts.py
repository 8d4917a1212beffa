"""What an evaluation says, of planted numbers."""

from dataclasses import replace

import torch

from ppl_vae.diagnostics.aggregate.active_units import ActiveUnits
from ppl_vae.diagnostics.estimate import Estimate
from ppl_vae.diagnostics.evidence.result import Evidence
from ppl_vae.diagnostics.verdicts import judge

CLEAR, UNCLEAR = Estimate(0.5, 0.1, 4), Estimate(0.15, 0.1, 4)


def evidence(method="iwae", pareto_k=0.1):
    mean = torch.tensor([-9.0, -11.0, -9.0, -11.0])
    plain = torch.full((4,), 0.01)
    k = torch.tensor([0.1, 0.2, 0.3, pareto_k])
    return Evidence(mean, plain, plain * 100, k, method, 50)


def test_the_evidence_with_its_interval():
    # The standard error is sqrt(4/3)/2 = 0.57735, times 1.96: 1.13159.
    first = judge(evidence(), CLEAR, {}, None)[0]
    assert first == (
        "The mean log evidence is at least -10 nats an example "
        "(95% interval -11.1 to -8.9), by iwae with 50 samples, of 4 examples."
    )
    assert "evidence is -10 nats" in judge(evidence("exact"), CLEAR, {}, None)[0]
    assert "in closed form" in judge(evidence("exact"), CLEAR, {}, None)[0]


def test_a_gap_is_named_only_beyond_its_interval():
    assert "lies 0.5 nats an example below it" in judge(evidence(), CLEAR, {}, None)[1]
    line = judge(evidence(), UNCLEAR, {}, None)[1]
    assert line.startswith("No difference between ELBO and evidence beyond the interval")
    assert "below" not in line


def test_weights_that_cannot_be_trusted_are_counted():
    assert not any("Pareto" in line for line in judge(evidence(), CLEAR, {}, None))
    lines = judge(evidence(pareto_k=0.9), CLEAR, {}, None)
    assert any(line.startswith("1 of 4 examples have weights with Pareto k") for line in lines)


def test_units():
    def last(count, total):
        return judge(evidence(), CLEAR, {"z": ActiveUnits(count, torch.zeros(total))}, None)[-1]

    assert last(0, 3) == "No unit of z is active, of 3: its mean hardly depends on the data."
    assert last(1, 3) == "1 of 3 units of z is active."
    assert last(2, 3) == "2 of 3 units of z are active."
    assert last(3, 3) == "All 3 units of z are active."
    assert last(1, 1) == "z is active."


def test_an_upper_bound_is_not_called_at_least():
    text = judge(replace(evidence(), method="reverse-ais"), CLEAR, {}, None)[0]
    assert "at least" not in text
