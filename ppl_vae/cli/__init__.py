"""The command line. Torch is imported when a command runs, not before."""

from ppl_vae.cli.commands import app, main

__all__ = ["app", "main"]
