"""Kernels of RankMixer, and the one place that chooses among them.

    fast             chooses what a block runs on, by device
    grouped          products of only the experts that are open
    layouts          times a block in every layout: python -m rankmixer.kernels.layouts [cpu|cuda]
    triton_kernels   mixing, residual and normalisation in one; bias and GELU in one
    fused_gemm       the networks' first layer, with bias and GELU in the product
    fp8              inference in 8-bit floating point

NOT YET TIMED ON A GPU: `triton_kernels`, `fused_gemm` and `fp8`. They are tested on the CPU (the Triton
kernels in its interpreter) and run only where they are asked for: RANKMIXER_TRITON=1, and
`profile models --precision fp8`.
"""
