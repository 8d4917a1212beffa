"""Parts of the study of registered KL divergences."""
