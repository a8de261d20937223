"""A suite's speeds: which models are measured, when again, and that nothing else depends on them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import suites.run
import suites.speeds.serving
from files.errors import InputError
from harness.machine.facts import Machine
from harness.machine.peaks import Peak
from harness.records.archive import pack, unpack
from harness.records.serving import SERVING_FILE, ServedModel, read_serving
from harness.speed.serving import Served
from harness.workers.isolation import BrokenCallError
from suites.options import Options
from suites.run import run_suite
from suites.suite import Suite
from tests.suites.test_worlds import Listening, call_here

CONTENT = {
    "name": "fast",
    "description": "two rows",
    "datasets": [{"name": "shortvideo", "options": {"rows": 1200}}],
    "tokens": 4,
    "references": False,
    "seeds": 2,
    "architectures": [
        {"architecture": "dlrm_mlp", "config": {"hidden_dim": 8}},
        {"architecture": "dlrm_mlp", "variant": "wide", "config": {"hidden_dim": 16}},
    ],
    "serving": {"batch_sizes": [512, 32], "threads": 1},
    "training": {"batch_size": 256, "epochs": 1},
}
SIZES = [32, 512]


class Measured:
    """Stands for the pass: keeps what it was asked to measure."""

    def __init__(self, problem: Exception | None = None) -> None:
        self.calls: list[tuple] = []
        self.problem = problem

    def __call__(self, models, prepared, sizes, threads, limit_seconds, device) -> Served:
        self.calls.append((models, sizes, threads, limit_seconds))
        if self.problem is not None:
            raise self.problem
        speed = {"latency_ms_p50": 1.0, "latency_ms_p99": 2.0, "samples_per_second": 3.0, "mfu": 0.4}
        speed |= {"error": 0.0, "mfu_error": 0.0, "noisy": False, "calls": 9, "rounds": 5}
        found = [
            ServedModel(
                **spec.model_dump(include={"architecture", "variant", "series", "size", "ratio"}),
                **speed,
                spec_hash=spec.hash,
                part=part,
                batch_size=size,
            )
            for spec, *_ in models
            for size in sizes
            for part in ("dense", "whole")
        ]
        return Served(found, Peak(1e10, "made up"), 1.0)


def carried_out(out: Path, cache: Path, measured: Measured, speed: bool = True, **changes: object) -> list:
    """What the suite said; ``measured`` in place of the measuring."""
    listening = Listening()
    options = Options(out, cache, None, torch.device("cpu"), speed=speed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suites.run.Caller, "machine", lambda *_: Machine(Peak(1e11, "made up"), {"torch": "2"}))
        patch.setattr(suites.run.Caller, "__call__", call_here)
        patch.setattr(suites.speeds.serving, "measure_serving", measured)
        run_suite(Suite.model_validate(CONTENT | changes), options, listening)
    return listening.said


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out, cache = tmp_path_factory.mktemp("out"), tmp_path_factory.mktemp("cache")
    measured = Measured()
    return out, cache, measured, carried_out(out, cache, measured)


def test_each_model_is_measured_once_and_not_each_seed(finished):
    out, _, measured, said = finished
    [(models, sizes, threads, limit)] = measured.calls
    assert [(spec.contestant.label, spec.seed) for spec, *_ in models] == [
        ("dlrm_mlp", 0),
        ("dlrm_mlp (wide)", 0),
    ]
    assert (sizes, threads) == (SIZES, 1)
    assert 0 <= limit < 60
    [found] = read_serving(out).passes
    assert (found.suite, found.dataset, found.batch_sizes, found.threads) == ("fast", "shortvideo", SIZES, 1)
    assert len(found.models) == 8
    assert found.environment == {"torch": "2", "threads": 1}
    assert any("measuring how fast 2 models answer" in text for text in said)


def test_what_is_measured_is_not_measured_again_unless_something_else_is_asked_for(finished, tmp_path):
    out, cache, *_ = finished
    for changes, calls in (({}, 0), ({"serving": {"batch_sizes": SIZES, "threads": 2}}, 1), ({}, 1)):
        again = Measured()
        carried_out(out, cache, again, **changes)
        assert len(again.calls) == calls, changes
    once = Measured()
    rows = [
        *CONTENT["architectures"],
        {"architecture": "dlrm_mlp", "variant": "new", "config": {"hidden_dim": 4}},
    ]
    carried_out(out, cache, once, architectures=rows, seeds=1)
    assert [len(models) for models, *_ in once.calls] == [3]  # all anew: only then are they comparable
    carried_out(out, cache, Measured())


def test_without_speed_nothing_is_measured(finished, tmp_path):
    _, cache, *_ = finished
    none = Measured()
    carried_out(tmp_path / "out", cache, none, speed=False, seeds=1)
    assert none.calls == []
    assert not (tmp_path / "out" / SERVING_FILE).exists()


def test_a_pass_that_breaks_is_told_and_ends_nothing(finished, tmp_path):
    _, cache, *_ = finished
    said = carried_out(tmp_path / "out", cache, Measured(BrokenCallError("its process was killed")), seeds=1)
    assert any("was not measured: its process was killed" in text for text in said)
    assert not (tmp_path / "out" / SERVING_FILE).exists()


def test_a_batch_larger_than_the_training_split_is_left_out_and_told(finished, tmp_path):
    _, cache, *_ = finished
    measured = Measured()
    said = carried_out(tmp_path / "out", cache, measured, seeds=1, serving={"batch_sizes": [32, 4096]})
    assert [sizes for _, sizes, *_ in measured.calls] == [[32]]
    assert any("no speed at batch size 4096, of 960 rows" in text for text in said)


def test_speeds_are_kept_with_the_results(finished, tmp_path):
    out, *_ = finished
    kept = pack(out, tmp_path / "kept").parent
    back = unpack(kept, tmp_path / "back")
    assert (back / SERVING_FILE).read_bytes() == (out / SERVING_FILE).read_bytes()


def test_a_damaged_file_of_speeds_is_refused_with_its_mend(finished, tmp_path):
    (tmp_path / SERVING_FILE).write_text('{"passes": [{"suite": 3}]}')
    with pytest.raises(InputError, match=r"serving.json.*delete the file and run the suite again"):
        read_serving(tmp_path)


@pytest.mark.parametrize(
    ("serving", "said"),
    [
        ({"batch_sizes": [64, 64]}, "names a size twice"),
        ({"batch_sizes": []}, "at least 1"),
        ({"batch_sizes": [0]}, "greater than or equal to 1"),
        ({"threads": 0}, "greater than or equal to 1"),
        ({"batches": [64]}, "not permitted|not a known"),
    ],
)
def test_settings_that_cannot_be_are_refused(serving, said):
    with pytest.raises(ValueError, match=said):
        Suite.model_validate(CONTENT | {"serving": serving})
