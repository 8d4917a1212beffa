"""The methods of an expectation."""

METHODS = ("monte-carlo", "quadrature", "adaptive")
