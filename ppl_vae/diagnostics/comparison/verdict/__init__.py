"""What a comparison says, and on what grounds."""
