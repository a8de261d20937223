"""The main table of a dataset: what each model reaches and what it costs, one row a model.

A page begins with its most asked-for columns, the best model first.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd

from reports.cells import METRICS, MISSING, POINTS, ROUGH, Shown, fixed, model_name, params, percent, short
from reports.sections import Section, shown_metrics
from reports.tables.costs import cost_numbers, rough_mfu, rough_note, used_flops
from reports.tables.markup import Table
from reports.tables.quality import marked_difference, quality_numbers, select_metric, verdict
from reports.tables.speeds import memory, mfu, milliseconds, rate, shown_batch_size, shown_speeds, speed_notes

QUANTITIES = ("mean", "diff", "diff_low", "diff_high", "resolved")
COSTS = ("dense_params", "flops_per_sample", "active_flops_per_sample", "mfu_train")
RANKED_COSTS = ("dense params", "FLOPs/sample", "inference MFU", "p99 ms")
SHOWN_TASKS = 2  # more do not fit beside each other
SPEEDS = ("latency_ms_p50", "latency_ms_p99", "samples_per_second", "mfu", "noisy", "memory_bytes")


def main_table(section: Section) -> list[Table]:
    """AUC and UAUC of every task with their differences, parameters, FLOPs, MFU, latency, rate and memory.

    None where no model ran.
    """
    if not section.contestants:
        return []
    quality = {task: quality_numbers(section, task) for task in section.tasks}
    names = [model_name(row) for row in select_metric(next(iter(quality.values())), "auc")]
    columns: dict[str, list[str]] = {"model": names}
    for task, numbers in quality.items():
        for metric in shown_metrics(section):
            rows = select_metric(numbers, metric)
            columns[f"{task} {metric.upper()}"] = [_mean(row) for row in rows]
            columns[f"{task} {metric.upper()} vs base"] = [
                marked_difference(row, "base", f" {verdict(row)}") for row in rows
            ]
    references = [MISSING] * len(section.references)
    costs = cost_numbers(section)
    columns |= {title: cells + references for title, cells in _costs(section, costs).items()}
    return [
        Table.from_columns(
            name=f"main-{section.name}",
            caption=f"Quality and cost on {section.dataset}",
            numbers=_numbers(section, quality, costs),
            columns=columns,
            notes=_notes(section, costs),
            num_references=len(section.references),
            ranked=[title for title in columns if title.endswith(" vs base")],
        )
    ]


def _mean(row: dict) -> str:
    return "failed" if not row["seeds"] and row["failed_seeds"] else fixed(row["mean"], 4)


def _costs(section: Section, costs: pd.DataFrame) -> dict[str, list[str]]:
    """The columns of what the models cost; those of speed only where it was measured."""
    rows = costs.to_dict("records")
    columns: dict[str, list[str]] = {
        "dense params": [params(row["dense_params"]) for row in rows],
        "FLOPs/sample": list(map(short, used_flops(costs))),
        "train MFU": [rough_mfu(percent(row["mfu_train"], 0), row) for row in rows],
    }
    if not (found := shown_speeds(section).values()):
        return columns
    return columns | {
        "inference MFU": [mfu(model) for model in found],
        "p50 ms": [milliseconds(model, "p50") for model in found],
        "p99 ms": [milliseconds(model, "p99") for model in found],
        "samples/s": [rate(model) for model in found],
        "memory, MB": [memory(model) for model in found],
    }


def _numbers(section: Section, quality: dict[str, pd.DataFrame], costs: pd.DataFrame) -> pd.DataFrame:
    """One row a model: ``<task>_<metric>_<quantity>``, costs and speeds. Differences are fractions."""
    first = select_metric(next(iter(quality.values())), "auc")
    table = pd.DataFrame(first)[["kind", "architecture", "variant"]]
    for task, numbers in quality.items():
        for metric in METRICS:
            rows = pd.DataFrame(select_metric(numbers, metric))
            for name in QUANTITIES:
                table[f"{task}_{metric}_{name}"] = rows[name].to_numpy()
    found: list[dict] = [*costs[[*COSTS]].to_dict("records"), *({} for _ in section.references)]
    for row, model in zip(found, shown_speeds(section).values(), strict=False):
        if model:
            row |= {name: getattr(model, name) for name in (*SPEEDS, "batch_size")}
    return table.join(pd.DataFrame(found, index=table.index))


def _notes(section: Section, costs: pd.DataFrame) -> list[str]:
    against = f" to {section.base.display_name}" if section.base is not None else ""
    notes = [
        f"vs base: difference{against} in AUC points x {POINTS}. A word after it: it survives Holm's "
        "correction over the column; without one nothing is claimed. Intervals: in the tables of each task."
    ]
    if section.no_verdict:
        notes = ["No verdict: the data leak, as the report says above."]
    notes.append("FLOPs: forward, of the experts that a sample uses. Train MFU: of whole steps.")
    notes += rough_note(costs)
    if section.serving is None:
        return [*notes, "How fast the models answer was not measured."]
    size = shown_batch_size(section.serving)
    return [*notes, f"Speeds: of {size} rows a call, look-ups included.", *speed_notes(section.serving)[1:]]


# --- At the top of a page ---------------------------------------------------------------------------------


def ranked_table(section: Section, main: Table) -> Table:
    """The main table by falling AUC of the first task, without what a first look does not need.

    Of the intervals that the forest shows beside it, the cells keep the differences alone.
    """
    wanted = {"model", *RANKED_COSTS} if "p99 ms" in main.header else {"model", *RANKED_COSTS, "train MFU"}
    for task in section.tasks[:SHOWN_TASKS]:
        wanted |= {f"{task} {metric.upper()}{end}" for metric in METRICS for end in ("", " vs base")}
    kept = [place for place, title in enumerate(main.header) if title in wanted]
    first = main.header.index(f"{section.tasks[0]} AUC")
    by_quality = sorted(main.rows, key=lambda row: -_value(row[first]))
    return replace(
        main,
        name=f"ranked-{section.name}",
        caption=f"{section.dataset}: the best AUC of {section.tasks[0]} first",
        header=[_short(main.header[place]) for place in kept],
        rows=[[_alone(row[place]) for place in kept] for row in by_quality],
        references=[[_alone(row[place]) for place in kept] for row in main.references],
        notes=[note for note in main.notes if note.startswith(ROUGH) and "train MFU" in wanted],
    )


def _short(title: str) -> str:
    """A heading beside the one that it belongs to."""
    if title.endswith(" vs base"):
        return "vs base"
    return title.removeprefix("dense ").removeprefix("inference ").removesuffix("/sample")


def _value(cell: str) -> float:
    """The raw number; one that is not known comes last."""
    value = cell.value if isinstance(cell, Shown) else None
    return -math.inf if value is None else value


def _alone(cell: str) -> str:
    """The cell without its interval."""
    return Shown(str(cell), cell.value) if isinstance(cell, Shown) else cell
