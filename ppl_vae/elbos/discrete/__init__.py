"""Estimators that take discrete latents, one in each file."""
