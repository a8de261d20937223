"""Finds features that give away the label or the split."""
