"""The CPU kernels as PyTorch operators: ``torch.ops.rankmixer_bench``.

    per_token_ffn(s, up, up_bias, down, down_bias)            `cpu.per_token_ffn`
    sum_normalise(x, step, step_bias, weight, bias, eps, mixes)    `cpu.add_norm`, `cpu.mix_add_norm`

Autograd, `torch.compile`, `torch.export`, the meta device and the FLOP counter support them. Each has two
more operators for training: ``<name>_saved`` also returns what the backward pass needs, and
``<name>_backward`` returns the gradients. There are no second derivatives.

The autograd kernels are written here because those that PyTorch's `register_autograd` generates take longer
for each call, and a training step of a small RankMixer makes a dozen calls.

Shapes
    B batch, T tokens, D model width, M hidden width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, library
from torch.autograd.function import once_differentiable
from torch.utils.flop_counter import register_flop_formula

from baselines.kernels.compiled import call

# FLOPs of the networks that are computed together. With fewer, the calls cost more time than the cache saves.
FLOPS_A_CALL = {torch.float32: 16e6, torch.bfloat16: 128e6}
NOTHING, GIVEN, BIASED, MIXING = range(4)  # what is added before the normalisation: `Step` of cpu.cpp

LIBRARY = library.Library("rankmixer_bench", "DEF")
OPERATORS = torch.ops.rankmixer_bench

_FFN = "(Tensor s, Tensor up, Tensor up_bias, Tensor down, Tensor? down_bias)"
LIBRARY.define(f"per_token_ffn{_FFN} -> Tensor")
LIBRARY.define(f"per_token_ffn_saved{_FFN} -> (Tensor v, Tensor hidden, Tensor slope)")
LIBRARY.define(
    "per_token_ffn_backward(Tensor gradient, Tensor s, Tensor up, Tensor down, Tensor hidden, Tensor slope)"
    " -> (Tensor s, Tensor up, Tensor up_bias, Tensor down)"
)
_NORM = "(Tensor x, Tensor? step, Tensor? step_bias, Tensor weight, Tensor bias, float eps, bool mixes)"
LIBRARY.define(f"sum_norm{_NORM} -> Tensor")
LIBRARY.define(f"sum_norm_saved{_NORM} -> (Tensor y, Tensor total, Tensor moments)")
LIBRARY.define(
    "sum_norm_backward(Tensor gradient, Tensor total, Tensor moments, Tensor weight, bool mixes)"
    " -> (Tensor x, Tensor weight, Tensor bias)"
)


# --------------------------------------------------------------- the feed-forward network of every token


@library.impl(LIBRARY, "per_token_ffn", "CPU")
def _ffn(s: Tensor, up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor | None) -> Tensor:
    return _compute_networks(s, up, up_bias, down, down_bias, None, None)


@library.impl(LIBRARY, "per_token_ffn_saved", "CPU")
def _ffn_saved(
    s: Tensor, up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    hidden = s.new_empty(len(up), len(s), up.shape[2])
    slope = torch.empty_like(hidden)
    return _compute_networks(s, up, up_bias, down, down_bias, hidden, slope), hidden, slope


def _compute_networks(
    s: Tensor,
    up: Tensor,
    up_bias: Tensor,
    down: Tensor,
    down_bias: Tensor | None,
    hidden: Tensor | None,
    slope: Tensor | None,
) -> Tensor:
    """Compute the networks of a few tokens at a time, so that their hidden numbers stay in the cache.

    ``hidden`` and ``slope`` (T, B, M), if given, receive what the backward pass needs.
    """
    x, v = s.transpose(0, 1), _tokens_first_like(s, down)
    up_bias = up_bias.float()
    for at in _token_ranges(s, up):
        h = torch.bmm(x[at], up[at], out=None if hidden is None else hidden[at])
        tokens, rows, width = h.shape
        call(
            "gelu",
            h.dtype,
            hidden=h,
            bias=up_bias[at],
            slope=None if slope is None else slope[at],
            tokens=tokens,
            rows=rows,
            width=width,
        )
        if down_bias is None:
            torch.bmm(h, down[at], out=v[at])
        else:
            torch.baddbmm(down_bias[at].to(s.dtype), h, down[at], out=v[at])
    return v.transpose(0, 1)


def _tokens_first_like(s: Tensor, down: Tensor) -> Tensor:
    return s.new_empty(len(down), len(s), down.shape[2])


def _token_ranges(s: Tensor, up: Tensor) -> list[slice]:
    """Ranges of tokens whose networks are computed together: a single range if there are several threads."""
    if torch.get_num_threads() > 1:
        return [slice(None)]
    flops = max(1, 4 * len(s) * up.shape[1] * up.shape[2])
    step = max(1, min(len(up), round(FLOPS_A_CALL[s.dtype] / flops)))
    return [slice(start, start + step) for start in range(0, len(up), step)]


@library.impl(LIBRARY, "per_token_ffn_backward", "CPU")
def _ffn_backward(
    gradient: Tensor, s: Tensor, up: Tensor, down: Tensor, hidden: Tensor, slope: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x, v_gradient = s.transpose(0, 1), gradient.transpose(0, 1)
    s_gradient, up_gradient, up_bias_gradient, down_gradient = _ffn_gradients_like(s, up, down)
    x_gradient = s_gradient.transpose(0, 1)
    for at in _token_ranges(s, up):
        torch.bmm(hidden[at].transpose(1, 2), v_gradient[at], out=down_gradient[at])
        hidden_gradient = torch.bmm(v_gradient[at], down[at].transpose(1, 2)).mul_(slope[at])
        torch.sum(hidden_gradient, 1, keepdim=True, out=up_bias_gradient[at])
        torch.bmm(x[at].transpose(1, 2), hidden_gradient, out=up_gradient[at])
        x_gradient[at] = torch.bmm(hidden_gradient, up[at].transpose(1, 2))
    return s_gradient, up_gradient, up_bias_gradient, down_gradient


def _ffn_gradients_like(s: Tensor, up: Tensor, down: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x_gradient, up_bias_gradient = torch.empty_like(s.transpose(0, 1)), up.new_empty(len(up), 1, up.shape[2])
    return x_gradient.transpose(0, 1), torch.empty_like(up), up_bias_gradient, torch.empty_like(down)


class _PerTokenFFN(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, s: Tensor, up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor | None
    ) -> Tensor:
        with torch._C._AutoDispatchBelowAutograd():
            v, hidden, slope = OPERATORS.per_token_ffn_saved(s, up, up_bias, down, down_bias)
        ctx.save_for_backward(s, up, down, hidden, slope)
        ctx.has_bias = down_bias is not None
        return v

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradients = OPERATORS.per_token_ffn_backward(gradient, *ctx.saved_tensors)
        return *gradients, gradient.sum(0).unsqueeze(1) if ctx.has_bias else None


@library.impl(LIBRARY, "per_token_ffn", "Autograd")
def _ffn_autograd(*arguments: Tensor | None) -> Tensor:
    if torch.is_grad_enabled():
        return _PerTokenFFN.apply(*arguments)
    with torch._C._AutoDispatchBelowAutograd():
        return OPERATORS.per_token_ffn(*arguments)


# ------------------------------------------------------------------------------ normalisation of a sum


@library.impl(LIBRARY, "sum_norm", "CPU")
def _sum_norm(
    x: Tensor,
    step: Tensor | None,
    step_bias: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    mixes: bool,
) -> Tensor:
    return _normalise(x, step, step_bias, weight, bias, eps, mixes, None, None)


@library.impl(LIBRARY, "sum_norm_saved", "CPU")
def _sum_norm_saved(
    x: Tensor,
    step: Tensor | None,
    step_bias: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    mixes: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    total, moments = _empty_sum_and_moments(x)
    return _normalise(x, step, step_bias, weight, bias, eps, mixes, total, moments), total, moments


def _empty_sum_and_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Empty tensors for the sum, and for the mean and 1 / standard deviation of each of its rows."""
    moments = x.new_empty(*x.shape[:-1], 2, dtype=torch.float32)
    return torch.empty_like(x, memory_format=torch.contiguous_format), moments


def _normalise(
    x: Tensor,
    step: Tensor | None,
    step_bias: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    mixes: bool,
    total: Tensor | None,
    moments: Tensor | None,
) -> Tensor:
    """The normalised rows. ``total`` and ``moments``, if given, receive what the backward pass needs."""
    x = x.contiguous()
    width, tokens = x.shape[-1], x.shape[-2] if x.dim() > 2 else 1
    if step is not None and (step.dim() > 3 or step.stride(-1) != 1):
        step = step.contiguous()
    y = torch.empty_like(x)
    step_batch, step_token = _strides(step)
    call(
        "norm",
        x.dtype,
        x=x,
        step=step,
        step_bias=None if step_bias is None else step_bias.float(),
        kind=MIXING if mixes else NOTHING if step is None else GIVEN if step_bias is None else BIASED,
        weight=weight.float(),
        bias=bias.float(),
        eps=eps,
        batch=x.numel() // (tokens * width),
        tokens=tokens,
        width=width,
        step_batch=step_batch,
        step_token=step_token,
        y=y,
        sum=total,
        saved=moments,
    )
    return y


def _strides(step: Tensor | None) -> tuple[int, int]:
    """Strides over batch and tokens of a step (D,), (B, D), (B, T, D), or contiguous (..., T, D)."""
    if step is None or step.dim() == 1:
        return 0, 0
    return (step.stride(0), 0) if step.dim() == 2 else (step.stride(-3), step.stride(-2))


@library.impl(LIBRARY, "sum_norm_backward", "CPU")
def _sum_norm_backward(
    gradient: Tensor, total: Tensor, moments: Tensor, weight: Tensor, mixes: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the sum (of its input x if ``mixes``), of weight and of bias."""
    sum_gradient, width = torch.empty_like(total), total.shape[-1]
    thread_sums = torch.zeros(torch.get_num_threads(), 2, width)
    call(
        "norm_gradient",
        total.dtype,
        dy=gradient.contiguous(),
        sum=total,
        saved=moments,
        weight=weight.float(),
        rows=total.numel() // width,
        width=width,
        dx=sum_gradient,
        dparameters=thread_sums,
    )
    weight_gradient, bias_gradient = thread_sums.sum(0)
    x_gradient = _plus_its_mixing(sum_gradient) if mixes else sum_gradient
    return x_gradient, weight_gradient.to(weight.dtype), bias_gradient.to(weight.dtype)


def _plus_its_mixing(x: Tensor) -> Tensor:
    batch, tokens, width = x.shape
    y = torch.empty_like(x)
    call("mixed", x.dtype, x=x, batch=batch, tokens=tokens, width=width, y=y)
    return y


class _SumNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        step: Tensor | None,
        step_bias: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        eps: float,
        mixes: bool,
    ) -> Tensor:
        with torch._C._AutoDispatchBelowAutograd():
            y, *saved = OPERATORS.sum_norm_saved(x, step, step_bias, weight, bias, eps, mixes)
        ctx.save_for_backward(*saved, weight)
        ctx.mixes, ctx.has_step, ctx.has_step_bias = mixes, step is not None, step_bias is not None
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = OPERATORS.sum_norm_backward(gradient, *ctx.saved_tensors, ctx.mixes)
        step = x if ctx.has_step else None
        step_bias = x.sum(0).unsqueeze(1) if ctx.has_step_bias else None
        return x, step, step_bias, weight, bias, None, None


@library.impl(LIBRARY, "sum_norm", "Autograd")
def _sum_norm_autograd(*arguments: Any) -> Tensor:
    if torch.is_grad_enabled():
        return _SumNorm.apply(*arguments)
    with torch._C._AutoDispatchBelowAutograd():
        return OPERATORS.sum_norm(*arguments)


# ------------------------------------------------------------- shapes for the meta device, and FLOP counts


@library.register_fake("rankmixer_bench::per_token_ffn", lib=LIBRARY)
def _ffn_like(s: Tensor, up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor | None) -> Tensor:
    return _tokens_first_like(s, down).transpose(0, 1)


@library.register_fake("rankmixer_bench::per_token_ffn_saved", lib=LIBRARY)
def _ffn_saved_like(
    s: Tensor, up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    hidden = s.new_empty(len(up), len(s), up.shape[2])
    return _tokens_first_like(s, down).transpose(0, 1), hidden, torch.empty_like(hidden)


@library.register_fake("rankmixer_bench::per_token_ffn_backward", lib=LIBRARY)
def _ffn_backward_like(
    gradient: Tensor, s: Tensor, up: Tensor, down: Tensor, hidden: Tensor, slope: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _ffn_gradients_like(s, up, down)


@library.register_fake("rankmixer_bench::sum_norm", lib=LIBRARY)
def _sum_norm_like(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@library.register_fake("rankmixer_bench::sum_norm_saved", lib=LIBRARY)
def _sum_norm_saved_like(x: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x, memory_format=torch.contiguous_format), *_empty_sum_and_moments(x)


@library.register_fake("rankmixer_bench::sum_norm_backward", lib=LIBRARY)
def _sum_norm_backward_like(
    gradient: Tensor, total: Tensor, moments: Tensor, weight: Tensor, mixes: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(total), torch.empty_like(weight), torch.empty_like(weight)


@register_flop_formula([OPERATORS.per_token_ffn, OPERATORS.per_token_ffn_saved])
def _ffn_flops(s: Any, up: Any, up_bias: Any, down: Any, *_: Any, **__: Any) -> int:
    (batch, _, _), (tokens, width, hidden), out = s, up, down[2]
    return 2 * batch * tokens * hidden * (width + out)


@register_flop_formula(OPERATORS.per_token_ffn_backward)
def _ffn_backward_flops(gradient: Any, s: Any, up: Any, down: Any, *_: Any, **__: Any) -> int:
    return 2 * _ffn_flops(s, up, None, down)
