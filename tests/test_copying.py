"""Functions that work on a copy of a pair take what users keep in it, or name it."""

import pytest

from ppl_vae import BernoulliVAE, compare_elbos, evaluate, fit, inference_gap, log_evidence


class _Keeping(BernoulliVAE):
    """Holds what its last run made, as users do to look at it."""

    def __init__(self, kept=None):
        super().__init__((1, 2, 2), 2, (3,), seed=0)
        self.kept, self.last = kept, None

    def encode(self, x):
        loc, scale = super().encode(x)
        self.last = loc
        return loc, scale


USES = {
    "fit": lambda pair, x: fit(pair, x, num_epochs=1, progress=False),
    "compare_elbos": lambda pair, x: compare_elbos(pair, x, ["trace"], num_replicates=10),
    "log_evidence": lambda pair, x: log_evidence(pair, x, num_samples=10),
    "evaluate": lambda pair, x: evaluate(pair, x, num_samples=10),
    "inference_gap": lambda pair, x: inference_gap(pair, x, num_steps=2),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_what_a_run_left_behind_is_copied_without_its_history(use):
    pair = _Keeping()
    x = pair.sample(4, seed=0)
    pair.guide(x)
    assert not pair.last.is_leaf
    use(pair, x)
    assert pair.last.shape == (4, 2)


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_what_cannot_be_copied_is_named(use):
    pair = _Keeping(i for i in range(3))
    x = pair.sample(4, seed=0)
    with pytest.raises(TypeError, match=r"attributes can be copied; got a _Keeping .*generator"):
        use(pair, x)
