"""Divergences from draws."""
