"""What `soak.py` does to the library, one kind of fault in each module."""
