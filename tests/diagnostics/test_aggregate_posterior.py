"""How it is used: pairs, seeds, dtypes, bad input, memory."""

import math
import subprocess
import sys
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from cases import CASES

from ppl_vae import VAE, BernoulliVAE, ExponentialNormal, load, pair_from_modules
from ppl_vae.diagnostics import aggregate_normals, aggregate_posterior


def close(a, b, tolerance=1e-10):
    for name in ("mean_kl", "moment_matched_kl"):
        assert getattr(a, name) == pytest.approx(getattr(b, name), rel=tolerance)
    for name in ("aggregate_kl", "mutual_information"):
        assert getattr(a, name).mean == pytest.approx(getattr(b, name).mean, rel=tolerance)


def test_float32_is_computed_in_float64():
    loc, scale = torch.randn(50, 3), torch.rand(50, 3) + 0.2
    narrow = aggregate_normals(loc.float(), scale.float())
    wide = aggregate_normals(loc.float().double(), scale.float().double())
    assert narrow.mean_kl == wide.mean_kl
    assert narrow.mutual_information == wide.mutual_information
    each = narrow.per_dimension
    assert each.mean_kl.dtype == each.aggregate_kl.mean.dtype == torch.float32
    assert each.mutual_information.standard_error.dtype == torch.float32
    torch.testing.assert_close(each.mean_kl, wide.per_dimension.mean_kl.float())


def test_seeds_and_global_state():
    loc, scale = torch.randn(50, 3, requires_grad=True), torch.rand(50, 3) + 0.2
    state = torch.get_rng_state()
    first = aggregate_normals(loc, scale, seed=1)
    assert torch.equal(state, torch.get_rng_state())
    assert first.aggregate_kl == aggregate_normals(loc, scale, seed=1).aggregate_kl
    assert first.aggregate_kl != aggregate_normals(loc, scale, seed=2).aggregate_kl
    assert first.aggregate_kl != aggregate_normals(loc, scale, seed=None).aggregate_kl
    generator = torch.Generator().manual_seed(3)
    drawn = [aggregate_normals(loc, scale, seed=generator).aggregate_kl.mean for _ in range(2)]
    assert drawn[0] != drawn[1]
    assert not first.per_dimension.mean_kl.requires_grad


def test_an_error_that_few_draws_decide_says_so():
    """Two Normals that overlap in one draw of a hundred; and three that overlap in many."""
    rare = aggregate_normals(torch.tensor([[-2.5], [2.5]]), torch.ones(2, 1), num_samples=300)
    assert "raise num_samples" in rare.mutual_information.warning
    assert rare.aggregate_kl.warning == rare.mutual_information.warning
    assert rare.per_dimension.aggregate_kl.warning
    assert rare.mutual_information.warning in str(rare)
    often = aggregate_normals(torch.tensor([[-2.0], [0.5], [3.0]]), torch.ones(3, 1))
    assert often.mutual_information.warning == often.per_dimension.aggregate_kl.warning == ""


def test_dataframe_has_a_row_per_dimension():
    result = aggregate_normals(torch.randn(50, 3), torch.rand(50, 3) + 0.2)
    table = result.to_dataframe()
    assert table.index.name == "dimension"
    assert list(table.columns) == [
        "mean_kl",
        "aggregate_kl",
        "aggregate_kl_standard_error",
        "moment_matched_kl",
        "mutual_information",
        "mutual_information_standard_error",
        "loc_variance",
        "active",
    ]
    assert table.mean_kl.sum() == pytest.approx(result.mean_kl, rel=1e-12)
    assert int(table.active.sum()) == result.active_units


def test_a_pair_is_measured_by_its_encoder():
    pair = BernoulliVAE((1, 8, 8), latent_dim=3, hidden=(16,), seed=0)
    data = load("digits", binarize="threshold")[:150]
    x = data.batch(slice(None))
    before = [p.detach().clone() for p in pair.parameters()]
    state = torch.get_rng_state()
    result = aggregate_posterior(pair, x, batch_size=40, seed=2, device="cpu")
    assert torch.equal(state, torch.get_rng_state())
    assert len(pyro.get_param_store()) == 0
    assert all(torch.equal(a, b) for a, b in zip(before, pair.parameters(), strict=True))
    assert all(p.grad is None for p in pair.parameters())
    with torch.no_grad():
        plain = aggregate_normals(*pair.encode(x))
    assert result.mean_kl == pytest.approx(plain.mean_kl, rel=1e-13)
    assert result.moment_matched_kl == pytest.approx(plain.moment_matched_kl, rel=1e-12)
    close(result, aggregate_posterior(pair, x, seed=2, device="cpu"))
    close(result, aggregate_posterior(pair, data, batch_size=40, seed=2, device="cpu"))
    assert (result.num_examples, result.latent_dim) == (150, 3)


def test_dynamic_images_follow_the_seed():
    pair = BernoulliVAE((1, 8, 8), latent_dim=3, hidden=(16,), seed=0)
    data = load("digits")[:50]
    a, b, c = (aggregate_posterior(pair, data, seed=s, device="cpu") for s in (0, 0, 1))
    assert a.mean_kl == b.mean_kl != c.mean_kl


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"loc": [[0.0]]}, TypeError, "loc as a torch tensor"),
        ({"loc": torch.zeros(4, 2, dtype=torch.long)}, TypeError, "loc of a floating dtype"),
        ({"scale": 1.0}, TypeError, "scale as a torch tensor"),
        ({"scale": torch.ones(4, 1)}, ValueError, r"one shape \(count, latent_dim\); got loc"),
        ({"loc": torch.zeros(2), "scale": torch.ones(2)}, ValueError, "a row for every comp"),
        ({"loc": torch.zeros(0, 2), "scale": torch.ones(0, 2)}, ValueError, "at least one entry"),
        ({"loc": torch.full((4, 2), math.nan)}, ValueError, "loc: finite numbers only"),
        ({"scale": torch.full((4, 2), math.nan)}, ValueError, "scale: finite numbers above 0"),
        ({"scale": torch.zeros(4, 2)}, ValueError, "scale: finite numbers above 0"),
        ({"scale": -torch.ones(4, 2)}, ValueError, "not its logarithm"),
        ({"scale": torch.ones(4, 2, device="meta")}, ValueError, "on one device"),
        ({"num_samples": 31}, ValueError, "num_samples of at least 32"),
        ({"num_samples": 100.0}, TypeError, "num_samples as an int"),
        ({"active_threshold": 0.0}, ValueError, "active_threshold finite and above 0"),
        ({"seed": "one"}, TypeError, "seed as an int"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_components(change, error, message):
    arguments = {"loc": torch.zeros(4, 2), "scale": torch.ones(4, 2), **change}
    with pytest.raises(error, match=message):
        aggregate_normals(arguments.pop("loc"), arguments.pop("scale"), **arguments)


class _NoEncoder(VAE):
    pass


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"pair": "vae"}, TypeError, "expected a ppl_vae.VAE; got str"),
        ({"pair": ExponentialNormal()}, NotImplementedError, "got ExponentialNormal. If its"),
        ({"x": [1.0]}, TypeError, "data as a tensor"),
        ({"x": torch.zeros(0, 9)}, ValueError, "at least one entry"),
        ({"x": torch.zeros(3, 8)}, ValueError, "Resize the images"),
        ({"x": torch.full((3, 9), math.nan)}, ValueError, "x: finite numbers only"),
        ({"batch_size": 0}, ValueError, "batch_size of at least 1"),
        ({"num_samples": 0}, ValueError, "num_samples of at least 32"),
        ({"device": "cuda:99"}, ValueError, "Choose 'auto'"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_pairs_and_data(change, error, message):
    arguments = {"pair": CASES["bernoulli-vae"](), "x": torch.zeros(3, 9), "device": "cpu"}
    arguments |= change
    with pytest.raises(error, match=message):
        aggregate_posterior(arguments.pop("pair"), arguments.pop("x"), **arguments)


class _LearnedPrior(BernoulliVAE):
    def model(self, x):
        self.begin(x)
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.ones(self.latent_dim), 2.0).to_event(1))
            return pyro.sample("x", self.likelihood(z), obs=x.reshape(-1, *self.image_shape))


class _OtherCode(BernoulliVAE):
    def guide(self, x):
        self.begin(x)
        with pyro.plate("data", len(x), dim=-1):
            loc, scale = self.encode(x)
            return pyro.sample("z", dist.Normal(loc, 2 * scale).to_event(1))


@pytest.mark.parametrize("kind", [_LearnedPrior, _OtherCode])
def test_another_prior_or_another_code_is_refused(kind):
    pair = kind((1, 3, 3), latent_dim=2, hidden=(4,), seed=0)
    with pytest.raises(NotImplementedError, match=f"a standard Normal prior.*got {kind.__name__}"):
        aggregate_posterior(pair, torch.ones(3, 9), device="cpu")


def test_dropout_in_the_encoder_is_no_other_code():
    encoder = torch.nn.Sequential(torch.nn.Linear(9, 4), torch.nn.Dropout(0.5))
    pair = pair_from_modules(encoder, torch.nn.Linear(2, 9), latent_dim=2)
    assert aggregate_posterior(pair, torch.ones(5, 9), device="cpu").num_examples == 5


def test_an_encoder_that_gives_nan_is_named():
    pair = CASES["bernoulli-vae"]()
    torch.nn.init.constant_(next(pair.parameters()), math.nan)
    with pytest.raises(ValueError, match="loc: finite numbers only"):
        aggregate_posterior(pair, torch.ones(3, 9), device="cpu")


MEMORY = """
import torch
from ppl_vae.diagnostics import aggregate_normals
torch.set_num_threads(1)
generator = torch.Generator().manual_seed(0)
loc = torch.randn(60_000, 32, generator=generator)
scale = torch.rand(60_000, 32, generator=generator) + 0.1
aggregate_normals(loc, scale, num_samples=SAMPLES)
print(next(l.split()[1] for l in open("/proc/self/status") if l.startswith("VmHWM")))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads peak memory from /proc")
@pytest.mark.parametrize("samples", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_memory_at_full_size(samples):
    """60,000 components in 32 dimensions stay under 2 GB, torch itself and the input included."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY.replace("SAMPLES", str(samples))],
        capture_output=True,
        text=True,
        check=True,
    )
    assert 1024 * int(done.stdout) < 2e9


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda():
    loc, scale = torch.randn(500, 4), torch.rand(500, 4) + 0.2
    cpu = aggregate_normals(loc, scale)
    gpu = aggregate_normals(loc.cuda(), scale.cuda())
    assert gpu.mean_kl == pytest.approx(cpu.mean_kl, rel=1e-12)
    assert gpu.moment_matched_kl == pytest.approx(cpu.moment_matched_kl, rel=1e-11)
    error = math.hypot(cpu.aggregate_kl.standard_error, gpu.aggregate_kl.standard_error)
    assert abs(gpu.aggregate_kl.mean - cpu.aggregate_kl.mean) < 4.5 * error
    assert gpu.per_dimension.mean_kl.is_cuda
    same = loc[:1].expand(9, -1).cuda(), scale[:1].expand(9, -1).cuda()
    result = aggregate_normals(*same)
    assert result.mean_kl == result.aggregate_kl.mean
    assert result.moment_matched_kl == pytest.approx(result.mean_kl, rel=1e-14)
    pair = BernoulliVAE((1, 8, 8), latent_dim=3, hidden=(16,), seed=0)
    assert aggregate_posterior(pair, load("digits"), device="cuda").num_examples == 1437
    assert pair.device.type == "cpu"
