"""What every entry of LIKELIHOODS must do, and the part of a VAE that it decides."""

import pytest
import torch

from ppl_vae.diagnostics.check.formulas.likelihoods import parts, wrong_formulas
from ppl_vae.likelihoods import LIKELIHOODS, Observation, entry

EVERY = pytest.mark.parametrize("name", LIKELIHOODS)
# x and the log-density where all heads are 0, by hand.
HAND = {
    "bernoulli": (1.0, -0.6931471805599453),
    "continuous-bernoulli": (0.3, 0.0),
    "normal": (2.0, -2.0 - 0.9189385332046727),
    "laplace": (-2.0, -2.0 - 0.6931471805599453),
    # df = 2: (1 + y^2/2)^(-3/2) / (2 sqrt 2)
    "student-t": (2.0, -1.5 * 1.0986122886681098 - 1.5 * 0.6931471805599453),
    "poisson": (3.0, -1.0 - 1.791759469228055),
    "negative-binomial": (3.0, -4 * 0.6931471805599453),
    "zero-inflated-negative-binomial": (0.0, -0.2876820724517809),
    "categorical": (5.0, -5.545177444479562),
}
SPOILED = {
    "bernoulli": (0.5, "pixels that are 0 or 1 only"),
    "continuous-bernoulli": (1.5, "numbers from 0 to 1 only"),
    "normal": (float("inf"), "finite numbers only"),
    "laplace": (float("nan"), "finite numbers only"),
    "student-t": (float("nan"), "finite numbers only"),
    "poisson": (0.5, "whole numbers of 0 or more only"),
    "negative-binomial": (-1.0, "whole numbers of 0 or more only"),
    "zero-inflated-negative-binomial": (float("inf"), "whole numbers of 0 or more only"),
    "categorical": (256.0, "whole numbers from 0 to 255 only"),
}


def zeros(chosen, shape=(4,)):
    sizes = {h.name: (chosen.outputs(h),) if h.size else () for h in chosen.heads}
    return {name: torch.zeros(*shape, *size) for name, size in sizes.items()}


@EVERY
def test_the_link_makes_the_distribution_that_it_says(name):
    chosen = LIKELIHOODS[name]
    fn = chosen.link(**zeros(chosen))
    assert type(fn).__name__ == chosen.family
    assert fn.batch_shape == (4,)
    assert fn.event_shape == ()
    x, expected = HAND[name]
    found = fn.log_prob(torch.full((4,), x))
    torch.testing.assert_close(found, torch.full((4,), expected), rtol=1e-13, atol=1e-15)
    assert fn.mean.isfinite().all()


@EVERY
def test_the_support_is_that_of_the_draws(name):
    chosen = LIKELIHOODS[name]
    x = chosen.link(**zeros(chosen, (300,))).sample()
    chosen.check(x)
    seen = chosen.encoder_input(x)
    assert seen.shape == x.shape
    value, message = SPOILED[name]
    with pytest.raises(ValueError, match=message):
        chosen.check(torch.cat([x, torch.tensor([value])]))


@EVERY
def test_extreme_heads_give_numbers(name):
    chosen = LIKELIHOODS[name]
    x = chosen.link(**zeros(chosen)).sample()
    for value in (-30.0, 30.0, -90.0, 90.0) if name != "normal" else (-30.0, 30.0):
        for dtype in (torch.float32, torch.float64):
            heads = {
                k: (v + value if k not in ("log_scale",) else v + value / 10).to(dtype)
                for k, v in zeros(chosen).items()
            }
            heads = {k: v.requires_grad_() for k, v in heads.items()}
            found = chosen.link(**heads).log_prob(x.to(dtype))
            slopes = torch.autograd.grad(found.sum(), list(heads.values()))
            assert all(part.isfinite().all() for part in (found, *slopes))


@EVERY
def test_an_observation_splits_what_a_decoder_gives(name):
    chosen = LIKELIHOODS[name]
    observed = Observation(name, (2, 3))
    decoded = [head for head in chosen.heads if not head.is_free]
    count = sum(chosen.outputs(head) for head in decoded)
    assert observed.output_shape == (2 * count, 3)
    free = {head.name: head.start for head in chosen.heads if head.is_free}
    assert {k: tuple(p.shape) for k, p in observed.named_parameters()} == dict.fromkeys(
        free, (2, 3)
    )
    assert all((getattr(observed, k) == start).all() for k, start in free.items())
    output = torch.randn(5, 4, *observed.output_shape)
    heads = observed.heads(output)
    assert heads.keys() == {head.name for head in chosen.heads}
    blocks = output.unflatten(-2, (count, 2))
    for head in decoded:
        size = chosen.outputs(head)
        block, blocks = blocks[:, :, :size], blocks[:, :, size:]
        right = block.movedim(2, -1) if head.size else block.squeeze(2)
        assert torch.equal(heads[head.name], right)
    fn = observed(output)
    assert (fn.batch_shape, fn.event_shape) == ((5, 4), (2, 3))


def test_free_heads_can_be_decoded_and_decoded_ones_given():
    observed = Observation({"name": "normal", "per_example": ["log_scale"]}, (3,))
    assert observed.output_shape == (6,)
    assert not list(observed.parameters())
    output = torch.randn(5, 6)
    base = observed(output).base_dist
    assert torch.equal(base.loc, output[:, :3])
    assert torch.equal(base.scale, output[:, 3:].exp())
    given = Observation("laplace", (3,), given=("log_scale",))
    assert not list(given.parameters())
    assert (given(output[:, :3], log_scale=torch.tensor(0.5)).base_dist.scale > 1.6).all()


@pytest.mark.parametrize(
    ("likelihood", "error", "message"),
    [
        ("bernouli", ValueError, "Did you mean 'bernoulli'"),
        (None, ValueError, "expected likelihood as one of"),
        ({"num_classes": 3}, ValueError, "expected likelihood as one of"),
        ({"name": "categorical", "num_clases": 3}, ValueError, "Did you mean 'num_classes'"),
        ({"name": "categorical", "num_classes": 0}, ValueError, "num_classes of at least 1"),
        ({"name": "categorical", "num_classes": 2.5}, TypeError, "num_classes as an int"),
        ({"name": "normal", "num_classes": 2}, ValueError, "one of per_example"),
        ({"name": "normal", "per_example": "log_scale"}, TypeError, "as a list of heads"),
        ({"name": "normal", "per_example": ["scale"]}, ValueError, "Did you mean 'log_scale'"),
    ],
)
def test_bad_specifications_are_refused(likelihood, error, message):
    with pytest.raises(error, match=message):
        entry(likelihood)


def test_labels_of_other_sizes():
    chosen = entry({"name": "categorical", "num_classes": 3})
    x = torch.tensor([0.0, 1.0, 2.0])
    chosen.check(x)
    assert chosen.encoder_input(x).tolist() == [0.0, 0.5, 1.0]
    with pytest.raises(ValueError, match="from 0 to 2 only"):
        chosen.check(torch.tensor([3.0]))
    assert entry({"name": "categorical", "num_classes": 1}).encoder_input(x[:1]).item() == 0


@EVERY
def test_the_checkers_parts_sum_to_the_log_density(name):
    chosen = LIKELIHOODS[name]
    heads = {k: v + 0.3 * torch.randn_like(v) for k, v in zeros(chosen).items()}
    fn = chosen.link(**heads)
    x, right = fn.sample(), None
    right = fn.log_prob(x)
    found = parts(fn, x)
    if chosen.parts.__name__ not in ("no_parts", "factorial"):
        total = sum(found.values())
        if name == "normal":
            total = total - 0.9189385332046727
        torch.testing.assert_close(total, right, rtol=1e-10, atol=1e-12)
    assert all(value.shape == right.shape for value in found.values())
    wrong = wrong_formulas(fn, x)
    assert len(wrong) > 3
    assert all(value.shape == right.shape for value in wrong.values())


@EVERY
def test_no_wrong_formula_is_right(name):
    # With few classes each of them is drawn.
    chosen = entry({"name": name, **dict.fromkeys(LIKELIHOODS[name].sizes, 3)})
    heads = {k: v + 0.7 * torch.randn_like(v) + 0.2 for k, v in zeros(chosen, (60,)).items()}
    fn = chosen.link(**heads)
    x = fn.sample()
    right = fn.log_prob(x)
    for words, value in wrong_formulas(fn, x).items():
        assert not torch.allclose(value, right, rtol=1e-6), words
