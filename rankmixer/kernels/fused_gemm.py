r"""A Triton kernel for the first layer of the per-token networks: a batched GEMM that ends in bias and GELU.

    linear_gelu(x, weight, bias)     GELU(x W + b) for every token

The product of a tile is summed in registers, and bias and GELU are applied there, so the hidden activation is
written to memory once. PyTorch's product followed by `triton_kernels.bias_gelu` writes it twice and reads it
once. For gradients the product is stored as well; the backward pass is that of `triton_kernels.bias_gelu` and
two products of PyTorch. The second layer has no GELU, so PyTorch's product adds its bias.

Sums are in float32 (for float64 inputs in float64), without TF32. The file is imported only if Triton is
installed; `rankmixer.kernels.fast` decides when.

Shapes
    B batch, T tokens, K input width, over which a product sums, M hidden width.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor, library
from torch.utils.flop_counter import register_flop_formula

from rankmixer.kernels.triton_kernels import _bias_gelu_backward, mix_add_norm_of

GROUP = 8  # tiles of rows that are computed together, so that they find the same weights in the cache


def block_of_fused_gemm(block: Any, x: Tensor) -> Tensor:
    """The paper's block (B, T, D) -> (B, T, D), with the first layer of its networks in one kernel."""
    up, down = block.ffn.up, block.ffn.down
    s = mix_add_norm_of(x, block.mixing_norm)
    hidden = linear_gelu(s.transpose(0, 1), up.weight, up.bias)
    v = torch.baddbmm(down.bias, hidden, down.weight).transpose(0, 1)
    return block.ffn_norm(v + s)


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """GELU(x W + b), exact, for every token; under autocast in its dtype, as PyTorch's products are.

    Shapes
        x (T, B, K) with any strides, weight (T, K, M), bias (T, 1, M). Returns (T, B, M), contiguous.
    """
    device = x.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        x, weight, bias = x.to(dtype), weight.to(dtype), bias.to(dtype)
    stores_product = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, weight, bias))
    return _linear_gelu(x, weight, bias, stores_product)[0]


@triton.jit
def _linear_gelu_kernel(
    x, weight, bias, y, product,
    token_stride, row_stride, depth_stride, weight_token_stride, weight_row_stride, weight_column_stride,
    batch, M, K,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, GROUP: tl.constexpr, ACC: tl.constexpr,
    STORES_PRODUCT: tl.constexpr,
):  # fmt: skip
    """One tile (ROWS, COLUMNS) of one token.

    Tiles are numbered so that GROUP tiles of rows read the same columns of weights one after another.
    """
    t = tl.program_id(1).to(tl.int64)
    across = GROUP * tl.cdiv(M, COLUMNS)
    first = tl.program_id(0) // across * GROUP
    height = tl.minimum(tl.cdiv(batch, ROWS) - first, GROUP)
    row = (first + tl.program_id(0) % across % height) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(0) % across // height * COLUMNS + tl.arange(0, COLUMNS)
    depth = tl.arange(0, DEPTH)
    left = x + t * token_stride + (row.to(tl.int64) * row_stride)[:, None] + (depth * depth_stride)[None, :]
    right = weight + t * weight_token_stride
    right += (depth.to(tl.int64) * weight_row_stride)[:, None] + (column * weight_column_stride)[None, :]
    sums = tl.zeros((ROWS, COLUMNS), ACC)
    for start in range(0, K, DEPTH):
        inside = depth < K - start
        a = tl.load(left, (row < batch)[:, None] & inside[None, :], 0.0)
        b = tl.load(right, inside[:, None] & (column < M)[None, :], 0.0)
        sums = tl.dot(a, b, sums, input_precision="ieee", out_dtype=ACC)
        left += DEPTH * depth_stride
        right += DEPTH * weight_row_stride
    inside = (row < batch)[:, None] & (column < M)[None, :]
    place = (t * batch + row)[:, None] * M + column[None, :]
    if STORES_PRODUCT:
        tl.store(product + place, sums, inside)
    sums += tl.load(bias + t * M + column, column < M, 0.0).to(ACC)[None, :]
    tl.store(y + place, sums * 0.5 * (1 + tl.erf(sums * 0.7071067811865476)), inside)


def _tile(x: Tensor) -> dict[str, Any]:
    """Sizes by dtype: large for 16-bit tensor cores, smaller where a number takes more registers."""
    if x.element_size() == 2:
        return {"ROWS": 128, "COLUMNS": 128, "DEPTH": 64, "ACC": tl.float32, "num_warps": 8, "num_stages": 3}
    accumulator = tl.float64 if x.dtype == torch.float64 else tl.float32
    return {"ROWS": 64, "COLUMNS": 64, "DEPTH": 16, "ACC": accumulator, "num_warps": 4, "num_stages": 2}


@library.custom_op("rankmixer::linear_gelu", mutates_args=())
def _linear_gelu(x: Tensor, weight: Tensor, bias: Tensor, stores_product: bool) -> tuple[Tensor, Tensor]:
    """The result, and the product without the bias, which is empty unless ``stores_product``."""
    y, product = _empty_outputs(x, weight, bias, stores_product)
    T, B, M = y.shape
    if y.numel():
        sizes = _tile(x)
        tiles = triton.cdiv(B, sizes["ROWS"]) * triton.cdiv(M, sizes["COLUMNS"])
        strides = *x.stride(), *weight.stride()
        _linear_gelu_kernel[(tiles, T)](
            x, weight, bias.contiguous(), y, product, *strides, B, M, x.shape[2],
            GROUP=GROUP, STORES_PRODUCT=stores_product, **sizes,
        )  # fmt: skip
    return y, product


@_linear_gelu.register_fake
def _empty_outputs(x: Tensor, weight: Tensor, bias: Tensor, stores_product: bool) -> tuple[Tensor, Tensor]:
    y = x.new_empty(x.shape[0], x.shape[1], weight.shape[2])
    return y, torch.empty_like(y) if stores_product else x.new_empty(0)


@register_flop_formula(torch.ops.rankmixer.linear_gelu)
def _flops(x_shape: Any, weight_shape: Any, *_: Any, **__: Any) -> int:
    T, B, K = x_shape
    return 2 * T * B * K * weight_shape[2]


def _save_inputs(
    ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, bool], output: tuple[Tensor, Tensor]
) -> None:
    x, weight, bias, _ = inputs
    _, product = output
    ctx.mark_non_differentiable(product)
    ctx.save_for_backward(x, weight, bias, product)


def _gradients(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, bias, product = ctx.saved_tensors
    product_gradient, bias_gradient = _bias_gelu_backward(gradient, product, bias)
    x_gradient = torch.bmm(product_gradient, weight.transpose(1, 2))
    weight_gradient = torch.bmm(x.transpose(1, 2), product_gradient)
    return x_gradient, weight_gradient, bias_gradient, None


_linear_gelu.register_autograd(_gradients, setup_context=_save_inputs)
