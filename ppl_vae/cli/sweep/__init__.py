"""The command `ppl-vae sweep`: its file, one of its jobs, and what runs them."""
