"""The Triton kernels against the plain equations in float64; on the CPU through Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import library
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from rankmixer.mixing import mix_tokens
from rankmixer.model import Block, RankMixer
from tests.baselines.scrambled import random_tokens, scrambled

pytest.importorskip(
    "triton", reason="SKIPPED: triton is not installed; pip install -c requirements/lock.txt triton"
)
from rankmixer.kernels import triton_kernels as kernels

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
ROOT = Path(__file__).resolve().parents[3]
# A unit roundoff of each dtype, a few times: results are rounded once, sums are float32's or better.
TOLERANCE = {torch.float64: 1e-14, torch.float32: 1e-6, torch.bfloat16: 8e-3, torch.float16: 1e-3}
dtypes = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
EPS = 1e-5


def numbers(*shape, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(DEVICE, dtype).requires_grad_()


def distance(a, b):
    return ((a.double() - b).norm() / b.norm()).item()


def with_gradients(function, inputs, gradient):
    output = function(*inputs)
    return output.detach(), *torch.autograd.grad(output, inputs, gradient.to(output.dtype))


def check(ours, reference, inputs, gradient, tolerance):
    """Output and all gradients of ``ours`` lie as near the ``reference`` in float64 as the dtype allows."""
    exact = [x.detach().double().requires_grad_() for x in inputs]
    expected = with_gradients(reference, exact, gradient.double())
    for got, want in zip(with_gradients(ours, inputs, gradient), expected, strict=True):
        assert got.shape == want.shape
        assert distance(got, want) < tolerance


def plain_norm(x, weight, bias):
    return functional.layer_norm(mix_tokens(x) + x, x.shape[2:], weight, bias, EPS)


def fused_norm(x, weight, bias):
    return kernels.mix_add_norm(x, weight, bias, EPS, x.dtype)


@dtypes
@pytest.mark.parametrize(
    ("rows", "num_tokens", "model_dim"),
    [(1, 4, 8), (7, 3, 15), (5, 16, 64), (2, 5, 40), (3, 1, 6), (2, 6, 6), (2, 12, 780)],
)
def test_mixing_residual_and_norm_equal_the_plain_equations_forward_and_backward(
    rows, num_tokens, model_dim, dtype
):
    inputs = [
        numbers(*shape, dtype=dtype) for shape in ((rows, num_tokens, model_dim), (model_dim,), (model_dim,))
    ]
    gradient = numbers(rows, num_tokens, model_dim, dtype=dtype, seed=1).detach()
    check(fused_norm, plain_norm, inputs, gradient, TOLERANCE[dtype])


@dtypes
@pytest.mark.parametrize(("num_tokens", "rows", "width"), [(4, 1, 8), (3, 7, 300), (1, 33, 5), (2, 70, 257)])
def test_bias_and_gelu_equal_the_plain_equations_forward_and_backward(num_tokens, rows, width, dtype):
    inputs = numbers(num_tokens, rows, width, dtype=dtype), numbers(num_tokens, 1, width, dtype=dtype, seed=1)
    gradient = numbers(num_tokens, rows, width, dtype=dtype, seed=2).detach()
    plain = lambda product, bias: functional.gelu(product + bias)  # noqa: E731
    check(kernels.bias_gelu, plain, inputs, gradient, TOLERANCE[dtype])


def test_rows_shared_among_programs_add_up_to_the_gradients_of_weights(monkeypatch):
    monkeypatch.setattr(kernels, "MOST_PARTS", 3)  # 7 rows: parts of 3, 3 and 1
    inputs = [numbers(*shape) for shape in ((7, 4, 8), (8,), (8,))]
    check(fused_norm, plain_norm, inputs, numbers(7, 4, 8, seed=1).detach(), 1e-14)


def test_tokens_and_gradients_may_lie_in_memory_in_any_order():
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
    assert torch.autograd.gradcheck(fused_norm, (x, weight, bias))
    assert torch.autograd.gradcheck(kernels.bias_gelu, (numbers(2, 3, 5), numbers(2, 1, 5, seed=1)))


def test_no_rows_give_no_rows_and_zero_gradients_of_weights():
    for function, shapes in (
        (fused_norm, ((0, 4, 8), (8,), (8,))),
        (kernels.bias_gelu, ((4, 0, 8), (4, 1, 8))),
    ):
        inputs = [numbers(*shape) for shape in shapes]
        output, of_x, *of_weights = with_gradients(function, inputs, torch.zeros(shapes[0]))
        assert output.shape == of_x.shape == shapes[0]
        assert all(not gradient.any() for gradient in of_weights)


def test_a_width_that_tokens_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="width 8 is not divisible by the 3 tokens"):
        fused_norm(numbers(2, 3, 8), numbers(8), numbers(8))


@pytest.mark.parametrize(("num_tokens", "model_dim"), [(4, 8), (3, 15)])
def test_a_block_of_kernels_equals_the_plain_block_with_all_gradients(num_tokens, model_dim):
    config = RankMixer.Config(model_dim=model_dim, ffn_dim=model_dim + 3)
    block = scrambled(Block(num_tokens, config)).to(DEVICE)
    x = random_tokens(6, num_tokens, model_dim).to(DEVICE).requires_grad_()
    wanted = [x, *block.parameters()]
    outputs = block.plain(x)[0], kernels.block_of_kernels(block, x)
    gradient = torch.randn_like(x)
    expected, got = ([output, *torch.autograd.grad(output, wanted, gradient)] for output in outputs)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_the_block_compiles_to_one_graph_and_costs_the_same_flops():
    torch.compiler.reset()
    block = scrambled(Block(4, RankMixer.Config(model_dim=8, ffn_dim=10))).to(DEVICE)
    x = random_tokens(6, 4, 8).to(DEVICE)
    compiled = torch.compile(
        lambda x: kernels.block_of_kernels(block, x), backend="aot_eager", fullgraph=True
    )
    torch.testing.assert_close(compiled(x), block.plain(x)[0])
    block, x = block.to("meta"), x.to("meta")
    counts = []
    for run in (block.plain, lambda x: kernels.block_of_kernels(block, x)):
        with FlopCounterMode(display=False) as counter:
            run(x)
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0


def test_operators_keep_the_rules_that_compilation_relies_on():
    x, weight, bias = numbers(2, 3, 6), numbers(6, seed=1), numbers(6, seed=2)
    library.opcheck(kernels._mix_add_norm, (x, weight, bias, EPS, torch.float64))
    library.opcheck(kernels._bias_gelu, (numbers(2, 3, 5), numbers(2, 1, 5, seed=1)))


COMPILE = """
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from rankmixer.kernels import triton_kernels as kernels

IN, SUMS = {pointer!r}, "*fp32"
POWER = triton.next_power_of_2
shape = dict(T=16, D={width}, W={width} // 16, ACC=tl.float32)
tiles = shape | dict(COLUMNS=POWER({width}), ROWS=2)
slices = shape | dict(TOKENS=16, SLICE=POWER({width} // 16))
for name, constants in (
    ("_forward_kernel", tiles), ("_row_sums_kernel", tiles), ("_backward_kernel", slices),
    ("_bias_gelu_kernel", dict(ROWS=8, COLUMNS=256, ACC=tl.float32)),
    ("_bias_gelu_backward_kernel", dict(ROWS=8, COLUMNS=256, ACC=tl.float32)),
):
    kernel = getattr(kernels, name)
    types = dict.fromkeys("x weight bias y gradient x_gradient product product_gradient".split(), IN)
    types |= dict.fromkeys("batch_stride token_stride rows batch part M".split(), "i32") | {{"eps": "fp32"}}
    signature = {{n: "constexpr" if n in constants else types.get(n, SUMS) for n in kernel.arg_names}}
    places = {{(kernel.arg_names.index(n),): value for n, value in constants.items()}}
    compiled = triton.compile(ASTSource(kernel, signature, places), target=GPUTarget("cuda", 90, 32))
    print(name, len(compiled.asm["cubin"]) > 0)
"""


@pytest.mark.parametrize(("width", "pointer"), [(64, "*fp32"), (768, "*bf16")])
def test_every_kernel_compiles_for_a_hopper_gpu(width, pointer, tmp_path):
    """The interpreter knows no types; the compiler does, and needs no GPU."""
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    script = tmp_path / "compile_kernels.py"
    script.write_text(COMPILE.format(width=width, pointer=pointer))
    done = subprocess.run(
        [sys.executable, script],
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split()[1::2] == ["True"] * 5
