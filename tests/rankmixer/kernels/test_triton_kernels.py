"""The Triton kernels against the plain equations in float64; on the CPU through Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
from torch import library
from torch.nn import functional

from rankmixer.mixing import mix_tokens
from tests.rankmixer.kernels.against_float64 import (
    WITHOUT_TRITON,
    check,
    every_shape_and_every_dtype,
    numbers,
    with_gradients,
)

pytest.importorskip("triton", reason=WITHOUT_TRITON)
from rankmixer.kernels import triton_kernels as kernels

# A few unit roundoffs of each dtype: results are rounded once, and sums are float32 or float64.
TOLERANCE = {torch.float64: 1e-14, torch.float32: 1e-6, torch.bfloat16: 8e-3, torch.float16: 1e-3}
EPS = 1e-5


def plain_norm(x, weight, bias):
    return functional.layer_norm(mix_tokens(x) + x, x.shape[2:], weight, bias, EPS)


def fused_norm(x, weight, bias):
    return kernels.mix_add_norm(x, weight, bias, EPS, x.dtype)


@every_shape_and_every_dtype(
    ("rows", "num_tokens", "model_dim"),
    [(1, 4, 8), (7, 3, 15), (2, 16, 64), (2, 5, 40), (3, 1, 6), (2, 6, 6), (1, 12, 780)],
    TOLERANCE,
    rounded_shapes=[(7, 3, 15), (1, 12, 780)],
)
def test_mixing_residual_and_norm_equal_the_plain_equations_forward_and_backward(
    rows, num_tokens, model_dim, dtype
):
    inputs = [
        numbers(*shape, dtype=dtype) for shape in ((rows, num_tokens, model_dim), (model_dim,), (model_dim,))
    ]
    gradient = numbers(rows, num_tokens, model_dim, dtype=dtype, seed=1).detach()
    check(fused_norm, plain_norm, inputs, gradient, TOLERANCE[dtype])


@every_shape_and_every_dtype(
    ("num_tokens", "rows", "width"),
    [(4, 1, 8), (3, 7, 300), (1, 33, 5), (2, 70, 257)],
    TOLERANCE,
    rounded_shapes=[(3, 7, 300)],
)
def test_bias_and_gelu_equal_the_plain_equations_forward_and_backward(num_tokens, rows, width, dtype):
    inputs = numbers(num_tokens, rows, width, dtype=dtype), numbers(num_tokens, 1, width, dtype=dtype, seed=1)
    gradient = numbers(num_tokens, rows, width, dtype=dtype, seed=2).detach()
    plain = lambda product, bias: functional.gelu(product + bias)  # noqa: E731
    check(kernels.bias_gelu, plain, inputs, gradient, TOLERANCE[dtype])


def test_gradients_of_weights_are_sums_over_all_programs(monkeypatch):
    monkeypatch.setattr(kernels, "MOST_PARTS", 3)  # 7 rows: parts of 3, 3 and 1
    inputs = [numbers(*shape) for shape in ((7, 4, 8), (8,), (8,))]
    check(fused_norm, plain_norm, inputs, numbers(7, 4, 8, seed=1).detach(), 1e-14)


def test_tokens_and_gradients_may_have_any_strides():
    stored, weight, bias = numbers(4, 6, 8), numbers(8, seed=1), numbers(8, seed=2)
    x = stored.transpose(0, 1)
    gradient = numbers(8, 4, 6, seed=3).detach().permute(2, 1, 0)  # (6, 4, 8), none of its strides in order
    check(fused_norm, plain_norm, (x, weight, bias), gradient, 1e-14)
    columns_first = numbers(6, 8, 4).transpose(1, 2)
    check(fused_norm, plain_norm, (columns_first, weight, bias), gradient, 1e-14)
    product = numbers(6, 4, 8).transpose(0, 1)
    plain = lambda product, bias: functional.gelu(product + bias)  # noqa: E731
    check(kernels.bias_gelu, plain, (product, numbers(4, 1, 8)), gradient.transpose(0, 1), 1e-14)


def test_gradients_equal_finite_differences():
    x, weight, bias = numbers(2, 3, 6), numbers(6, seed=1), numbers(6, seed=2)
    assert torch.autograd.gradcheck(fused_norm, (x, weight, bias), fast_mode=True)
    inputs = numbers(2, 3, 5), numbers(2, 1, 5, seed=1)
    assert torch.autograd.gradcheck(kernels.bias_gelu, inputs, fast_mode=True)


def test_an_empty_batch_gives_an_empty_result_and_zero_gradients_of_weights():
    for function, shapes in (
        (fused_norm, ((0, 4, 8), (8,), (8,))),
        (kernels.bias_gelu, ((4, 0, 8), (4, 1, 8))),
    ):
        inputs = [numbers(*shape) for shape in shapes]
        output, x_gradient, *weight_gradients = with_gradients(function, inputs, torch.zeros(shapes[0]))
        assert output.shape == x_gradient.shape == shapes[0]
        assert all(not gradient.any() for gradient in weight_gradients)


def test_a_width_that_tokens_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="width 8 is not divisible by the 3 tokens"):
        fused_norm(numbers(2, 3, 8), numbers(8), numbers(8))


def test_pytorch_finds_no_fault_with_the_operators():
    x, weight, bias = numbers(2, 3, 6), numbers(6, seed=1), numbers(6, seed=2)
    library.opcheck(kernels._mix_add_norm, (x, weight, bias, EPS, torch.float64))
    library.opcheck(kernels._bias_gelu, (numbers(2, 3, 5), numbers(2, 1, 5, seed=1)))
