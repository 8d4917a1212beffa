"""Functions and sums that keep their digits."""
