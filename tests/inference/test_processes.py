"""Several processes give what one gives: numbers, files, and ends."""

import functools
import sys

import pyro
import pyro.distributions as dist
import pytest
import torch
from processes import together
from small_vae import vae, values
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from ppl_vae import EarlyStopping, fit, load
from ppl_vae.inference.compilation import chunk
from ppl_vae.models import BinaryLatentVAE
from ppl_vae.pair import Pair

DIGITS = load("digits")[:100]
X = DIGITS.batch(slice(0, 100), dtype=torch.float64)
TINY = {"num_epochs": 2, "batch_size": 40, "progress": False, "device": "cpu", "compile": False}


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    monkeypatch.setattr(sys.modules["ppl_vae.inference.fit"], "draw_run", lambda *_: None)


def binary():
    return BinaryLatentVAE((1, 8, 8), latent_dim=5, seed=0).double()


class Clusters(Pair):
    """Draws that are computed, and flattened: two categories for each example."""

    def __init__(self):
        super().__init__()
        self.weight, self.loc = (nn.Parameter(torch.linspace(-1, 1, 3)) for _ in range(2))

    def guide(self, x):
        self.begin(x)
        with pyro.plate("data", len(x)):
            logits = x[:, :2, None] * self.weight
            pyro.sample("z", dist.Categorical(logits=logits).to_event(1))

    def model(self, x):
        self.begin(x)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Categorical(logits=x.new_zeros(len(x), 2, 3)).to_event(1))
            loc = self.loc[z].sum(-1, keepdim=True).expand(x.shape)
            pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x)


class Rates(Pair):
    """Draws by rejection, which take as many random numbers as they happen to."""

    def __init__(self):
        super().__init__()
        self.guided, self.prior = (nn.Parameter(torch.zeros(2)) for _ in range(2))

    def guide(self, x):
        self.begin(x)
        a, b = self.guided.exp()
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Gamma(a + x.sum(-1), b))

    def model(self, x):
        self.begin(x)
        a, b = self.prior.exp()
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Gamma(a, b).expand([len(x)]))
            pyro.sample("x", dist.Poisson(z[:, None].expand(x.shape)).to_event(1), obs=x)


COUNTS = torch.arange(106.0, dtype=torch.float64).reshape(53, 2) % 5
JUDGED = {"validation": DIGITS[:30], "keep": "best", "stop": EarlyStopping(patience=1)}
CASES = {
    "trace": (vae, DIGITS, {}),
    "long": (vae, DIGITS, {"elbo": "trace-mean-field", "num_epochs": 34}),  # 102 steps
    "iwae": (vae, X, {"elbo": "iwae"}),
    "dreg": (vae, X, {"elbo": "dreg"}),
    "graph": (vae, X, {"elbo": "trace-graph"}),
    "disarm": (binary, DIGITS, {"elbo": "disarm"}),
    "straight-through": (binary, DIGITS, {"elbo": "straight-through"}),
    "computed": (Clusters, COUNTS, {"elbo": "leave-one-out"}),
    "rules": (vae, X, {"clip_norm": 1.0, "accumulate": 3, "kl_weight": 0.5, **JUDGED}),
    "few": (vae, X[:10], {"batch_size": 4}),  # the last batch has two examples
    "loader": (vae, DataLoader(TensorDataset(X), batch_size=40, shuffle=True), {}),
}


def trained(make, data, options):
    """Parameters and ELBOs of a run, as one vector."""
    pair = make()
    options = {"optimizer": functools.partial(torch.optim.Adam, lr=1e-2), **options}
    history = fit(pair, data, **{"elbo": "trace", **TINY, **options})
    elbos = torch.tensor([*history.train_elbo, *history.test_elbo, len(history)])
    return torch.cat([values(pair), elbos])


@pytest.fixture(scope="module")
def alone():
    torch.set_default_dtype(torch.float64)  # before what every test starts from
    return {name: trained(*case) for name, case in CASES.items()}


@pytest.mark.parametrize("size", [1, 2, 4])
def test_any_number_of_processes_gives_what_one_gives(size, alone, monkeypatch):
    monkeypatch.setattr(chunk, "lower", lambda body, given, name: lambda given: body(*given))
    rows = []

    def work(rank):
        found = {name: trained(*case) for name, case in CASES.items()}
        found["compiled"] = trained(vae, DIGITS, {"compile": True})

        class Counting(type(vae())):
            def model(self, x):
                rows.append(len(x))
                return super().model(x)

        pair = Counting((1, 8, 8), latent_dim=3, hidden=(16,), seed=0).double()
        fit(pair, X, **TINY, elbo="trace", seed=1)
        found["by rejection"] = trained(Rates, COUNTS, {})
        return found, max(rows[-3:]) if rank else 0  # the first one measures, too

    expected = {**alone, "compiled": alone["trace"]}
    for found, most in together(size, work):
        expected.setdefault("by rejection", found["by rejection"])
        for name, want in expected.items():
            torch.testing.assert_close(found[name], want, rtol=1e-12, atol=1e-12, msg=name)
        assert most <= -(-40 // size)
    by_rejection.append(expected["by rejection"])
    torch.testing.assert_close(by_rejection[-1], by_rejection[0], rtol=1e-12, atol=1e-12)


by_rejection = []


class Loaded(Dataset):
    def __init__(self):
        self.seen = set()

    def __len__(self):
        return 400

    def __getitem__(self, i):
        self.seen.add(i)
        return X[i % 100]


class Part(IterableDataset):
    split_by_rank = True

    def __init__(self, x):
        self.x = x

    def __iter__(self):
        return iter(self.x)


def test_data_are_loaded_once_or_are_parts_already():
    one = trained(vae, Loaded(), {"num_epochs": 1})

    def work(rank):
        data = Loaded()
        several = trained(vae, data, {"num_epochs": 1})
        # One part is much longer, and its gradient is the mean over all examples.
        part = Part(X[:70] if rank == 0 else X[70:])
        options = {"batch_size": 100, "optimizer": functools.partial(torch.optim.SGD, lr=1.0)}
        pair = vae()
        fit(pair, part, **{**TINY, **options, "num_epochs": 1}, elbo="trace", seed=2)
        small = trained(vae, part, {"batch_size": 20})
        return several, len(data.seen), values(pair), small

    first, second = together(2, work)
    torch.testing.assert_close(first[0], one, rtol=1e-12, atol=1e-12)
    assert second[1] < 350  # 200 of its own, and what is compared; the first one measures, too
    assert torch.equal(first[2], second[2])
    assert torch.equal(first[3], second[3])


def test_parts_of_unequal_length_weigh_by_their_examples():
    """Without noise the step of two parts is the step of their union."""
    weight = nn.Parameter(torch.zeros(()))

    class Mean(Pair):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(weight.detach().clone())

        def guide(self, x):
            self.begin(x)

        def model(self, x):
            self.begin(x)
            with pyro.plate("data", len(x)):
                pyro.sample("x", dist.Normal(self.weight, 1.0), obs=x)

    x = torch.arange(10.0, dtype=torch.float64)
    options = {**TINY, "num_epochs": 1, "elbo": "trace"}
    options["optimizer"] = functools.partial(torch.optim.SGD, lr=0.5)

    def work(rank):
        pair = Mean()
        history = fit(pair, Part(x[:3] if rank == 0 else x[3:]), **options)
        return pair.weight.item(), history.train_elbo[0]

    whole = Mean()
    history = fit(whole, x, **options)
    for found in together(2, work):
        assert found == pytest.approx((whole.weight.item(), history.train_elbo[0]), rel=1e-13)
