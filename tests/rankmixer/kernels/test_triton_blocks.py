"""Both blocks made of Triton kernels against the plain block, and when one of them is chosen."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from rankmixer.kernels import fast
from rankmixer.model import Block, RankMixer
from tests.baselines.scrambled import random_tokens, scrambled
from tests.rankmixer.kernels.against_float64 import DEVICE, WITHOUT_TRITON

pytest.importorskip("triton", reason=WITHOUT_TRITON)
from rankmixer.kernels.fused_gemm import block_of_fused_gemm
from rankmixer.kernels.triton_kernels import block_of_kernels

each_block = pytest.mark.parametrize("run_block", [block_of_kernels, block_of_fused_gemm])


def random_block(num_tokens: int, model_dim: int, ffn_dim: int) -> Block:
    return scrambled(Block(num_tokens, RankMixer.Config(model_dim=model_dim, ffn_dim=ffn_dim))).to(DEVICE)


@each_block
@pytest.mark.parametrize(("num_tokens", "model_dim"), [(4, 8), (3, 15)])
def test_a_block_of_kernels_equals_the_plain_block_with_all_gradients(num_tokens, model_dim, run_block):
    block = random_block(num_tokens, model_dim, model_dim + 3)
    x = random_tokens(6, num_tokens, model_dim).to(DEVICE).requires_grad_()
    inputs = [x, *block.parameters()]
    outputs = block.plain(x)[0], run_block(block, x)
    gradient = torch.randn_like(x)
    expected, got = ([output, *torch.autograd.grad(output, inputs, gradient)] for output in outputs)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)


@each_block
def test_a_block_of_kernels_compiles_to_one_graph(run_block):
    torch.compiler.reset()
    block, x = random_block(4, 8, 10), random_tokens(6, 4, 8).to(DEVICE)
    compiled = torch.compile(lambda x: run_block(block, x), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), block.plain(x)[0])


@each_block
def test_a_block_of_kernels_costs_the_flops_of_the_plain_block(run_block):
    block, x = random_block(4, 8, 10).to("meta"), random_tokens(6, 4, 8).to("meta").requires_grad_()
    counts = []
    for run in (lambda block, x: block.plain(x)[0], run_block):
        with FlopCounterMode(display=False) as counter:
            run(block, x).sum().backward()
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] == 3 * 4 * 6 * 4 * 8 * 10


def test_the_fused_gemm_is_chosen_on_a_gpu_if_the_environment_asks_for_triton(monkeypatch):
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
