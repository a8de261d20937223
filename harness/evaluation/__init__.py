"""Inference from predictions and records: metrics, intervals, comparisons. No torch."""
