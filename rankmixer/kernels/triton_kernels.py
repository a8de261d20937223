r"""Triton kernels for the paper's block: one for mixing, sum and normalisation, one for bias and GELU.

    mix_add_norm(x, weight, bias, eps, dtype)    LN(Mix(x) + x), H = T
    bias_gelu(product, bias)                     GELU(product + bias), for a batched product

Both are registered as operators, so autograd, `torch.compile` and the meta device support them. The file is
imported only if Triton is installed; `rankmixer.kernels.fast` decides when. Numbers are computed in float32
and rounded at the end, except float64, which stays float64.

Passes over a (B, T, D) tensor in memory, counted by hand: 2 in the forward pass, where one kernel for each
operation makes 7 (mixing 2, sum 3, normalisation 2), and 5 in the backward pass instead of 10. Gradients of
weights and biases are sums over rows. They are added in a fixed order, so a repeated step gives the same
bits.

Shapes
    B batch, T tokens, D model width, W = D/T width of a slice, M hidden width of each token.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor, library, nn

LARGEST_TILE = 16384  # most numbers of one tensor that a program holds
TILE = 2048  # fewest numbers that make the launch of a program worth its time
MOST_PARTS = 1024  # most programs among which the rows of a sum are divided


def accepts(x: Tensor) -> bool:
    """Whether the kernels accept (B, T, D) tokens: floating, last stride 1, and a row fits a program."""
    return x.is_floating_point() and x.stride(2) == 1 and triton.next_power_of_2(x.shape[2]) <= LARGEST_TILE


def block_of_kernels(block: Any, x: Tensor) -> Tensor:
    """The paper's block (B, T, D) -> (B, T, D), with matrix products by PyTorch's batched GEMM."""
    up, down = block.ffn.up, block.ffn.down
    s = mix_add_norm_of(x, block.mixing_norm)
    hidden = bias_gelu(torch.bmm(s.transpose(0, 1), up.weight), up.bias)
    v = torch.baddbmm(down.bias, hidden, down.weight).transpose(0, 1)
    return block.ffn_norm(v + s)


def mix_add_norm_of(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """`mix_add_norm` with a layer's weights, in the dtype that the layer itself returns."""
    autocast = x.is_cuda and torch.is_autocast_enabled("cuda")
    return mix_add_norm(x, norm.weight, norm.bias, norm.eps, torch.float32 if autocast else x.dtype)


def mix_add_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    """LN(Mix(x) + x) with as many heads as tokens.

    Raises ValueError where T does not divide D.

    Shapes
        x (B, T, D), weight and bias (D,). Returns (B, T, D) of ``dtype``, contiguous.
    """
    if x.shape[2] % x.shape[1]:
        raise ValueError(f"width {x.shape[2]} is not divisible by the {x.shape[1]} tokens")
    return _mix_add_norm(x, weight, bias, eps, dtype)[0]


def bias_gelu(product: Tensor, bias: Tensor) -> Tensor:
    """GELU(product + bias), exact, in the dtype of the product.

    Shapes
        product (T, B, M), bias (T, 1, M). Returns (T, B, M), contiguous.
    """
    return _bias_gelu(product, bias)


# ----------------------------------------------------------------------------- mixing, residual, norm


@triton.jit
def _sums(x, batch_stride, token_stride, row, rows, column, T, D: tl.constexpr, W: tl.constexpr):
    """Both terms of x + Mix(x), and a mask of the valid numbers.

    Row b*T + h is token h of sample b. Column t*W + i is number i of slice t.
    """
    b, h = (row // T).to(tl.int64), row % T
    inside = (row < rows)[:, None] & (column < D)[None, :]
    own = x + (b * batch_stride + h * token_stride)[:, None] + column[None, :]
    t, i = column // W, column % W
    mixed = x + (b * batch_stride + h * W)[:, None] + (t * token_stride + i)[None, :]
    return tl.load(own, inside, 0.0), tl.load(mixed, inside, 0.0), inside


@triton.jit
def _forward_kernel(
    x, weight, bias, y, mean, rstd, batch_stride, token_stride, rows, eps,
    T: tl.constexpr, D: tl.constexpr, W: tl.constexpr, COLUMNS: tl.constexpr, ROWS: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    row, column = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    own, mixed, inside = _sums(x, batch_stride, token_stride, row, rows, column, T, D, W)
    z = own.to(ACC) + mixed.to(ACC)
    middle = tl.sum(z, 1) / D
    centred = tl.where(inside, z - middle[:, None], 0.0)
    scale = 1 / tl.sqrt(tl.sum(centred * centred, 1) / D + eps)
    w = tl.load(weight + column, column < D, 0.0).to(ACC)
    b = tl.load(bias + column, column < D, 0.0).to(ACC)
    result = centred * scale[:, None] * w[None, :] + b[None, :]
    tl.store(y + row.to(tl.int64)[:, None] * D + column[None, :], result, inside)
    tl.store(mean + row, middle, row < rows)
    tl.store(rstd + row, scale, row < rows)


@triton.jit
def _row_sums_kernel(
    x, gradient, weight, mean, rstd, plain_mean, normal_mean, batch_stride, token_stride, rows,
    T: tl.constexpr, D: tl.constexpr, W: tl.constexpr, COLUMNS: tl.constexpr, ROWS: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """For each row the means over columns of g and of g * normalised, where g = gradient * weight."""
    row, column = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    own, mixed, inside = _sums(x, batch_stride, token_stride, row, rows, column, T, D, W)
    middle, scale = tl.load(mean + row, row < rows, 0.0), tl.load(rstd + row, row < rows, 0.0)
    normal = (own.to(ACC) + mixed.to(ACC) - middle[:, None]) * scale[:, None]
    g = tl.load(gradient + row.to(tl.int64)[:, None] * D + column[None, :], inside, 0.0).to(ACC)
    g *= tl.load(weight + column, column < D, 0.0).to(ACC)[None, :]
    tl.store(plain_mean + row, tl.sum(g, 1) / D, row < rows)
    tl.store(normal_mean + row, tl.sum(g * normal, 1) / D, row < rows)


@triton.jit
def _backward_kernel(
    x, gradient, weight, mean, rstd, plain_mean, normal_mean, x_gradient, weight_parts, bias_parts,
    batch_stride, token_stride, batch, part,
    T: tl.constexpr, D: tl.constexpr, W: tl.constexpr, TOKENS: tl.constexpr, SLICE: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """Gradients for ``part`` rows: slice t of all tokens h at once, for one t after another.

    Mixing exchanges number i of slice t of token h with number i of slice h of token t, its partner. Both
    therefore have the same sum z, and the gradient of x is the gradient of z here plus that at the partner.
    """
    h, i = tl.arange(0, TOKENS)[:, None], tl.arange(0, SLICE)[None, :]
    inside = (h < T) & (i < W)
    token = tl.arange(0, TOKENS)
    for t in range(T):
        column, partner = t * W + i, h * W + i
        w = tl.load(weight + column, i < W, 0.0).to(ACC)
        partner_w = tl.load(weight + partner, inside, 0.0).to(ACC)
        weight_sum = tl.zeros((TOKENS, SLICE), ACC)
        bias_sum = tl.zeros((TOKENS, SLICE), ACC)
        first = tl.program_id(0).to(tl.int64) * part
        for b in range(first, tl.minimum(first + part, batch)):
            start = x + b * batch_stride
            z = tl.load(start + h * token_stride + column, inside, 0.0).to(ACC)
            z += tl.load(start + t * token_stride + partner, inside, 0.0).to(ACC)
            here, there = b * T + token, b * T + t
            middle = tl.load(mean + here, token < T, 0.0)[:, None]
            scale = tl.load(rstd + here, token < T, 0.0)[:, None]
            normal = (z - middle) * scale
            g = tl.load(gradient + b * T * D + h * D + column, inside, 0.0).to(ACC)
            weight_sum += tl.where(inside, g * normal, 0.0)
            bias_sum += g
            sums = tl.load(plain_mean + here, token < T, 0.0)[:, None]
            sums += normal * tl.load(normal_mean + here, token < T, 0.0)[:, None]
            result = scale * (g * w - sums)
            scale_there = tl.load(rstd + there)
            normal = (z - tl.load(mean + there)) * scale_there
            g = tl.load(gradient + b * T * D + t * D + partner, inside, 0.0).to(ACC)
            sums = tl.load(plain_mean + there) + normal * tl.load(normal_mean + there)
            result += scale_there * (g * partner_w - sums)
            tl.store(x_gradient + b * T * D + h * D + column, result, inside)
        place = tl.program_id(0) * D + t * W + tl.arange(0, SLICE)
        tl.store(weight_parts + place, tl.sum(weight_sum, 0), tl.arange(0, SLICE) < W)
        tl.store(bias_parts + place, tl.sum(bias_sum, 0), tl.arange(0, SLICE) < W)


def _accumulator(x: Tensor) -> tuple[torch.dtype, Any]:
    return (torch.float64, tl.float64) if x.dtype == torch.float64 else (torch.float32, tl.float32)


def _row_tiles(x: Tensor) -> tuple[tuple[int], dict[str, Any]]:
    """Grid and sizes for a kernel whose programs process whole rows of D numbers."""
    B, T, D = x.shape
    columns = triton.next_power_of_2(D)
    rows = max(1, TILE // columns)
    sizes = {"T": T, "D": D, "W": D // T, "COLUMNS": columns, "ROWS": rows, "ACC": _accumulator(x)[1]}
    warps = min(16, max(4, columns // 512))
    return (triton.cdiv(B * T, rows),), {**sizes, "num_warps": warps}


@library.custom_op("rankmixer::mix_add_norm", mutates_args=())
def _mix_add_norm(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    y, mean, rstd = _empty_outputs(x, weight, bias, eps, dtype)
    if x.numel():
        x = x if x.stride(2) == 1 else x.contiguous()
        grid, sizes = _row_tiles(x)
        strides = x.stride(0), x.stride(1), mean.numel()
        _forward_kernel[grid](x, weight, bias, y, mean, rstd, *strides, eps, **sizes)
    return y, mean, rstd


@_mix_add_norm.register_fake
def _empty_outputs(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    y = torch.empty(x.shape, dtype=dtype, device=x.device)
    mean = torch.empty(x.shape[:2], dtype=_accumulator(x)[0], device=x.device)
    return y, mean, torch.empty_like(mean)


@library.custom_op("rankmixer::mix_add_norm_backward", mutates_args=())
def _mix_add_norm_backward(
    gradient: Tensor, x: Tensor, weight: Tensor, mean: Tensor, rstd: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    B, T, D = x.shape
    x = x if x.stride(2) == 1 else x.contiguous()
    gradient = gradient.contiguous()
    x_gradient = torch.empty_like(x, memory_format=torch.contiguous_format)
    part = triton.cdiv(B, MOST_PARTS) or 1
    weight_parts, bias_parts = mean.new_zeros(2, triton.cdiv(B, part), D).unbind()
    if x.numel():
        plain_mean, normal_mean = torch.empty_like(mean), torch.empty_like(mean)
        grid, sizes = _row_tiles(x)
        row_inputs = gradient, weight, mean, rstd, plain_mean, normal_mean
        _row_sums_kernel[grid](x, *row_inputs, x.stride(0), x.stride(1), B * T, **sizes)
        tokens, width = triton.next_power_of_2(T), triton.next_power_of_2(D // T)
        _backward_kernel[(triton.cdiv(B, part),)](
            x, *row_inputs, x_gradient, weight_parts, bias_parts, x.stride(0), x.stride(1), B, part,
            T=T, D=D, W=D // T, TOKENS=tokens, SLICE=width, ACC=_accumulator(x)[1],
            num_warps=min(8, max(1, tokens * width // 128)),
        )  # fmt: skip
    return x_gradient, weight_parts.sum(0).to(weight.dtype), bias_parts.sum(0).to(weight.dtype)


@_mix_add_norm_backward.register_fake
def _(gradient: Tensor, x: Tensor, weight: Tensor, mean: Tensor, rstd: Tensor) -> tuple[Tensor, ...]:
    like = torch.empty_like(x, memory_format=torch.contiguous_format)
    return like, torch.empty_like(weight), torch.empty_like(weight)


def _save_for_norm(ctx: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
    x, weight, *_ = inputs
    _, mean, rstd = output
    ctx.mark_non_differentiable(mean, rstd)
    ctx.save_for_backward(x, weight, mean, rstd)


def _norm_gradients(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    return *_mix_add_norm_backward(gradient, *ctx.saved_tensors), None, None


_mix_add_norm.register_autograd(_norm_gradients, setup_context=_save_for_norm)


# ------------------------------------------------------------------------------------- bias and GELU


@triton.jit
def _biased_tile(
    product, bias, batch, M, ROWS: tl.constexpr, COLUMNS: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    """The tile of product + bias of one program, its offsets in memory, and a mask of the valid ones."""
    t = tl.program_id(2)
    row, column = (
        tl.program_id(0) * ROWS + tl.arange(0, ROWS),
        tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS),
    )
    inside = (row < batch)[:, None] & (column < M)[None, :]
    place = (t.to(tl.int64) * batch + row)[:, None] * M + column[None, :]
    a = tl.load(product + place, inside, 0.0).to(ACC)
    a += tl.load(bias + t * M + column, column < M, 0.0).to(ACC)[None, :]
    return a, place, inside


@triton.jit
def _bias_gelu_kernel(
    product, bias, y, batch, M,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    a, place, inside = _biased_tile(product, bias, batch, M, ROWS, COLUMNS, ACC)
    tl.store(y + place, a * 0.5 * (1 + tl.erf(a * 0.7071067811865476)), inside)


@triton.jit
def _bias_gelu_backward_kernel(
    gradient, product, bias, product_gradient, bias_parts, batch, M,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    a, place, inside = _biased_tile(product, bias, batch, M, ROWS, COLUMNS, ACC)
    slope = 0.5 * (1 + tl.erf(a * 0.7071067811865476)) + a * 0.3989422804014327 * tl.exp(-0.5 * a * a)
    result = tl.load(gradient + place, inside, 0.0).to(ACC) * slope
    tl.store(product_gradient + place, result, inside)
    part = tl.program_id(2) * tl.num_programs(0) + tl.program_id(0)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    tl.store(bias_parts + part * M + column, tl.sum(result, 0), column < M)


def _tiles(product: Tensor) -> tuple[tuple[int, int, int], dict[str, Any]]:
    T, B, M = product.shape
    columns = min(256, triton.next_power_of_2(M))
    rows = min(triton.next_power_of_2(B), max(1, TILE // columns))
    sizes = {"ROWS": rows, "COLUMNS": columns, "ACC": _accumulator(product)[1]}
    return (triton.cdiv(B, rows), triton.cdiv(M, columns), T), sizes


@library.custom_op("rankmixer::bias_gelu", mutates_args=())
def _bias_gelu(product: Tensor, bias: Tensor) -> Tensor:
    product, bias, (_, B, M) = product.contiguous(), bias.contiguous(), product.shape
    y = torch.empty_like(product)
    if product.numel():
        grid, sizes = _tiles(product)
        _bias_gelu_kernel[grid](product, bias, y, B, M, **sizes)
    return y


@_bias_gelu.register_fake
def _(product: Tensor, bias: Tensor) -> Tensor:
    return torch.empty_like(product, memory_format=torch.contiguous_format)


@library.custom_op("rankmixer::bias_gelu_backward", mutates_args=())
def _bias_gelu_backward(gradient: Tensor, product: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    gradient, product, bias = gradient.contiguous(), product.contiguous(), bias.contiguous()
    T, B, M = product.shape
    result = torch.empty_like(product)
    if not product.numel():
        return result, torch.zeros_like(bias)
    grid, sizes = _tiles(product)
    parts = product.new_empty(T, grid[0], M, dtype=_accumulator(product)[0])
    _bias_gelu_backward_kernel[grid](gradient, product, bias, result, parts, B, M, **sizes)
    return result, parts.sum(1, keepdim=True).to(bias.dtype)


@_bias_gelu_backward.register_fake
def _(gradient: Tensor, product: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    like = torch.contiguous_format
    return torch.empty_like(product, memory_format=like), torch.empty_like(bias, memory_format=like)


def _save_for_gelu(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gelu_gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
    return _bias_gelu_backward(gradient, *ctx.saved_tensors)


_bias_gelu.register_autograd(_gelu_gradients, setup_context=_save_for_gelu)
