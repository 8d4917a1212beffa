"""Which term of a hand-written ELBO is wrong."""
