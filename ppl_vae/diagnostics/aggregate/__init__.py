"""The mixture of the guide over the data."""
