"""What models leave to the oracle, which scores simulated data with the true probabilities."""
