"""The GEMM with bias and GELU in its epilogue, against the plain equations in float64; see test_kernels."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import library
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from rankmixer.model import Block, RankMixer
from tests.baselines.scrambled import random_tokens, scrambled
from tests.rankmixer.kernels.test_triton_kernels import DEVICE, ROOT, check, dtypes, numbers, with_gradients

pytest.importorskip(
    "triton", reason="SKIPPED: triton is not installed; pip install -c requirements/lock.txt triton"
)
import triton.language as tl
from triton.runtime import interpreter

from rankmixer.kernels import fast, fused_gemm
from rankmixer.kernels.fused_gemm import block_of_fused_gemm, linear_gelu

# Sums of K products of a dtype's numbers, rounded where they are written: the product, the result and,
# behind them, gradients that are products again.
TOLERANCE = {torch.float64: 1e-13, torch.float32: 3e-6, torch.bfloat16: 3e-2, torch.float16: 2e-3}


@pytest.fixture(autouse=True)
def _products_of_bfloat16(monkeypatch):
    """Triton's interpreter multiplies the bit patterns of bfloat16; here it multiplies the numbers."""
    if DEVICE == "cuda":
        return
    builder = interpreter.InterpreterBuilder
    create_dot = builder.create_dot

    def numbers_of(handle):
        if handle.dtype.scalar != tl.bfloat16:
            return handle
        wide = (handle.data.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        return interpreter.TensorHandle(wide, tl.float32)

    monkeypatch.setattr(
        builder, "create_dot", lambda self, a, b, *rest: create_dot(self, numbers_of(a), numbers_of(b), *rest)
    )


def plain(x, weight, bias):
    return functional.gelu(torch.baddbmm(bias, x, weight))


def inputs_of(num_tokens, rows, depth, width, dtype=torch.float64):
    shapes = (num_tokens, rows, depth), (num_tokens, depth, width), (num_tokens, 1, width)
    return [numbers(*shape, dtype=dtype, seed=seed) for seed, shape in enumerate(shapes)]


@dtypes
@pytest.mark.parametrize(
    ("num_tokens", "rows", "depth", "width"),
    [(2, 16, 32, 16), (3, 7, 5, 9), (1, 130, 70, 65), (2, 1, 1, 300), (1, 300, 17, 1)],
)
def test_product_bias_and_gelu_equal_the_plain_equations_forward_and_backward(
    num_tokens, rows, depth, width, dtype
):
    inputs = inputs_of(num_tokens, rows, depth, width, dtype)
    gradient = numbers(num_tokens, rows, width, dtype=dtype, seed=3).detach()
    check(linear_gelu, plain, inputs, gradient, TOLERANCE[dtype])


def test_more_tiles_of_rows_than_a_group_are_each_made_once(monkeypatch):
    monkeypatch.setattr(fused_gemm, "GROUP", 2)  # 5 tiles of rows in groups of 2, 2 and 1, 3 of columns
    inputs = inputs_of(1, 4 * 64 + 3, 4, 2 * 64 + 1)
    check(linear_gelu, plain, inputs, numbers(1, 259, 129, seed=3).detach(), 1e-13)


def test_tokens_weights_and_gradients_may_lie_in_memory_in_any_order():
    x, weight = numbers(7, 3, 5).transpose(0, 1), numbers(3, 9, 5, seed=1).transpose(1, 2)
    bias = numbers(9, 3, 1, seed=2).permute(1, 2, 0)
    gradient = numbers(9, 7, 3, seed=3).detach().permute(2, 1, 0)
    check(linear_gelu, plain, (x, weight, bias), gradient, 1e-13)


def test_gradients_equal_finite_differences():
    assert torch.autograd.gradcheck(linear_gelu, inputs_of(2, 1, 2, 2))


def test_the_product_is_kept_for_gradients_alone():
    x, weight, bias = inputs_of(2, 3, 4, 5)
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
def test_no_rows_give_no_rows_and_no_depth_gives_the_bias(shape):
    inputs = inputs_of(*shape)
    gradient = torch.ones(shape[0], shape[1], shape[3], dtype=torch.float64)
    for got, expected in zip(
        *(with_gradients(f, inputs, gradient) for f in (linear_gelu, plain)), strict=True
    ):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize(("num_tokens", "model_dim"), [(4, 8), (3, 15)])
def test_a_block_equals_the_plain_block_with_all_gradients(num_tokens, model_dim):
    block = scrambled(Block(num_tokens, RankMixer.Config(model_dim=model_dim, ffn_dim=model_dim + 3))).to(
        DEVICE
    )
    x = random_tokens(6, num_tokens, model_dim).to(DEVICE).requires_grad_()
    wanted = [x, *block.parameters()]
    outputs = block.plain(x)[0], block_of_fused_gemm(block, x)
    gradient = torch.randn_like(x)
    expected, got = ([output, *torch.autograd.grad(output, wanted, gradient)] for output in outputs)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_the_block_compiles_to_one_graph_and_costs_the_same_flops():
    torch.compiler.reset()
    block = scrambled(Block(4, RankMixer.Config(model_dim=8, ffn_dim=10))).to(DEVICE)
    x = random_tokens(6, 4, 8).to(DEVICE)
    compiled = torch.compile(lambda x: block_of_fused_gemm(block, x), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), block.plain(x)[0])
    block, x = block.to("meta"), x.to("meta").requires_grad_()
    counts = []
    for run in (lambda x: block.plain(x)[0], lambda x: block_of_fused_gemm(block, x)):
        with FlopCounterMode(display=False) as counter:
            run(x).sum().backward()
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] == 3 * 4 * 6 * 4 * 8 * 10


@pytest.mark.parametrize("keeps", [True, False])
def test_the_operator_keeps_the_rules_that_compilation_relies_on(keeps):
    inputs = inputs_of(2, 3, 4, 5)
    if not keeps:
        inputs = [x.detach() for x in inputs]
    library.opcheck(fused_gemm._linear_gelu, (*inputs, keeps))


def test_under_autocast_products_are_bfloat16_and_gradients_those_of_the_weights_dtype():
    inputs = inputs_of(2, 5, 8, 12, torch.float32)
    gradient = numbers(2, 5, 12, dtype=torch.bfloat16, seed=3).detach()
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        output = linear_gelu(*inputs)
    assert output.dtype == torch.bfloat16
    gradients = torch.autograd.grad(output, inputs, gradient)
    exact = [x.detach().double().requires_grad_() for x in inputs]
    expected = torch.autograd.grad(plain(*exact), exact, gradient.double())
    for got, want in zip(gradients, expected, strict=True):
        assert got.dtype == torch.float32
        assert ((got - want).norm() / want.norm()).item() < TOLERANCE[torch.bfloat16]


def test_it_is_chosen_on_a_gpu_where_it_was_asked_for(monkeypatch):
    x = random_tokens(2, 4, 8)
    on_gpu = SimpleNamespace(
        is_cuda=True,
        device=torch.device("cuda"),
        shape=x.shape,
        stride=x.stride,
        is_floating_point=lambda: True,
    )
    for wanted, expected in ((True, block_of_fused_gemm), (False, None)):
        monkeypatch.setattr(fast, "WANTS_TRITON", wanted)
        assert fast.faster_block(on_gpu) is expected


COMPILE = """
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from rankmixer.kernels import fused_gemm

kernel = fused_gemm._linear_gelu_kernel
names = kernel.arg_names
sizes = fused_gemm._tile(torch.empty(0, dtype=torch.bfloat16))
options = {name: sizes.pop(name) for name in ("num_warps", "num_stages")}
constants = sizes | dict(GROUP=fused_gemm.GROUP, KEEPS=True, depth_stride=1, weight_column_stride=1)
kinds = dict.fromkeys("x weight bias y product".split(), "*bf16")
signature = {n: "constexpr" if n in constants else kinds.get(n, "i32") for n in names}
places = {(names.index(n),): value for n, value in constants.items()}
aligned = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(names) if n not in constants}
source = ASTSource(kernel, signature, places, aligned)
compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
print(compiled.metadata.shared, "wgmma.mma_async" in compiled.asm["ptx"], "ld.local" in compiled.asm["ptx"])
"""


def test_it_compiles_for_hoppers_tensor_cores_without_spilling(tmp_path):
    """Shared memory: what a block may have on the cards that have least (99 KiB, L40S)."""
    script = tmp_path / "compile_kernel.py"
    script.write_text(COMPILE)
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, script],
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    shared, on_tensor_cores, spills = done.stdout.split()
    assert int(shared) <= 99 * 1024
    assert (on_tensor_cores, spills) == ("True", "False")
