"""What `many_processes.py` works out instead of measuring."""
