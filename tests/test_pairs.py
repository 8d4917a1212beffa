"""What every pair must do, run for each of `cases.CASES`."""

import copy
import pickle

import pyro
import pytest
import torch
from binary_pair import BinaryBelief
from cases import BATCHES, CASES, DISCRETE
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO, TraceMeanField_ELBO
from pyro.optim import Adam

from ppl_vae import MODELS, load_pair, save_pair

pytestmark = pytest.mark.parametrize("name", CASES)


def step(pair, x, loss=None):
    svi = SVI(pair.model, pair.guide, Adam({"lr": 1e-2}), loss=loss or Trace_ELBO())
    return svi.step(x)


def values(pair):
    return {name: p.detach().clone() for name, p in pair.named_parameters()}


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_every_registered_pair_has_a_case(name):
    made = [*CASES.values(), *(make for make, _ in BATCHES.values())]
    assert {type(make()) for make in made} >= set(MODELS.values())
    assert type(CASES[name]()) is MODELS.get(name.partition(",")[0], BinaryBelief)


@pytest.mark.filterwarnings("ignore:Failed to verify mean field")
@pytest.mark.parametrize("loss", [Trace_ELBO, TraceMeanField_ELBO])
def test_svi_trains_every_parameter(name, loss):
    if loss is TraceMeanField_ELBO and name in DISCRETE:
        pytest.skip("the estimator does not serve this pair")
    pair = CASES[name]()
    before = values(pair)
    step(pair, pair.sample(7, seed=0), loss())
    for parameter, value in pair.named_parameters():
        assert not torch.equal(before[parameter], value), parameter


def test_model_and_guide_have_the_same_latents(name):
    pair = CASES[name]()
    x = pair.sample(7, seed=0)
    guide = poutine.trace(pair.guide).get_trace(x)
    model = poutine.trace(pair.model).get_trace(x)
    assert set(guide.stochastic_nodes) == set(model.stochastic_nodes)
    assert model.observation_nodes == ["x"]


def test_predictive_draws_from_prior_and_posterior(name):
    pair = CASES[name]()
    x = pair.sample(7, seed=0)
    posterior = Predictive(pair.model, guide=pair.guide, num_samples=3)(x)
    free = Predictive(poutine.uncondition(pair.model), num_samples=3)(x)
    assert free["x"].shape == (3, *x.shape)
    assert all(draws.shape[0] == 3 for draws in posterior.values())


def test_particles_vectorise_to_the_same_expectation(name):
    pair = CASES[name]()
    x = pair.sample(7, seed=0)
    losses = torch.tensor([Trace_ELBO().loss(pair.model, pair.guide, x) for _ in range(100)])
    many = Trace_ELBO(num_particles=400, vectorize_particles=True)
    found = many.loss(pair.model, pair.guide, x)
    error = losses.std() * (1 / 100 + 1 / 400) ** 0.5
    assert abs(found - losses.mean()) < 4.5 * error


def test_sampling_is_seeded_and_leaves_no_trace(name):
    pair = CASES[name]()
    state = torch.get_rng_state()
    first, again = pair.sample(6, seed=3), pair.sample(6, seed=3)
    generator = torch.Generator().manual_seed(3)
    drawn = pair.sample(6, seed=generator), pair.sample(6, seed=generator)
    assert torch.equal(first, again)
    assert not torch.equal(first, pair.sample(6, seed=4))
    assert not torch.equal(*drawn)
    assert torch.equal(state, torch.get_rng_state())
    assert len(pyro.get_param_store()) == 0
    assert first.shape[0] == 6


def test_two_pairs_trained_in_turn_share_nothing(name):
    first, second = CASES[name](), CASES[name]()
    x = first.sample(7, seed=0)
    untouched = values(second)
    step(first, x)
    assert same(untouched, values(second))
    moved = values(first)
    step(second, x)
    assert same(moved, values(first))
    assert not {id(p) for p in first.parameters()} & {id(p) for p in second.parameters()}


def test_a_pair_rebuilt_after_clearing_the_store_starts_afresh(name):
    old = CASES[name]()
    x = old.sample(7, seed=0)
    step(old, x)
    trained = values(old)
    pyro.clear_param_store()
    new = CASES[name]()
    fresh = values(new)
    step(new, x)
    assert not same(fresh, values(new))
    assert same(trained, values(old))


def test_a_foreign_entry_under_our_name_is_replaced(name):
    pair = CASES[name]()
    x = pair.sample(7, seed=0)
    for parameter, value in pair.named_parameters():
        pyro.param(f"{pair.param_prefix}$$${parameter}", torch.full_like(value, 7.0))
    before = values(pair)
    step(pair, x)
    assert not same(before, values(pair))
    assert not any((p == 7.0).any() for p in pair.parameters())


def test_a_parameter_that_is_held_fixed_stays(name):
    pair = CASES[name]()
    held, *others = pair.named_parameters()
    held[1].requires_grad = False
    before = values(pair)
    step(pair, pair.sample(7, seed=0))
    moved = [key for key, value in pair.named_parameters() if not torch.equal(before[key], value)]
    assert moved == [key for key, _ in others]


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "save"])
def test_copies_are_equal_and_independent(name, how, tmp_path):
    pair = CASES[name]()
    x = pair.sample(7, seed=0)
    step(pair, x)
    pyro.clear_param_store()
    if how == "deepcopy":
        twin = copy.deepcopy(pair)
    elif how == "pickle":
        twin = pickle.loads(pickle.dumps(pair))
    else:
        save_pair(pair, tmp_path)
        twin = load_pair(tmp_path, trust=("binary_pair",))
    assert len(pyro.get_param_store()) == 0
    assert twin.config == pair.config
    assert same(values(pair), values(twin))
    assert torch.equal(pair.sample(4, seed=1), twin.sample(4, seed=1))
    before = values(pair)
    step(twin, x)
    assert same(before, values(pair))
    assert not same(before, values(twin))


def test_config_builds_the_pair_again(name):
    pair = CASES[name]()
    assert type(pair)(**pair.config).config == pair.config


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_default_dtype_is_followed(name, dtype):
    torch.set_default_dtype(dtype)
    pair = CASES[name]()
    x = pair.sample(7, seed=0)
    assert pair.dtype is dtype
    assert x.dtype is dtype
    assert isinstance(step(pair, x), float)


def test_a_converted_pair_works(name):
    pair = CASES[name]().float()
    x = pair.sample(7, seed=0)
    assert x.dtype is torch.float32
    step(pair, x)
    assert all(p.dtype is torch.float32 for p in pair.parameters())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda(name):
    pair = CASES[name]().to("cuda")
    x = pair.sample(7, seed=0)
    before = values(pair)
    step(pair, x)
    assert x.is_cuda
    assert not same(before, values(pair))


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda x: x[:0], ValueError, "at least one entry"),
        (lambda x: x.long(), TypeError, "floating dtype"),
        (lambda x: x.tolist(), TypeError, "as a torch tensor"),
        (lambda x: x * float("nan"), ValueError, "finite numbers only"),
        (lambda x: x[None, None], ValueError, "expected x of shape"),
    ],
    ids=["empty", "integer", "list", "nan", "shape"],
)
def test_bad_data_is_refused_by_model_and_guide(name, spoil, error, message):
    pair = CASES[name]()
    x = spoil(pair.sample(4, seed=0))
    for function in (pair.model, pair.guide):
        with pytest.raises(error, match=message):
            function(x)
