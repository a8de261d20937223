"""The main table of a dataset: one quality table a task, and one of costs.

``quality_numbers`` and ``cost_numbers`` return raw numbers; ``quality_table`` and ``cost_table`` put them
into the words and digits that people read, the paper's own numbers beside them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from reports.cells import (
    MISSING,
    fixed,
    grouped,
    interval,
    is_missing,
    params,
    percent,
    short,
    signed,
    spread,
)
from reports.markup import Table
from reports.paper import Paper
from reports.paper import Row as PaperRow
from reports.paper import Table as PaperTable
from reports.records import COSTS, Contestant, Record, label
from reports.sections import Section, slug

QUALITIES = ("auc", "uauc", "gauc")
POINTS = 100  # differences are printed as the paper prints them: AUC points x 100
NO_DIFFERENCE = "no difference seen"


def mean_interval(values: list[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean and Student-t interval over seeds: (mean, low, high).

    The interval is NaN for one value, all three for none.
    """
    if not values:
        return math.nan, math.nan, math.nan
    mean = float(np.mean(values))
    if len(values) == 1:
        return mean, math.nan, math.nan
    half = float(
        stdtrit(len(values) - 1, 0.5 + confidence / 2) * np.std(values, ddof=1) / math.sqrt(len(values))
    )
    return mean, mean - half, mean + half


# --- Quality ----------------------------------------------------------------------------------------------


def quality_numbers(section: Section, task: str, paper: Paper) -> pd.DataFrame:
    """One row a contestant (base first), then one a reference; AUCs and differences are fractions.

    For each of auc, uauc and gauc: ``<metric>`` (mean over seeds) with ``_low`` and ``_high`` (95%
    interval over seeds), ``_diff`` to the base with ``_diff_low``, ``_diff_high`` (95% interval),
    ``_diff_users_low``, ``_diff_users_high`` (its part from users) and ``_resolved`` (yes, no, one seed,
    few users), and ``_paper``, the paper's printed value (points x 100, or the AUC in its base row).
    """
    printed = paper_table(section, paper)
    rows = [_quality_row(section, task, contestant, "model", printed) for contestant in section.contestants]
    rows += [_quality_row(section, task, reference, "reference", None) for reference in section.references]
    return pd.DataFrame(rows)


def paper_table(section: Section, paper: Paper) -> PaperTable | None:
    """The paper's table that the suite stands beside, if it names one."""
    return paper.tables.get(section.suite.paper_table or "")


def paper_row(printed: PaperTable | None, contestant: Contestant) -> PaperRow | None:
    """The paper's row for a contestant; the default variant has the row of the plain architecture."""
    if printed is None:
        return None
    plain = contestant.label == contestant.architecture
    return printed.row(contestant.architecture, "" if plain else contestant.variant)


def _quality_row(
    section: Section, task: str, contestant: Contestant, kind: str, printed: PaperTable | None
) -> dict[str, object]:
    runs = section.runs_of(contestant)
    measured = [run.metrics[task] for run in section.finished(contestant) if task in run.metrics]
    beside = paper_row(printed, contestant)
    row: dict[str, object] = {
        "kind": kind,
        "architecture": contestant.architecture,
        "variant": contestant.variant,
        "is_base": kind == "model" and contestant == section.base,
        "task": task,
        "seeds": len(measured),
        "failed_seeds": sum(run.status == "failed" for run in runs),
        "users": max((m.users for m in measured if m.users is not None), default=None),
        "rows": max((m.rows for m in measured if m.rows is not None), default=None),
        "paper_row": beside.name if beside else None,
    }
    for metric in ("logloss", "normalized_entropy", "calibration"):
        row[metric] = mean_interval(_values(measured, metric))[0]
    for metric in QUALITIES:
        row[metric], row[f"{metric}_low"], row[f"{metric}_high"] = mean_interval(_values(measured, metric))
        row |= _difference(section, task, metric, contestant)
        column = printed.column(task, metric) if printed else None
        row[f"{metric}_paper"] = beside.numbers.get(column, math.nan) if beside and column else math.nan
    return row


def _values(measured: list, metric: str) -> list[float]:
    return [value for m in measured if (value := getattr(m, metric)) is not None]


def _difference(section: Section, task: str, metric: str, contestant: Contestant) -> dict[str, object]:
    compared = section.comparisons
    match = compared[
        (compared["task"] == task)
        & (compared["metric"] == metric)
        & (compared["architecture"] == contestant.architecture)
        & (compared["variant"] == contestant.variant)
    ]
    names = {"diff": "diff", "low": "diff_low", "high": "diff_high", "resolved": "resolved"}
    names |= {"users_low": "diff_users_low", "users_high": "diff_users_high"}
    if match.empty:
        return {f"{metric}_{ours}": None if ours == "resolved" else math.nan for ours in names.values()}
    return {f"{metric}_{ours}": match.iloc[-1][theirs] for theirs, ours in names.items()}


def quality_table(section: Section, task: str, paper: Paper) -> Table:
    """AUC, UAUC and GAUC of one task, differences to the base, and the paper's gains beside ours."""
    numbers = quality_numbers(section, task, paper)
    printed = paper_table(section, paper)
    header = ["model", "seeds"]
    for metric in QUALITIES:
        header += [metric.upper(), f"{metric.upper()} vs base x100"]
        if column := printed and printed.column(task, metric):
            header.append(f"paper: {printed.columns[column].label}")  # type: ignore[union-attr]
    cells = [_quality_cells(row, printed, task) for row in numbers.to_dict("records")]
    num_models = len(section.contestants)
    return Table(
        name=f"quality-{section.name}-{slug(task)}",
        caption=f"Quality on {section.dataset}, task {task}, test split",
        numbers=numbers,
        header=header,
        rows=cells[:num_models],
        references=cells[num_models:],
        notes=_quality_notes(section, numbers, paper, task),
    )


def _quality_cells(row: dict, printed: PaperTable | None, task: str) -> list[str]:
    total = row["seeds"] + row["failed_seeds"]
    seeds = str(row["seeds"]) if not row["failed_seeds"] else f"{row['seeds']} of {total}"
    cells = [label(row["architecture"], row["variant"]), seeds if row["kind"] == "model" else MISSING]
    for metric in QUALITIES:
        value = spread(row[metric], row[f"{metric}_low"], row[f"{metric}_high"], 4)
        cells.append("failed" if not row["seeds"] and row["failed_seeds"] else value)
        cells.append(difference_cell(row, metric))
        if printed and printed.column(task, metric):
            cells.append(_paper_cell(row, metric, printed))
    return cells


def difference_cell(row: dict, metric: str) -> str:
    """``+0.64 (+0.51 to +0.77) higher``, or ``no difference seen`` after the interval.

    With one seed the interval is the users' alone, and is marked so.
    """
    if row["is_base"]:
        return "base"
    if is_missing(row[f"{metric}_diff"]):
        return MISSING
    diff, low, high = (POINTS * row[f"{metric}_{name}"] for name in ("diff", "diff_low", "diff_high"))
    if is_missing(low) and not is_missing(row[f"{metric}_diff_users_low"]):
        low, high = (POINTS * row[f"{metric}_diff_users_{end}"] for end in ("low", "high"))
        return f"{interval(diff, low, high, 2)} over users, {verdict(row, metric)}"
    return f"{interval(diff, low, high, 2)} {verdict(row, metric)}"


def verdict(row: dict, metric: str) -> str:
    """``higher``, ``lower``, ``no difference seen``, or ``untested`` and why (one seed, few users)."""
    resolved = str(row[f"{metric}_resolved"])
    if resolved == "yes":
        return "higher" if row[f"{metric}_diff"] > 0 else "lower"
    return NO_DIFFERENCE if resolved == "no" else f"untested ({resolved})"


def _paper_cell(row: dict, metric: str, printed: PaperTable) -> str:
    value = row[f"{metric}_paper"]
    is_paper_base = any(r.base and r.name == row["paper_row"] for r in printed.rows)
    return f"{fixed(value, 4)} (its base)" if is_paper_base and not is_missing(value) else signed(value, 2)


def _quality_notes(section: Section, numbers: pd.DataFrame, paper: Paper, task: str) -> list[str]:
    base = section.base.label if section.base else section.suite.base
    notes = []
    if numbers["users"].notna().any():
        users, rows = numbers["users"].max(), numbers["rows"].max()
        notes.append(f"UAUC and GAUC: {grouped(users)} users with both labels ({grouped(rows)} rows).")
    notes.append(
        "AUC, UAUC, GAUC: mean over seeds ± half the width of its 95% t-interval (none for one seed)."
    )
    if section.comparisons.empty:
        notes.append("The folder holds no comparisons, so differences to the base are not shown.")
    else:
        notes.append(
            f"vs base: difference to {base} in AUC points x 100, over the seeds both finished, with its 95% "
            f'interval over users and seeds; "higher" and "lower" are resolved, else {NO_DIFFERENCE}; '
            "with one seed nothing is claimed."
        )
    printed = paper_table(section, paper)
    if printed and any(printed.column(task, metric) for metric in QUALITIES):
        notes.append(paper_note(section, printed, paper))
    return notes


def paper_note(section: Section, printed: PaperTable, paper: Paper) -> str:
    """Which of the paper's rows stand beside which of ours, and whose data they are from."""
    pairs = [
        f"{contestant.label} = {row.name}"
        for contestant in section.contestants
        if (row := paper_row(printed, contestant))
    ]
    beside = f"; rows: {', '.join(pairs)}" if pairs else "; none of these models is in it"
    return f"paper: {printed.label} of {paper.citation}, on its own data and sizes{beside}."


def printed_table(key: str, paper: Paper) -> Table:
    """A table of the paper as it was printed, with its units and what is odd about it."""
    printed = paper.tables[key]
    columns = list(printed.columns.values())
    units = {
        unit: ", ".join(c.label for c in columns if c.unit == unit)
        for unit in dict.fromkeys(c.unit for c in columns)
    }
    rows = [
        [row.name, *(_printed_cell(row, name, printed) for name in printed.columns)] for row in printed.rows
    ]
    frame = paper.frame()
    return Table(
        name=f"paper-{key}",
        caption=f"The paper's {printed.label} ({printed.about}), from {paper.citation}",
        numbers=frame[frame["table"] == printed.label],
        header=["row", *(column.label for column in columns)],
        rows=rows,
        notes=[*(f"{names}: {unit}." for unit, names in units.items()), *paper.notes_on(key)],
    )


def _printed_cell(row: PaperRow, name: str, printed: PaperTable) -> str:
    value, unit = row.numbers.get(name), printed.columns[name].unit
    if unit.startswith("AUC points"):
        return fixed(value, 4) if row.base else signed(value, 2)
    if unit == "dense parameters":
        return params(value)
    return short(value) if unit.startswith("FLOPs") else fixed(value, 2)


# --- Cost -------------------------------------------------------------------------------------------------

_MEASURED = (
    "train_samples_per_second",
    "eval_samples_per_second",
    "mfu_train",
    "mfu_inference",
    "latency_ms_p50",
    "latency_ms_p99",
)


_COST_COLUMNS: list[tuple[str, str, Callable[..., str]]] = [
    ("dense_params", "dense params", params),
    ("sparse_params", "sparse params", params),
    ("flops_per_sample", "FLOPs/sample", short),
    ("active_flops_per_sample", "active FLOPs/sample", short),
    ("flops_per_batch_512", "FLOPs/batch of 512", short),
    ("budget_miss", "budget miss", lambda value: percent(value, 1, sign=True)),
    ("train_samples_per_second", "train samples/s", short),
    ("eval_samples_per_second", "eval samples/s", short),
    ("mfu_train", "train MFU", percent),
    ("mfu_inference", "inference MFU", percent),
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
