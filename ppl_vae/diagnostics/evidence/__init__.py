"""Log evidence by importance sampling, quadrature, annealing, or exactly."""
