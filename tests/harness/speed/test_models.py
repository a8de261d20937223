"""What is measured of a model's speed: the right thing runs, and what is said follows from the clock."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from files.errors import InputError
from harness.machine.peaks import Gemm
from harness.machine.rounds import CALLS_FOR_P99, Timing
from harness.model.cost import CostCounter
from harness.runs.run import build_model, inputs_of
from harness.speed.models import (
    Machine,
    _call,
    profile_model,
    read_batches,
    speeds,
)
from rankmixer.kernels.fp8 import use_fp8
from tests.harness.small_runs import ONE_PROCESS, small_spec

CPU = torch.device("cpu")
BATCH = 64


def cost_of(spec, prepared):
    counter = CostCounter(prepared.schema, prepared.table_sizes, inputs_of(spec), len(spec.tasks))
    return counter.cost(spec.architecture, spec.config)


@pytest.fixture(scope="module")
def records(prepared):
    spec = small_spec(prepared)
    machine = Machine(Gemm(CPU, "fp32", size=64), bandwidth=1e10)
    cost = cost_of(spec, prepared)
    found = profile_model(spec, cost, prepared, machine, BATCH, rounds=2, round_seconds=0.001)
    return spec, cost, {(r["part"], r["mode"]): r for r in found}


def test_each_part_and_mode_has_its_record_and_the_costs_flops(records):
    _, cost, found = records
    assert set(found) == {(p, m) for p in ("dense", "whole") for m in ("inference", "train")}
    for (_, mode), record in found.items():
        per_sample = cost.flops_per_sample if mode == "inference" else cost.train_flops_per_sample
        assert record["flops"] == BATCH * per_sample
        assert record["operators"], record


def test_the_least_bytes_are_weights_and_inputs_and_in_training_the_optimizers(records):
    spec, cost, found = records
    weights = 4 * cost.dense_params
    inputs = (
        4 * BATCH * (spec.num_tokens * spec.token_dim)
    )  # widths of all features, numbers too, in 48 places
    least = found["dense", "inference"]["least_bytes"]
    assert weights < least <= weights + inputs
    training = found["dense", "train"]["least_bytes"]
    assert (
        training == 2 * least + 7 * weights
    )  # Adam reads weight, gradient, moments; writes all but the gradient
    for mode in ("inference", "train"):
        record = found["dense", mode]
        assert record["operator_bytes"] >= record["least_bytes"]
        assert record["unfused_ms"] >= record["floor_ms"] > 0
        assert record["intensity"] == pytest.approx(record["flops"] / record["operator_bytes"])


@pytest.mark.parametrize("part", ["dense", "whole"])
def test_inference_is_the_models_own_prediction(part, prepared):
    spec = small_spec(prepared)
    batches = read_batches(spec, prepared, BATCH, CPU)
    model = build_model(spec, prepared, ONE_PROCESS)
    call, _ = _call(model, spec, batches, part, "inference")
    with torch.no_grad():
        expected = model.eval()(batches[0]).logits
    torch.testing.assert_close(call().logits, expected)


def test_bf16_inference_holds_its_weights_in_bf16(prepared):
    spec = small_spec(prepared, precision="bf16")
    batches = read_batches(spec, prepared, BATCH, CPU)
    model = build_model(spec, prepared, ONE_PROCESS)
    call, held = _call(model, spec, batches, "whole", "inference")
    assert {p.dtype for p in held.dense.parameters()} == {torch.bfloat16}
    assert call().logits.dtype == torch.bfloat16


RANKMIXER = {"model_dim": 48, "ffn_dim": 96}  # 3 tokens, widths that fp8 takes


@pytest.mark.parametrize("precision", ["bf16", "fp8"])
def test_inference_in_fewer_bits_states_its_distance_from_fp32(precision, prepared):
    spec = small_spec(prepared, architecture="rankmixer", precision="bf16")
    spec = spec.model_copy(update={"config": RANKMIXER})
    machine = Machine(Gemm(CPU, precision, size=64), bandwidth=1e10)
    found = profile_model(spec, cost_of(spec, prepared), prepared, machine, BATCH, 1, 0.001)
    by_part = {(r["part"], r["mode"]): r for r in found}
    assert {r["precision"] for r in found} == {precision}
    assert {mode for _, mode in by_part} == ({"inference"} if precision == "fp8" else {"inference", "train"})
    record = by_part["dense", "inference"]
    multiplied = {op["operator"] for op in record["operators"]}
    assert ("aten::_scaled_mm" in multiplied) == (precision == "fp8")

    batch = read_batches(spec, prepared, BATCH, CPU)[0]
    exact, reduced = (build_model(spec, prepared, ONE_PROCESS).eval() for _ in range(2))
    call, held = _call(reduced, spec, [batch], "dense", "inference")
    if precision == "fp8":
        use_fp8(held.dense)
    with torch.no_grad():
        differences = call().logits.double().sigmoid() - exact(batch).logits.double().sigmoid()
    expected = differences.abs()
    assert record["probability_error_max"] == pytest.approx(float(expected.max()), rel=1e-3)
    assert record["probability_error_mean"] == pytest.approx(float(expected.mean()), rel=1e-3)
    assert 0 < record["probability_error_mean"] < record["probability_error_max"] < 0.1
    assert all(
        "probability_error_max" not in r for key, r in by_part.items() if key != ("dense", "inference")
    )


def test_weights_in_fp8_are_half_of_bf16s_bytes(prepared):
    spec = small_spec(prepared, architecture="rankmixer", precision="bf16")
    spec = spec.model_copy(update={"config": RANKMIXER})
    least = {}
    for precision in ("bf16", "fp8"):
        machine = Machine(Gemm(CPU, precision, size=64), bandwidth=1e10)
        found = profile_model(spec, cost_of(spec, prepared), prepared, machine, BATCH, 1, 0.001)
        least[precision] = found[0]["least_bytes"]
    layers, tokens = 2, spec.num_tokens
    weights = layers * tokens * 2 * 48 * 96
    scales = layers * tokens * (48 + 96)
    assert least["bf16"] - least["fp8"] == weights - 4 * scales


@pytest.mark.parametrize(("part", "tables_move"), [("dense", False), ("whole", True)])
def test_a_training_step_moves_the_weights_and_the_tables_of_the_whole_alone(part, tables_move, prepared):
    spec = small_spec(prepared)
    batches = read_batches(spec, prepared, BATCH, CPU)
    model = build_model(spec, prepared, ONE_PROCESS)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    call, _ = _call(model, spec, batches, part, "train")
    call()
    after = model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(name.startswith("dense.") for name in moved)
    assert any("embedding_bags" in name for name in moved) == tables_move


def timing_of(seconds, gemm=1e9, calls=CALLS_FOR_P99):
    latencies = list(np.resize(seconds, calls))
    return Timing(latencies, list(seconds), [gemm] * len(seconds))


def test_steady_rounds_are_reported():
    measured = speeds(timing_of([0.1, 0.1, 0.1, 0.11]), 5 * 10**7, 32, 0.25, datasheet_flops=1e10)
    assert measured["samples_per_second"] == pytest.approx(320)
    assert measured["mfu"] == pytest.approx(0.5)
    assert measured["mfu_datasheet"] == pytest.approx(0.05)
    assert measured["latency_ms_p50"] == pytest.approx(100)
    assert measured["latency_ms_p99"] == pytest.approx(110)


def test_what_varies_too_much_is_not_reported_and_its_spread_is():
    measured = speeds(timing_of([0.1, 0.1, 0.3, 0.3]), 10**7, 32, 0.25, datasheet_flops=1e9)
    for name in ("samples_per_second", "latency_ms_p50", "latency_ms_p99", "mfu", "mfu_datasheet"):
        assert measured[name] is None, name
    assert measured["spread"] == pytest.approx(1.0)


def test_a_share_of_the_peak_may_be_steady_where_the_machine_is_not():
    timing = Timing([0.1, 0.2, 0.4, 0.8], [0.1, 0.2, 0.4, 0.8], [8e9, 4e9, 2e9, 1e9])
    measured = speeds(timing, 4 * 10**8, 32, 0.25, None)
    assert measured["latency_ms_p50"] is None
    assert measured["mfu"] == pytest.approx(0.5)


def test_a_batch_larger_than_the_training_split_is_refused_with_the_mend(prepared):
    with pytest.raises(InputError, match=r"--batch-size 100000: .* rows; give a smaller batch"):
        read_batches(small_spec(prepared), prepared, 100_000, CPU)
