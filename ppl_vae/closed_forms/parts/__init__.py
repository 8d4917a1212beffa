"""What the families are made of; their public names are in the families' own modules."""
