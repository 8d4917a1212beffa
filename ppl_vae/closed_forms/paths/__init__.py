"""Expectations along the path from a guide to a posterior."""
