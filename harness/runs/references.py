"""Reference rows: no contestants, but what everyone is measured against.

``oracle`` scores with the true probabilities of synthetic data: the best anyone can reach.
``constant`` scores every row with the training split's base rate. A schema's single-feature baseline,
such as ``duration_only``, scores with the smoothed training rate of the feature's quantile bin.
"""

from __future__ import annotations

import numpy as np

from datasets.prepared import PreparedDataset
from files.errors import InputError
from harness.machine.facts import Machine
from harness.model.architectures import ARCHITECTURES
from harness.records.folder import RunFolder
from harness.records.record import Record
from harness.records.spec import RunSpec
from harness.runs.run import build_record, now, write_predictions
from harness.training.prediction import Predictions, metrics_by_task

BINS = 200
PRIOR_ROWS = 20.0


def available_references(prepared: PreparedDataset, tasks: list[str]) -> list[str]:
    """The references that a table can have.

    Raises InputError where the schema's baseline has the name of another row, whose runs its own would join.
    """
    schema = prepared.schema
    if schema.baseline is not None and schema.baseline.name in ("oracle", "constant", *ARCHITECTURES):
        raise InputError(
            f"dataset {schema.name!r}: baseline.name: {schema.baseline.name!r} is another row's name; "
            "rename the baseline"
        )
    known = {task.name: task.probability for task in schema.tasks}
    oracle = ["oracle"] if all(known[task] for task in tasks) else []
    return [*oracle, "constant", *([schema.baseline.name] if schema.baseline else [])]


def run_reference(
    name: str, spec: RunSpec, prepared: PreparedDataset, folder: RunFolder, machine: Machine | None = None
) -> Record:
    """Score the test split by one reference and write its record."""
    started_at = now()
    scores = np.stack([_scores(name, task, prepared) for task in spec.tasks], axis=1)
    columns = prepared.columns("test", ["user_index", "tier", *(f"label_{task}" for task in spec.tasks)])
    labels = np.stack([columns[f"label_{task}"] for task in spec.tasks], axis=1)
    predictions = Predictions(columns["user_index"], columns["tier"], labels, scores, None)
    write_predictions(folder.partial, predictions, spec.tasks)
    found = {"metrics": metrics_by_task(predictions, spec.tasks)}
    record = build_record("reference", spec, prepared, machine, started_at, found)
    folder.finish(record)
    return record


def _scores(name: str, task: str, prepared: PreparedDataset) -> np.ndarray:
    if name == "oracle":
        column = f"probability_{task}"
        return prepared.columns("test", [column])[column]
    labels = prepared.columns("train", [f"label_{task}"])[f"label_{task}"].astype(np.float64)
    known = ~np.isnan(labels)
    base_rate = labels[known].mean()
    if name == "constant":
        return np.full(prepared.rows["test"], base_rate)
    values = {split: prepared.columns(split, ["baseline"])["baseline"] for split in ("train", "test")}
    return binned_rates(values["train"][known], labels[known], base_rate, values["test"])


def binned_rates(values: np.ndarray, labels: np.ndarray, base_rate: float, queries: np.ndarray) -> np.ndarray:
    """Mean label of each query's quantile bin of ``values``, shrunk to the base rate by PRIOR_ROWS rows.

    Missing values (NaN) are a bin of their own.
    """
    present = values[~np.isnan(values)]
    edges = (
        np.unique(np.quantile(present, np.linspace(0, 1, BINS + 1)[1:-1])) if len(present) else np.empty(0)
    )

    def bins(column: np.ndarray) -> np.ndarray:
        return np.where(np.isnan(column), len(edges) + 1, np.searchsorted(edges, column, side="right"))

    index = bins(values)
    rows = np.bincount(index, minlength=len(edges) + 2)
    positives = np.bincount(index, weights=labels, minlength=len(edges) + 2)
    return ((positives + PRIOR_ROWS * base_rate) / (rows + PRIOR_ROWS))[bins(queries)]
