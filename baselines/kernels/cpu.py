"""Faster operations between matrix products on a CPU, each in one pass over memory: `cpu.cpp`.

PyTorch computes sum, normalisation, bias and GELU one after another, and in a small model its normalisation
of a short row takes longer than the matrix products of that row. Here each of these is one function with its
gradient:

    add_norm(x, step, norm)     LN(x + step), or LN(x) without a step
    mix_add_norm(x, norm)       LN(x + Mix(x)), RankMixer's mixing
    per_token_ffn(s, ...)       GELU(s W + b) W' + b', with separate weights for every token
    ffn_add_norm(s, ..., norm)  LN(s + per_token_ffn(s))

They are registered as PyTorch operators (`baselines.kernels.operators`). `suits` decides for which tensors
the layers use them. For all other tensors the layers (`baselines.layers.AddNorm`, `PerTokenFFN`,
`rankmixer.kernels.fast`) have the same equations in PyTorch, and tests compare the two. g++ compiles the
file in seconds when it is first needed, and the result is stored; without a compiler `suits` is always
False. The rows are divided among PyTorch's threads.

`suits` is also False under `torch.compile`, which fuses the plain equations itself, and on the meta device,
which counts their products. To use the operators in a compiled graph, call the functions below.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from baselines.kernels.compiled import DTYPES, compiled_functions
from baselines.kernels.operators import OPERATORS


def suits(x: Tensor, step: Tensor | None = None) -> bool:
    """Whether the functions below accept ``x``, and ``step`` if it is given."""
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype in DTYPES
        and type(x) is Tensor
        and (step is None or (type(step) is Tensor and step.dtype == x.dtype and step.shape == x.shape))
        and (not torch.is_autocast_enabled("cpu") or torch.get_autocast_dtype("cpu") in DTYPES)
        and compiled_functions() is not None
    )


def per_token_ffn(s: Tensor, up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor) -> Tensor:
    """GELU(s_t up_t + up_bias_t) down_t + down_bias_t for every token t, with the exact GELU.

    Under autocast the matrix products are computed in its dtype, like those of PyTorch.

    Shapes
        s (B, T, D); up (T, D, M), up_bias (T, 1, M), down (T, M, D), down_bias (T, 1, D) -> (B, T, D).
    """
    if not torch.is_autocast_enabled("cpu"):
        return OPERATORS.per_token_ffn(s, up, up_bias, down, down_bias)
    dtype = torch.get_autocast_dtype("cpu")
    s, up, down = (t.to(dtype) for t in (s, up, down))
    with torch.autocast("cpu", enabled=False):
        return OPERATORS.per_token_ffn(s, up, up_bias, down, down_bias)


def ffn_add_norm(
    s: Tensor, up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor, norm: nn.LayerNorm
) -> Tensor:
    """LN(s + FFN(s)), where the sum also adds the last bias of the FFN. Not for use under autocast.

    Shapes
        Those of `per_token_ffn`.
    """
    v = OPERATORS.per_token_ffn(s, up, up_bias, down, None)
    return OPERATORS.sum_norm(s, v, down_bias, norm.weight, norm.bias, norm.eps, False)


def add_norm(x: Tensor, step: Tensor | None, norm: nn.LayerNorm) -> Tensor:
    """LN(x + step) over the last dimension.

    Shapes
        x and step (..., D) -> (..., D).
    """
    return OPERATORS.sum_norm(x, step, None, norm.weight, norm.bias, norm.eps, False)


def mix_add_norm(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """LN(x + Mix(x)) with as many heads as tokens (`rankmixer.mixing.mix_tokens`).

    Shapes
        (B, T, D) -> (B, T, D), T dividing D.
    """
    return OPERATORS.sum_norm(x, None, None, norm.weight, norm.bias, norm.eps, True)
