"""By how many of its standard errors an estimate of the evidence may be off."""

BOUND = 4.5
