"""Estimators for reparameterised latents, one in each file."""
