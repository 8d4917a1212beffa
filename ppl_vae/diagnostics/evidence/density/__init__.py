"""Model and guide as densities: for many particles at once, and as functions of vectors."""
