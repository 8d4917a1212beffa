"""The examples in the docstrings run."""

import doctest
import importlib
import pkgutil

import pytest
import torch

import ppl_vae

MODULES = [m.name for m in pkgutil.walk_packages(ppl_vae.__path__, "ppl_vae.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_show(name):
    module = importlib.import_module(name)
    result = doctest.testmod(module, extraglobs={"torch": torch})
    assert result.failed == 0
