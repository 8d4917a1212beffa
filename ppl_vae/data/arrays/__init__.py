"""Arrays of the same examples, kept on a device, as a program's arguments."""

from ppl_vae.data.arrays.array_data import ArrayData

__all__ = ["ArrayData"]
