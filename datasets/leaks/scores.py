r"""How well a single feature predicts a label: AUC on rows that its rates were not learned from.

A category's score is the share of positives among its rows in one sample (the *fit*), pulled towards the
base rate by ``PRIOR_ROWS`` rows; the AUC is measured on another sample (the *held* rows). An id with few
rows per value only memorises the labels of the fit, so it scores near one half on the held rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datasets.leaks.own_items import OwnItem
from datasets.schema import FIRST_INDEX, MISSING_INDEX, Feature

PRIOR_ROWS = 10.0
BINS = 256
SUPPORT = 3  # rows of a value in the fit before it counts for "determines"
DETERMINED = 0.99  # the share of each class's rows that a value must get right
VECTOR_NUMBERS = 50_000_000  # read at once; of longer tables, every n-th row
SUSPECT = 0.8  # the AUC on held rows below which an own item of another vocabulary is not looked at further
MIN_CLASS = 20  # held rows of each class; below this, an AUC is chance

Labels = dict[str, np.ndarray]  # (rows,) by task: 0, 1 or NaN


@dataclass(frozen=True)
class Score:
    """A feature's best AUC on one task, the property that gives it (``by``), and the number of held rows.

    ``determined`` is the share of rows whose label is determined by their value, among the rows with a value
    of at least ``SUPPORT`` rows in the fit; None unless nearly all rows of both classes are determined.
    ``values`` is the number of distinct values of these rows.
    """

    auc: float
    by: str
    rows: int
    determined: float | None = None
    values: int = 0


class Sample:
    """Whole shards of a split with the labels of ``tasks``; other columns are read one at a time."""

    def __init__(self, files: list[Path], tasks: list[str]) -> None:
        self._files = [(file, pq.read_metadata(file)) for file in files]
        self.rows = sum(metadata.num_rows for _, metadata in self._files)
        self.labels: Labels = {task: self.column(f"label_{task}") for task in tasks}

    def column(self, name: str) -> np.ndarray:
        """A column of single values, (rows,)."""
        return np.concatenate([column.to_numpy() for column in self._columns(name)])

    def lists(self, name: str) -> Iterator[tuple[np.ndarray, np.ndarray, slice]]:
        """A column of lists, shard by shard: elements, the length of each list, and which rows these are."""
        start = 0
        for column in self._columns(name):
            lists = column.combine_chunks()
            rows = slice(start, start + len(lists))
            yield lists.flatten().to_numpy(), np.diff(lists.offsets.to_numpy()), rows
            start = rows.stop

    def vectors(self, name: str, length: int, every: int) -> np.ndarray:
        """A column of vectors, (rows / every, length)."""
        parts, start = [], 0
        for column in self._columns(name):
            numbers = column.combine_chunks().flatten().to_numpy().reshape(len(column), length)
            parts.append(numbers[-start % every :: every].copy())
            start += len(column)
        return np.concatenate(parts)

    def _columns(self, name: str) -> Iterator[pa.ChunkedArray]:
        for path, metadata in self._files:
            with pq.ParquetFile(path, metadata=metadata, memory_map=True) as file:
                yield file.read(columns=[name], use_threads=False)[name]


def enough(labels: np.ndarray) -> bool:
    """Whether both classes have ``MIN_CLASS`` rows."""
    return bool(min((labels == 0).sum(), (labels == 1).sum()) >= MIN_CLASS)


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Area under the ROC curve, ties counting half. Both (rows,); both labels must occur."""
    order = np.argsort(scores)
    ranked, positive = scores[order], labels[order] > 0
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # of each run of ties
    hits = np.diff(np.cumsum(positive)[last], prepend=0)
    misses = np.diff(last, prepend=-1) - hits
    below = np.cumsum(misses) - misses
    return float((hits * (below + misses / 2)).sum() / (hits.sum() * misses.sum()))


def two_sided(value: float) -> float:
    """An AUC whatever its direction."""
    return max(value, 1.0 - value)


def _known(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    defined = ~np.isnan(labels)
    return scores[defined], labels[defined]


# --- Values that are codes ------------------------------------------------------------------------


class Rates:
    """Rows and positives of each code in the fit, by task."""

    def __init__(self, size: int, tasks: list[str]) -> None:
        self.rows = {task: np.zeros(size) for task in tasks}
        self.positives = {task: np.zeros(size) for task in tasks}

    def add(self, codes: np.ndarray, labels: Labels) -> Rates:
        """Count rows, or elements of lists, each with its label."""
        for task, task_values in labels.items():
            known, positive = _known(codes, task_values)
            # In place: `np.bincount` makes a second array as long as the vocabulary.
            np.add.at(self.rows[task], known, 1.0)
            np.add.at(self.positives[task], known, positive.astype(np.float64))
        return self

    def base(self, task: str) -> float:
        return float(self.positives[task].sum() / max(self.rows[task].sum(), 1.0))

    def smoothed(self, task: str, codes: np.ndarray) -> np.ndarray:
        """The share of positives of the (rows,) codes, (rows,) float32."""
        pulled = self.positives[task][codes] + PRIOR_ROWS * self.base(task)
        return (pulled / (self.rows[task][codes] + PRIOR_ROWS)).astype(np.float32)

    def score(self, task: str, codes: np.ndarray, labels: np.ndarray, by: str) -> Score:
        """How well the held rows' codes predict their labels."""
        codes, labels = _known(codes, labels)
        determined, values = self._determined(task, codes, labels)
        return Score(auc(self.smoothed(task, codes), labels), by, len(labels), determined, values)

    def _determined(self, task: str, codes: np.ndarray, labels: np.ndarray) -> tuple[float | None, int]:
        rows, positives = self.rows[task], self.positives[task]
        supported = rows[codes] >= SUPPORT
        codes, labels = codes[supported], labels[supported]
        if not enough(labels):
            return None, 0
        right = (positives[codes] * 2 > rows[codes]) == (labels > 0)
        if min(right[labels > 0].mean(), right[labels == 0].mean()) < DETERMINED:
            return None, 0
        return float(right.mean()), len(np.unique(codes))


# --- Kinds of features ----------------------------------------------------------------------------


def score_feature(
    feature: Feature, own: list[OwnItem], table_sizes: dict[str, int], fit: Sample, held: Sample
) -> dict[str, Score]:
    """The feature's best score on each task of the samples; ``own`` is looked for in a list."""
    if feature.is_list:
        return _score_list(feature, own, table_sizes[feature.table], fit, held)
    if feature.kind == "vector":
        return _score_vector(feature, fit, held)
    values = fit.column(feature.name), held.column(feature.name)
    if feature.is_sparse:
        return _score_codes(values, table_sizes[feature.table], fit.labels, held.labels, "its category")
    return score_numbers(*values, fit.labels, held.labels)


def _score_codes(
    codes: tuple[np.ndarray, np.ndarray], size: int, fit: Labels, held: Labels, by: str
) -> dict[str, Score]:
    """Rates of ``size`` codes from the fit's (rows,), measured on the held (rows,)."""
    fit_codes, held_codes = codes
    if size > len(fit_codes) + len(held_codes):  # most codes do not occur, and would take memory
        occurring, places = np.unique(np.concatenate(codes), return_inverse=True)
        fit_codes, held_codes = np.split(places, [len(fit_codes)])
        size = len(occurring)
    rates = Rates(size, list(fit)).add(fit_codes, fit)
    return {task: rates.score(task, held_codes, labels, by) for task, labels in held.items()}


def _best(*candidates: dict[str, Score]) -> dict[str, Score]:
    """For each task, the score that determines the label, or else the highest."""
    return {
        task: max((scores[task] for scores in candidates), key=lambda s: (s.determined is not None, s.auc))
        for task in candidates[0]
    }


def score_numbers(fit_x: np.ndarray, held_x: np.ndarray, fit: Labels, held: Labels) -> dict[str, Score]:
    """By the number itself, by the rate of its bin (not only monotonic), and by the rate of the exact number.

    A number that many rows have, such as the one that stands for missing, is a bin of its own.
    """
    ordered = {}
    for task, labels in held.items():
        scores, known = _known(held_x, labels)
        ordered[task] = Score(two_sided(auc(scores, known)), "its value", len(known))
    values, fit_exact, counts = np.unique(fit_x, return_inverse=True, return_counts=True)
    near = np.clip(
        np.searchsorted(values, held_x, side="right") - 1, 0, None
    )  # the number itself or the next smaller one
    is_known = values[near] == held_x
    held_exact = np.where(is_known, near, len(values))
    width = max(len(fit_x) / BINS, 1.0)
    bins = 2 * ((np.cumsum(counts) - counts) // width).astype(np.int64)
    heavy = counts >= width
    fit_bins, held_bins = (bins + heavy)[fit_exact], bins[near] + (heavy[near] & is_known)
    by_bin = _score_codes((fit_bins, held_bins), 2 * BINS + 2, fit, held, "the rate of its bin")
    by_bin = {task: replace(score, determined=None, values=0) for task, score in by_bin.items()}
    by_value = _score_codes((fit_exact, held_exact), len(values) + 1, fit, held, "the rate of its value")
    return _best(ordered, by_bin, by_value)


def _score_vector(feature: Feature, fit: Sample, held: Sample) -> dict[str, Score]:
    """By the component that ranks the held rows best; of a long table, only every n-th row is read."""
    length = feature.length or 1
    every = max(1, math.ceil(max(fit.rows, held.rows) * length / VECTOR_NUMBERS))
    fit_x, held_x = (sample.vectors(feature.name, length, every) for sample in (fit, held))
    found = {}
    for task, labels in held.labels.items():
        held_labels, fit_labels = labels[::every], fit.labels[task][::every]
        if not enough(held_labels):
            continue
        best = int(np.argmax([two_sided(auc(*_known(numbers, held_labels))) for numbers in held_x.T]))
        score = score_numbers(fit_x[:, best], held_x[:, best], {task: fit_labels}, {task: held_labels})[task]
        found[task] = replace(score, by=f"number {best + 1} of its {length}, {score.by}")
    return found


def _score_list(
    feature: Feature, own: list[OwnItem], size: int, fit: Sample, held: Sample
) -> dict[str, Score]:
    """By its elements' rates (mean, highest, lowest), its last element, its length, and the row's own items.

    A history that already holds the row's item where it was clicked, and not where it was not, was made too
    late.
    """
    elements = Rates(size, list(fit.labels))
    for values, lengths, rows in fit.lists(feature.name):
        elements.add(values, {task: np.repeat(y[rows], lengths) for task, y in fit.labels.items()})
    candidates = _score_elements(feature, elements, held)
    held_codes = _list_codes(feature, own, held)
    own = [item for item in own if item.is_shared or _may_tell(held_codes[_by(item)], held.labels)]
    sizes = {LAST: size, LENGTH: feature.max_length + 1} | {_by(item): 3 for item in own}
    fit_codes = _list_codes(feature, own, fit)
    for by, most in sizes.items():
        both = fit_codes[by], held_codes[by]
        candidates.append(_score_codes(both, most, fit.labels, held.labels, by))
    return _best(*candidates)


LAST, LENGTH = "its last element", "its length"


def _by(item: OwnItem) -> str:
    return f"whether it holds the row's own {item.name}"


def _may_tell(codes: np.ndarray, labels: Labels) -> bool:
    """Whether three codes rank a label of these rows well if their rates are known: no others do better."""
    rates = Rates(3, list(labels)).add(codes, labels)
    return any(rates.score(task, codes, known, "").auc > SUSPECT for task, known in labels.items())


def _score_elements(feature: Feature, elements: Rates, held: Sample) -> list[dict[str, Score]]:
    names = (
        "the mean rate of its elements",
        "its element of the highest rate",
        "its element of the lowest rate",
    )
    found: list[dict[str, Score]] = [{} for _ in names]
    scores = {task: np.empty((3, len(y)), np.float32) for task, y in held.labels.items()}
    for values, lengths, rows in held.lists(feature.name):
        filled = lengths > 0
        starts = (np.cumsum(lengths) - lengths)[filled]
        for task, task_values in scores.items():
            shard = np.full((3, len(lengths)), elements.base(task), np.float32)
            if len(starts):
                rate = elements.smoothed(task, values)
                shard[0, filled] = np.add.reduceat(rate, starts) / lengths[filled]
                shard[1, filled] = np.maximum.reduceat(rate, starts)
                shard[2, filled] = np.minimum.reduceat(rate, starts)
            task_values[:, rows] = shard
    for task, labels in held.labels.items():
        for name, scores_by_task, values in zip(names, found, scores[task], strict=True):
            known, defined = _known(values, labels)
            scores_by_task[task] = Score(auc(known, defined), name, len(defined))
    return found


def _list_codes(feature: Feature, own: list[OwnItem], sample: Sample) -> dict[str, np.ndarray]:
    """For each row: the last element, the length, and for each of ``own`` 0 absent, 1 within, 2 last."""
    parts: dict[str, list[np.ndarray]] = {by: [] for by in (LAST, LENGTH, *map(_by, own))}
    singles = [_coded(sample.column(item.name), item.of_single) for item in own]
    for values, lengths, rows in sample.lists(feature.name):
        filled, ends = lengths > 0, np.cumsum(lengths)
        row_of = np.repeat(np.arange(len(lengths)), lengths)  # of each element
        last = np.full(len(lengths), MISSING_INDEX, np.int64)
        last[filled] = values[ends[filled] - 1]
        parts[LAST].append(last)
        parts[LENGTH].append(np.minimum(lengths, feature.max_length).astype(np.int64))
        for item, single in zip(own, singles, strict=True):
            codes, wanted = _coded(values, item.of_list), single[rows]
            is_own = (codes == wanted[row_of]) & (codes >= FIRST_INDEX)
            holds = np.zeros(len(lengths), np.int64)
            holds[row_of[is_own]] = 1
            is_last = np.zeros(len(lengths), bool)
            is_last[filled] = is_own[ends[filled] - 1]
            parts[_by(item)].append(np.where(is_last, 2, holds))
    return {by: np.concatenate(columns) for by, columns in parts.items()}


def _coded(indices: np.ndarray, codes: np.ndarray | None) -> np.ndarray:
    return indices if codes is None else codes[indices]
