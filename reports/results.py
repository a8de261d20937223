"""The rows of ``results.csv``: one a run and task, what was not measured empty."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from harness.records.contestant import Contestant
from harness.records.record import Record
from reports.files import replacing, write_csv

_TEXT, _COUNT, _REAL = "string", "Int64", "Float64"

# The columns of results.csv, a public format: add at the end, never rename, never reorder.
COLUMNS: dict[str, str] = {
    "suite": _TEXT,
    "architecture": _TEXT,
    "variant": _TEXT,
    "dataset": _TEXT,
    "seed": _COUNT,
    "task": _TEXT,
    "status": _TEXT,
    "auc": _REAL,
    "uauc": _REAL,
    "gauc": _REAL,
    "logloss": _REAL,
    "normalized_entropy": _REAL,
    "calibration": _REAL,
    "users": _COUNT,
    "rows": _COUNT,
    "dense_params": _COUNT,
    "sparse_params": _COUNT,
    "flops_per_sample": _COUNT,
    "active_flops_per_sample": _COUNT,
    "flops_per_batch_512": _COUNT,
    "budget_flops": _COUNT,
    "budget_miss": _REAL,
    "train_samples": _COUNT,
    "train_seconds": _REAL,
    "train_samples_per_second": _REAL,
    "eval_samples_per_second": _REAL,
    "mfu_train": _REAL,
    "mfu_inference": _REAL,
    "latency_ms_p50": _REAL,
    "latency_ms_p99": _REAL,
    "batch_size": _COUNT,
    "precision": _TEXT,
    "device": _TEXT,
    "peak_flops": _REAL,
    "peak_source": _TEXT,
    "spec_hash": _TEXT,
    "started_at": _TEXT,
    "active_ratio_target": _REAL,
    "active_ratio": _REAL,
    "dead_experts": _COUNT,
    "num_tokens": _COUNT,
    "tokenizer": _TEXT,
    "train_flops_per_sample": _COUNT,
    "series": _TEXT,
    "size": _TEXT,
    "ratio": _TEXT,
    "world": _COUNT,
}
METRICS = ("auc", "uauc", "gauc", "logloss", "normalized_entropy", "calibration", "users", "rows")
COSTS = (
    "dense_params",
    "sparse_params",
    "flops_per_sample",
    "active_flops_per_sample",
    "flops_per_batch_512",
    "train_flops_per_sample",
)
SPEEDS = (
    "train_samples",
    "train_seconds",
    "train_samples_per_second",
    "eval_samples_per_second",
    "mfu_train",
    "mfu_inference",
    "latency_ms_p50",
    "latency_ms_p99",
    "batch_size",
    "precision",
    "device",
    "peak_flops",
    "peak_source",
)


def results_frame(records: list[Record]) -> pd.DataFrame:
    """The rows of ``results.csv``: one a run and task, columns and types as ``COLUMNS``.

    A failed run has a row for each task that it was to learn, with empty metrics.
    """
    rows = [_row(record, task) for record in records for task in record.tasks or [""]]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    for name, kind in COLUMNS.items():
        if kind == _COUNT:
            frame[name] = pd.to_numeric(frame[name]).round()
        frame[name] = frame[name].astype(kind)  # type: ignore[call-overload]
    return frame


def with_row_fields(results: pd.DataFrame) -> pd.DataFrame:
    """Rows of a ``results.csv`` that is older than its columns series, size and ratio, with these columns."""
    if "ratio" in results:
        return results
    rows = [Contestant.from_name("", variant) for variant in results["variant"].fillna("").astype(str)]
    columns = {name: [getattr(row, name) for row in rows] for name in ("series", "size", "ratio")}
    return results.join(pd.DataFrame(columns, index=results.index, dtype=object))


def _row(record: Record, task: str) -> dict[str, Any]:
    row: dict[str, Any] = {
        name: getattr(record, name)
        for name in (
            "suite",
            "architecture",
            "dataset",
            "seed",
            "world",
            "status",
            "spec_hash",
            "started_at",
        )
    }
    who = record.contestant
    row |= {"variant": who.variant, "task": task or None, "series": who.series, "size": who.size}
    row["ratio"] = None if who.ratio is None else str(who.ratio)
    if record.status == "finished" and task in record.metrics:
        row |= {name: getattr(record.metrics[task], name) for name in METRICS}
    if record.cost:
        row |= {name: getattr(record.cost, name) for name in COSTS}
    if record.budget:
        row["budget_miss"] = record.budget.miss
        if record.budget.kind == "flops_per_sample":
            row["budget_flops"] = record.budget.target
    if record.training:
        row |= {name: getattr(record.training, name) for name in SPEEDS}
    if record.routing:
        row["active_ratio_target"] = record.routing.target
        if record.routing.test:
            row["active_ratio"] = record.routing.test.active_ratio
            row["dead_experts"] = record.routing.test.dead_experts
    return row | {name: record.spec.get(name) for name in ("num_tokens", "tokenizer")}


def write_results(frame: pd.DataFrame, out: Path) -> None:
    """Write ``out/results.csv`` and ``out/results.parquet``."""
    write_csv(out / "results.csv", frame)
    with replacing(out / "results.parquet") as temporary:
        frame.to_parquet(temporary, index=False)
