"""What `experiments/drop_in.py` runs Pyro's tests and examples with."""
