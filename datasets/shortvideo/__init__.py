"""The built-in simulated short-video log."""
