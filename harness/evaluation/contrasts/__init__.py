"""Differences between pairs of rows that records alone tell: along a learning curve and between results."""
