"""Compile every Triton kernel for a Hopper GPU, which needs no GPU, and print the results as JSON.

Run by `test_hopper.py` in a process of its own, because the tests' process has Triton's interpreter.
"""

from __future__ import annotations

import json
from typing import Any

import torch
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from rankmixer.kernels import fused_gemm
from rankmixer.kernels import triton_kernels as kernels

HOPPER = GPUTarget("cuda", 90, 32)
POINTERS = ["x", "weight", "bias", "y", "gradient", "x_gradient", "product", "product_gradient"]
INTEGERS = ["batch_stride", "token_stride", "rows", "batch", "part", "M"]


def compiled(
    kernel: Any,
    types: dict[str, str],
    constants: dict[str, Any],
    attributes: dict[tuple[int], list] | None = None,
    options: dict[str, int] | None = None,
) -> Any:
    """``kernel`` with ``constants`` compiled in; other arguments have ``types``, or are float32 pointers."""
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else types.get(name, "*fp32") for name in names}
    places = {(names.index(name),): value for name, value in constants.items()}
    return triton.compile(ASTSource(kernel, signature, places, attributes), HOPPER, options)


def elementwise_kernels(width: int, pointer: str) -> dict[str, int]:
    """Bytes of machine code of each kernel of `triton_kernels`, for 16 tokens of this width and dtype."""
    shape = {"T": 16, "D": width, "W": width // 16, "ACC": tl.float32}
    tiles = shape | {"COLUMNS": triton.next_power_of_2(width), "ROWS": 2}
    slices = shape | {"TOKENS": 16, "SLICE": triton.next_power_of_2(width // 16)}
    activation = {"ROWS": 8, "COLUMNS": 256, "ACC": tl.float32}
    constants = {
        "_forward_kernel": tiles,
        "_row_sums_kernel": tiles,
        "_backward_kernel": slices,
        "_bias_gelu_kernel": activation,
        "_bias_gelu_backward_kernel": activation,
    }
    types = dict.fromkeys(POINTERS, pointer) | dict.fromkeys(INTEGERS, "i32") | {"eps": "fp32"}
    return {
        name: len(compiled(getattr(kernels, name), types, chosen).asm["cubin"])
        for name, chosen in constants.items()
    }


def gemm_kernel() -> dict[str, Any]:
    """Shared memory of the fused GEMM in bfloat16, and whether it uses tensor cores and spills registers."""
    kernel = fused_gemm._linear_gelu_kernel
    sizes = fused_gemm._tile(torch.empty(0, dtype=torch.bfloat16))
    options = {name: sizes.pop(name) for name in ("num_warps", "num_stages")}
    constants = sizes | {
        "GROUP": fused_gemm.GROUP,
        "STORES_PRODUCT": True,
        "depth_stride": 1,
        "weight_column_stride": 1,
    }
    arguments = [name for name in kernel.arg_names if name not in constants]
    types = dict.fromkeys(arguments, "i32") | dict.fromkeys(["x", "weight", "bias", "y", "product"], "*bf16")
    aligned = {(kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in arguments}
    result = compiled(kernel, types, constants, aligned, options)
    return {
        "shared": result.metadata.shared,
        "uses tensor cores": "wgmma.mma_async" in result.asm["ptx"],
        "spills": "ld.local" in result.asm["ptx"],
    }


if __name__ == "__main__":
    found = {
        "64 float32": elementwise_kernels(64, "*fp32"),
        "768 bfloat16": elementwise_kernels(768, "*bf16"),
        "gemm": gemm_kernel(),
    }
    print(json.dumps(found))
