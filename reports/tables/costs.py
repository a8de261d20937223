"""The cost table of a dataset: parameters, FLOPs, budget miss, speed and MFU, with the paper's numbers.

Without a budget, costs are compared with the base's. Models with experts show how many are active.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd

from harness.records.contestant import Contestant
from harness.records.record import Record
from reports.cells import (
    MISSING,
    ROUGH,
    Shown,
    fixed,
    grouped,
    is_missing,
    model_name,
    params,
    percent,
    rough,
    short,
    signed,
)
from reports.paper.comparison import paper_note, paper_row, paper_table
from reports.paper.printed import Table as PaperTable
from reports.results import COSTS
from reports.sections import Section
from reports.tables.markup import Table

_MEASURED = ("train_samples_per_second", "eval_samples_per_second", "mfu_train")
BUSY = 1.5  # a peak that moves by more than this from run to run was measured on a busy machine


def _mfu(value: float | None) -> str:
    return percent(value, 1 if is_missing(value) or value >= 0.01 else 3)  # type: ignore[operator]


def rough_mfu(cell: Shown, row: dict) -> Shown:
    """The printed MFU of a row of `cost_numbers`, marked where the machine was busy or shared."""
    return rough(cell) if row["is_mfu_rough"] or not is_missing(row["runs_at_once"]) else cell


def _change(value: float | None) -> str:
    return percent(value, 1, sign=True)


def _printed_change(value: float | None) -> str:
    """The paper prints changes in percent."""
    return MISSING if is_missing(value) else Shown(f"{signed(value, 1)}%", value)


_COST_COLUMNS: list[tuple[str, str, Callable[..., str]]] = [
    ("dense_params", "dense params", params),
    ("sparse_params", "sparse params", params),
    ("flops_per_sample", "FLOPs/sample", short),
    ("active_flops_per_sample", "active FLOPs/sample", short),
    ("flops_per_batch_512", "FLOPs/batch of 512", short),
    ("train_flops_per_sample", "train FLOPs/sample", short),
    ("params_vs_base", "params vs base", _change),
    ("flops_vs_base", "FLOPs vs base", _change),
    ("active_ratio_target", "active ratio: target", lambda value: fixed(value, 3)),
    ("active_ratio", "measured", lambda value: fixed(value, 3)),
    ("dead_experts", "dead experts", short),
    ("experts", "of", grouped),
    ("budget_miss", "budget miss", _change),
    ("train_samples_per_second", "train samples/s", short),
    ("eval_samples_per_second", "eval samples/s", short),
    ("mfu_train", "train MFU", _mfu),
]


# The paper's costs, where its table has such a column.
_PAPER_COLUMNS: list[tuple[str, str, Callable[..., str]]] = [
    ("dense_params", "paper: params", params),
    ("flops_per_batch_512", "paper: FLOPs/batch of 512", short),
    ("params_change", "paper: params change", _printed_change),
    ("flops_change", "paper: FLOPs change", _printed_change),
]


def cost_numbers(section: Section) -> pd.DataFrame:
    """One row for each contestant: costs, median speeds, the paper's numbers.

    ``budget_miss``, ``params_vs_base`` and ``flops_vs_base`` are signed fractions, the latter two only
    where no model has a budget. ``active_ratio``, ``dead_experts`` and ``active_flops_per_sample`` are
    means over seeds; ``experts`` counts those of all layers and tokens. ``runs_at_once`` is the most that
    shared the machine with one of its runs, missing where each had it alone.
    """
    printed = paper_table(section)
    numbers = pd.DataFrame([_cost_row(section, contestant, printed) for contestant in section.contestants])
    has_budget = any(run.budget for run in section.records)
    numbers["is_mfu_rough"] = [_is_rough(section.select_finished(c)) for c in section.contestants]
    is_base = [contestant == section.base for contestant in section.contestants]
    for name, cost in (("params_vs_base", "dense_params"), ("flops_vs_base", "flops_per_sample")):
        base = numbers.loc[is_base, cost].dropna()
        known = not has_budget and not base.empty
        numbers[name] = numbers[cost].astype(float) / base.iloc[0] - 1 if known else math.nan
    return numbers


def _cost_row(section: Section, contestant: Contestant, printed: PaperTable | None) -> dict[str, object]:
    runs = section.runs_of(contestant)
    ended = section.select_finished(contestant)
    theirs = paper_row(printed, contestant)
    costs = [run.cost for run in ended or runs if run.cost]
    trainings = [run.training for run in ended if run.training]
    row: dict[str, object] = {"architecture": contestant.architecture, "variant": contestant.variant}
    row |= {name: _known(np.mean, [getattr(cost, name) for cost in costs]) for name in COSTS}
    row |= _expert_numbers(runs)
    row["budget_miss"] = next((run.budget.miss for run in runs if run.budget), None)
    row |= {name: _known(np.median, [getattr(each, name) for each in trainings]) for name in _MEASURED}
    shared = [training.runs_at_once for training in trainings if training.runs_at_once]
    row["runs_at_once"] = max(shared, default=None)
    row["paper_row"] = theirs.name if theirs else None
    for name, _, _ in _PAPER_COLUMNS:
        row[f"paper_{name}"] = theirs.numbers.get(name) if theirs else None
    return row


def _expert_numbers(runs: list[Record]) -> dict[str, float | None]:
    routings = [run.routing for run in runs if run.routing]
    tests = [routing.test for routing in routings if routing.test]
    return {
        "active_ratio_target": routings[0].target if routings else None,
        "active_ratio": _known(np.mean, [test.active_ratio for test in tests]),
        "dead_experts": _known(np.mean, [test.dead_experts for test in tests]),
        "experts": tests[0].num_experts if tests else None,
    }


def used_flops(numbers: pd.DataFrame) -> pd.Series:
    """The forward FLOPs that a sample uses, by row of `cost_numbers`: without experts that it leaves out."""
    return numbers["active_flops_per_sample"].fillna(numbers["flops_per_sample"])


def _is_rough(runs: list[Record]) -> bool:
    """Whether the machine's peak, timed within each run, moved from run to run."""
    peaks = [run.training.peak_flops for run in runs if run.training and run.training.peak_flops]
    return bool(peaks) and max(peaks) > BUSY * min(peaks)


def _known(statistic: Callable[[list[float]], Any], values: Iterable[float | None]) -> float | None:
    """The statistic of those values that were measured; None where none was."""
    known = [value for value in values if value is not None]
    return float(statistic(known)) if known else None


def cost_table(section: Section) -> Table:
    """Parameters, FLOPs, budget miss, speed and MFU, with the paper's parameters and FLOPs."""
    numbers = cost_numbers(section)
    printed = paper_table(section)
    columns = [column for column in _COST_COLUMNS if _is_worth_showing(numbers, column[0])]
    for name, title, show in _PAPER_COLUMNS:
        if printed and name in printed.columns:
            columns.append((f"paper_{name}", title, show))
    rows = numbers.to_dict("records")
    return Table.from_columns(
        name=f"cost-{section.name}",
        caption=f"Cost on {section.dataset}",
        numbers=numbers,
        columns={"model": list(map(model_name, rows))}
        | {title: [_cell(show(row[name]), name, row) for row in rows] for name, title, show in columns},
        notes=_cost_notes(section, numbers),
    )


def _cell(shown: str, name: str, row: dict) -> str:
    """The printed cost; a rate is marked where the machine was shared, MFU where it was busy, too."""
    if name not in _MEASURED or not isinstance(shown, Shown):
        return shown
    if name == "mfu_train":
        return rough_mfu(shown, row)
    return shown if is_missing(row["runs_at_once"]) else rough(shown)


def _is_worth_showing(numbers: pd.DataFrame, name: str) -> bool:
    """Whether a model has a value; FLOPs of other kinds only if they do not follow from forward FLOPs."""
    forward = numbers["flops_per_sample"]
    if name == "active_flops_per_sample" and numbers[name].equals(forward):
        return False
    if name == "train_flops_per_sample" and (numbers[name].isna() | (numbers[name] == 3 * forward)).all():
        return False
    return bool(numbers[name].notna().any())


def _cost_notes(section: Section, numbers: pd.DataFrame) -> list[str]:
    notes = ["FLOPs: forward pass, a multiply-add counts as two. samples/s and MFU: medians over seeds."]
    notes += rough_note(numbers)
    if numbers["flops_vs_base"].notna().any():
        notes.append("vs base: dense parameters and forward FLOPs over the base's; there is no budget.")
    if numbers["active_ratio"].notna().any():
        notes.append("Train FLOPs are three times what the training step's forward pass computes.")
        notes.append(
            "Active ratio: mean share of a token's experts that are active on the test split. Dead experts "
            "are active on less than 0.1% of its rows, over all layers and tokens. Both: means over seeds."
        )
    if ways := measuring_conditions(section):
        notes.append(f"Measured on: {'; '.join(ways)}.")
    printed = paper_table(section)
    if printed and {"flops_per_batch_512", "flops_change"} & set(printed.columns):
        its_own = " Its FLOPs are its own count of training, not ours."
        counted = "flops_per_batch_512" in printed.columns
        notes.append(paper_note(section, printed) + (its_own if counted else ""))
    return notes


def rough_note(numbers: pd.DataFrame) -> list[str]:
    """What the mark of a rough MFU or rate means, where there is one."""
    notes = []
    if numbers["is_mfu_rough"].any():
        notes.append(
            f"{ROUGH}: the peak moved by more than {BUSY:g} times between the model's runs; "
            "the machine was busy."
        )
    if numbers["runs_at_once"].notna().any():
        notes.append(shared_note(int(numbers["runs_at_once"].max())))
    return notes


def shared_note(runs_at_once: int) -> str:
    """What the mark means at the rates and the MFU of runs that shared the machine."""
    return (
        f"{ROUGH}: up to {runs_at_once} runs shared the machine; their training and evaluation speeds and "
        "train MFU cannot be compared with those of runs that had it alone."
    )


def measuring_conditions(section: Section) -> list[str]:
    """Device, precision, batch size and peak of the runs; one entry where all are the same."""
    peaks: dict[tuple, list[float]] = {}
    for training in (run.training for run in section.records if run.training):
        # A run's peak is a median of as many products as its time allowed: that number tells no ways apart.
        source = re.sub(r"median of \d+ ", "medians of ", training.peak_source or "")
        way = (training.device, training.precision, training.batch_size, source, training.processes)
        peaks.setdefault(way, []).extend([training.peak_flops] if training.peak_flops else [])
    return [
        f"{device or 'device unknown'}, {precision or 'precision unknown'}, batch {grouped(batch)}, "
        + ("" if processes is None else f"in the end on processes fewer than its shares ({processes}), ")
        + _peak_of(measured, source)
        for (device, precision, batch, source, processes), measured in peaks.items()
    ]


def _peak_of(measured: list[float], source: str) -> str:
    if not measured:
        return "no peak recorded"
    least, middle, most = (
        short(float(value)) for value in (min(measured), np.median(measured), max(measured))
    )
    spread = "" if least == most else f", {least}FLOP/s to {most}FLOP/s over the runs"
    return f"peak {middle}FLOP/s{spread} ({source})"
