"""Triton kernels, grouped products and fp8, and the one place that chooses among them."""
