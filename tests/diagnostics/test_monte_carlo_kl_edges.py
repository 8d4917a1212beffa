import math
import subprocess
import sys
from pathlib import Path

import pyro.distributions as pyro_dist
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import (
    Bernoulli,
    Categorical,
    Exponential,
    HalfNormal,
    Independent,
    MixtureSameFamily,
    Normal,
    StudentT,
    Uniform,
)

from ppl_vae.closed_forms import kl
from ppl_vae.diagnostics import monte_carlo_kl
from ppl_vae.diagnostics.memory import peak_bytes


@settings(deadline=None, derandomize=True, max_examples=40)
@given(st.floats(-1e3, 1e3), st.floats(1e-6, 1e6), st.floats(0.0, 1.0), st.sampled_from([32, 64]))
def test_k3_is_never_negative_and_says_when_it_has_no_variance(loc, scale, closeness, bits):
    dtype = {32: torch.float32, 64: torch.float64}[bits]
    q_loc, q_scale = torch.tensor([loc, scale], dtype=dtype)
    p = Normal(q_loc * (1 + 1e-7 * closeness), q_scale * (1 + closeness))
    result = monte_carlo_kl(Normal(q_loc, q_scale), p, num_samples=20, estimator="k3")
    assert result.mean >= 0
    assert bool(result.warning) == bool((q_scale / p.scale).double() ** 2 <= 0.5)


def test_warning_counts_the_entries_and_names_the_first():
    q = Independent(Normal(torch.zeros(2, 3, 4), torch.ones(2, 3, 4)), 1)
    q.base_dist.scale[1, 0, 2] = q.base_dist.scale[1, 2, 0] = 0.7
    p = Independent(Normal(torch.zeros(4), torch.ones(4)), 1)
    for estimator in ("k1", "k2"):
        assert monte_carlo_kl(q, p, num_samples=10, estimator=estimator).warning == ""
    warning = monte_carlo_kl(q, p, num_samples=10, estimator="k3").warning
    assert warning == (
        "q is too narrow for p at 2 of 6 entries, the first [1, 0]: "
        "k3 has infinite variance; use k1."
    )
    one = monte_carlo_kl(Normal(0.0, 0.5), Normal(0.0, 1.0), num_samples=10, estimator="k3")
    assert one.warning == "q is too narrow for p: k3 has infinite variance; use k1."
    open_question = monte_carlo_kl(StudentT(9.0), StudentT(5.0), num_samples=10, estimator="k3")
    assert open_question.warning == ""


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_where_p_has_no_density_the_answer_is_infinite(estimator):
    high = torch.tensor([0.5, 1.0, 2.0])
    for check in (True, False):
        q, p = Uniform(0 * high, high), Uniform(0.0, 1.0, validate_args=check)
        result = monte_carlo_kl(q, p, num_samples=50, estimator=estimator)
        own = {"k1": math.log(2), "k2": math.log(2) ** 2 / 2, "k3": math.log(2) - 0.5}[estimator]
        assert result.mean.tolist() == pytest.approx([own, 0.0, math.inf])
        assert result.standard_error.tolist() == [0.0] * 3
        assert "log p is -inf at a draw of q at 1 of 3 entries, the first [2]" in result.warning
        assert ("p has mass where q has none at 1 of 3" in result.warning) == (estimator == "k3")
        # Exponential.log_prob is finite below 0 when it does not validate
        p = Exponential(1.0, validate_args=check)
        assert monte_carlo_kl(Normal(0.0, 1.0), p, num_samples=50).mean == math.inf
    result = monte_carlo_kl(Bernoulli(0.5), Bernoulli(0.0), num_samples=50)
    assert result.mean > 5  # torch clamps probabilities away from 0


def test_k3_says_that_it_is_biased_where_p_reaches_beyond_q():
    q, p = HalfNormal(1.0), Normal(0.0, 1.0)
    k3 = monte_carlo_kl(q, p, num_samples=100, estimator="k3")
    assert k3.warning == "p has mass where q has none: k3 is biased; use k1."
    assert k3.mean == pytest.approx(math.log(2) - 0.5)
    k1 = monte_carlo_kl(q, p, num_samples=100)
    assert k1.warning == ""
    assert k1.mean == pytest.approx(math.log(2))


def test_nan_is_named_and_stays_in_its_entry():
    loc = torch.tensor([0.0, math.nan, 1.0])
    q = Normal(loc, 1.0, validate_args=False)
    result = monte_carlo_kl(q, Normal(0.0, 1.0), num_samples=200)
    assert result.mean.isnan().tolist() == [False, True, False]
    assert result.standard_error.isnan().tolist() == [False, True, False]
    assert "log q is infinite, or NaN, at a draw of q at 1 of 3 entries" in result.warning
    assert "no estimate" in result.warning


def test_dtype_is_that_of_the_log_densities_without_gradient():
    loc = torch.ones(3, dtype=torch.float32, requires_grad=True)
    p = Normal(torch.zeros(3, dtype=torch.float32), 1.0)
    result = monte_carlo_kl(Normal(loc, 1.0), p, num_samples=1000)
    assert result.mean.dtype == result.standard_error.dtype == torch.float32
    assert not result.mean.requires_grad
    assert result.z_score(torch.full((3,), 0.5)).abs().max() < 4.5
    double = Normal(torch.zeros(3), 1.0)
    assert monte_carlo_kl(Normal(loc, 1.0), double, num_samples=10).mean.dtype == torch.float64


def test_seed_decides_and_the_global_state_stays():
    q, p = Normal(torch.zeros(2), 0.5), Normal(0.0, 1.0)

    def mean(seed):
        return monte_carlo_kl(q, p, num_samples=10, seed=seed).mean.tolist()

    before = torch.get_rng_state()
    assert mean(3) == mean(3) != mean(4)
    assert mean(None) != mean(None)
    generator = torch.Generator().manual_seed(5)
    first = mean(generator)
    assert first != mean(generator)
    assert first == mean(torch.Generator().manual_seed(5))
    assert torch.equal(before, torch.get_rng_state())


def test_parameters_drawn_from_the_same_seed_do_not_share_their_noise():
    torch.manual_seed(0)
    loc = torch.randn(100_000)
    result = monte_carlo_kl(Normal(loc, 0.5), Normal(0.0, 1.0), num_samples=2, seed=0)
    gap = result.mean - kl.kl_normal_standard(loc, 0.5)
    assert abs(gap.mean()) < 4.5 * gap.std() / math.sqrt(100_000)


def test_memory_does_not_grow_with_the_draws():
    q = Independent(Normal(torch.zeros(10_000, 32), 0.5), 1)
    p = Independent(Normal(torch.zeros(32), 1.0), 1)
    few, more = (
        peak_bytes(lambda n=n: monte_carlo_kl(q, p, num_samples=n, estimator="k3"))
        for n in (4, 12)
    )
    assert more <= few < 50e6


def test_mixtures_count_their_components():
    parts = Independent(Normal(torch.randn(20_000, 2), 1.0), 1)
    mixture = MixtureSameFamily(Categorical(torch.ones(20_000)), parts)
    p = Independent(Normal(torch.zeros(2), 1.5), 1)
    peak = peak_bytes(lambda: monte_carlo_kl(mixture, p, num_samples=100))
    assert peak < 100e6


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no peak of memory to read")
def test_five_hundred_draws_of_ten_thousand_examples_stay_under_a_gigabyte():
    code = (
        "import torch\n"
        "from pathlib import Path\n"
        "from torch.distributions import Independent, Normal\n"
        "from ppl_vae.closed_forms import kl\n"
        "from ppl_vae.diagnostics import monte_carlo_kl\n"
        "torch.manual_seed(0)\n"
        "loc, scale = torch.randn(10_000, 32), torch.rand(10_000, 32) + 0.2\n"
        "p = Independent(Normal(torch.zeros(32), 1.0), 1)\n"
        "result = monte_carlo_kl(Independent(Normal(loc, scale), 1), p, num_samples=500)\n"
        "z = result.z_score(kl.kl_normal_standard(loc, scale).sum(-1))\n"
        "print(z.mean().item(), z.std().item())\n"
        # Not getrusage, whose peak a child takes over from the process that started it.
        "status = Path('/proc/self/status').read_text()\n"
        "print(1024 * int(status.partition('VmHWM:')[2].split()[0]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    mean, spread, peak = map(float, done.stdout.split())
    assert abs(mean) < 4.5 / math.sqrt(10_000)
    assert abs(spread - 1) < 4.5 / math.sqrt(2 * 10_000)
    assert peak < 1e9


def standard(size=()):
    return Normal(torch.zeros(size), 1.0)


class Unsampled(Normal):
    def sample(self, sample_shape=()):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"q": 3.0}, TypeError, "expected q as a torch.distributions.Distribution; got float"),
        ({"p": torch.zeros(2)}, TypeError, "expected p as a torch.*; got Tensor. Build one"),
        ({"q": Unsampled(0.0, 1.0)}, TypeError, "can be sampled; got Unsampled.*Give it"),
        ({"num_samples": 2.0}, TypeError, "num_samples as an int"),
        ({"seed": "a"}, TypeError, "expected seed as an int"),
        ({"estimator": "k4"}, ValueError, "estimator as one of k1, k2, k3; got 'k4'"),
        ({"num_samples": 1}, ValueError, "num_samples of at least 2; got 1"),
        ({"p": Independent(standard(3), 1)}, ValueError, r"q \(\) and p \(3,\).*to_event"),
        ({"q": standard(2), "p": standard(3)}, ValueError, r"broadcast; got q \(2,\), p \(3,\)"),
        ({"q": standard(0)}, ValueError, r"at least one entry; got batch shape \(0,\)"),
        (
            {
                "q": Normal(torch.zeros(2, device="meta"), 1.0, validate_args=False),
                "p": standard(2),
            },
            ValueError,
            "one device; got q on meta, p on cpu. Move",
        ),
        ({"q": Bernoulli(0.5)}, ValueError, "both continuous; got q discrete, p continuous"),
        ({"q": pyro_dist.Delta(torch.zeros(2))}, ValueError, "q with a density; got a Delta"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_input(change, error, message):
    arguments = {"q": standard(), "p": standard(), "num_samples": 10, **change}
    q, p = arguments.pop("q"), arguments.pop("p")
    with pytest.raises(error, match=message):
        monte_carlo_kl(q, p, **arguments)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda():
    before = torch.cuda.get_rng_state()
    q = Independent(Normal(torch.ones(50, 3, device="cuda"), 0.9), 1)
    result = monte_carlo_kl(
        q,
        Independent(Normal(torch.zeros(3, device="cuda"), 1.0), 1),
        num_samples=2000,
        estimator="k3",
    )
    exact = kl.kl_normal_standard(q.base_dist.loc, q.base_dist.scale).sum(-1)
    assert result.mean.device.type == "cuda"
    assert result.z_score(exact).abs().max() < 4.5
    assert torch.equal(before, torch.cuda.get_rng_state())
    number = monte_carlo_kl(q.base_dist, Normal(0.0, 1.0), num_samples=10)
    assert number.mean.device.type == "cuda"
