"""Chooses the kernels of a RankMixer block: the one place where the device matters.

`Block.plain` holds the equations. Everything here is tested against it, within float tolerance.

CPU
    Mixing, residual and normalisation take one pass over memory (`baselines.kernels.cpu`), in inference and
    in training. Speed-ups that other architectures share are elsewhere: `AddNorm` and `PerTokenFFN` of
    `baselines.layers` use the same kernels, `harness.model.row_blocks` computes a batch in blocks of rows,
    and `harness.training.memory` reuses freed memory. To measure the speed of each way:

        python -m rankmixer.kernels.layouts cpu

    GELU fused into oneDNN's product, and `torch.compile`, are no faster.

CPU without a compiler
    Inference works in place, and short slices are copied in units of several numbers (`_mixed`). Training
    uses the plain equations.

CUDA
    The plain equations. With RANKMIXER_TRITON=1 in the environment, Triton's kernels, if Triton is installed
    and they accept the shapes: one kernel for mixing, residual and normalisation
    (`rankmixer.kernels.triton_kernels`), and one for the first layer of the networks with its bias and GELU
    (`rankmixer.kernels.fused_gemm`). `rankmixer.kernels` lists what is not yet timed on a GPU.

Traced code (`torch.compile`, and the meta device when FLOPs are counted) uses the plain equations.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from baselines.kernels import cpu as cpu_kernels
from baselines.layers import ffn_add_norm

WANTS_TRITON = os.environ.get("RANKMIXER_TRITON") == "1" and find_spec("triton") is not None


def faster_block(x: Tensor) -> Callable[[Any, Tensor], Tensor] | None:
    """A function of block and tokens (B, T, D) that is faster than `Block.plain` here, or None."""
    if cpu_kernels.suits(x):
        return block_of_cpu_kernels
    if _is_cpu_inference(x):
        return block_in_place
    if x.is_cuda and WANTS_TRITON and not torch.compiler.is_compiling():
        from rankmixer.kernels.fused_gemm import block_of_fused_gemm
        from rankmixer.kernels.triton_kernels import accepts

        return block_of_fused_gemm if accepts(x) else None
    return None


def _is_cpu_inference(x: Tensor) -> bool:
    return x.device.type == "cpu" and not torch.is_grad_enabled() and not torch.compiler.is_compiling()


def block_of_cpu_kernels(block: Any, x: Tensor) -> Tensor:
    """The paper's block, with its mixing inside the first normalisation.

    Shapes
        (B, T, D) -> (B, T, D).
    """
    s = cpu_kernels.mix_add_norm(x, block.mixing_norm)
    return ffn_add_norm(s, block.ffn, block.ffn_norm)


def block_in_place(block: Any, x: Tensor) -> Tensor:
    """The paper's block without gradients, in as few buffers as possible.

    Shapes
        (B, T, D) -> (B, T, D).
    """
    up, down = block.ffn.up, block.ffn.down
    s = _normalised(_mixed(x).add_(x), block.mixing_norm)
    hidden = torch.ops.aten.gelu_(torch.baddbmm(up.bias, s.transpose(0, 1), up.weight))
    v = torch.baddbmm(down.bias, hidden, down.weight)
    return _normalised(s.add_(v.transpose(0, 1)), block.ffn_norm)


def _mixed(x: Tensor) -> Tensor:
    """`rankmixer.mixing.mix_tokens` into new memory, by the fastest copy for slices of this length.

    The time of a strided copy grows with the number of slices, not with their bytes, unless a slice is a
    single number of the copied dtype; a slice of 16 bytes is copied as one complex number. The time of
    indexing grows with the count of numbers, so it moves numbers of 4 bytes; it is faster for slices of up
    to a dozen of them.
    """
    B, T, D = x.shape
    slice_bytes = D // T * x.element_size()
    rows = x.reshape(B, T * D)
    if slice_bytes == 16 or slice_bytes >= 48 or slice_bytes % 4:
        numbers = rows.view(torch.complex128) if slice_bytes == 16 else rows
        slices = numbers.view(B, T, T, -1).transpose(1, 2)
        mixed = slices.clone(memory_format=torch.contiguous_format).view(B, -1)
    else:
        numbers = rows.view(torch.float32)
        positions = torch.arange(numbers.shape[1]).view(T, T, -1).transpose(0, 1).reshape(-1)
        mixed = numbers.index_select(1, positions)
    return mixed.view(x.dtype).view(x.shape)


def _normalised(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    return functional.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
