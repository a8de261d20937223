"""Sparse evaluation of experts against loops over rows, tokens and experts in float64, and its FLOPs."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from baselines.layers import PerTokenLinear
from rankmixer.kernels import grouped
from rankmixer.kernels.grouped import grouped_experts, grouped_ffn, grouped_swiglu
from tests.threads import threads_at_work


@pytest.fixture(params=["group by group", "in one batch"])
def way(request, monkeypatch):
    """Both ways of computing groups; without this a CPU always uses the first."""
    monkeypatch.setattr(grouped, "_is_launch_bound", lambda device: request.param == "in one batch")
    return request.param


@pytest.fixture(params=[1, 3])
def threads(request):
    with threads_at_work(request.param):
        yield request.param


def layers(num_tokens: int, dim: int, hidden: int) -> tuple[PerTokenLinear, PerTokenLinear]:
    return PerTokenLinear(num_tokens, dim, hidden), PerTokenLinear(num_tokens, hidden, dim)


def random_case(batch: int, num_tokens: int, dim: int, num_experts: int, width: int, share: float, seed=0):
    """Tokens, gates of which about ``share`` are open, and the FFN's two layers, in float64."""
    torch.manual_seed(seed)
    s = torch.randn(batch, num_tokens, dim, dtype=torch.float64)
    shape = batch, num_tokens, num_experts
    gates = (torch.rand(shape) + 0.2).double() * (torch.rand(shape) < share)
    up, down = layers(num_tokens, dim, num_experts * width)
    return s, gates, up.double(), down.double()


def loop(s: Tensor, gates: Tensor, value: Callable, start: Tensor | None = None) -> Tensor:
    """Rows, tokens and experts one by one: ``value(x, gate, token, expert)`` where the gate is not zero."""
    rows = []
    for b in range(s.shape[0]):
        for t in range(s.shape[1]):
            total = torch.zeros(s.shape[2], dtype=torch.float64) if start is None else start[t, 0].clone()
            for e in range(gates.shape[2]):
                if gates[b, t, e] != 0:
                    total += value(s[b, t], gates[b, t, e], t, e)
            rows.append(total)
    return torch.stack(rows).view(s.shape) if rows else s.clone()


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def ffn_loop(s: Tensor, gates: Tensor, up: PerTokenLinear, down: PerTokenLinear, gate_on: str) -> Tensor:
    width = up.weight.shape[2] // gates.shape[2]

    def value(x, gate, t, e):
        own = slice(e * width, (e + 1) * width)
        projected, bias = x @ up.weight[t, :, own], up.bias[t, 0, own]
        if gate_on == "input":
            return gelu(gate * projected + bias) @ down.weight[t, own]
        return gate * (gelu(projected + bias) @ down.weight[t, own])

    with torch.no_grad():
        return loop(s, gates, value, down.bias)


@pytest.mark.parametrize("gate_on", ["output", "input"])
def test_the_ffn_equals_a_loop_over_rows_tokens_and_experts(way, threads, gate_on):
    s, gates, up, down = random_case(batch=9, num_tokens=4, dim=6, num_experts=3, width=5, share=0.4)
    expected = ffn_loop(s, gates, up, down, gate_on)
    torch.testing.assert_close(grouped_ffn(s, gates, up, down, gate_on), expected, atol=1e-12, rtol=0)


def test_gating_the_input_and_gating_the_output_differ():
    s, gates, up, down = random_case(batch=9, num_tokens=4, dim=6, num_experts=3, width=5, share=0.4)
    on_output, on_input = (grouped_ffn(s, gates, up, down, where) for where in ("output", "input"))
    assert not torch.allclose(on_output, on_input, atol=1e-3)


def test_swiglu_experts_equal_a_loop_over_rows_tokens_and_experts(way, threads):
    s, gates, gate_layer, down = random_case(9, 4, 6, 3, 5, share=0.4)
    gate_weight, up_weight = gate_layer.weight, torch.randn_like(gate_layer.weight)

    def value(x, gate, t, e):
        own = slice(e * 5, (e + 1) * 5)
        z = x @ gate_weight[t, :, own]
        return gate * (z / (1 + torch.exp(-z)) * (x @ up_weight[t, :, own])) @ down.weight[t, own]

    with torch.no_grad():
        expected = loop(s, gates, value)
    result = grouped_swiglu(s, gates, gate_weight, up_weight, down.weight)
    torch.testing.assert_close(result, expected, atol=1e-12, rtol=0)


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(0, 7),
    num_tokens=st.integers(1, 4),
    dim=st.integers(1, 5),
    num_experts=st.integers(1, 4),
    width=st.integers(1, 3),
    share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    gate_on=st.sampled_from(["output", "input"]),
    batched=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_shape_and_any_gates_equal_the_loop(
    batch, num_tokens, dim, num_experts, width, share, gate_on, batched, seed
):
    case = random_case(batch, num_tokens, dim, num_experts, width, share, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grouped, "_is_launch_bound", lambda device: batched)
        result = grouped_ffn(*case, gate_on)
    torch.testing.assert_close(result, ffn_loop(*case, gate_on), atol=1e-12, rtol=0)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-5), (torch.bfloat16, 5e-2)])
def test_it_equals_the_dense_ffn_with_the_same_gates(way, dtype, atol):
    s, gates, up, down = random_case(batch=300, num_tokens=4, dim=16, num_experts=4, width=8, share=0.3)
    with torch.no_grad():
        hidden = functional.gelu(up(s)) * gates.repeat_interleave(8, dim=2)
        expected = down(hidden)
    # fp32 gates, as a router gives them, whatever the tokens' dtype
    result = grouped_ffn(s.to(dtype), gates.float(), up.to(dtype), down.to(dtype))
    assert result.dtype == dtype
    torch.testing.assert_close(result.double(), expected, atol=atol, rtol=0)


def test_under_autocast_it_computes_in_the_dtype_of_autocast(way, threads):
    s, gates, up, down = random_case(batch=20, num_tokens=4, dim=16, num_experts=4, width=8, share=0.3)
    s, up, down = s.float(), up.float(), down.float()
    expected = grouped_ffn(s, gates, up, down)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = grouped_ffn(s, gates, up, down)
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), expected, atol=5e-2, rtol=0)


def test_the_layout_of_the_tokens_does_not_matter(way):
    s, gates, up, down = random_case(batch=9, num_tokens=4, dim=6, num_experts=3, width=5, share=0.4)
    expected = ffn_loop(s, gates, up, down, "output")
    tokens_first = s.transpose(0, 1).contiguous().transpose(0, 1)
    every_second = torch.stack([s, -s], dim=3).flatten(2)[..., ::2]
    for laid_out in (tokens_first, every_second):
        assert not laid_out.is_contiguous()
        torch.testing.assert_close(grouped_ffn(laid_out, gates, up, down), expected, atol=1e-12, rtol=0)


def test_all_rows_on_one_expert_and_a_single_row_equal_the_loop(way, threads):
    s, _, up, down = random_case(batch=50, num_tokens=3, dim=6, num_experts=4, width=5, share=0)
    one_sided = torch.zeros(50, 3, 4, dtype=torch.float64)
    one_sided[:, :, 2] = 1.5
    one_sided[7, 1, 0] = 0.5
    for rows in (slice(None), slice(7, 8)):
        result = grouped_ffn(s[rows], one_sided[rows], up, down)
        expected = ffn_loop(s[rows], one_sided[rows], up, down, "output")
        torch.testing.assert_close(result, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("gate_on", ["output", "input"])
def test_with_all_gates_zero_the_output_is_the_bias_without_any_flop(way, threads, gate_on):
    s, gates, up, down = random_case(batch=9, num_tokens=4, dim=6, num_experts=3, width=5, share=0)
    with FlopCounterMode(display=False) as counter:
        result = grouped_ffn(s, gates, up, down, gate_on)
    assert counter.get_total_flops() == 0
    torch.testing.assert_close(result, down.bias.detach().transpose(0, 1).expand(9, 4, 6), atol=0, rtol=0)


@pytest.mark.parametrize("share", [0.05, 0.3, 1.0])
def test_flops_count_only_open_gates(threads, share):
    dim, width = 6, 5
    s, gates, up, down = random_case(40, 4, dim, 3, width, share)
    open_gates = int((gates != 0).sum())
    assert open_gates > 0
    with FlopCounterMode(display=False) as counter:
        grouped_ffn(s, gates, up, down)
    assert counter.get_total_flops() == 4 * dim * width * open_gates
    with FlopCounterMode(display=False) as counter:
        grouped_swiglu(s, gates, up.weight, up.weight, down.weight)
    assert counter.get_total_flops() == 6 * dim * width * open_gates


def test_inputs_are_not_changed_and_the_result_has_no_gradient(way, threads):
    for batch in (1, 9):
        s, gates, up, down = random_case(batch, num_tokens=4, dim=6, num_experts=3, width=5, share=0.4)
        given_tensors = [s.requires_grad_(), gates, up.weight, up.bias, down.weight, down.bias]
        before = [tensor.detach().clone() for tensor in given_tensors]
        assert not grouped_ffn(s, gates, up, down).requires_grad
        for tensor, old in zip(given_tensors, before, strict=True):
            torch.testing.assert_close(tensor.detach(), old, atol=0, rtol=0)


def test_it_runs_in_inference_mode(way, threads):
    case = random_case(batch=9, num_tokens=4, dim=6, num_experts=3, width=5, share=0.4)
    with torch.inference_mode():
        result = grouped_ffn(*case)
    torch.testing.assert_close(result.clone(), ffn_loop(*case, "output"), atol=1e-12, rtol=0)


def test_the_caller_and_later_threads_keep_their_number_of_threads(threads):
    from concurrent.futures import ThreadPoolExecutor

    case = random_case(batch=9, num_tokens=4, dim=6, num_experts=3, width=5, share=0.4)
    grouped_ffn(*case)
    with ThreadPoolExecutor(1) as pool:
        later = pool.submit(torch.get_num_threads).result()
    assert (torch.get_num_threads(), later) == (threads, threads)


def test_an_error_in_an_expert_is_raised_and_the_caller_keeps_its_threads(threads):
    def broken(x, gate):
        raise RuntimeError("broken expert")

    s, gates, _, _ = random_case(batch=9, num_tokens=4, dim=6, num_experts=3, width=5, share=1)
    with pytest.raises(RuntimeError, match="broken expert"):
        grouped_experts(broken, s, gates, down=torch.ones(4, 3, 6, 6))
    assert torch.get_num_threads() == threads


def test_a_custom_expert_receives_its_rows_and_its_weights(way, threads):
    s, gates, _, _ = random_case(batch=9, num_tokens=4, dim=6, num_experts=3, width=5, share=0.4)
    scale = torch.arange(1.0, 13.0, dtype=torch.float64).view(4, 3, 1, 1)
    down = torch.eye(6, dtype=torch.float64).expand(4, 3, 6, 6)
    result = grouped_experts(lambda x, gate, scale: gate * scale * x, s, gates, scale, down=down)
    torch.testing.assert_close(result, s * (gates * scale.view(4, 3)).sum(2, keepdim=True))


def test_gates_that_do_not_fit_the_tokens_are_refused_with_both_shapes():
    s, gates, up, down = random_case(batch=9, num_tokens=4, dim=6, num_experts=3, width=5, share=0.4)
    with pytest.raises(ValueError, match=r"\(9, 3, 3\).*\(9, 4, 6\)"):
        grouped_ffn(s, gates[:, :3], up, down)


def test_experts_that_do_not_divide_the_hidden_width_are_refused_with_advice():
    s, gates, _, _ = random_case(batch=9, num_tokens=4, dim=6, num_experts=3, width=5, share=0.4)
    with pytest.raises(ValueError, match=r"hidden width 16 .* 3 experts; set it to 15 or 18"):
        grouped_ffn(s, gates, *layers(4, 6, 16))
