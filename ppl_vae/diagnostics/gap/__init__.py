"""How far a guide is from the evidence, and why."""
