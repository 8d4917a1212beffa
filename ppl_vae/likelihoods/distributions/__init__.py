"""Distributions that keep their digits where torch's lose them, or that torch lacks."""
