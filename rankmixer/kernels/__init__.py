"""RankMixer's kernels, and the one place that chooses among them.

    fast             chooses the kernels of a block by device
    grouped          computes only the experts that are active
    layouts          times a block in every layout: python -m rankmixer.kernels.layouts [cpu|cuda]
    triton_kernels   one kernel for mixing, residual and normalisation, one for bias and GELU
    fused_gemm       the first layer of the networks, with bias and GELU in the kernel of the product
    fp8              inference in 8-bit floating point

NOT YET TIMED ON A GPU: `triton_kernels`, `fused_gemm` and `fp8`. They are tested on the CPU (the Triton
kernels in Triton's interpreter) and run only on request: with RANKMIXER_TRITON=1 in the environment, and with
`profile models --precision fp8`.
"""
