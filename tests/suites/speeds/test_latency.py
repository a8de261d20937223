"""Rows matched on latency, with a clock whose latencies are a known function of the FLOPs."""

from __future__ import annotations

import functools
import itertools
import json

import numpy as np
import pytest
import torch

import suites.speeds.latency
from files.errors import InputError
from harness.model.cost import CostCounter
from harness.records.spec import Budget, RunSpec
from harness.records.store import read_runs
from suites.rows import match_rows, row_inputs
from suites.setting import Setting
from suites.speeds.latency import LATENCY_FILE, match_on_latency, next_flops
from suites.suite import Suite, SuiteBudget
from tests.harness.small_runs import ONE_PROCESS
from tests.suites.speeds.test_serving import CONTENT, Measured, carried_out
from tests.suites.test_rows import SHAPES

TARGET = {"latency_ms_p99": 3.0, "batch_size": 512}


def asked(*names: str, **changes: object) -> Setting:
    content = CONTENT | {"budget": TARGET, "architectures": list(names), "base": names[0]} | changes
    suite = Suite.model_validate(content)
    return Setting(suite, suite.datasets[0], SHAPES["shortvideo"], ONE_PROCESS)


@functools.cache
def flops_of(architecture: str, config: str) -> int:
    setting = asked(architecture)
    inputs = row_inputs(setting.suite, setting.prepared, setting.suite.architectures[0])
    schema, tables = setting.prepared.schema, setting.prepared.table_sizes
    counter = CostCounter(schema, tables, inputs, len(setting.tasks))
    return counter.cost(architecture, json.loads(config)).flops_per_sample


class Clock:
    """Takes a fixed time, and one that grows with the FLOPs; ``noise`` is relative, of every round."""

    def __init__(self, fixed: float, a_megaflop: float, noise: float = 0.0) -> None:
        self.fixed, self.a_megaflop, self.noise = fixed, a_megaflop, noise
        self.random, self.measured = np.random.default_rng(0), 0

    def __call__(self, spec: RunSpec, prepared, batch_size, device) -> list[float]:
        self.measured += 1
        flops = flops_of(spec.architecture, json.dumps(spec.config))
        latency = self.fixed + self.a_megaflop * flops / 1e6
        return list(latency * np.exp(self.noise * self.random.normal(size=7)))


def matched(monkeypatch, tmp_path, clock: Clock, name: str = "dlrm_mlp", **changes: object):
    monkeypatch.setattr(suites.speeds.latency, "time_p99", clock)
    setting = asked(name, **changes)
    row = setting.suite.architectures[0]
    return match_on_latency(setting, row, setting.suite.budget, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "fixed", "a_megaflop"),
    [
        ("dlrm_mlp", 0.0, 2.0),
        ("dlrm_mlp", 2.0, 1.0),
        ("dlrm_mlp", 0.5, 0.2),
        ("dcnv2", 1.0, 20.0),
    ],
)
def test_a_row_has_the_size_whose_latency_meets_the_target(monkeypatch, tmp_path, name, fixed, a_megaflop):
    clock = Clock(fixed, a_megaflop)
    found = matched(monkeypatch, tmp_path, clock, name)
    latency = fixed + a_megaflop * found.cost.flops_per_sample / 1e6
    assert latency == pytest.approx(3.0, rel=0.05)
    assert found.budget == Budget(
        kind="latency_ms_p99", target=3.0, miss=latency / 3.0 - 1, batch_size=512, spread=0.0
    )
    assert clock.measured <= 10


def test_a_noisy_machine_gets_near_and_says_its_spread(monkeypatch, tmp_path):
    found = matched(monkeypatch, tmp_path, Clock(1.0, 2.0, noise=0.08))
    assert 1.0 + 2.0 * found.cost.flops_per_sample / 1e6 == pytest.approx(3.0, rel=0.15)
    assert abs(found.budget.miss) <= 0.05
    assert 0.02 < found.budget.spread < 0.3


def test_what_was_found_is_kept_and_is_not_measured_again(monkeypatch, tmp_path):
    first = matched(monkeypatch, tmp_path, Clock(1.0, 2.0, noise=0.05))
    again = Clock(1.0, 9.0)
    assert matched(monkeypatch, tmp_path, again) == first
    assert again.measured == 0
    other = Clock(1.0, 2.0)
    matched(monkeypatch, tmp_path, other, budget=TARGET | {"latency_ms_p99": 4.0})
    assert other.measured > 0
    assert len(json.loads((tmp_path / "out" / LATENCY_FILE).read_text())["rows"]) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"tasks": ["finish"]},
        {"training": CONTENT["training"] | {"sparse_optimizer": "adam"}},  # which updates whole tables
        {"threads": 3},
    ],
)
def test_what_decides_a_latency_is_measured_anew_where_it_changes(changes, monkeypatch, tmp_path):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    same, other = Clock(1.0, 2.0), Clock(1.0, 2.0)
    for clock in (Clock(1.0, 2.0), same):
        matched(monkeypatch, tmp_path, clock)
    monkeypatch.setattr(torch, "get_num_threads", lambda: changes.get("threads", 1))
    settings = {name: value for name, value in changes.items() if name != "threads"}
    matched(monkeypatch, tmp_path, other, **settings)
    assert (same.measured, other.measured > 0) == (0, True)


def test_a_latency_out_of_reach_is_refused_with_what_came_nearest(monkeypatch, tmp_path):
    with pytest.raises(
        InputError, match=r"dlrm_mlp: no size has a p99 within 5% of 3 ms.*nearest is .* ms at"
    ):
        matched(monkeypatch, tmp_path, Clock(5.0, 2.0))
    assert not (tmp_path / "out" / LATENCY_FILE).exists()


@pytest.mark.parametrize("seed", range(5))
def test_the_next_size_lies_between_the_nearest_ones(seed):
    """Whatever the curve: on the line in logarithms, and never outside of what is known."""
    random = np.random.default_rng(seed)
    flops = np.sort(random.lognormal(13, 2, 6))
    p99 = np.sort(random.lognormal(1, 1, 6))
    target = float(np.sqrt(p99[2] * p99[3]))
    pairs = list(zip(flops.tolist(), p99.tolist(), strict=True))
    for some in itertools.permutations(pairs):
        assert flops[2] < next_flops(target, list(some)) < flops[3]
    assert next_flops(target, pairs[:3]) > flops[2]
    assert next_flops(target, pairs[3:]) < flops[3]


def test_a_suite_is_matched_on_latency_once_and_its_records_say_so(monkeypatch, tmp_path):
    clock = Clock(1.0, 4.0)
    monkeypatch.setattr(suites.speeds.latency, "time_p99", clock)
    rows = {"architectures": ["dlrm_mlp"], "budget": TARGET, "seeds": 1}
    for _ in range(2):
        carried_out(tmp_path / "out", tmp_path / "cache", Measured(), speed=False, **rows)
    records = read_runs(tmp_path / "out").records
    [record] = records  # which was not run twice
    assert record.budget.kind == "latency_ms_p99"
    assert record.spec["budget"]["batch_size"] == 512
    assert abs(record.budget.miss) <= 0.05


def test_other_budgets_are_hashed_as_before():
    budget = Budget(kind="flops_per_sample", target=1e6, miss=0.01)
    assert budget.model_dump(mode="json") == {"kind": "flops_per_sample", "target": 1e6, "miss": 0.01}


def test_only_running_a_suite_measures():
    setting = asked("dlrm_mlp")
    with pytest.raises(
        InputError, match="a budget of latency_ms_p99 is measured, which the command run alone"
    ):
        match_rows(setting.suite, setting.prepared)


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ({"latency_ms_p99": 3.0}, "a latency needs batch_size"),
        ({"flops_per_sample": 1e6, "batch_size": 64}, "a latency needs batch_size"),
        ({"flops_per_sample": 1e6, "dense_params": 1e6}, "give one of"),
        ({}, "give one of"),
    ],
)
def test_a_budget_is_one_thing(budget, said):
    with pytest.raises(ValueError, match=said):
        SuiteBudget.model_validate(budget)


def test_sizes_are_no_latencies():
    with pytest.raises(ValueError, match="sizes: are FLOPs or parameters"):
        Suite.model_validate(CONTENT | {"sizes": [TARGET]})
