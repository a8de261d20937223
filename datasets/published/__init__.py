"""Public tables whose split is published as files: train, validation and test."""
