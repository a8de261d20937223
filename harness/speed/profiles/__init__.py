"""What `profile` times beside single models: reading, metrics, the whole training step, sparse experts."""
