"""What a step is called with, and which of it a graph takes."""
