"""Measurements of speed: models, input pipeline, tables, metrics."""
