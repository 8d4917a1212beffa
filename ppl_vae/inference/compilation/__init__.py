"""A training step as one compiled graph."""
