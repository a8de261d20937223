"""The test rows of a dataset and every run's scores of them, each file read once."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from files.errors import InputError
from harness.records.record import PREDICTIONS_FILE, Record, altered_predictions

LABEL, SCORE = "label_", "score_"

Rows = tuple[NDArray, NDArray, NDArray]  # users, tiers and labels


class Predicted(NamedTuple):
    """The test rows of one task and every run's scores of them; N rows, M runs."""

    users: NDArray
    tiers: NDArray
    labels: NDArray
    scores: list[NDArray]

    def within_tier(self, tier: int) -> Predicted:
        """The rows of one user-activity tier."""
        rows = self.tiers == tier
        return Predicted(
            self.users[rows], self.tiers[rows], self.labels[rows], [scores[rows] for scores in self.scores]
        )


def read_predictions(runs: list[Record]) -> dict[str, Predicted]:
    """By task, in the first run's order, what all ``runs`` predicted.

    Tasks that one of them lacks are left out.

    Raises InputError where a file is missing, damaged or altered since its run, or holds other test rows
    than the first run's.
    """
    first, *others = runs
    table = _read(first)
    tasks = [name.removeprefix(SCORE) for name in table.column_names if name.startswith(SCORE)]
    predicted = {task: Predicted(*_rows(first, table, task), [_scores(first, table, task)]) for task in tasks}
    for run in others:
        table = _read(run)
        predicted = {task: known for task, known in predicted.items() if SCORE + task in table.column_names}
        for task, known in predicted.items():
            _check_same_rows(run, _rows(run, table, task), first, known, task)
            known.scores.append(_scores(run, table, task))
    return predicted


def _check_same_rows(run: Record, rows: Rows, first: Record, known: Predicted, task: str) -> None:
    if not all(
        np.array_equal(expected, found, equal_nan=True)
        for expected, found in zip(known[:3], rows, strict=True)
    ):
        raise InputError(
            f"{_path(run)} and {_path(first)} hold different test rows of {task!r}: "
            "delete the older folder and run the suite again"
        )


def _rows(run: Record, table: pa.Table, task: str) -> Rows:
    users, tiers, labels = _columns(run, table, ["user", "tier", LABEL + task])
    return users, tiers, labels


def _scores(run: Record, table: pa.Table, task: str) -> NDArray:
    return _columns(run, table, [SCORE + task])[0]


def _path(run: Record) -> Path:
    return run.folder / PREDICTIONS_FILE


def _read(run: Record) -> pa.Table:
    try:
        content = _path(run).read_bytes()
        expected = run.files.get(PREDICTIONS_FILE)
        if expected is not None and hashlib.sha256(content).hexdigest() != expected:
            raise altered_predictions(_path(run))
        # Of many small files threads take twice as much time of the processor.
        return pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(run, error) from None


def _columns(run: Record, table: pa.Table, names: list[str]) -> list[NDArray]:
    try:
        return [table.column(name).to_numpy() for name in names]
    except (KeyError, pa.ArrowException) as error:
        raise _unreadable(run, error) from None


def _unreadable(run: Record, error: Exception) -> InputError:
    return InputError(f"{_path(run)} cannot be read ({error}): delete its folder and run the suite again")
