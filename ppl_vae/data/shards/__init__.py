"""Data larger than memory, in files of which each process reads its own rows."""
