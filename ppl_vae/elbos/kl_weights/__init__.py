"""A weight on the KL divergence of every site, and free bits, for any estimator of the ELBO.

Both are changes of the program: the latents' log-densities are scaled in model and guide alike, so
an estimator that knows nothing of them estimates the weighted objective.
"""
