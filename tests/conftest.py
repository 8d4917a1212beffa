"""Every test starts in float64, with its own seed, an empty param store and validation on."""

import os

# Small tensors: threads cost more than they give, far more on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pyro  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402


@pytest.fixture(autouse=True)
def _clean_state():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    pyro.clear_param_store()
    with pyro.validation_enabled(True):  # noqa: FBT003
        yield
    torch.set_default_dtype(torch.float32)
