"""What `experiments/gpu.py` does, one part a module, each able to stop and go on."""
