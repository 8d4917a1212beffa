"""The evidence of one or two latent dimensions by adaptive quadrature."""
