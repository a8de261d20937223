"""One run: the training loop, prediction, checkpoints, and the record at its end."""
