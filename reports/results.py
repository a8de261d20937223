"""The rows of ``results.csv``: one for each run and task; cells that were not measured are empty."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas as pd

from files.writing import replacing
from harness.records.contestant import Contestant
from harness.records.record import Record
from harness.records.serving import Serving
from reports.files import write_csv

# The columns of results.csv, a public format: add at the end, never rename, never reorder.
_GROUPS = [
    ("string", ("suite", "architecture", "variant", "dataset")),
    ("Int64", ("seed",)),
    ("string", ("task", "status")),
    ("Float64", ("auc", "uauc", "gauc", "logloss", "normalized_entropy", "calibration")),
    ("Int64", ("users", "rows", "dense_params", "sparse_params")),
    ("Int64", ("flops_per_sample", "active_flops_per_sample", "flops_per_batch_512", "budget_flops")),
    ("Float64", ("budget_miss",)),
    ("Int64", ("train_samples",)),
    ("Float64", ("train_seconds", "train_samples_per_second", "eval_samples_per_second")),
    ("Float64", ("mfu_train", "mfu_inference", "latency_ms_p50", "latency_ms_p99")),
    ("Int64", ("batch_size",)),
    ("string", ("precision", "device")),
    ("Float64", ("peak_flops",)),
    ("string", ("peak_source", "spec_hash", "started_at")),
    ("Float64", ("active_ratio_target", "active_ratio")),
    ("Int64", ("dead_experts", "num_tokens")),
    ("string", ("tokenizer",)),
    ("Int64", ("train_flops_per_sample",)),
    ("string", ("series", "size", "ratio")),
    ("Int64", ("world",)),
    ("Int64", ("inference_batch_size",)),
    ("Float64", ("inference_samples_per_second",)),
    ("Int64", ("inference_memory_bytes",)),
    ("Int64", ("runs_at_once",)),
]
COLUMNS = {name: kind for kind, names in _GROUPS for name in names}
_NAMES = list(COLUMNS)
METRICS = tuple(_NAMES[_NAMES.index("auc") : _NAMES.index("dense_params")])
COSTS = (*_NAMES[_NAMES.index("dense_params") : _NAMES.index("budget_flops")], "train_flops_per_sample")
SPEEDS = tuple(_NAMES[_NAMES.index("train_samples") : _NAMES.index("spec_hash")])


def results_frame(records: list[Record], serving: Serving | None = None) -> pd.DataFrame:
    """The rows of ``results.csv``, one for each run and task, with the columns and types of ``COLUMNS``.

    A failed run has a row for each task that it was to learn, with empty metrics. How fast a model answers is
    that of the whole model at the largest batch size of ``serving``, the same in all runs with its settings.
    """
    alike: dict[tuple, list[Record]] = defaultdict(list)
    for record in records:
        alike[_model(record)].append(record)
    rows = [
        _row(record, task) | _speed(alike[_model(record)], serving or Serving())
        for record in records
        for task in record.tasks or [""]
    ]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    for name, kind in COLUMNS.items():
        if kind == "Int64":
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
    named = ("suite", "architecture", "dataset", "seed", "status", "spec_hash", "started_at", "world")
    row: dict[str, Any] = {name: getattr(record, name) for name in named}
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
        row |= {name: getattr(record.training, name) for name in (*SPEEDS, "runs_at_once")}
    if record.routing:
        row["active_ratio_target"] = record.routing.target
        if record.routing.test:
            row["active_ratio"] = record.routing.test.active_ratio
            row["dead_experts"] = record.routing.test.dead_experts
    return row | {name: record.spec.get(name) for name in ("num_tokens", "tokenizer")}


def _model(record: Record) -> tuple:
    """What runs of one model share, whatever their seeds and worlds."""
    return record.suite, record.dataset, record.contestant, record.settings


def _speed(runs: list[Record], serving: Serving) -> dict[str, Any]:
    """The columns of speed of one model's runs."""
    passed = serving.on(runs[0].suite, runs[0].dataset)
    measured = passed.of_runs(runs) if passed else None
    size = max(measured.batch_sizes) if measured else 0
    model = measured.of(runs[0].contestant, "whole", size) if measured else None
    if model is None:
        return {}
    return {
        "mfu_inference": model.mfu,
        "latency_ms_p50": model.latency_ms_p50,
        "latency_ms_p99": model.latency_ms_p99,
        "inference_batch_size": size,
        "inference_samples_per_second": model.samples_per_second,
        "inference_memory_bytes": model.memory_bytes,
    }


def write_results(frame: pd.DataFrame, out: Path) -> None:
    """Write ``out/results.csv`` and ``out/results.parquet``."""
    write_csv(out / "results.csv", frame)
    with replacing(out / "results.parquet") as temporary:
        frame.to_parquet(temporary, index=False)
