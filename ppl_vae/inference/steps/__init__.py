"""One step of training: the objective, its gradient, the optimiser's update."""
