"""Parts of `discrete_latents.py`."""
