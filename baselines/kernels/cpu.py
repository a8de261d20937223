"""What lies between matrix products on a CPU, each in one pass over memory: `cpu.cpp`.

PyTorch runs sum, normalisation, bias and GELU one after another, and its normalisation of a short row takes
longer than the row's products in a small model. Here they are one function each, with its gradient:

    add_norm(x, step, norm)     LN(x + step), or LN(x) without a step
    mix_add_norm(x, norm)       LN(x + Mix(x)), RankMixer's mixing
    per_token_ffn(s, ...)       GELU(s W + b) W' + b', of its own for every token
    ffn_add_norm(s, ..., norm)  LN(s + per_token_ffn(s))

`suits` says for which tensors. The layers that use them (`baselines.layers.AddNorm`, `PerTokenFFN`,
`rankmixer.kernels.fast`) hold the same equations in PyTorch for all others, and tests hold the one to the
other. The file is compiled by g++ when it is first needed, in seconds, and kept; without a compiler nothing
suits. PyTorch's threads share the rows out.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from baselines.kernels.library import compiled_functions

SUFFIX = {torch.float32: "float", torch.bfloat16: "bfloat16"}
NOTHING, GIVEN, BIASED, MIXING = range(4)  # what is added before the normalisation
# As many tokens' networks at once as have these FLOPs: fewer, and calls cost more than the cache saves.
FLOPS_A_CALL = {torch.float32: 16e6, torch.bfloat16: 128e6}


def suits(x: Tensor, step: Tensor | None = None) -> bool:
    """Whether ``x``, and ``step`` beside it, can go through the functions below."""
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype in SUFFIX
        and type(x) is Tensor
        and (step is None or (type(step) is Tensor and step.dtype == x.dtype and step.shape == x.shape))
        and (not torch.is_autocast_enabled("cpu") or torch.get_autocast_dtype("cpu") in SUFFIX)
        and compiled_functions() is not None
    )


def per_token_ffn(s: Tensor, up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor) -> Tensor:
    """GELU(s_t up_t + up_bias_t) down_t + down_bias_t for every token t, with the exact GELU.

    Under autocast the products are in its dtype, as PyTorch's are.

    Shapes
        s (B, T, D); up (T, D, M), up_bias (T, 1, M), down (T, M, D), down_bias (T, 1, D) -> (B, T, D).
    """
    is_auto = torch.is_autocast_enabled("cpu")
    dtype = torch.get_autocast_dtype("cpu") if is_auto else s.dtype
    s, up, down = (t.to(dtype) for t in (s, up, down))
    with torch.autocast("cpu", enabled=False):
        if torch.is_grad_enabled():
            return _PerTokenFFN.apply(s, up, up_bias, down, down_bias)
        return _networks(s, up, up_bias, down, down_bias, None, None)


def ffn_add_norm(
    s: Tensor, up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor, norm: nn.LayerNorm
) -> Tensor:
    """LN(s + FFN(s)), the last bias added where the sum is: not under autocast.

    Shapes
        as `per_token_ffn`.
    """
    if torch.is_grad_enabled():
        v = _PerTokenFFN.apply(s, up, up_bias, down, None)
    else:
        v = _networks(s, up, up_bias, down, None, None, None)
    return _normalised(s, v, BIASED, norm, down_bias)


def add_norm(x: Tensor, step: Tensor | None, norm: nn.LayerNorm) -> Tensor:
    """LN(x + step) over the last dimension.

    Shapes
        x and step (..., D) -> (..., D).
    """
    return _normalised(x, step, GIVEN if step is not None else NOTHING, norm)


def mix_add_norm(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """LN(x + Mix(x)) with as many heads as tokens (`rankmixer.mixing.mix_tokens`).

    Shapes
        (B, T, D) -> (B, T, D), T dividing D.
    """
    return _normalised(x, None, MIXING, norm)


def _normalised(
    x: Tensor, step: Tensor | None, kind: int, norm: nn.LayerNorm, step_bias: Tensor | None = None
) -> Tensor:
    if torch.is_grad_enabled():
        return _Norm.apply(x, step, step_bias, kind, norm.weight, norm.bias, norm.eps)
    return _norm(x, step, step_bias, kind, norm.weight, norm.bias, norm.eps, None, None)


class _PerTokenFFN(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, s: Tensor, up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor | None
    ) -> Tensor:
        hidden = s.new_empty(len(up), len(s), up.shape[2])
        slope = torch.empty_like(hidden)
        ctx.save_for_backward(s, up, down, hidden, slope)
        ctx.has_bias = down_bias is not None
        return _networks(s, up, up_bias, down, down_bias, hidden, slope)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        s, up, down, hidden, slope = ctx.saved_tensors
        x, of_v = s.transpose(0, 1), gradient.transpose(0, 1)
        of_x, of_up, of_down = torch.empty_like(x), torch.empty_like(up), torch.empty_like(down)
        of_up_bias = up.new_empty(len(up), 1, up.shape[2])
        for at in _at_once(s, up):
            torch.bmm(hidden[at].transpose(1, 2), of_v[at], out=of_down[at])
            of_hidden = torch.bmm(of_v[at], down[at].transpose(1, 2)).mul_(slope[at])
            torch.sum(of_hidden, 1, keepdim=True, out=of_up_bias[at])
            torch.bmm(x[at].transpose(1, 2), of_hidden, out=of_up[at])
            of_x[at] = torch.bmm(of_hidden, up[at].transpose(1, 2))
        of_down_bias = gradient.sum(0).unsqueeze(1) if ctx.has_bias else None
        return of_x.transpose(0, 1), of_up, of_up_bias, of_down, of_down_bias


def _networks(
    s: Tensor,
    up: Tensor,
    up_bias: Tensor,
    down: Tensor,
    down_bias: Tensor | None,
    hidden: Tensor | None,
    slope: Tensor | None,
) -> Tensor:
    """A few tokens' networks after another's, whose hidden numbers are still in the cache when they are read.

    ``hidden`` and ``slope`` (T, B, M), if given, take what backward needs. ``down_bias`` may be left out.
    """
    x, v = s.transpose(0, 1), s.new_empty(len(up), len(s), down.shape[2])
    up_bias = up_bias.float()
    for at in _at_once(s, up):
        h = torch.bmm(x[at], up[at], out=None if hidden is None else hidden[at])
        _call("gelu", h, h, up_bias[at], None if slope is None else slope[at], *h.shape)
        if down_bias is None:
            torch.bmm(h, down[at], out=v[at])
        else:
            torch.baddbmm(down_bias[at].to(s.dtype), h, down[at], out=v[at])
    return v.transpose(0, 1)


def _at_once(s: Tensor, up: Tensor) -> list[slice]:
    """Consecutive tokens by how many networks are computed at once: all, where threads share them out."""
    if torch.get_num_threads() > 1:
        return [slice(None)]
    flops = max(1, 4 * len(s) * up.shape[1] * up.shape[2])
    step = max(1, min(len(up), round(FLOPS_A_CALL[s.dtype] / flops)))
    return [slice(start, start + step) for start in range(0, len(up), step)]


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        step: Tensor | None,
        step_bias: Tensor | None,
        kind: int,
        weight: Tensor,
        bias: Tensor,
        eps: float,
    ) -> Tensor:
        total = torch.empty_like(x, memory_format=torch.contiguous_format)
        moments = x.new_empty(*x.shape[:-1], 2, dtype=torch.float32)
        ctx.save_for_backward(total, moments, weight)
        ctx.kind = kind
        return _norm(x, step, step_bias, kind, weight, bias, eps, total, moments)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        total, moments, weight = ctx.saved_tensors
        of_sum, width = torch.empty_like(total), total.shape[-1]
        of_parameters = torch.zeros(torch.get_num_threads(), 2, width)
        sizes = total.numel() // width, width
        known = gradient.contiguous(), total, moments, weight.float()
        _call("norm_gradient", total, *known, *sizes, of_sum, of_parameters)
        of_weight, of_bias = of_parameters.sum(0)
        of_x = _with_its_mixing(of_sum) if ctx.kind == MIXING else of_sum
        of_step = of_sum if ctx.kind in (GIVEN, BIASED) else None
        of_step_bias = of_sum.sum(0).unsqueeze(1) if ctx.kind == BIASED else None
        return of_x, of_step, of_step_bias, None, of_weight.to(weight.dtype), of_bias.to(weight.dtype), None


def _norm(
    x: Tensor,
    step: Tensor | None,
    step_bias: Tensor | None,
    kind: int,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    total: Tensor | None,
    moments: Tensor | None,
) -> Tensor:
    """The normalised rows; ``total`` and ``moments``, if given, take what backward needs."""
    x = x.contiguous()
    width, tokens = x.shape[-1], x.shape[-2] if x.dim() > 2 else 1
    if step is not None and (step.dim() > 3 or step.stride(-1) != 1):
        step = step.contiguous()
    y = torch.empty_like(x)
    sizes = x.numel() // (tokens * width), tokens, width, *_strides(step)
    if step_bias is not None:
        step_bias = step_bias.float()
    _call("norm", x, x, step, step_bias, kind, weight.float(), bias.float(), eps, *sizes, y, total, moments)
    return y


def _strides(step: Tensor | None) -> tuple[int, int]:
    """Of the batch and of the tokens: of (D,), (B, D), (B, T, D), or contiguous (..., T, D)."""
    if step is None or step.dim() == 1:
        return 0, 0
    return (step.stride(0), 0) if step.dim() == 2 else (step.stride(-3), step.stride(-2))


def _with_its_mixing(x: Tensor) -> Tensor:
    y = torch.empty_like(x)
    _call("mixed", x, x, *x.shape, y)
    return y


def _call(function: str, of: Tensor, *arguments: Any) -> None:
    """``function`` for the dtype of ``of``; tensors as their addresses, None as none."""
    values = [a.data_ptr() if isinstance(a, Tensor) else a for a in arguments]
    values.append(torch.get_num_threads())
    compiled = getattr(compiled_functions(), f"{function}_{SUFFIX[of.dtype]}")
    if torch.autograd._profiler_enabled():
        with torch.profiler.record_function(f"fused::{function}"):
            compiled(*values)
    else:
        compiled(*values)
