"""Sparse models are timed as they answer: untrained, a ReLU opens another share of experts than is meant."""

from __future__ import annotations

import pytest
import torch

from files.errors import InputError
from harness.machine.peaks import Gemm
from harness.runs.run import build_model
from harness.speed import latency
from harness.speed.latency import time_p99
from harness.speed.models import Machine, profile_model, read_batches
from harness.speed.serving import ToServe, _measurements
from tests.harness.small_runs import ONE_PROCESS, small_spec
from tests.harness.speed.test_models import cost_of

CPU = torch.device("cpu")
BATCH, TOKENS, WIDTH, HIDDEN, LAYERS, EXPERTS = 64, 3, 24, 32, 2, 8


def sparse(prepared, **moe):
    spec = small_spec(prepared, architecture="rankmixer")
    config = {"num_layers": LAYERS, "model_dim": WIDTH, "ffn_dim": HIDDEN}
    return spec.model_copy(update={"config": config | {"moe": {"num_experts": EXPERTS} | moe}})


def open_share(spec, prepared, batches):
    """Counted from outside: which logits of the inference routers are above zero."""
    model = build_model(spec, prepared, ONE_PROCESS).eval()
    logits = []
    for name, module in model.named_modules():
        if name.endswith("inference_router"):
            module.register_forward_hook(lambda module, inputs, output: logits.append(output))
    with torch.no_grad():
        for batch in batches:
            model(batch)
    assert len(logits) == LAYERS * len(batches)
    return float(torch.stack(logits).gt(0).double().mean())


def flops_at(share, cost):
    """Of a sample; two products of each token in each layer are the experts'."""
    experts = LAYERS * 4 * TOKENS * WIDTH * HIDDEN
    return cost.flops_per_sample - (1 - share) * experts


@pytest.mark.parametrize("ratio", [0.125, 0.5])
def test_the_flops_of_relu_gates_are_of_the_experts_that_the_timed_calls_open(ratio, prepared):
    spec = sparse(prepared, active_ratio=ratio)
    cost, machine = cost_of(spec, prepared), Machine(Gemm(CPU, "fp32", size=64), bandwidth=1e10)
    batches = read_batches(spec, prepared, BATCH, CPU)
    shares = {"dense": open_share(spec, prepared, batches[:1]), "whole": open_share(spec, prepared, batches)}
    found = profile_model(spec, cost, prepared, machine, BATCH, rounds=1, round_seconds=0.001)
    inference = {record["part"]: record["flops"] for record in found if record["mode"] == "inference"}
    [measured] = _measurements([ToServe(spec, cost)], prepared, [BATCH], CPU)
    served = {measurement.part: measurement.flops for measurement in measured}
    for part, share in shares.items():
        assert abs(share - ratio) > 0.02
        expected = pytest.approx(BATCH * flops_at(share, cost), abs=BATCH)
        assert inference[part] == served[part] == expected


def test_those_of_top_k_gates_are_the_intended_ones(prepared):
    spec = sparse(prepared, active_ratio=0.25, routing="top_k")
    cost = cost_of(spec, prepared)
    [measured] = _measurements([ToServe(spec, cost)], prepared, [BATCH], CPU)
    assert {measurement.flops for measurement in measured} == {BATCH * cost.active_flops_per_sample}
    assert cost.active_flops_per_sample == flops_at(0.25, cost)


def test_relu_gates_cannot_be_matched_on_latency_and_top_k_gates_can(prepared, monkeypatch):
    monkeypatch.setattr(latency, "ROUNDS", 1)
    monkeypatch.setattr(latency, "CALLS_A_ROUND", 2)
    said = (
        r"rankmixer: cannot be matched on latency, as before training it opens \d\d% of its experts and not "
    )
    with pytest.raises(InputError, match=said + r"12%; give the row a budget of flops_per_sample"):
        time_p99(sparse(prepared, active_ratio=0.12), prepared, BATCH, CPU)
    assert len(time_p99(sparse(prepared, active_ratio=0.25, routing="top_k"), prepared, BATCH, CPU)) == 1
    assert len(time_p99(small_spec(prepared), prepared, BATCH, CPU)) == 1
