"""Early stopping: what counts as better, when a run ends, and how it is resumed."""

import dataclasses
import json
import math

import pytest
import torch

from ppl_vae.inference.monitoring.stopping import EarlyStopping
from ppl_vae.inference.saving.files import pack, unpack

# Examples differ by far more than epochs do.
BASE = -100 + 20 * torch.randn(500, generator=torch.Generator().manual_seed(0)).double()


def noise(seed, size=500):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)).double()


def centred(seed, size=500):
    """Noise of mean 0 and of a standard error of the mean of 1, both exactly."""
    z = noise(seed, size)
    return (z - z.mean()) / z.std() * size**0.5


def run(rule, epochs):
    """The epochs that were better, and the one after which the run ended."""
    state, better = rule.begin(), []
    for epoch, elbos in enumerate(epochs, start=1):
        if state.update(epoch, elbos):
            better.append(epoch)
        if state.should_stop:
            return better, epoch
    return better, None


def test_it_stops_after_patience_epochs_without_a_better_one():
    epochs = [BASE + gain for gain in (0.0, 1.0, 0.9, 0.5, 1.1, 1.0, 0.9, 0.8, 3.0)]
    assert run(EarlyStopping(patience=1), epochs) == ([1, 2], 3)
    assert run(EarlyStopping(patience=2), epochs) == ([1, 2], 4)
    assert run(EarlyStopping(patience=3), epochs) == ([1, 2, 5], 8)
    assert run(EarlyStopping(patience=4), epochs) == ([1, 2, 5, 9], None)


@pytest.mark.parametrize(("gain", "counts"), [(0.99, False), (1.01, True), (-1.01, False)])
def test_a_difference_counts_above_its_own_standard_error(gain, counts):
    assert (
        run(EarlyStopping(patience=5), [BASE, BASE + gain + centred(1)])[0] == [1, 2][: 1 + counts]
    )


@pytest.mark.parametrize(("gain", "counts"), [(0.499, False), (0.501, True)])
def test_a_difference_counts_above_min_delta(gain, counts):
    rule = EarlyStopping(patience=5, min_delta=0.5)
    assert run(rule, [BASE, BASE + gain])[0] == [1, 2][: 1 + counts]
    noisy = BASE + gain + centred(1)  # both are asked for
    assert run(rule, [BASE, noisy])[0] == [1]


def test_differences_are_paired():
    """A gain of a hundredth of the ELBO's own standard error is seen, as it is in all examples."""
    own = BASE.std() / len(BASE) ** 0.5
    gain = 0.01 * own + 0.05 * own * noise(1)
    assert run(EarlyStopping(patience=1), [BASE, BASE + gain, BASE]) == ([1, 2], 3)


def test_small_steps_add_up():
    """Each is half of its standard error; the best epoch is what all are compared with."""
    epochs, elbos = [], BASE
    for seed in range(40):
        epochs.append(elbos)
        elbos = elbos + 0.5 + centred(seed)
    better, stopped = run(EarlyStopping(patience=12), epochs)
    assert stopped is None
    assert better[-1] > 25


def test_a_plateau_ends_the_run():
    """With noise about one level an epoch seldom counts, and the run ends."""
    ends = []
    for seed in range(50):
        epochs = [BASE + noise(1000 * seed + epoch) for epoch in range(200)]
        ends.append(run(EarlyStopping(patience=10), epochs)[1])
    assert None not in ends
    assert sum(ends) / len(ends) < 25


def test_elbos_that_are_not_finite_are_never_better():
    broken = [BASE.clone() + 5 for _ in range(3)]
    for elbos, value in zip(broken, (math.nan, math.inf, -math.inf), strict=True):
        elbos[3] = value
    assert run(EarlyStopping(patience=4), [*broken, BASE, BASE + 1]) == ([4, 5], None)
    state = EarlyStopping(patience=3).begin()
    for epoch, elbos in enumerate(broken, start=1):
        assert not state.should_stop
        assert not state.update(epoch, elbos)
    assert state.should_stop
    assert state.best_epoch is None


def test_a_resumed_run_is_one_that_was_never_stopped():
    epochs = [BASE + gain for gain in (0.0, 1.0, 0.5, 0.6, 2.0, 0.0, 0.0, 0.0, 0.0)]
    rule = EarlyStopping(patience=3)
    want = run(rule, epochs)
    for split in range(len(epochs)):
        first = rule.begin()
        better = [e for e, elbos in enumerate(epochs[:split], 1) if first.update(e, elbos)]
        held = {}
        packed = json.loads(json.dumps(pack(first.state_dict(), held)))
        second = rule.begin()
        second.load_state_dict(unpack(packed, held))
        assert second.should_stop == first.should_stop
        assert second.best_epoch == first.best_epoch
        ended = split if second.should_stop else None
        for epoch in range(split + 1, len(epochs) + 1):
            if second.should_stop:
                break
            better += [epoch] if second.update(epoch, epochs[epoch - 1]) else []
            ended = epoch if second.should_stop else None
        if split <= want[1]:
            assert (better, ended) == want


def test_one_rule_serves_several_runs_and_keeps_nothing():
    rule = EarlyStopping(patience=1)
    first, second = rule.begin(), rule.begin()
    first.update(1, BASE)
    first.update(2, BASE)
    assert first.should_stop
    assert not second.should_stop
    assert second.best_epoch is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        rule.patience = 3


def test_what_it_holds_is_its_own():
    state = EarlyStopping(patience=1).begin()
    elbos = BASE.clone().requires_grad_()
    state.update(1, elbos)
    with torch.no_grad():
        elbos += 100
    assert torch.equal(state.best_elbos, BASE)
    assert not state.best_elbos.requires_grad
    assert not state.update(2, (BASE - 1).float())
    assert state.update(3, (BASE + 1).float())


def test_bad_rules():
    for patience in (0, -1):
        with pytest.raises(ValueError, match=f"patience of at least 1; got {patience}"):
            EarlyStopping(patience=patience)
    with pytest.raises(TypeError, match="patience as an int; got float"):
        EarlyStopping(patience=1.5)
    for min_delta in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"min_delta finite and at least 0; got {min_delta}"):
            EarlyStopping(patience=1, min_delta=min_delta)
    with pytest.raises(TypeError, match="min_delta as a number; got str"):
        EarlyStopping(patience=1, min_delta="0")


def test_bad_elbos():
    state = EarlyStopping(patience=1).begin()
    for shape in ((), (1,), (4, 2)):
        with pytest.raises(ValueError, match=r"elbos of shape \(n,\), one for each of n >= 2"):
            state.update(1, torch.zeros(shape))
    with pytest.raises(TypeError, match="elbos as a torch tensor; got float"):
        state.update(1, -3.0)
    state.update(1, torch.zeros(4))
    with pytest.raises(ValueError, match="elbos of the same 4 examples in every epoch; got 5"):
        state.update(2, torch.zeros(5))
