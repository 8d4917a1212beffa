"""Somebody's PyTorch modules, read as distributions."""
