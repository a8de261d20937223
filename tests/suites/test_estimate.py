"""The estimate: what it grows with, what it leaves out, and that it is said before the first run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import suites.carrying_out
import suites.dataset_plan
import suites.run
from harness.machine.facts import Machine
from harness.machine.peaks import Peak
from harness.records.cost import Cost
from harness.records.record import Record
from harness.records.spec import Training
from harness.training.progress import Silent
from harness.training.ranks import World
from harness.workers.worker import Limits
from suites.estimate import Workload, announcement
from suites.options import Options
from suites.plan import Caller
from suites.run import run_suite
from suites.suite import Suite
from tests.harness.schemas import small_schema
from tests.suites.shapes import shape_of

SMALL = shape_of(small_schema())
COST = Cost(0, 0, flops_per_sample=100, active_flops_per_sample=60, train_flops_per_sample=300)


# ------------------------------------------------------------------------------------------- the workload


def test_a_run_reads_its_training_rows_every_epoch_and_scores_its_validations_and_test():
    work = Workload.of(Training(epochs=3, validations_per_epoch=2), COST, SMALL)
    assert work.rows == 3 * 800 + 3 * 2 * 100 + 100
    assert work.flops == 3 * 800 * 300 + 700 * 60
    assert work.num_features == 7


sizes = st.floats(1, 1e15)


@given(sizes, sizes, st.integers(1, 10**9), st.integers(0, 10**9), st.integers(1, 100), sizes)
def test_more_flops_or_rows_take_longer_and_a_faster_machine_less(flops, more, rows, added, features, peak):
    seconds = Workload(flops, rows, features).seconds(peak)
    assert Workload(flops + more, rows, features).seconds(peak) >= seconds
    assert Workload(flops, rows + added, features).seconds(peak) >= seconds
    assert Workload(2 * flops, 2 * rows, features).seconds(peak) > seconds
    assert Workload(flops, rows, features).seconds(2 * peak) <= seconds


def test_a_run_takes_at_least_what_its_flops_take_at_the_peak():
    assert Workload(1e12, 0, 0).seconds(1e11) > 10
    assert Workload(1e12, 0, 0).seconds(2e11) < Workload(1e12, 0, 0).seconds(1e11)


@pytest.mark.parametrize(
    ("flops", "time"), [(2e12, "seconds"), (60e12, "minutes"), (9000e12, "hours")]
)  # at 1e11 and any efficiency between a tenth and one
def test_the_time_is_said_in_a_unit_of_its_size(flops, time):
    assert re.search(rf"about \d+ {time} on this machine", announcement([Workload(flops, 0, 0)], ["a"], 1e11))


def test_runs_and_architectures_are_counted():
    work = Workload(1e9, 1, 1)
    assert announcement([work] * 3, ["a", "b", "a"], 1e11).startswith("3 runs of a, b to train: about ")
    assert announcement([work], ["a"], 1e11).startswith("1 run of a to train: about ")
    assert announcement([work] * 4, list("abcd"), 1e11).startswith("4 runs of 4 architectures to train")
    assert announcement([], [], 1e11) == "nothing to train: every run has its record"


def test_processes_of_one_run_compute_as_many_times_as_fast(monkeypatch):
    peaks = []
    monkeypatch.setattr(
        suites.run, "announcement", lambda work, rows, peak, at_once: peaks.append(peak) or ""
    )
    job = SimpleNamespace(
        spec=SimpleNamespace(training=Training(), architecture="a"),
        cost=COST,
        prepared=SMALL,
        folder=SimpleNamespace(is_finished=False),
    )
    for size in (1, 3):
        call = Caller(World(0, size, torch.device("cpu")), Limits())
        call._machines["fp32"] = Machine(Peak(1e11, "made up"), {})
        suites.run._announcement([job], SimpleNamespace(training=Training()), call, 1)
    assert peaks == [1e11, 3e11]


# ------------------------------------------------------------------------------------------------ a suite


class Listening(Silent):
    """Keeps what was said and what was run, in their order."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def note(self, text: str) -> None:
        self.events.append(text)


@pytest.fixture
def carried_out(monkeypatch, tmp_path):
    """Carries out a suite of three runs of nothing; returns what was said and run."""
    content = {
        "name": "s",
        "description": "d",
        "datasets": ["small"],
        "tokens": 3,
        "base": None,
        "seeds": 3,
        "references": False,
        "architectures": [{"architecture": "dlrm_mlp", "config": {"hidden_dim": 4}}],
    }
    monkeypatch.setattr(suites.dataset_plan, "prepared_for_ranks", lambda *_: SMALL)
    monkeypatch.setattr(suites.dataset_plan, "leak_warnings", lambda *_: [])
    monkeypatch.setattr(suites.dataset_plan, "leaks_as_recorded", lambda *_: {})
    monkeypatch.setattr(suites.run.Caller, "machine", lambda *_: Machine(Peak(1e11, "made up"), {}))

    def carry_out() -> list[str]:
        listening = Listening()

        def carry_out_nothing(job, *_):
            listening.events.append("run")
            named = {
                key: getattr(job.spec, key) for key in ("suite", "architecture", "variant", "dataset", "seed")
            }
            found = {"kind": "model", "status": "finished", "metrics": {}, "training": None, "started_at": ""}
            record = Record.model_validate(named | found | {"spec": {}, "spec_hash": job.spec.hash})
            job.folder.finish(record)
            return record

        monkeypatch.setattr(suites.carrying_out, "_carry_out", carry_out_nothing)
        monkeypatch.setattr(suites.dataset_plan, "fit_jobs", lambda row, *_: row.jobs)
        options = Options(tmp_path, tmp_path, None, torch.device("cpu"))
        run_suite(Suite.model_validate(content), options, listening)
        return listening.events

    return carry_out


def estimates(events: list[str]) -> list[str]:
    return [event for event in events if "to train" in event]


def test_the_estimate_is_said_once_before_the_first_run(carried_out):
    events = carried_out()
    assert [event.partition(":")[0] for event in estimates(events)] == ["3 runs of dlrm_mlp to train"]
    assert events.index(estimates(events)[0]) < events.index("run")
    assert events.count("run") == 3


def test_finished_runs_do_not_count(carried_out, tmp_path: Path):
    carried_out()
    records = sorted(tmp_path.glob("runs/*/record.json"))
    assert len(records) == len(json.loads((tmp_path / "suite.json").read_text())["spec_hashes"])
    records[0].unlink()
    events = carried_out()
    assert [event.partition(":")[0] for event in estimates(events)] == ["1 run of dlrm_mlp to train"]
    assert events.count("run") == 1
    events = carried_out()
    assert estimates(events) == ["nothing to train: every run has its record"]
    assert "run" not in events
