"""Whether a guide's draws are as uncertain as they should be, on data that the model made."""
