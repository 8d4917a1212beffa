"""The evidence by a path from a start to the posterior."""
