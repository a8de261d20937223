"""The cost table of a dataset: parameters, FLOPs, budget miss, speed and MFU, the paper's beside them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from reports.beside import paper_note, paper_row, paper_table
from reports.cells import grouped, is_missing, params, percent, short
from reports.markup import Table
from reports.paper import Paper
from reports.paper import Table as PaperTable
from reports.records import COSTS, Contestant, Record, label
from reports.sections import Section

_MEASURED = (
    "train_samples_per_second",
    "eval_samples_per_second",
    "mfu_train",
    "mfu_inference",
    "latency_ms_p50",
    "latency_ms_p99",
)


def _mfu(value: float | None) -> str:
    return percent(value, 1 if is_missing(value) or value >= 0.01 else 3)  # type: ignore[operator]


_COST_COLUMNS: list[tuple[str, str, Callable[..., str]]] = [
    ("dense_params", "dense params", params),
    ("sparse_params", "sparse params", params),
    ("flops_per_sample", "FLOPs/sample", short),
    ("active_flops_per_sample", "active FLOPs/sample", short),
    ("flops_per_batch_512", "FLOPs/batch of 512", short),
    ("budget_miss", "budget miss", lambda value: percent(value, 1, sign=True)),
    ("train_samples_per_second", "train samples/s", short),
    ("eval_samples_per_second", "eval samples/s", short),
    ("mfu_train", "train MFU", _mfu),
    ("mfu_inference", "inference MFU", _mfu),
    ("latency_ms_p50", "latency p50 ms", short),
    ("latency_ms_p99", "latency p99 ms", short),
]


def cost_numbers(section: Section, paper: Paper) -> pd.DataFrame:
    """One row a contestant: costs, budget miss (fraction), median speeds, the paper's numbers."""
    printed = paper_table(section, paper)
    return pd.DataFrame([_cost_row(section, contestant, printed) for contestant in section.contestants])


def _cost_row(section: Section, contestant: Contestant, printed: PaperTable | None) -> dict[str, object]:
    runs = section.runs_of(contestant)
    beside = paper_row(printed, contestant)
    costs = [run.cost for run in runs if run.cost]
    row: dict[str, object] = {"architecture": contestant.architecture, "variant": contestant.variant}
    row |= {name: getattr(costs[0], name) if costs else None for name in COSTS}
    row["budget_miss"] = next((run.budget.miss for run in runs if run.budget), None)
    row |= {name: _median(runs, name) for name in _MEASURED}
    row["paper_row"] = beside.name if beside else None
    for name in ("dense_params", "flops_per_batch_512"):
        row[f"paper_{name}"] = beside.numbers.get(name) if beside else None
    return row


def _median(runs: list[Record], name: str) -> float | None:
    values = [getattr(run.training, name) for run in runs if run.training and run.status == "finished"]
    values = [value for value in values if value is not None]
    return float(np.median(values)) if values else None


def cost_table(section: Section, paper: Paper) -> Table:
    """Parameters, FLOPs, budget miss, speed and MFU; the paper's parameters and FLOPs beside them."""
    numbers = cost_numbers(section, paper)
    printed = paper_table(section, paper)
    columns = [column for column in _COST_COLUMNS if _is_worth_showing(numbers, column[0])]
    if printed and "dense_params" in printed.columns:
        columns += [
            ("paper_dense_params", "paper: params", params),
            ("paper_flops_per_batch_512", "paper: FLOPs/batch of 512", short),
        ]
    rows = [
        [label(row["architecture"], row["variant"]), *(show(row[name]) for name, _, show in columns)]
        for row in numbers.to_dict("records")
    ]
    return Table(
        name=f"cost-{section.name}",
        caption=f"Cost on {section.dataset}",
        numbers=numbers,
        header=["model", *(title for _, title, _ in columns)],
        rows=rows,
        notes=_cost_notes(section, paper),
    )


def _is_worth_showing(numbers: pd.DataFrame, name: str) -> bool:
    """Whether any model has a value, and active FLOPs only where they are not simply the FLOPs."""
    if name == "active_flops_per_sample" and numbers[name].equals(numbers["flops_per_sample"]):
        return False
    return bool(numbers[name].notna().any())


def _cost_notes(section: Section, paper: Paper) -> list[str]:
    notes = ["FLOPs are forward, a multiply-add is two; samples/s and MFU are medians over seeds."]
    if ways := measuring_conditions(section):
        notes.append(f"Measured on: {'; '.join(ways)}.")
    printed = paper_table(section, paper)
    if printed and "flops_per_batch_512" in printed.columns:
        notes.append(
            f"{paper_note(section, printed, paper)} Its FLOPs are its own count of training, not ours."
        )
    return notes


def measuring_conditions(section: Section) -> list[str]:
    """Device, precision, batch size and peak of the runs; one entry where all are alike."""
    peaks: dict[tuple, list[float]] = {}
    for training in (run.training for run in section.records if run.training):
        way = (training.device, training.precision, training.batch_size, training.peak_source)
        peaks.setdefault(way, []).extend([training.peak_flops] if training.peak_flops else [])
    return [
        f"{device or 'device unknown'}, {precision or 'precision unknown'}, batch {grouped(batch)}, "
        + (f"peak {short(float(np.median(measured)))}FLOP/s ({source})" if measured else "no peak recorded")
        for (device, precision, batch, source), measured in peaks.items()
    ]
