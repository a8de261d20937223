"""Helpers for the tests of Triton kernels: random numbers, and comparison with equations in float64.

Without a GPU the kernels run on the CPU in Triton's interpreter, which TRITON_INTERPRET=1 switches on.
"""

from __future__ import annotations

import os

import pytest
import torch

WITHOUT_TRITON = "SKIPPED: triton is not installed; pip install -c requirements/lock.txt triton"
DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"


def numbers(*shape, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(DEVICE, dtype).requires_grad_()


def distance(a, b):
    return ((a.double() - b).norm() / b.norm()).item()


def with_gradients(function, inputs, gradient):
    output = function(*inputs)
    return output.detach(), *torch.autograd.grad(output, inputs, gradient.to(output.dtype))


def check(ours, reference, inputs, gradient, tolerance):
    """Output and gradients of ``ours`` are as close to ``reference`` in float64 as ``tolerance`` says."""
    exact = [x.detach().double().requires_grad_() for x in inputs]
    expected = with_gradients(reference, exact, gradient.double())
    for got, want in zip(with_gradients(ours, inputs, gradient), expected, strict=True):
        assert got.shape == want.shape
        assert distance(got, want) < tolerance


def every_shape_and_every_dtype(names, shapes, dtypes, rounded_shapes):
    """Parametrize over all shapes in float64, and over all other dtypes at a few shapes.

    Shapes decide on masks and tiles, and a dtype on how numbers are rounded, so not every pair is needed.
    """
    pairs = [(*shape, torch.float64) for shape in shapes]
    others = [dtype for dtype in dtypes if dtype != torch.float64]
    pairs += [(*shape, dtype) for shape in rounded_shapes for dtype in others]
    return pytest.mark.parametrize((*names, "dtype"), pairs, ids=str)
