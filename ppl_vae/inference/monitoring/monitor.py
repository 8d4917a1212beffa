"""What is looked at after every epoch, and whether training goes on."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ppl_vae.elbos import without_weights
from ppl_vae.inference.batches import DataSource
from ppl_vae.inference.monitoring.history import History
from ppl_vae.inference.monitoring.measures import Measures, elbos_of_examples, is_measured
from ppl_vae.inference.monitoring.stopping import EarlyStopping
from ppl_vae.inference.monitoring.validation import evaluate_auxiliary, evaluate_elbo
from ppl_vae.inference.processes.group import Alone
from ppl_vae.inference.rules import Rules
from ppl_vae.pair import Pair
from ppl_vae.seeding import derive, seeded


class Monitor:
    """Measures a pair after an epoch, judges it, and keeps the best parameters.

    Args:
        pair: what is trained, as a pair of one argument.
        elbo: the estimator.
        train: the training data.
        test: the validation data, or None.
        rules: whether epochs are judged, and what is kept.
        seed: of the run.
        group: the processes that train.

    Attributes:
        keeps_this: whether the last epoch's parameters are those to keep.
        should_stop: whether no epoch has been better for as long as patience allows.
    """

    def __init__(
        self,
        pair: Pair,
        elbo: Any,  # noqa: ANN401
        train: DataSource,
        test: DataSource | None,
        rules: Rules,
        seed: int,
        group: Alone,
    ) -> None:
        self._group = group
        self._pair, self._elbo, self._test, self._seed = pair, without_weights(elbo), test, seed
        self._data = train if test is None else test
        self._measures = Measures(pair, self._data)
        self._keeps_best = rules.keep == "best"
        self._stops = rules.stop is not None
        # Without a rule the best epoch alone is asked for.
        rule = rules.stop or EarlyStopping(patience=1)
        self._judge = rule.begin() if rules.judges else None
        self._best: dict[str, Tensor] = {}
        self.keeps_this, self.should_stop = True, False

    def look(self, epoch: int, history: History, numbers: dict[str, float]) -> None:
        """Add the epoch's measures to the history, beside further `numbers`.

        One process measures and judges for all.
        """
        record, self.keeps_this, is_best, self.should_stop = self._group.first(
            lambda: self._measure(epoch, history, numbers)
        )
        vars(history).update(record)
        if is_best and self._keeps_best:
            self._best = {n: t.detach().clone() for n, t in self._pair.state_dict().items()}

    def _measure(
        self, epoch: int, history: History, numbers: dict[str, float]
    ) -> tuple[dict[str, Any], bool, bool, bool]:
        """Return the longer history, and whether to keep the epoch, it is best, and to stop."""
        pair, test = self._pair, self._test
        if test is not None:
            with seeded(derive(self._seed, "test", epoch), pair.device):
                history.test_elbo.append(evaluate_elbo(self._elbo, pair, test))
        with seeded(derive(self._seed, "auxiliary", epoch), pair.device):
            history.auxiliary += evaluate_auxiliary(pair, self._data)
        if is_measured(epoch):
            with seeded(derive(self._seed, "measures"), pair.device):
                numbers = {**numbers, **self._measures.now()}
        history.add(numbers)
        if self._judge is None or test is None:
            return vars(history), True, False, False
        # The same noise in every epoch: differences are those of the parameters.
        with seeded(derive(self._seed, "judge"), pair.device):
            elbos = elbos_of_examples(pair, test)
        is_best = self._judge.update(epoch, elbos)
        stops = self._stops and self._judge.should_stop
        history.best_epoch, history.stopped_early = self._judge.best_epoch, stops
        return vars(history), is_best or not self._keeps_best, is_best, stops

    def finish(self) -> None:
        """Give the pair the best parameters, if they are to be kept."""
        if self._best:
            self._pair.load_state_dict(self._best)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs to go on."""
        if self._judge is None:
            return {}
        return {"judge": self._judge.state_dict(), "best": self._best}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        if self._judge is not None and state:
            self._judge.load_state_dict(state["judge"])
            self.should_stop = self._stops and self._judge.should_stop
            self._best = {n: t.to(self._pair.device) for n, t in state["best"].items()}
