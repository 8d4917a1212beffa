"""A program's step as a graph of operations, and what such a graph may stand for."""
