"""Finds features that give away the label of their own row, or the split that the row belongs to.

They are searched in a prepared folder, in what a model sees: indices and normalised numbers. A *leak* is

``auc``          a single feature ranks a label with an AUC above .95;
``determines``   its value determines nearly all labels (``equals``: each class has one value);
``unseen``       over half of its values in validation or test do not occur in training;
``split``        its values separate training from validation and test, as a date or a row number does.

Rates of values are learned on the training split and measured on validation, or on the later half of
training where validation has too few rows of a class. A leak through two features together is not found
here; the report warns of it when a model's AUC is above .99.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from datasets.leaks.own_items import own_items
from datasets.leaks.scores import Sample, Score, enough, score_feature
from datasets.prepare.split import SPLITS
from datasets.prepared import PreparedDataset
from datasets.schema import Feature
from files.errors import InputError
from files.writing import write_atomically

RED_LINE = 0.95  # the AUC of a single feature above which it is a leak
MOST_ROWS = 1_000_000  # read of a split; of larger splits, evenly spaced shards
NEW = 0.5  # a share of values that do not occur in training
SEPARATED = 0.95  # the same, where the values separate the splits
CROSSED = 0.002  # a share of pairs of numbers in the opposite order; a date or row number has fewer
FEW_VALUES = 50  # in a split; below this, shares mean nothing
LEAKS_FILE = "leaks.json"
LEAKS_FORMAT = 2

Kind = Literal["equals", "determines", "auc", "unseen", "split"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Leak(_Part):
    """One leak; ``number`` is an AUC or the larger share of new values, ``says`` describes ``feature``."""

    feature: str
    kind: Kind
    task: str | None
    number: float
    says: str


class FeatureScore(_Part):
    """A single feature's best AUC on a task, the property that gives it (``by``), and the rows measured."""

    feature: str
    task: str
    auc: float
    by: str
    split: str
    rows: int


class Leaks(_Part):
    """All leaks of a prepared folder. ``sampled`` holds the rows read of splits that were not read fully.

    ``not_compared`` holds, by list, the categories that could not be looked for in it.
    """

    format: int = LEAKS_FORMAT
    fingerprint: str
    found: list[Leak]
    scores: list[FeatureScore]
    sampled: dict[str, int]
    not_compared: dict[str, list[str]]


def find_leaks(prepared: PreparedDataset) -> Leaks:
    """The leaks of a prepared folder, measured once and stored with its shards as ``leaks.json``.

    Where the folder cannot be written, they are kept only in memory. Memory: one feature's values of
    two splits, and two counts of every category.
    """
    key = (str(prepared.path.absolute()), prepared.fingerprint)
    if key not in _MEASURED:
        _MEASURED[key] = _kept(prepared) or _keep(_measure(prepared), prepared.path)
    return _MEASURED[key]


_MEASURED: dict[tuple[str, str], Leaks] = {}


def as_recorded(prepared: PreparedDataset) -> dict:
    """The leaks as a run's record holds them: those found, and the features that the schema acknowledges."""
    found = [leak.model_dump(mode="json") for leak in find_leaks(prepared).found]
    return {"found": found, "leak_ok": list(prepared.schema.leak_ok)}


def warnings(prepared: PreparedDataset, tasks: list[str]) -> list[str]:
    """A sentence for each leak that concerns one of ``tasks``, with its consequence."""
    sentences = []
    for leak in find_leaks(prepared).found:
        if leak.task is None or leak.task in tasks:
            mend = (
                "acknowledged by leak_ok"
                if leak.feature in prepared.schema.leak_ok
                else "the report will give no verdict; remove the feature, or acknowledge it with "
                f"leak_ok: [{leak.feature}]"
            )
            sentences.append(f"LEAK: feature {leak.feature!r} {leak.says}; {mend}")
    return sentences


# --- Stored with the shards -----------------------------------------------------------------------


def _kept(prepared: PreparedDataset) -> Leaks | None:
    try:
        kept = Leaks.model_validate_json((prepared.path / LEAKS_FILE).read_bytes())
    except (OSError, ValidationError):
        return None
    same = (kept.format, kept.fingerprint) == (LEAKS_FORMAT, prepared.fingerprint)
    return kept if same else None


def _keep(leaks: Leaks, folder: Path) -> Leaks:
    with contextlib.suppress(OSError, InputError):  # read-only or full: measured again next time
        write_atomically(folder / LEAKS_FILE, (leaks.model_dump_json(indent=1) + "\n").encode())
    return leaks


# --- Measured -------------------------------------------------------------------------------------


def _measure(prepared: PreparedDataset) -> Leaks:
    files = {split: sampled_shards(prepared.shards(split)) for split in prepared.rows}
    paths = {split: [prepared.path / shard["file"] for shard in chosen] for split, chosen in files.items()}
    read = {split: sum(shard["rows"] for shard in chosen) for split, chosen in files.items()}
    found: list[Leak] = []
    scores: list[FeatureScore] = []
    pairs = _pairs(paths, prepared.schema.task_names)
    train, rest = Sample(paths["train"], []), Sample([*paths["valid"], *paths["test"]], [])
    not_compared: dict[str, list[str]] = {}
    for feature in prepared.schema.features:
        own, unknown = own_items(prepared, feature) if feature.is_list and pairs else ([], [])
        if unknown:
            not_compared[feature.name] = unknown
        for split, fit, held in pairs:
            by_task = score_feature(feature, own, prepared.table_sizes, fit, held)
            for task, score in by_task.items():
                scores.append(FeatureScore(
                    feature=feature.name, task=task, auc=score.auc, by=score.by, split=split, rows=score.rows
                ))  # fmt: skip
                found += _label_leaks(feature.name, task, score, split)
        found += _split_leaks(prepared, feature, train, rest)
    return Leaks(
        fingerprint=prepared.fingerprint,
        found=found,
        scores=scores,
        sampled={split: rows for split, rows in read.items() if rows < prepared.rows[split]},
        not_compared=not_compared,
    )


def sampled_shards(shards: list[dict]) -> list[dict]:
    """All shards, or evenly spaced ones with ``MOST_ROWS`` rows in total."""
    rows = sum(shard["rows"] for shard in shards)
    count = max(1, int(len(shards) * min(1.0, MOST_ROWS / rows)))
    return [shards[number * len(shards) // count] for number in range(count)]


def _pairs(paths: dict[str, list[Path]], tasks: list[str]) -> list[tuple[str, Sample, Sample]]:
    """Where rates are learned and where they are measured, of the tasks with enough rows of both classes."""
    train = paths["train"]
    half = len(train) // 2
    pairs = []
    for split, fit, held in (("valid", train, paths["valid"]), ("train", train[:half], train[half:])):
        labels = Sample(held, tasks).labels if fit and tasks else {}
        measurable = [task for task in labels if enough(labels[task])]
        if measurable:
            pairs.append((split, Sample(fit, measurable), Sample(held, measurable)))
        tasks = [task for task in tasks if task not in measurable]
    return pairs


_WHERE = {"valid": "validation", "train": "the later half of training"}


def _label_leaks(feature: str, task: str, score: Score, split: str) -> list[Leak]:
    """The leak of one score, if it is one."""
    if score.determined is None and score.auc <= RED_LINE:
        return []
    kind: Kind = "auc" if score.determined is None else "equals" if score.values == 2 else "determines"
    says = f"alone predicts {task!r} with AUC {score.auc:.4f} on {_WHERE[split]} (by {score.by})"
    if score.determined is not None:
        what = (
            f"one value of it stands for each class of {task!r}" if kind == "equals" else f"it tells {task!r}"
        )
        says += f": {what} in {score.determined:.2%} of the rows whose value training knows"
    return [Leak(feature=feature, kind=kind, task=task, number=score.auc, says=says)]


# --- Splits ---------------------------------------------------------------------------------------


def _split_leaks(prepared: PreparedDataset, feature: Feature, train: Sample, rest: Sample) -> list[Leak]:
    """Leaks of the split: values that do not occur in training, or that separate it from the other splits."""
    says = _separated_by_missing_values(prepared, feature)
    if not says and feature.kind == "numeric":
        says = _separated_by_magnitude(prepared, feature, train, rest)
    if says:
        return [Leak(feature=feature.name, kind="split", task=None, number=1.0, says=says)]
    return _new_values(prepared, feature, train) if feature.is_sparse else []


def _separated_by_missing_values(prepared: PreparedDataset, feature: Feature) -> str:
    """Missing in training and present in validation and test, or the other way round."""
    coverage = prepared.manifest["coverage"]
    train, *others = (coverage[split][feature.name]["missing"] / prepared.rows[split] for split in coverage)
    if (train < 1 - SEPARATED and min(others) > SEPARATED) or (
        train > SEPARATED and max(others) < 1 - SEPARATED
    ):
        where = "present in training and missing" if train < SEPARATED else "missing in training and present"
        return f"names the split: it is {where} in validation and test"
    return ""


def _separated_by_magnitude(prepared: PreparedDataset, feature: Feature, train: Sample, rest: Sample) -> str:
    """Numbers that are all smaller (or all larger) in training than in validation and test, except ties."""
    values = [sample.column(feature.name) for sample in (train, rest)]
    if any(counts[feature.name]["missing"] for counts in prepared.manifest["coverage"].values()):
        values = [numbers[numbers != 0] for numbers in values]  # 0 stands for a missing number
    if min(map(len, values)) < FEW_VALUES:
        return ""
    above, below = _order(*values)
    if max(above, below) < SEPARATED or min(above, below) > CROSSED:
        return ""
    where = "above" if above > below else "below"
    return f"names the split: its numbers in validation and test lie {where} all those of training"


def _order(train: np.ndarray, rest: np.ndarray) -> tuple[float, float]:
    """The shares of pairs (training row, other row) in which the other is greater, and is less."""
    rest = np.sort(rest)
    not_above = np.searchsorted(rest, train, side="right") / len(rest)
    below = np.searchsorted(rest, train, side="left") / len(rest)
    return float(1.0 - not_above.mean()), float(below.mean())


def _new_values(prepared: PreparedDataset, feature: Feature, train: Sample) -> list[Leak]:
    """Categories that do not occur in training, not counting those that min_count or max_size dropped.

    Of hashed ids, which share buckets with others, more are new than are found.
    """
    coverage = {split: _coverage(prepared, split, feature) for split in SPLITS}
    values, unseen = coverage["train"]
    known = (1 - unseen / max(values, 1)) * _share_known_without_own_row(prepared, feature) if unseen else 1.0
    later = [coverage[split] for split in ("valid", "test")]
    if min(number * known for number, _ in later) < FEW_VALUES:
        return []
    new = [max(0.0, 1 - (1 - missed / number) / known) for number, missed in later]
    shares = f"{new[0]:.0%} of its values in validation and {new[1]:.0%} in test were never seen in training"
    if min(new) >= SEPARATED and 2 * _distinct(feature, train) <= values:
        says = f"names the split: {shares}, where each is repeated"
        return [Leak(feature=feature.name, kind="split", task=None, number=min(new), says=says)]
    if max(new) > NEW:
        says = f"is new: {shares}"
        return [Leak(feature=feature.name, kind="unseen", task=None, number=max(new), says=says)]
    return []


def _coverage(prepared: PreparedDataset, split: str, feature: Feature) -> tuple[int, int]:
    """The number of a feature's values in a split, and how many of them are unseen."""
    counts = prepared.manifest["coverage"][split][feature.name]
    return counts["elements"] - (0 if feature.is_list else counts["missing"]), counts["unseen"]


def _share_known_without_own_row(prepared: PreparedDataset, feature: Feature) -> float:
    """Of the training values with a category, the share that would keep it without their own row.

    A category with exactly ``min_count`` rows would be lost without any one of them. So this is how often a
    value of a new row is expected to have a category.
    """
    if feature.hash_buckets is not None:
        return 1.0
    counts = pq.read_table(prepared.path / "vocabulary" / f"{feature.table}.parquet")["count"].to_numpy()
    sharing = [other for other in prepared.schema.sparse_features if other.table == feature.table]
    least = max(other.min_count for other in sharing)
    return float(counts[counts > least].sum() / max(counts.sum(), 1)) if least > 1 else 1.0


def _distinct(feature: Feature, train: Sample) -> int:
    """The number of different categories in the training rows that were read."""
    if feature.is_list:
        parts = [np.unique(values) for values, _, _ in train.lists(feature.name)]
        return len(np.unique(np.concatenate(parts)))
    return len(np.unique(train.column(feature.name)))
