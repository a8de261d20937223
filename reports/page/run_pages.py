"""One page for each run: its settings, how training went, its results, and where it ran."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from harness.records.record import Record, TaskMetrics
from reports.cells import METRICS, POINTS, ROUGH, Shown, fixed, grouped, params, percent, short, signed
from reports.figures.drawing.style import COLORS
from reports.page.curves import SCORES, line_chart
from reports.page.tables import TableView, page_table
from reports.sections import has_users
from reports.tables.costs import shared_note

_QUALITIES = ("auc", "uauc", "gauc", "logloss", "normalized_entropy", "calibration")
Fields = dict[str, tuple[str, Callable[[Any], Shown]]]  # title: attribute, how its value is printed
_COUNTS = ("users", "rows", "one_class_users", "one_class_rows")


@dataclass(frozen=True)
class Details:
    """Names and values under a title; values are text as it is shown."""

    title: str
    pairs: list[tuple[str, str]]


@dataclass(frozen=True)
class RunView:
    """A run as its template takes it; ``record`` is the link to its ``record.json``."""

    title: str
    status: str
    failure: str
    record: str
    metrics: TableView | None
    charts: list[tuple[str, Markup]]
    details: list[Details]


def run_view(record: Record, base: Record | None = None) -> RunView:
    """The view of one run; ``base`` is the base's run of the same dataset, world and seed."""
    failure = record.failure
    step = f" at step {failure.step}" if failure and failure.step is not None else ""
    return RunView(
        title=f"{record.contestant.display_name} on {record.dataset}, seed {record.seed}",
        status=record.status,
        failure=f"failed{step}: {failure.reason}" if failure else "",
        record=f"../../runs/{quote(record.folder.name)}/record.json",
        metrics=_metrics(record, base),
        charts=[*_charts(record), *_calibration(record)],
        details=[details for details in _details(record) if details.pairs],
    )


def page_name(record: Record) -> str:
    """The file name of the run's page."""
    return f"{record.folder.name}.html"


def _metrics(record: Record, base: Record | None) -> TableView | None:
    if not record.metrics:
        return None
    with_users = has_users([record])
    per_user = set() if with_users else {"uauc", "gauc", "users", "one_class_users", "one_class_rows"}
    qualities, counts, compared = (
        [name for name in names if name not in per_user] for names in (_QUALITIES, _COUNTS, METRICS)
    )
    header = ["task", *(name.replace("_", " ") for name in (*qualities, *counts))]
    rows = []
    for task, measured in record.metrics.items():
        values = [fixed(getattr(measured, name), 4) for name in qualities]
        numbers = [grouped(getattr(measured, name)) for name in counts]
        rows.append([task, *values, *_differences(measured, base, task, compared), *numbers])
    notes = ["Users and rows: those that count for UAUC; one-class users have no AUC of their own."]
    if not with_users:
        notes = ["The rows belong to no user, so there are no UAUC and GAUC."]
    if base:
        header[1 + len(qualities) : 1 + len(qualities)] = [f"{name.upper()} vs base" for name in compared]
        notes.append(
            f"vs base: this run less {base.contestant.display_name}'s with the same seed, in AUC points x "
            f"{POINTS}. One run's difference is no verdict; the report has the intervals over all."
        )
    return page_table("metrics", "Test split", header, rows, notes)


def _differences(measured: TaskMetrics, base: Record | None, task: str, metrics: list[str]) -> list[str]:
    """The metrics less the base's, in points; none without the base's run."""
    if base is None:
        return []
    pairs = [(getattr(measured, m), getattr(base.metrics.get(task), m, None)) for m in metrics]
    return [signed(None if None in pair else POINTS * (pair[0] - pair[1]), 2) for pair in pairs]


def _calibration(record: Record) -> list[tuple[str, Markup]]:
    """The rate of positives against the mean score, by tenths of the test rows, and where both are equal."""
    color, charts = COLORS[1], []
    for task, measured in record.metrics.items():
        points = [(part.score, part.rate) for part in measured.reliability]
        if len(points) > 1:
            title = f"{task}: rate of positives in tenths of the test rows by score"
            charts.append((title, line_chart(points, title, color, SCORES)))
    return charts


def _charts(record: Record) -> list[tuple[str, Markup]]:
    """Training loss, and validation metrics where they were measured more than once; each with its title."""
    curves = {"training loss": [(float(samples), loss) for samples, loss in record.curve if loss is not None]}
    for task in dict.fromkeys(task for point in record.validation for task in point.metrics):
        for metric in METRICS:
            curves[f"{task}: validation {metric.upper()}"] = [
                (float(point.samples), value)
                for point in record.validation
                if task in point.metrics and (value := getattr(point.metrics[task], metric)) is not None
            ]
    color = COLORS[1]
    return [(title, line_chart(points, title, color)) for title, points in curves.items() if len(points) > 1]


def _last_validation(record: Record) -> list[tuple[str, str]]:
    if not record.validation:
        return []
    last = record.validation[-1]
    return [("after samples", str(grouped(last.samples)))] + [
        (f"{task}: {name.upper()}", str(fixed(value, 4)))
        for task, measured in last.metrics.items()
        for name in METRICS
        if (value := getattr(measured, name)) is not None
    ]


def _details(record: Record) -> list[Details]:
    info = record.dataset_info
    data = {"fingerprint": info.fingerprint, "users": info.users, "rows": info.rows, "notes": info.notes}
    return [
        Details("Validation split, when training ended", _last_validation(record)),
        Details("Settings", flattened(record.spec)),
        Details("Cost", _cost(record)),
        Details("Training", _training(record)),
        Details("Data", flattened(data)),
        Details("Environment", flattened(record.environment)),
        Details("Time", flattened({"started": record.started_at, "finished": record.finished_at})),
    ]


def flattened(values: dict[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Nested mappings as dotted names with their values as text; what is None or empty is left out.

    >>> flattened({"training": {"epochs": 1, "patience": None}, "tasks": ["finish", "skip"]})
    [('training.epochs', '1'), ('tasks', 'finish, skip')]
    """
    pairs = []
    for name, value in values.items():
        if isinstance(value, dict):
            pairs += flattened(value, f"{before}{name}.")
        elif value is not None and value != "":
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            pairs.append((f"{before}{name}", text))
    return pairs


_COST: Fields = {
    "dense parameters": ("dense_params", params),
    "sparse parameters": ("sparse_params", params),
    "forward FLOPs per sample": ("flops_per_sample", short),
    "active forward FLOPs per sample": ("active_flops_per_sample", short),
    "training FLOPs per sample": ("train_flops_per_sample", short),
}
_RATES = ("training samples/s", "evaluation samples/s", "training MFU")
_TRAINING: Fields = {
    "samples": ("train_samples", grouped),
    "seconds": ("train_seconds", lambda seconds: fixed(seconds, 1)),
    "training samples/s": ("train_samples_per_second", short),
    "evaluation samples/s": ("eval_samples_per_second", short),
    "training MFU": ("mfu_train", percent),
    "peak, FLOP/s": ("peak_flops", short),
}


def _cost(record: Record) -> list[tuple[str, str]]:
    miss = percent(record.budget.miss if record.budget else None, 1, sign=True)
    return _known(_COST, record.cost) + ([("budget miss", str(miss))] if miss.value is not None else [])


def _training(record: Record) -> list[tuple[str, str]]:
    training = record.training
    if training is None:
        return []
    named = {"peak from": training.peak_source, "device": training.device, "precision": training.precision}
    if training.processes is not None:
        named["processes"] = f"{training.processes}, which took the shares of {record.spec['world_size']}"
    pairs = _known(_TRAINING, training)
    if training.runs_at_once is not None:
        pairs = [(title, f"{ROUGH} {text}" if title in _RATES else text) for title, text in pairs]
        named["runs at once"] = shared_note(training.runs_at_once)
    return pairs + flattened(named)


def _known(fields: Fields, measured: object) -> list[tuple[str, str]]:
    """The names and printed values of those fields that were measured."""
    shown = [(title, printed(getattr(measured, name, None))) for title, (name, printed) in fields.items()]
    return [(title, str(cell)) for title, cell in shown if cell.value is not None]
