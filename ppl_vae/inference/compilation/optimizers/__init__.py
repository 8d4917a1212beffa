"""An optimiser's update as part of a graph."""
