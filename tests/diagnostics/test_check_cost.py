"""What a check costs at the size of MNIST."""

import resource
import time

import numpy as np
import pytest
import torch
from objective_bank.entry import loss, sampled_kl

from ppl_vae import BernoulliVAE, check_elbo

LIMIT_S, LIMIT_MB = 10.0, 500


def _numpy_noise(loc, scale):
    noise = np.random.standard_normal(tuple(scale.shape))  # noqa: NPY002
    return loc + scale * torch.as_tensor(noise).to(scale)


OBJECTIVES = {
    "right": loss(),
    "a weight": loss(join=lambda nll, kl: (nll + 2 * kl).mean()),
    "sampled by numpy": loss(draw=_numpy_noise, kl=sampled_kl),
    "less noise": loss(draw=lambda m, s: m + 0.3 * s * torch.randn_like(s)),
    "unknown": loss(join=lambda nll, kl: (nll + kl + 0.3 * torch.sin(3 * kl)).mean()),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_check_takes_less_than_ten_seconds_of_one_core(name):
    torch.set_default_dtype(torch.float32)
    pair = BernoulliVAE(seed=0)
    x = pair.sample(100, seed=0)
    objective = OBJECTIVES[name](pair)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.process_time()
        check_elbo(objective, pair, x)
        took = time.process_time() - began
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    finally:
        torch.set_num_threads(threads)
    assert took < LIMIT_S
    assert grown < LIMIT_MB
