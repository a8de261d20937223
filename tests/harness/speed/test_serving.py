"""The interleaved pass: who takes turns, for how long, and that every model answers as it would alone."""

from __future__ import annotations

import pytest
import torch

from harness.machine import timing
from harness.machine.timing import Stopwatch
from harness.model.assembly import RankingModel
from harness.runs.run import build_dense_side, build_model
from harness.speed import serving
from harness.speed.models import inference_call, read_batches
from harness.speed.serving import Measurement, ToServe, _measurements, _take_turns, measure_serving
from harness.training.weights import write_weights
from tests.harness.machine.test_timing import Clock, FakeGemm
from tests.harness.small_runs import ONE_PROCESS, small_spec
from tests.harness.speed.test_models import cost_of

CPU = torch.device("cpu")


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


def measurement(clock, name, seconds, visits, spread=0.0):
    """Calls of ``seconds``, in every second round a share ``spread`` longer; each is noted in ``visits``."""

    def call():
        visits.append(name)
        clock.now += seconds * (1 + spread * (len(found.timing.seconds) % 2))

    found = Measurement(None, "whole", 8, 1000, call, 0)  # type: ignore[arg-type]
    return found


def test_models_take_turns_and_a_settled_one_drops_out(clock, monkeypatch):
    monkeypatch.setattr(serving, "TURN_SECONDS", 0.4)
    visits: list[str] = []
    steady, unsteady = measurement(clock, "a", 0.001, visits), measurement(clock, "b", 0.001, visits, 0.5)
    peaks = _take_turns([[steady], [unsteady]], FakeGemm(*[1.0] * 100), Stopwatch(), limit_seconds=8.0)
    order = [name for i, name in enumerate(visits) if i == 0 or visits[i - 1] != name]
    assert order[: 2 * len(steady.timing.seconds)] == ["a", "b"] * len(steady.timing.seconds)
    assert set(order[2 * len(steady.timing.seconds) :]) <= {"b"}
    assert len(steady.timing.seconds) == serving.FEWEST_ROUNDS < len(unsteady.timing.seconds)
    assert clock.now == pytest.approx(8.0, rel=0.1)  # the unsteady one takes all the time there is
    assert len(peaks) == len(steady.timing.seconds) + len(unsteady.timing.seconds)


def test_the_call_after_another_model_s_turn_is_not_in_the_figures(clock):
    """Whatever the number of calls in a turn, so that p99 means the same of small and large models."""
    last = None

    def measured(name, seconds):
        def call():
            nonlocal last
            clock.now += seconds + (0.0 if last == name else 0.5)
            last = name

        return Measurement(None, "whole", 8, 1000, call, 0)

    small, large = measured("small", 0.001), measured("large", 0.02)
    _take_turns([[small], [large]], FakeGemm(*[1.0] * 20), Stopwatch(), limit_seconds=1.0)
    for each, seconds in ((small, 0.001), (large, 0.02)):
        assert each.timing.latencies == pytest.approx([seconds] * len(each.timing.latencies))
    assert len(small.timing.latencies) > len(large.timing.latencies)


def test_time_that_is_up_leaves_the_fewest_rounds(clock):
    slow = measurement(clock, "a", 30.0, [])
    _take_turns([[slow]], FakeGemm(*[1.0] * 9), Stopwatch(), limit_seconds=1.0)
    assert len(slow.timing.seconds) == serving.FEWEST_ROUNDS
    assert slow.timing.percentile_interval(0.99)[1] is None  # and says that its p99 is not known from above


@pytest.fixture(scope="module")
def served(prepared):
    """Two models at two batch sizes, in the fewest rounds."""
    specs = [small_spec(prepared), small_spec(prepared, architecture="deepfm").model_copy(update=DEEP)]
    models = [ToServe(spec, cost_of(spec, prepared)) for spec in specs]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serving, "TURN_SECONDS", 0.0)
        threads = torch.get_num_threads()
        found = measure_serving(models, prepared, [16, 64], 1, 0.0, CPU)
        assert torch.get_num_threads() == threads
    return models, found


DEEP = {"config": {"hidden_dim": 16}}


def test_each_model_part_and_batch_size_is_measured(served):
    models, found = served
    expected = {(s.hash, part, size) for s, *_ in models for part in ("dense", "whole") for size in (16, 64)}
    assert [m.spec_hash for m in found.models] == [s.hash for s, *_ in models for _ in range(4)]
    assert {(m.spec_hash, m.part, m.batch_size) for m in found.models} == expected
    params = {spec.hash: cost.dense_params for spec, cost, _ in models}
    for model in found.models:
        assert model.latency_ms_p50 <= model.latency_ms_p99
        assert model.rounds == serving.FEWEST_ROUNDS
        assert model.memory_bytes > 4 * params[model.spec_hash]


def test_rates_and_mfu_follow_from_the_clock(clock, prepared):
    spec = small_spec(prepared)
    found = Measurement(spec, "whole", 64, 3_000_000, lambda: None, 0)
    found.timing.latencies = [0.01, 0.02, 0.03]
    found.timing.seconds, found.timing.gemm_flops_per_second = [0.01, 0.02, 0.04], [6e8, 3e8, 1e8]
    record = found.as_record()
    assert record.samples_per_second == pytest.approx(64 / 0.02)
    assert record.mfu == pytest.approx(0.5)  # of .5, .5, .75
    assert record.latency_ms_p50 == pytest.approx(20.0)
    assert record.noisy


def test_on_shared_tables_a_model_answers_as_it_does_alone(prepared):
    first = small_spec(prepared)
    second = small_spec(prepared, architecture="deepfm").model_copy(update=DEEP)
    batches = read_batches(second, prepared, 64, CPU)
    shared = build_model(first, prepared, ONE_PROCESS).embeddings
    model = RankingModel(shared, build_dense_side(second, prepared, CPU))
    alone = build_model(second, prepared, ONE_PROCESS).eval()(batches[0]).logits
    for part in ("dense", "whole"):
        call, _ = inference_call(model, torch.float32, batches, part)
        assert torch.equal(call().logits, alone)


def test_a_run_that_kept_its_weights_answers_with_them(prepared, tmp_path):
    """So that a sparse model has as many experts open as it was trained to have."""
    spec = small_spec(prepared)
    other = build_model(spec.model_copy(update={"seed": 5}), prepared, ONE_PROCESS)
    write_weights(tmp_path, spec.hash, other, ONE_PROCESS)
    cost = cost_of(spec, prepared)
    answers = {}
    for name, folder in (("kept", tmp_path), ("none", tmp_path / "absent")):
        [[measurement, _]] = _measurements([ToServe(spec, cost, folder)], prepared, [64], CPU)
        answers[name] = measurement.call().logits
        assert measurement.trained == (name == "kept")
    batch = read_batches(spec, prepared, 64, CPU)[0]
    looked_up = build_model(spec, prepared, ONE_PROCESS).embeddings(batch.sparse)
    assert torch.equal(answers["kept"], other.eval().dense(looked_up, batch.dense).logits)
    assert not torch.equal(answers["kept"], answers["none"])
