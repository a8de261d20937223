"""Which way a RankMixer runs: the one place that knows devices, and why.

`Block.plain` holds the equations and is what everything here is tested against, within float tolerance.

CPU, inference
    A block of layers works in place and mixes by an index: slices are D/T numbers, too short for a strided
    copy. On one thread a batch also goes through the whole model in blocks of `ROWS` rows, whose
    activations stay in the cache and in memory that the process already has: a hidden activation of 2,048
    rows is 33 MB at D = 128, k = 2, which the allocator maps anew each time, and touching its pages costs
    three quarters of a product. Several threads would meet more often with smaller blocks, and wait there for
    whoever else uses the cores, so they take a batch as a whole. Ratios:

        python -m rankmixer.layouts cpu

    No faster: GELU fused into oneDNN's product, one token's network after another, `torch.compile`.

CPU, training
    The plain way. Autograd needs what is in the blocks until the end, so blocks would save new pages and
    nothing else, and `harness.memory` saves those for all architectures alike.

CUDA
    The plain way, until a GPU has run the other: with RANKMIXER_TRITON=1 in the environment
    `rankmixer.kernels`, where Triton is there and shapes suit. There mixing, residual and normalisation are
    one kernel, and so are the bias and GELU. Held to the plain equations in Triton's interpreter; not timed
    on a GPU yet (`python -m rankmixer.layouts cuda`).

Traced code (`torch.compile`, the meta device of FLOP counts) is plain.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

ROWS = 256
WANTS_TRITON = os.environ.get("RANKMIXER_TRITON") == "1" and find_spec("triton") is not None


def in_row_blocks(model: Callable[[Tensor], Tensor], tokens: Tensor) -> Tensor:
    """``model`` of the tokens (B, T, d), whose rows do not depend on each other."""
    if len(tokens) <= ROWS or not _is_cpu_inference(tokens) or torch.get_num_threads() > 1:
        return model(tokens)
    return torch.cat([model(rows) for rows in tokens.split(ROWS)])


def faster_block(x: Tensor) -> Callable[[Any, Tensor], Tensor] | None:
    """What is faster than `Block.plain` for (B, T, D) tokens, as a function of block and tokens; or None."""
    if _is_cpu_inference(x):
        return block_in_place
    if x.is_cuda and WANTS_TRITON and not torch.compiler.is_compiling():
        from rankmixer.kernels import block_of_kernels, suits

        return block_of_kernels if suits(x) else None
    return None


def _is_cpu_inference(x: Tensor) -> bool:
    return x.device.type == "cpu" and not torch.is_grad_enabled() and not torch.compiler.is_compiling()


def block_in_place(block: Any, x: Tensor) -> Tensor:
    """The paper's block without gradients, in as few buffers as it needs.

    Shapes
        (B, T, D) -> (B, T, D).
    """
    up, down = block.ffn.up, block.ffn.down
    rows = x.reshape(len(x), -1)
    sum_ = rows.index_select(1, _mixed_positions(x)).add_(rows).view(x.shape)
    s = _normalised(sum_, block.mixing_norm)
    hidden = torch.ops.aten.gelu_(torch.baddbmm(up.bias, s.transpose(0, 1), up.weight))
    v = torch.baddbmm(down.bias, hidden, down.weight)
    return _normalised(s.add_(v.transpose(0, 1)), block.ffn_norm)


def _mixed_positions(x: Tensor) -> Tensor:
    """Where each of the T*D numbers of a mixed row stands before the mixing."""
    _, T, D = x.shape
    return torch.arange(T * D, device=x.device).view(T, T, D // T).transpose(0, 1).reshape(-1)


def _normalised(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    return functional.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
