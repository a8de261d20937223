"""Logs longer than memory, read once in the order of time, with a state for each user and item."""
