"""Run records on disk as typed objects and as the rows of ``results.csv``.

Imports neither torch nor matplotlib. ``OUT/runs/<run>/record.json`` is one run; ``OUT/suite.json`` is
what was asked for; ``OUT/comparisons.csv`` holds the differences to the base. What was not measured is
missing: an empty cell, never zero.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import pandas as pd
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from reports.files import replacing

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
}
METRICS = ("auc", "uauc", "gauc", "logloss", "normalized_entropy", "calibration", "users", "rows")
COSTS = (
    "dense_params",
    "sparse_params",
    "flops_per_sample",
    "active_flops_per_sample",
    "flops_per_batch_512",
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
COMPARISON_COLUMNS = [
    *("suite", "dataset", "task", "metric", "architecture", "variant", "base", "seeds", "users"),
    *("mean", "base_mean", "diff", "users_low", "users_high", "seeds_low", "seeds_high"),
    *("low", "high", "resolved"),
]


class RecordError(ValueError):
    """A file that is no run record: the message is one sentence that names the file and the mend."""


# --- Records, as the harness writes them ---------------------------------------------------------------


def _nan_is_missing(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


Number = Annotated[float | None, BeforeValidator(_nan_is_missing)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Failure(_Part):
    """Why a run failed, and at which step."""

    step: int | None = None
    reason: str


class Cost(_Part):
    """Counted, not measured: parameters, and FLOPs with a multiply-add as two."""

    dense_params: Number = None
    sparse_params: Number = None
    flops_per_sample: Number = None
    active_flops_per_sample: Number = None
    train_flops_per_sample: Number = None
    flops_per_batch_512: Number = None


class Budget(_Part):
    """What the size was matched to; ``miss`` is a signed fraction of ``target``."""

    kind: Literal["flops_per_sample", "dense_params"]
    target: float
    miss: Number = None


class TaskMetrics(_Part):
    """One task's metrics on one split; ``users`` have both labels, ``rows`` have a defined one."""

    auc: Number = None
    uauc: Number = None
    gauc: Number = None
    logloss: Number = None
    normalized_entropy: Number = None
    calibration: Number = None
    users: Number = None
    rows: Number = None
    one_class_users: Number = None
    one_class_rows: Number = None


class Validation(_Part):
    """The validation split's metrics after ``step`` steps and ``samples`` rows."""

    step: int
    samples: int
    metrics: dict[str, TaskMetrics]


class Training(_Part):
    """How it was trained and how fast; seconds are wall time."""

    train_samples: Number = None
    train_seconds: Number = None
    train_samples_per_second: Number = None
    eval_samples_per_second: Number = None
    mfu_train: Number = None
    mfu_inference: Number = None
    latency_ms_p50: Number = None
    latency_ms_p99: Number = None
    batch_size: Number = None
    precision: str | None = None
    device: str | None = None
    peak_flops: Number = None
    peak_source: str | None = None
    epochs: Any = None
    dense_optimizer: Any = None


class DatasetInfo(_Part):
    """What was trained on: rows by split, users, and what the source noted."""

    fingerprint: str | None = None
    rows: dict[str, int] = Field(default_factory=dict)
    users: int | None = None
    notes: dict[str, Any] = Field(default_factory=dict)


class Record(_Part):
    """One run, whole: a model that was trained, or a reference row that was not."""

    kind: Literal["model", "reference"]
    status: Literal["finished", "failed"]
    failure: Failure | None = None
    suite: str
    architecture: str
    variant: str = ""
    dataset: str
    seed: int
    spec_hash: str = ""
    spec: dict[str, Any] = Field(default_factory=dict)
    cost: Cost | None = None
    budget: Budget | None = None
    metrics: dict[str, TaskMetrics] = Field(default_factory=dict)
    validation: list[Validation] = Field(default_factory=list)
    curve: list[tuple[float, Number]] = Field(default_factory=list)
    training: Training | None = None
    dataset_info: DatasetInfo = DatasetInfo()
    environment: dict[str, Any] = Field(default_factory=dict)
    started_at: str = ""
    finished_at: str = ""

    @property
    def tasks(self) -> list[str]:
        """The tasks that were measured or, where none was, those that the spec asked for."""
        return list(self.metrics) or [str(task) for task in self.spec.get("tasks") or []]

    @property
    def contestant(self) -> Contestant:
        return Contestant(architecture=self.architecture, variant=self.variant)

    @property
    def settings(self) -> str:
        """The spec without its seed: runs that differ here do not belong in one mean."""
        spec = {name: value for name, value in self.spec.items() if name != "seed"}
        return json.dumps(spec, sort_keys=True)


class Contestant(_Part):
    """One row of a table: an architecture, or a variant of one."""

    architecture: str
    variant: str = ""

    @property
    def label(self) -> str:
        return label(self.architecture, self.variant)


class Suite(_Part):
    """A suite as it was last run.

    ``base`` names the architecture that the others are compared with, ``spec_hashes`` the runs that it
    asked for.
    """

    name: str
    description: str = ""
    paper_table: str | None = None
    base: str
    architectures: list[Contestant]
    datasets: list[str] = Field(default_factory=list)
    seeds: int | None = None
    spec_hashes: list[str] = Field(default_factory=list)
    command: str = ""


def label(architecture: str, variant: str) -> str:
    """How a contestant is called in tables and figures."""
    return architecture if variant in ("", "default", architecture) else f"{architecture} ({variant})"


# --- Reading --------------------------------------------------------------------------------------------

Model = TypeVar("Model", bound=BaseModel)


def _read_json(path: Path, kind: type[Model], what: str, mend: str) -> Model:
    """``path`` as a ``kind``; RecordError naming the file, its fault and the mend."""
    try:
        return kind.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"]) or "its top level"
        raise RecordError(f"{path}: is no {what} ({field}: {problem['msg']}); {mend}") from None
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: cannot be read as a {what} ({error}); {mend}") from None


def load_records(out: Path) -> list[Record]:
    """All run records of ``out``, oldest first.

    A folder without ``record.json`` is a run that has not ended, and is passed over.

    Raises:
        RecordError: there is no record at all, or one is damaged or foreign.
    """
    paths = sorted((out / "runs").glob("*/record.json"))
    paths = [path for path in paths if not path.parent.name.endswith(".partial")]
    if not paths:
        raise RecordError(
            f"{out / 'runs'}: holds no finished run; give the folder a suite was run into with --out"
        )
    mend = "remove its folder and run the suite again, or leave the folder out"
    records = [_read_json(path, Record, "run record", mend) for path in paths]
    return sorted(records, key=lambda record: (record.started_at, record.contestant.label, record.seed))


def load_suite(out: Path, name: str) -> Suite | None:
    """``OUT/suite.json`` if it describes the suite called ``name``, else None."""
    path = out / "suite.json"
    if not path.is_file():
        return None
    suite = _read_json(path, Suite, "suite description", "remove it or run the suite again")
    return suite if suite.name == name else None


def load_comparisons(out: Path) -> pd.DataFrame:
    """``OUT/comparisons.csv``: one row a contestant, task and metric. Empty if there is no such file.

    Raises:
        RecordError: the file cannot be read or lacks a column.
    """
    path = out / "comparisons.csv"
    if not path.is_file() or path.stat().st_size == 0:
        return pd.DataFrame(columns=COMPARISON_COLUMNS)
    mend = "remove it and run the suite again, which compares the finished runs anew"
    try:
        frame = pd.read_csv(path, dtype=dict.fromkeys(("suite", "dataset", "task", "metric", "base"), str))
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: cannot be read as a table ({error}); {mend}") from None
    for name in COMPARISON_COLUMNS:
        if name not in frame:
            raise RecordError(f"{path}: lacks the column {name!r}; {mend}")
    frame["architecture"] = frame["architecture"].astype(str)
    frame["variant"] = frame["variant"].fillna("").astype(str)
    frame["resolved"] = frame["resolved"].astype(str)
    return frame


# --- Rows of results.csv --------------------------------------------------------------------------------


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


def _row(record: Record, task: str) -> dict[str, Any]:
    row: dict[str, Any] = {
        name: getattr(record, name)
        for name in (
            "suite",
            "architecture",
            "variant",
            "dataset",
            "seed",
            "status",
            "spec_hash",
            "started_at",
        )
    }
    row["task"] = task or None
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
    return row


def write_results(frame: pd.DataFrame, out: Path) -> None:
    """Write ``out/results.csv`` and ``out/results.parquet``."""
    with replacing(out / "results.csv") as temporary:
        frame.to_csv(temporary, index=False)
    with replacing(out / "results.parquet") as temporary:
        frame.to_parquet(temporary, index=False)


# --- Curves ---------------------------------------------------------------------------------------------


def loss_frame(records: list[Record]) -> pd.DataFrame:
    """Training loss: one row a point, with columns architecture, variant, seed, samples, value."""
    return pd.DataFrame(
        [
            (record.architecture, record.variant, record.seed, samples, loss)
            for record in records
            for samples, loss in record.curve
            if loss is not None
        ],
        columns=["architecture", "variant", "seed", "samples", "value"],
    )


def validation_frame(records: list[Record]) -> pd.DataFrame:
    """Validation metrics: one row a point; columns as ``loss_frame`` with task and metric."""
    return pd.DataFrame(
        [
            (record.architecture, record.variant, record.seed, point.samples, task, metric, value)
            for record in records
            for point in record.validation
            for task, metrics in point.metrics.items()
            for metric in ("auc", "uauc")
            if (value := getattr(metrics, metric)) is not None
        ],
        columns=["architecture", "variant", "seed", "samples", "task", "metric", "value"],
    )
