"""Log-likelihoods by family: what they are made of, and what is met in their place.

Every function takes a distribution and data and returns numbers of the data's shape by name; the
names are words that a finding says.
"""
