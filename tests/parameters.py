"""A module's parameters at one moment, to compare with those at another."""

import torch


def parameters(module):
    return [p.detach().clone() for p in module.parameters()]


def equal(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
