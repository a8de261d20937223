"""Rows matched to a measured latency: the size at which the p99 of a row's calls meets its budget.

A row is matched to FLOPs again and again, as any row is, until its p99 is within 5% of the target: the next
FLOPs lie on the line between the nearest measured ones, in logarithms. What seems to meet the target is
measured once more, and all its rounds together decide, since the first measurement was chosen for being near.

What was found is kept in ``OUT/latency.json``, so a suite that goes on has the same rows: measured again,
they would differ. So have other machines that work on the folder with as many threads, whatever their
processor.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from pydantic import Field

from files.locks import locked
from files.writing import write_atomically
from harness.data import InputError
from harness.machine.rounds import relative_spread
from harness.model.architectures import source_hash
from harness.records.record import Part, read_json
from harness.records.spec import Budget
from harness.speed.latency import time_p99
from suites.rows import MatchedRow, matcher
from suites.setting import Setting
from suites.suite import SuiteBudget, SuiteRow

LATENCY_FILE = "latency.json"
LOCK_FILE = ".latency.lock"
MEND = "delete it and run the suite again, which matches its rows anew"
CLOSE = 0.05  # the largest miss of a row
FIRST_FLOPS = 1e6
LARGEST_STEP = 8.0  # from one size to the next, where nothing yet lies on the other side of the target
MOST_SIZES = 16


class Found(Part):
    """The FLOPs at which a row met its latency, and the rounds that say so."""

    row: str
    flops_per_sample: float
    p99_ms: float
    spread: float


class Kept(Part):
    """The rows of a folder, each by what decides it."""

    rows: dict[str, Found] = Field(default_factory=dict)


def match_on_latency(setting: Setting, row: SuiteRow, budget: SuiteBudget, out: Path) -> MatchedRow:
    """The row at the size whose p99 meets the budget, measured on this machine or kept in ``out``.

    Raises InputError, naming what came nearest, where no size does.
    """

    def at(flops: float) -> MatchedRow:
        sized = row.model_copy(update={"budget": SuiteBudget(flops_per_sample=flops)})
        return matcher(setting.suite, setting.prepared)(sized)

    def measure(matched: MatchedRow) -> list[float]:
        spec = setting.spec(matched, seed=0)
        assert budget.batch_size is not None
        return time_p99(spec, setting.prepared, budget.batch_size, setting.world.device)

    key = _key(setting, row, budget)
    out.mkdir(parents=True, exist_ok=True)
    with locked(out / LOCK_FILE, wait=True):
        path = out / LATENCY_FILE
        kept = read_json(path, Kept, "record of latencies", MEND) if path.is_file() else Kept()
        found = kept.rows.get(key)
        if found is None:
            found = _search(row.name, budget.target, at, measure)
            content = Kept(rows=kept.rows | {key: found}).model_dump(mode="json")
            write_atomically(path, json.dumps(content, indent=1).encode())
    return replace(
        at(found.flops_per_sample),
        budget=Budget(
            kind="latency_ms_p99",
            target=budget.target,
            miss=found.p99_ms / budget.target - 1,
            batch_size=budget.batch_size,
            spread=found.spread,
        ),
    )


def _key(setting: Setting, row: SuiteRow, budget: SuiteBudget) -> str:
    """What decides the row's latency, as a short hash."""
    content = {
        "row": row.model_dump(mode="json", exclude={"budget"}),
        "source": source_hash(row.architecture),
        "budget": budget.model_dump(mode="json", exclude_none=True),
        "suite": setting.suite.model_dump(mode="json", include={"tokenizer", "tokens", "token_dim", "tuned"}),
        "tower_dim": setting.suite.tower_dim,
        "target_attention": setting.suite.target_attention,
        "precision": setting.suite.training.precision,
        "compile": setting.suite.training.compile,
        "dataset": setting.prepared.fingerprint,
        "tasks": setting.tasks,
        "whole_tables": row.trained_by(setting.suite.training).updates_whole_tables,  # other look-ups
        "device": setting.world.device.type,
        "threads": torch.get_num_threads(),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


@dataclass
class Size:
    """A row at some FLOPs and the p99 of every round that was made of it, in milliseconds."""

    flops: float
    matched: MatchedRow
    rounds: list[float]

    @property
    def p99(self) -> float:
        return statistics.median(self.rounds)


def _search(
    name: str, target: float, at: Callable[[float], MatchedRow], measure: Callable[[MatchedRow], list[float]]
) -> Found:
    sizes: list[Size] = []
    flops = FIRST_FLOPS
    for _ in range(MOST_SIZES):
        try:
            matched = at(flops)
        except InputError as error:
            raise _out_of_reach(name, target, sizes, str(error)) from None
        size = next((known for known in sizes if known.matched.config == matched.config), None)
        if size is None:
            size = Size(flops, matched, measure(matched))
            sizes.append(size)
        if abs(size.p99 / target - 1) <= CLOSE:
            size.rounds += measure(matched)
            if abs(size.p99 / target - 1) <= CLOSE:
                return Found(
                    row=name,
                    flops_per_sample=size.flops,
                    p99_ms=size.p99,
                    spread=relative_spread(size.rounds),
                )
        flops = next_flops(target, [(known.flops, known.p99) for known in sizes])
    raise _out_of_reach(name, target, sizes, f"none of {len(sizes)} sizes came nearer")


def next_flops(target: float, measured: list[tuple[float, float]]) -> float:
    """Where to look next, from pairs of (FLOPs, p99).

    Between the largest size that is too fast and the smallest that is too slow, on the line in logarithms,
    but not within a tenth of either end; beyond all of them by the ratio to the target, at most
    `LARGEST_STEP`.
    """
    below = max((pair for pair in measured if pair[1] < target), default=None)
    above = min((pair for pair in measured if pair[1] >= target), default=None)
    if below is None or above is None or below[0] >= above[0]:
        flops, p99 = below or above or measured[-1]
        return flops * min(LARGEST_STEP, max(1 / LARGEST_STEP, target / p99))
    share = math.log(target / below[1]) / math.log(above[1] / below[1])
    return below[0] * (above[0] / below[0]) ** min(0.9, max(0.1, share))


def _out_of_reach(name: str, target: float, sizes: list[Size], reason: str) -> InputError:
    nearest = min(sizes, key=lambda size: abs(math.log(size.p99 / target)), default=None)
    came = ""
    if nearest is not None:
        spread = relative_spread(nearest.rounds)
        came = f"; nearest is {nearest.p99:.3g} ms at {nearest.flops:.3g} FLOPs (spread {spread:.0%})"
    return InputError(
        f"{name}: no size has a p99 within {CLOSE:.0%} of {target:g} ms: {reason}{came}; choose another "
        "latency, or a quieter machine"
    )
