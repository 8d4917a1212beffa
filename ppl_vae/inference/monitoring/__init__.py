"""What is looked at after an epoch: measures, history, stopping, progress, pictures."""
