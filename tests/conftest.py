"""Every test starts in float64, with its own seed, an empty param store and validation on."""

import pyro
import pytest
import torch


@pytest.fixture(autouse=True)
def _clean_state():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    pyro.clear_param_store()
    with pyro.validation_enabled(True):  # noqa: FBT003
        yield
    torch.set_default_dtype(torch.float32)
