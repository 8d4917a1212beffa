"""The logs of other libraries, read back from what those libraries wrote."""

import json
import math
import sys
import time

import pytest
import torch

import ppl_vae
from ppl_vae.loggers import MLflowLog, TensorBoardLog, WandbLog

NAN, INF = math.nan, math.inf
NAME = "kl.layers[0].z"
EPOCHS = [
    {"train_elbo": -9.5, NAME: 1.25},
    {"train_elbo": NAN, NAME: 1.5},
    {"train_elbo": INF, NAME: 0},
    {"train_elbo": -INF, NAME: torch.tensor(2.5)},
]


def written(log, epochs, first=1):
    for epoch, numbers in enumerate(epochs, start=first):
        log(epoch, numbers)
    log.close()


def same(got, want):
    """Equal, a NaN to a NaN."""
    assert len(got) == len(want)
    assert all(g == w or (g != g and w != w) for g, w in zip(got, want, strict=True)), (got, want)


def column(name, epochs=EPOCHS):
    return [float(numbers[name]) for numbers in epochs]


@pytest.mark.parametrize(
    ("module", "make"),
    [
        ("tensorboard", lambda: TensorBoardLog("runs")),
        ("mlflow", lambda: MLflowLog(experiment="digits", run_name="first")),
        ("wandb", lambda: WandbLog(project="digits")),
    ],
)
def test_without_its_extra_a_log_cannot_be_made(monkeypatch, module, make):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        ImportError, match=rf"the library {module}; .* pip install 'ppl_vae\[{module}\]'"
    ):
        make()


def test_the_names_are_public():
    for log in (TensorBoardLog, MLflowLog, WandbLog):
        assert getattr(ppl_vae, log.__name__) is log


class TestTensorBoard:
    @pytest.fixture(autouse=True)
    def _library(self):
        pytest.importorskip("tensorboard")

    @staticmethod
    def read(folder):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(folder)).Reload()
        return {
            name: ([e.step for e in events.Scalars(name)], [e.value for e in events.Scalars(name)])
            for name in events.Tags()["scalars"]
        }

    def test_each_number_is_a_scalar(self, tmp_path):
        folder = tmp_path / "new" / "run"
        log = TensorBoardLog(folder)
        assert not folder.exists()
        written(log, EPOCHS)
        found = self.read(folder)
        assert set(found) == {"train_elbo", NAME}
        for name, (steps, values) in found.items():
            assert steps == [1, 2, 3, 4]
            same(values, column(name))

    def test_an_epoch_is_on_disk_before_the_run_ends(self, tmp_path):
        log = TensorBoardLog(tmp_path)
        log(1, EPOCHS[0])
        assert self.read(tmp_path)["train_elbo"] == ([1], [-9.5])
        log.close()

    def test_a_resumed_run_goes_on(self, tmp_path):
        """The third epoch was written and not saved; it comes again."""
        written(TensorBoardLog(tmp_path), EPOCHS[:3])
        written(TensorBoardLog(str(tmp_path)), [{"train_elbo": -8.0}, {"train_elbo": -7.0}], 3)
        steps, values = self.read(tmp_path)["train_elbo"]
        assert steps == [1, 2, 3, 4]
        same(values, [-9.5, NAN, -8.0, -7.0])

    def test_a_new_run_hides_the_old(self, tmp_path):
        log = TensorBoardLog(tmp_path)
        written(log, EPOCHS)
        written(log, [{"train_elbo": -3.0}])
        assert self.read(tmp_path)["train_elbo"] == ([1], [-3.0])

    def test_closing_what_was_never_opened_writes_nothing(self, tmp_path):
        log = TensorBoardLog(tmp_path)
        log.close()
        log.close()
        assert not list(tmp_path.iterdir())


# MLflow uses what a newer SQLAlchemy says will go.
@pytest.mark.filterwarnings("ignore:::mlflow", "ignore::DeprecationWarning")
class TestMLflow:
    @pytest.fixture(autouse=True, scope="class")
    def uri(self, tmp_path_factory):
        """A database for all tests: to make one takes seconds."""
        pytest.importorskip("mlflow")
        pytest.importorskip("sqlalchemy")
        return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/store.db"

    @staticmethod
    def runs(uri, experiment):
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(experiment)
        return client, client.search_runs([found.experiment_id])

    def test_each_number_is_a_metric(self, uri):
        written(MLflowLog(experiment="one", run_name="it's", tracking_uri=uri), EPOCHS)
        client, (run,) = self.runs(uri, "one")
        assert (run.info.run_name, run.info.status) == ("it's", "FINISHED")
        elbo = client.get_metric_history(run.info.run_id, "train_elbo")
        assert [metric.step for metric in elbo] == [1, 2, 3, 4]
        same(
            [metric.value for metric in elbo], [-9.5, NAN, sys.float_info.max, -sys.float_info.max]
        )
        kl = client.get_metric_history(run.info.run_id, "kl.layers_0_.z")
        same([metric.value for metric in kl], column(NAME))

    def test_a_resumed_run_goes_on_and_others_do_not(self, uri):
        here = {"experiment": "two", "tracking_uri": uri}
        for name in ("first", "second"):
            written(MLflowLog(run_name=name, **here), EPOCHS[:2])
        log = MLflowLog(run_name="first", **here)
        log(3, EPOCHS[2])
        client, runs = self.runs(uri, "two")
        runs = {run.info.run_name: run.info for run in runs}
        assert len(runs) == 2
        assert (runs["first"].status, runs["second"].status) == ("RUNNING", "FINISHED")
        log.close()
        for name, steps in (("first", [1, 2, 3]), ("second", [1, 2])):
            metrics = client.get_metric_history(
                runs[name].run_id, NAME.translate({91: 95, 93: 95})
            )
            assert [metric.step for metric in metrics] == steps
            assert client.get_run(runs[name].run_id).info.status == "FINISHED"

    def test_a_new_run_of_the_same_name_is_another(self, uri):
        log = MLflowLog(experiment="three", run_name="same", tracking_uri=uri)
        written(log, EPOCHS[:2])
        written(log, EPOCHS[:1])
        written(log, EPOCHS[1:3], first=2)
        client, runs = self.runs(uri, "three")
        histories = [client.get_metric_history(run.info.run_id, "train_elbo") for run in runs]
        steps = sorted([metric.step for metric in history] for history in histories)
        assert steps == [[1, 2], [1, 2, 3]]
        newest = max(runs, key=lambda run: run.info.start_time)
        assert newest.data.metrics["train_elbo"] == sys.float_info.max

    def test_a_resumed_run_that_was_not_logged_before_begins_a_run(self, uri):
        written(MLflowLog(experiment="four", run_name="late", tracking_uri=uri), EPOCHS[:1], 7)
        client, (run,) = self.runs(uri, "four")
        assert [m.step for m in client.get_metric_history(run.info.run_id, "train_elbo")] == [7]

    def test_the_active_run_and_address_stay_what_they_are(self, uri):
        import mlflow

        before = mlflow.get_tracking_uri()
        log = MLflowLog(experiment="five", run_name="quiet", tracking_uri=uri)
        log(1, EPOCHS[0])
        assert mlflow.active_run() is None
        assert mlflow.get_tracking_uri() == before
        log.close()


class TestWandb:
    @pytest.fixture(autouse=True)
    def _library(self):
        pytest.importorskip("wandb")

    @staticmethod
    def records(path):
        """The protocol buffers in a .wandb file: LevelDB's log format, in blocks of 32 KiB."""
        from wandb.proto import wandb_internal_pb2

        data, position, parts, found = path.read_bytes(), 7, b"", []
        while position + 7 <= len(data):
            room = 32768 - position % 32768
            if room < 7:
                position += room
                continue
            length, kind = (
                int.from_bytes(data[position + 4 : position + 6], "little"),
                position + 6,
            )
            parts += data[position + 7 : position + 7 + length]
            position += 7 + length
            if data[kind] in (1, 4):  # whole, or the last part
                found.append(wandb_internal_pb2.Record.FromString(parts))
                parts = b""
        return found

    def ended(self, path):
        """The records of a run that has ended: its process writes the last ones a little later."""
        for _ in range(300):
            records = self.records(path)
            if records and records[-1].WhichOneof("record_type") == "exit":
                return records
            time.sleep(0.1)
        raise TimeoutError(path)

    def read(self, folder):
        """For each run folder, by age: id, project, and the numbers at each step."""
        found = []
        for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
            records, steps = self.ended(path), {}
            (run,) = [r.run for r in records if r.WhichOneof("record_type") == "run"]
            for record in records:
                if record.WhichOneof("record_type") == "history":
                    items = {
                        ".".join(i.nested_key) or i.key: json.loads(i.value_json)
                        for i in record.history.item
                    }
                    step = items.pop("_step")
                    steps[step] = {k: v for k, v in items.items() if not k.startswith("_")}
            found.append((run.run_id, run.project, steps))
        return found

    def test_each_number_is_in_the_history(self, tmp_path):
        folder = tmp_path / "new"
        log = WandbLog(project="digits", dir=folder)
        assert not folder.exists()
        written(log, EPOCHS)
        ((_, project, steps),) = self.read(folder)
        assert project == "digits"
        assert list(steps) == [1, 2, 3, 4]
        for name in EPOCHS[0]:
            same([numbers[name] for numbers in steps.values()], column(name))

    def test_a_resumed_run_keeps_its_id_and_a_new_one_does_not(self, tmp_path):
        for epochs, first in ((EPOCHS[:2], 1), (EPOCHS[2:], 3), (EPOCHS[:1], 1), (EPOCHS[1:], 2)):
            written(WandbLog(project="digits", dir=str(tmp_path)), epochs, first)
            time.sleep(1.1)  # a folder's name has seconds
        ids, _, steps = zip(*self.read(tmp_path), strict=True)
        assert ids[0] == ids[1] != ids[2] == ids[3]
        assert [list(s) for s in steps] == [[1, 2], [3, 4], [1], [2, 3, 4]]

    def test_two_runs_at_once(self, tmp_path):
        logs = [WandbLog(project="digits", dir=tmp_path / name) for name in "ab"]
        for epoch in (1, 2):
            for size, log in enumerate(logs):
                log(epoch, {"train_elbo": 10.0 * size + epoch})
        for size, log in enumerate(logs):
            log.close()
            ((_, _, steps),) = self.read(log.dir)
            want = {epoch: {"train_elbo": 10.0 * size + epoch} for epoch in (1, 2)}
            assert steps == want

    def test_a_bad_mode(self):
        with pytest.raises(ValueError, match="mode as one of offline, online; got 'ofline'. Did"):
            WandbLog(project="digits", mode="ofline")


def test_training_tells_tensorboard_what_the_history_holds(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from ppl_vae import LinearGaussian, fit

    pair = LinearGaussian(data_dim=3, latent_dim=1, seed=0)
    log = TensorBoardLog(tmp_path)
    options = {"num_epochs": 3, "progress": False, "device": "cpu"}
    history = fit(pair, pair.sample(20, seed=0), kl_weight=2.0, log=log, **options)
    found = EventAccumulator(str(tmp_path)).Reload()
    for name in ("objective", "train_elbo", "kl.z", "kl_weight", "log_likelihood"):
        told = [event.value for event in found.Scalars(name)]
        assert told == pytest.approx(history.to_dataframe()[name].tolist(), rel=1e-6)
