"""Expectations and evidences as weighted sums."""
