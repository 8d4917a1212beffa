"""Pairs for other libraries; each is imported in the one module that adapts it."""
