"""Training from PyTorch's data sets and loaders, and going on with it bit by bit."""

from functools import partial

import pyro
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    TensorDataset,
)

from ppl_vae import (
    LinearGaussian,
    active_units,
    compare_elbos,
    explain_elbo,
    fit,
    inference_gap,
    log_evidence,
)
from ppl_vae.inference.batches import describe
from ppl_vae.models import ConditionalVAE

X = torch.randn(22, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def pair():
    return LinearGaussian(4, 2, seed=1)


def trained(data, *, epochs=4, **options):
    model = pair()
    options = {"batch_size": 5, "seed": 3, "progress": False, "device": "cpu", **options}
    history = fit(model, data, num_epochs=epochs, **options)
    return history, torch.cat([p.detach().flatten() for p in model.parameters()])


class Stream(IterableDataset):
    """Examples one by one; with epochs, each in an order of its own."""

    def __init__(self, *, knows_epochs):
        self.epoch, self._offset = 0, 0
        if knows_epochs:
            self.set_epoch = self._set_epoch

    def _set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        order = torch.randperm(len(X), generator=torch.Generator().manual_seed(self.epoch))
        yield from X[order]


class OwnSampler(Sampler):
    def __len__(self):
        return len(X)

    def __iter__(self):
        yield from reversed(range(len(X)))


def seeded_loader(seed=5):
    return DataLoader(
        TensorDataset(X), 5, shuffle=True, generator=torch.Generator().manual_seed(seed)
    )


def random_batches(generator=None):
    return BatchSampler(RandomSampler(X, generator=generator), 5, drop_last=False)


LOADERS = {
    "shuffled": lambda: DataLoader(TensorDataset(X), 5, shuffle=True),
    "in order": lambda: DataLoader(TensorDataset(X), 5),
    "a generator": seeded_loader,
    "a sampler's generator": lambda: DataLoader(
        TensorDataset(X),
        5,
        sampler=RandomSampler(X, generator=torch.Generator().manual_seed(1)),
    ),
    "a batch sampler's generator": lambda: DataLoader(
        TensorDataset(X), batch_sampler=random_batches(torch.Generator().manual_seed(1))
    ),
    "a list of places": lambda: DataLoader(TensorDataset(X), 5, sampler=[7, 3, 4, 0, 21, 2]),
    "a list of batches": lambda: DataLoader(TensorDataset(X), batch_sampler=[[7, 3], [4, 0, 21]]),
    "a stream that knows its epoch": lambda: DataLoader(Stream(knows_epochs=True), 5),
    "the data set": lambda: TensorDataset(X),
}


@pytest.mark.parametrize("kind", LOADERS)
def test_resuming_is_bit_by_bit_what_was_never_stopped(kind, tmp_path):
    make = LOADERS[kind]
    history, whole = trained(make(), epochs=4)
    trained(make(), epochs=2, run_dir=tmp_path)
    again, resumed = trained(make(), epochs=4, run_dir=tmp_path, resume=True)
    assert again.train_elbo == history.train_elbo
    assert torch.equal(whole, resumed)


class OwnBatches(BatchSampler):
    pass


NOT_REWOUND = {
    "a stream": (lambda: Stream(knows_epochs=False), "an IterableDataset without set_epoch"),
    "a sampler": (
        lambda: DataLoader(TensorDataset(X), 5, sampler=OwnSampler()),
        "a DataLoader with the sampler OwnSampler",
    ),
    "a batch sampler": (
        lambda: DataLoader(
            TensorDataset(X), batch_sampler=OwnBatches(OwnSampler(), 5, drop_last=False)
        ),
        "a DataLoader with the sampler OwnBatches",
    ),
    "a sampler in torch's batch sampler": (
        lambda: DataLoader(
            TensorDataset(X), batch_sampler=BatchSampler(OwnSampler(), 5, drop_last=False)
        ),
        "a DataLoader with the sampler OwnSampler",
    ),
}


@pytest.mark.parametrize("kind", NOT_REWOUND)
def test_what_cannot_be_rewound_trains_but_does_not_resume(kind, tmp_path):
    make, words = NOT_REWOUND[kind]
    history, _ = trained(make(), epochs=2, run_dir=tmp_path)
    assert len(history) == 2
    with pytest.raises(ValueError, match="a loader whose order can be repeated") as caught:
        trained(make(), epochs=3, run_dir=tmp_path, resume=True)
    assert words in str(caught.value)
    assert (tmp_path / "checkpoint.safetensors").exists()


def test_a_batch_sampler_is_told_the_epoch():
    told = []

    class Told(OwnSampler):
        def set_epoch(self, epoch):
            told.append(epoch)

    for batches in (BatchSampler, OwnBatches):
        trained(DataLoader(TensorDataset(X), batch_sampler=batches(Told(), 5, drop_last=False)))
    assert told == [1, 2, 3, 4] * 2


def test_data_are_described_by_their_shape():
    for data in (X, TensorDataset(X), (X,), [X], {"x": X}):
        described = describe(data)
        assert described in ("tensor (22, 4)", "batch(x=(22, 4))"), described
    drawn = DataLoader(TensorDataset(X), batch_sampler=random_batches())
    assert describe(drawn).endswith("sampler=RandomSampler)")


def test_a_loader_sees_every_example_once_an_epoch():
    seen = []

    class Watched(Dataset):
        def __len__(self):
            return len(X)

        def __getitem__(self, place):
            seen.append(place)
            return X[place]

    trained(Watched(), epochs=2)
    # A look at the beginning, before the training.
    assert sorted(seen[-2 * len(X) : -len(X)]) == sorted(seen[-len(X) :]) == list(range(len(X)))


def test_the_mean_over_an_epoch_weighs_by_examples():
    # At a learning rate of 0 the order and the batches make no difference to the exact ELBO.
    frozen = {"optimizer": lambda p: torch.optim.SGD(p, lr=0.0), "elbo": "exact", "epochs": 1}
    model = pair()
    expected = model.exact.elbo(X).mean().item()
    for data in (X, DataLoader(TensorDataset(X), 5), DataLoader(Stream(knows_epochs=True), 7)):
        history, _ = trained(data, validation=data, **frozen)
        assert abs(history.train_elbo[0] - expected) < 1e-12
        assert abs(history.test_elbo[0] - expected) < 1e-12


def test_loaded_batches_compile_to_the_same_steps():
    found = [
        trained(DataLoader(TensorDataset(X), 5), epochs=3, compile=how) for how in (False, True)
    ]
    assert torch.allclose(found[0][1], found[1][1], rtol=1e-10, atol=1e-12)


def test_labels_travel_with_their_images_through_a_compiled_loader():
    model = ConditionalVAE((1, 2, 2), 3, 2, (4,), seed=0)
    images, labels = model.sample(12, seed=0), torch.arange(12) % 3
    found = []
    for how in (False, True):
        model = ConditionalVAE((1, 2, 2), 3, 2, (4,), seed=0)
        loader = DataLoader(TensorDataset(images, labels), 4)
        options = {"progress": False, "device": "cpu", "compile": how}
        found.append(fit(model, loader, num_epochs=3, **options).train_elbo)
    assert torch.allclose(torch.tensor(found[0]), torch.tensor(found[1]), rtol=1e-9)


def test_evidence_by_a_loader_is_that_of_its_tensors():
    options = {"method": "exact", "device": "cpu"}
    expected = log_evidence(pair(), X, **options).mean
    for data in (DataLoader(TensorDataset(X), 5), TensorDataset(X)):
        assert torch.equal(log_evidence(pair(), data, **options).mean, expected)
    for drawn in ({"shuffle": True, "batch_size": 5}, {"batch_sampler": random_batches()}):
        with pytest.raises(ValueError, match="a loader that gives the examples in their order"):
            log_evidence(pair(), DataLoader(TensorDataset(X), **drawn), **options)


def as_functions(model):
    def of(name):
        def call(x):
            pyro.module("pair", model)
            return getattr(model, name)(x)

        return call

    return of("model"), of("guide")


def test_functions_take_data_sets_and_loaders_where_numbers_are_by_example():
    functions, data = as_functions(pair()), TensorDataset(X)
    options = {"num_samples": 50, "device": "cpu"}
    expected = log_evidence(functions, X, **options).mean
    for given in (data, DataLoader(data, 5), list_data_set()):
        assert torch.equal(log_evidence(functions, given, **options).mean, expected)
    stream = log_evidence(functions, DataLoader(Stream(knows_epochs=False), 5), **options)
    assert len(stream.mean) == len(X)
    with pytest.raises(ValueError, match="at least one batch in the loader"):
        log_evidence(functions, DataLoader(TensorDataset(X[:0]), 5), **options)


def test_gaps_of_a_loader_are_those_of_its_tensors():
    options = {"num_samples": 16, "num_steps": 10, "device": "cpu", "method": "iwae"}
    options |= {"num_evidence_samples": 50}
    for program in (pair(), as_functions(pair())):
        expected = inference_gap(program, X[:6], **options).amortisation.mean
        loader = DataLoader(TensorDataset(X[:6]), 3)
        assert torch.equal(inference_gap(program, loader, **options).amortisation.mean, expected)
        with pytest.raises(ValueError, match="a loader that gives the examples in their order"):
            inference_gap(program, DataLoader(TensorDataset(X), 5, shuffle=True), **options)


@pytest.mark.parametrize("data", [TensorDataset(X), DataLoader(TensorDataset(X), 5)])
def test_where_one_batch_is_taken_the_error_says_how(data):
    for measure in (compare_elbos, partial(explain_elbo, "trace"), active_units):
        with pytest.raises(TypeError, match=r"next\(iter\(loader\)\)"):
            measure(pair(), data)


def list_data_set():
    class Rows(Dataset):
        def __len__(self):
            return len(X)

        def __getitem__(self, place):
            return X[place]

    return Rows()


class Once(IterableDataset):
    def __init__(self):
        self.items = iter(X)

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.items)


class Exhausted(IterableDataset):
    def __init__(self):
        self.passes = iter([X, X])

    def __iter__(self):
        yield from next(self.passes, [])


@pytest.mark.parametrize(
    "example", [lambda place: X[place, : 2 + place % 2], lambda place: (X[place], None)]
)
def test_examples_that_make_no_batch_are_refused(example):
    class Rows(Dataset):
        def __len__(self):
            return len(X)

        def __getitem__(self, place):
            return example(place)

    with pytest.raises(TypeError, match=r"got examples of which torch makes no batch: .* Pad"):
        trained(Rows())


def test_bad_loaders_are_refused():
    with pytest.raises(TypeError, match="an IterableDataset whose __iter__ starts"):
        trained(Once())
    with pytest.raises(ValueError, match="at least one batch in every pass"):
        trained(Exhausted(), epochs=3)
    with pytest.raises(ValueError, match="at least one batch in every pass"):
        trained(DataLoader(TensorDataset(X[:0]), 5))
    with pytest.raises(TypeError, match="a data set with a length"):
        trained(Dataset())
    with pytest.raises(TypeError, match="a Dataset, a DataLoader"):
        trained("digits")
    with pytest.raises(ValueError, match="first dimension"):
        trained((X, X[:3]))
