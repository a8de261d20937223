"""Intervals and tests: draws of users, spreads over seeds and worlds, corrections."""
