"""The GEMM that ends in bias and GELU, against the plain equations in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import library
from torch.nn import functional

from tests.rankmixer.kernels.against_float64 import (
    DEVICE,
    WITHOUT_TRITON,
    check,
    distance,
    every_shape_and_every_dtype,
    numbers,
    with_gradients,
)

pytest.importorskip("triton", reason=WITHOUT_TRITON)
import triton.language as tl
from triton.runtime import interpreter

from rankmixer.kernels import fused_gemm
from rankmixer.kernels.fused_gemm import linear_gelu

# Each sum of K products is rounded when it is written: the product, the result, and the gradients, which are
# products of those.
TOLERANCE = {torch.float64: 1e-13, torch.float32: 3e-6, torch.bfloat16: 3e-2, torch.float16: 2e-3}


@pytest.fixture(autouse=True)
def _products_of_bfloat16(monkeypatch):
    """Triton's interpreter multiplies the bit patterns of bfloat16; make it multiply the numbers."""
    if DEVICE == "cuda":
        return
    builder = interpreter.InterpreterBuilder
    create_dot = builder.create_dot

    def widened(handle):
        if handle.dtype.scalar != tl.bfloat16:
            return handle
        wide = (handle.data.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        return interpreter.TensorHandle(wide, tl.float32)

    monkeypatch.setattr(
        builder, "create_dot", lambda self, a, b, *rest: create_dot(self, widened(a), widened(b), *rest)
    )


def plain(x, weight, bias):
    return functional.gelu(torch.baddbmm(bias, x, weight))


def random_inputs(num_tokens, rows, depth, width, dtype=torch.float64):
    shapes = (num_tokens, rows, depth), (num_tokens, depth, width), (num_tokens, 1, width)
    return [numbers(*shape, dtype=dtype, seed=seed) for seed, shape in enumerate(shapes)]


@every_shape_and_every_dtype(
    ("num_tokens", "rows", "depth", "width"),
    [(2, 16, 32, 16), (3, 7, 5, 9), (1, 130, 70, 65), (2, 1, 1, 300), (1, 300, 17, 1)],
    TOLERANCE,
    rounded_shapes=[(3, 7, 5, 9), (1, 130, 70, 65)],
)
def test_product_bias_and_gelu_equal_the_plain_equations_forward_and_backward(
    num_tokens, rows, depth, width, dtype
):
    inputs = random_inputs(num_tokens, rows, depth, width, dtype)
    gradient = numbers(num_tokens, rows, width, dtype=dtype, seed=3).detach()
    check(linear_gelu, plain, inputs, gradient, TOLERANCE[dtype])


def test_every_tile_is_computed_once_when_rows_fill_several_groups(monkeypatch):
    monkeypatch.setattr(fused_gemm, "GROUP", 2)  # 5 tiles of rows in groups of 2, 2 and 1, 3 of columns
    inputs = random_inputs(1, 4 * 64 + 3, 4, 2 * 64 + 1)
    check(linear_gelu, plain, inputs, numbers(1, 259, 129, seed=3).detach(), 1e-13)


def test_tokens_weights_and_gradients_may_have_any_strides():
    x, weight = numbers(7, 3, 5).transpose(0, 1), numbers(3, 9, 5, seed=1).transpose(1, 2)
    bias = numbers(9, 3, 1, seed=2).permute(1, 2, 0)
    gradient = numbers(9, 7, 3, seed=3).detach().permute(2, 1, 0)
    check(linear_gelu, plain, (x, weight, bias), gradient, 1e-13)


def test_gradients_equal_finite_differences():
    assert torch.autograd.gradcheck(linear_gelu, random_inputs(2, 1, 2, 2))


def test_the_product_is_stored_only_for_gradients():
    x, weight, bias = random_inputs(2, 3, 4, 5)
    with torch.no_grad():
        y, product = fused_gemm._linear_gelu(x, weight, bias, False)
        torch.testing.assert_close(y, plain(x, weight, bias))
        assert product.numel() == 0
        torch.testing.assert_close(fused_gemm._linear_gelu(x, weight, bias, True)[1], torch.bmm(x, weight))
    taken = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: taken.append(tuple(t.shape)) or t, lambda t: t):
        linear_gelu(x.detach(), weight, bias)
        assert taken.count((2, 3, 5)) == 1
        taken.clear()
        linear_gelu(x.detach(), weight.detach(), bias.detach())
        assert not taken


@pytest.mark.parametrize("shape", [(3, 0, 4, 5), (3, 2, 0, 5)])
def test_an_empty_batch_gives_an_empty_result_and_zero_width_gives_the_activated_bias(shape):
    inputs = random_inputs(*shape)
    gradient = torch.ones(shape[0], shape[1], shape[3], dtype=torch.float64)
    for got, expected in zip(
        *(with_gradients(f, inputs, gradient) for f in (linear_gelu, plain)), strict=True
    ):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("stores_product", [True, False])
def test_pytorch_finds_no_fault_with_the_operator(stores_product):
    inputs = random_inputs(2, 3, 4, 5)
    if not stores_product:
        inputs = [x.detach() for x in inputs]
    library.opcheck(fused_gemm._linear_gelu, (*inputs, stores_product))


def test_under_autocast_products_are_bfloat16_and_gradients_those_of_the_weights_dtype():
    inputs = random_inputs(2, 5, 8, 12, torch.float32)
    gradient = numbers(2, 5, 12, dtype=torch.bfloat16, seed=3).detach()
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        output = linear_gelu(*inputs)
    assert output.dtype == torch.bfloat16
    gradients = torch.autograd.grad(output, inputs, gradient)
    exact = [x.detach().double().requires_grad_() for x in inputs]
    expected = torch.autograd.grad(plain(*exact), exact, gradient.double())
    for got, want in zip(gradients, expected, strict=True):
        assert got.dtype == torch.float32
        assert distance(got, want) < TOLERANCE[torch.bfloat16]
