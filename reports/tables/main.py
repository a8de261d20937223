"""The main table of a dataset: what each model reaches and what it costs, one row a model."""

from __future__ import annotations

import pandas as pd

from reports.cells import (
    METRICS,
    MISSING,
    POINTS,
    Shown,
    fixed,
    is_missing,
    model_name,
    params,
    percent,
    short,
    signed,
)
from reports.paper.printed import Paper
from reports.sections import Section, shown_metrics
from reports.tables.costs import cost_numbers, rough_mfu, rough_note
from reports.tables.markup import Table
from reports.tables.quality import in_points, quality_numbers, select_metric, verdict
from reports.tables.speeds import (
    SHOWN_PART,
    memory,
    mfu,
    milliseconds,
    rate,
    shown_batch_size,
    speed_notes,
)

QUANTITIES = ("mean", "diff", "diff_low", "diff_high", "resolved")
COSTS = ("dense_params", "flops_per_sample", "active_flops_per_sample", "mfu_train")
SPEEDS = ("latency_ms_p50", "latency_ms_p99", "samples_per_second", "mfu", "noisy", "memory_bytes")


def main_table(section: Section, paper: Paper) -> list[Table]:
    """AUC and UAUC of every task with their differences, parameters, FLOPs, MFU, latency, rate and memory.

    None where no model ran.
    """
    if not section.contestants:
        return []
    quality = {task: quality_numbers(section, task, paper) for task in section.tasks}
    names = [model_name(row) for row in select_metric(next(iter(quality.values())), "auc")]
    columns: dict[str, list[str]] = {"model": names}
    for task, numbers in quality.items():
        for metric in shown_metrics(section):
            rows = select_metric(numbers, metric)
            columns[f"{task} {metric.upper()}"] = [_mean(row) for row in rows]
            columns[f"{task} {metric.upper()} vs base"] = [_difference(row) for row in rows]
    references = [MISSING] * len(section.references)
    costs = cost_numbers(section, paper)
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


def _difference(row: dict) -> str:
    """``+0.23 higher``: the difference in points and, where it is resolved, its direction."""
    if row["is_base"]:
        return Shown("base", 0.0)
    if is_missing(row["diff"]):
        return MISSING
    diff, low, high = in_points(row)
    word = f" {verdict(row)}" if row["resolved"] == "yes" else ""
    return Shown(f"{signed(diff, 2)}{word}", diff, low, high, row["resolved"] in ("yes", "no"))


def _costs(section: Section, costs: pd.DataFrame) -> dict[str, list[str]]:
    """The columns of what the models cost; those of speed only where it was measured."""
    rows = costs.to_dict("records")
    columns: dict[str, list[str]] = {
        "dense params": [params(row["dense_params"]) for row in rows],
        "FLOPs/sample": [short(_flops(row)) for row in rows],
        "train MFU": [rough_mfu(percent(row["mfu_train"], 0), row) for row in rows],
    }
    if (measured := section.serving) is None:
        return columns
    size = shown_batch_size(measured)
    found = [measured.of(who, SHOWN_PART, size) for who in section.contestants]
    return columns | {
        "inference MFU": [mfu(model) for model in found],
        "p50 ms": [milliseconds(model, "p50") for model in found],
        "p99 ms": [milliseconds(model, "p99") for model in found],
        "samples/s": [rate(model) for model in found],
        "memory, MB": [memory(model) for model in found],
    }


def _flops(row: dict) -> float:
    """Those that a sample uses."""
    active = row["active_flops_per_sample"]
    return row["flops_per_sample"] if is_missing(active) else active


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
    if (measured := section.serving) is not None:
        size = shown_batch_size(measured)
        for row, who in zip(found, section.contestants, strict=False):
            if model := measured.of(who, SHOWN_PART, size):
                row |= {name: getattr(model, name) for name in SPEEDS} | {"batch_size": size}
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
