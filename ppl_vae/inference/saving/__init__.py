"""What a run leaves on disk, whole or refused: pairs, checkpoints, the folder and its lock."""
