"""Log-likelihoods by family: their parts, and what is met in their place. Plain torch.

Every function takes a distribution, of torch, Pyro or this package, and data; it returns numbers
of the data's shape by name. The names are words that a finding of the checker says.
"""
