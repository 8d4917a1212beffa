"""Parts of the study of small programs."""
