"""FLOPs and bytes counted by operator, against what can be counted by hand and by PyTorch's own counter."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from harness.speed.operators import operators, peak_memory
from harness.speed.roofline import Operator, count_operators, distinct_bytes, unfused_seconds

B, IN, OUT = 32, 64, 128


def on_meta(dtype=torch.float32):
    with torch.device("meta"):
        return nn.Linear(IN, OUT).to(dtype), torch.empty(B, IN, dtype=dtype, requires_grad=True)


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 4), (torch.bfloat16, 2)])
def test_a_linear_layer_reads_input_weights_and_bias_and_writes_its_output(dtype, size):
    layer, x = on_meta(dtype)
    (op,) = count_operators(lambda: layer(x))
    assert op.name == "addmm"
    assert op.flops == 2 * B * IN * OUT
    assert op.bytes == size * (B * IN + IN * OUT + OUT + B * OUT)


def test_views_are_no_operators_and_in_place_ones_touch_each_operand_once():
    x = torch.ones(B, IN)
    assert count_operators(lambda: x.t().reshape(IN, 4, 8).unsqueeze(0).expand(3, IN, 4, 8)) == []
    (op,) = count_operators(lambda: x.add_(1.0))
    assert op.bytes == x.nbytes


def test_an_expanded_tensor_has_the_bytes_of_what_it_repeats():
    assert distinct_bytes(torch.ones(1, 8).expand(100, 8)) == 32
    assert distinct_bytes(torch.ones(3, 8)) == 96
    assert distinct_bytes(torch.ones(0, 8)) == 0


def test_forward_and_backward_have_the_flops_that_pytorch_counts():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(IN, OUT), nn.GELU(), nn.Linear(OUT, 3))
        x = torch.empty(B, IN, requires_grad=True)

    def step():
        model(x).sum().backward()

    counted = count_operators(step)
    with FlopCounterMode(display=False) as counter:
        step()
    assert sum(op.flops for op in counted) == counter.get_total_flops()
    assert {"gelu", "gelu_backward"} <= {op.name for op in counted}


def test_each_operator_takes_the_longer_of_computing_and_moving():
    ops = [Operator("product", 1000, 10), Operator("sum", 0, 50)]
    assert unfused_seconds(ops, peak=100.0, bandwidth=10.0) == pytest.approx(10.0 + 5.0)


def test_the_most_memory_of_a_training_step_is_weights_gradients_moments_and_activations():
    model = nn.Linear(1024, 1024)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    x = torch.ones(2, 1024)

    def step():
        optimizer.zero_grad(set_to_none=True)
        model(x).sum().backward()
        optimizer.step()

    step()
    weights = sum(p.nbytes for p in model.parameters())
    most = peak_memory(step, model, optimizer, torch.device("cpu"))
    assert 4 * weights <= most <= 4.1 * weights
    optimizer.zero_grad(set_to_none=True)
    with torch.no_grad():
        assert weights <= peak_memory(lambda: model(x), model, None, torch.device("cpu")) <= 1.1 * weights


def test_time_goes_where_the_work_is():
    a = torch.randn(400, 400)
    for _ in range(5):  # another process may take the core inside any one operator
        found = operators(lambda: (a @ a).sum(), torch.device("cpu"), calls=2)
        if found[0]["operator"] == "aten::mm":
            break
    assert found[0]["operator"] == "aten::mm"
    assert found[0]["calls"] == 1
    assert sum(row["share"] for row in found) == pytest.approx(1.0, abs=0.2)
