"""Model and guide as sites: what they draw, how they depend, which divergences are known."""
