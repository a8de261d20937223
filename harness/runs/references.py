"""Reference rows: no contestants, but what everyone is measured against.

``oracle`` scores with the true probabilities of synthetic data: the best anyone can reach.
``constant`` scores every row with the training split's base rate. A schema's single-feature baseline,
such as ``duration_only``, scores with the smoothed training rate of the feature's quantile bin. ``gbdt`` and
``logistic`` are fitted to the training split: what is known to be good without any of the architectures;
``gbdt_unordered`` is ``gbdt`` without the order of sequences, and there only where it is named.
"""

from __future__ import annotations

import numpy as np

from datasets.prepared import PreparedDataset
from files.errors import InputError
from harness.machine.facts import Machine
from harness.model.architectures import ARCHITECTURES
from harness.records.folder import RunFolder
from harness.records.record import Failure, Record
from harness.records.select import ON_REQUEST
from harness.records.spec import RunSpec
from harness.runs.fitted import FITTED, fit_reference
from harness.runs.run import build_record, now, write_predictions
from harness.runs.splits import Splits, UnfitTask
from harness.training.prediction import Predictions, final_metrics

ORACLE, CONSTANT = "oracle", "constant"
BINS = 200
PRIOR_ROWS = 20.0


def available_references(
    prepared: PreparedDataset, tasks: list[str], asked: bool | list[str] = True
) -> list[str]:
    """The references that a table can have, or those ``asked`` for among them.

    The oracle is left out where the dataset has no true probabilities. Raises InputError where the schema's
    baseline has the name of another row, whose runs its own would join, and where one is asked for by
    a name that none has.
    """
    schema = prepared.schema
    own = [ORACLE, CONSTANT, *FITTED]
    if schema.baseline is not None and schema.baseline.name in (*own, *ARCHITECTURES):
        raise InputError(
            f"dataset {schema.name!r}: baseline.name: {schema.baseline.name!r} is another row's name; "
            "rename the baseline"
        )
    names = [*own, *([schema.baseline.name] if schema.baseline else [])]
    chosen = [name for name in names if name not in ON_REQUEST] if asked is True else asked or []
    for name in chosen:
        if name not in names:
            raise InputError(
                f"references: dataset {schema.name!r} has no {name!r}: choose from {', '.join(names)}"
            )
    known = {task.name: task.probability for task in schema.tasks}
    has_truth = all(known[task] for task in tasks)
    return [name for name in names if name in chosen and (name != ORACLE or has_truth)]


def run_reference(
    name: str, spec: RunSpec, prepared: PreparedDataset, folder: RunFolder, machine: Machine | None = None
) -> Record:
    """Score the test split by one reference and write its record.

    One that is fitted takes its settings from ``spec.config``, the defaults where it has none. A task
    that it cannot be fitted to makes the record a failed one. Raises InputError on an unknown setting and
    where memory is lacking.
    """
    started_at = now()
    try:
        scores = _all_scores(name, spec, prepared)
    except UnfitTask as problem:
        found: dict = {"failure": Failure(reason=str(problem))}
    else:
        columns = prepared.columns("test", ["user_index", "tier", *(f"label_{task}" for task in spec.tasks)])
        labels = np.stack([columns[f"label_{task}"] for task in spec.tasks], axis=1)
        predictions = Predictions(columns["user_index"], columns["tier"], labels, scores, None)
        write_predictions(folder.partial, predictions, spec.tasks)
        found = {"metrics": final_metrics(predictions, spec.tasks)}
    record = build_record("reference", spec, prepared, machine, started_at, found)
    folder.finish(record)
    return record


def _all_scores(name: str, spec: RunSpec, prepared: PreparedDataset) -> np.ndarray:
    """Probabilities of the test rows, (R, G)."""
    if name in FITTED:
        return fit_reference(name, spec.config, Splits(prepared, spec.tasks), spec.random_seed).scores("test")
    return np.stack([_scores(name, task, prepared) for task in spec.tasks], axis=1)


def _scores(name: str, task: str, prepared: PreparedDataset) -> np.ndarray:
    if name == ORACLE:
        column = f"probability_{task}"
        return prepared.columns("test", [column])[column]
    labels = prepared.columns("train", [f"label_{task}"])[f"label_{task}"].astype(np.float64)
    known = ~np.isnan(labels)
    base_rate = labels[known].mean()
    if name == CONSTANT:
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
