"""Features that know what they should not: the label of their own row, or the split it belongs to.

Found in a prepared folder, from what a model would see: indices and normalised numbers. A *leak* is

``auc``          one feature alone ranks a label with an AUC above .95;
``determines``   its value tells nearly all labels (``equals``: one value of it a class);
``unseen``       over half of its values in validation or test are new to training;
``split``        its values keep training apart from validation and test, as a date or a row number does.

Rates of values are learned on the training split and measured on validation, or on the later half of
training where validation has too few rows of a class. A leak that only two features together show is not
found here; an AUC of a model above .99 speaks of it in the report.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from datasets.leaks.scores import Sample, Score, enough, score_feature
from datasets.prepare.split import SPLITS
from datasets.prepared import PreparedDataset
from datasets.schema import Feature
from files.errors import InputError
from files.writing import write_atomically

RED_LINE = 0.95  # the AUC of a single feature above which it is a leak
MOST_ROWS = 1_000_000  # of a split; of more, shards are chosen evenly
NEW = 0.5  # share of values new to training
APART = 0.95  # the same, where they keep the splits apart
CROSSED = 0.002  # share of pairs of numbers against that order, which a date or a row number does not have
FEW_VALUES = 50  # of a split, below which their share says nothing
LEAKS_FILE = "leaks.json"
LEAKS_FORMAT = 1

Kind = Literal["equals", "determines", "auc", "unseen", "split"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Leak(_Part):
    """One finding; ``number`` is an AUC, or the larger share of new values; ``says`` follows its feature."""

    feature: str
    kind: Kind
    task: str | None
    number: float
    says: str


class FeatureScore(_Part):
    """The best AUC of a single feature on a task, by which of its properties, over ``rows`` of ``split``."""

    feature: str
    task: str
    auc: float
    by: str
    split: str
    rows: int


class Leaks(_Part):
    """All of a prepared folder. ``sampled`` are the rows of the splits of which not all were read."""

    format: int = LEAKS_FORMAT
    fingerprint: str
    found: list[Leak]
    scores: list[FeatureScore]
    sampled: dict[str, int]


def find_leaks(prepared: PreparedDataset) -> Leaks:
    """The leaks of a prepared folder, measured once and kept beside its shards as ``leaks.json``.

    Where the folder cannot be written, they are kept in memory alone. Memory: one feature's values of
    two splits, and two counts of every category.
    """
    key = (str(prepared.path.absolute()), prepared.fingerprint)
    if key not in _MEASURED:
        _MEASURED[key] = _kept(prepared) or _keep(_measure(prepared), prepared.path)
    return _MEASURED[key]


_MEASURED: dict[tuple[str, str], Leaks] = {}


def as_recorded(prepared: PreparedDataset) -> dict:
    """What a run's record says of leaks: those found, and the features that the schema acknowledges."""
    found = [leak.model_dump(mode="json") for leak in find_leaks(prepared).found]
    return {"found": found, "leak_ok": list(prepared.schema.leak_ok)}


def warnings(prepared: PreparedDataset, tasks: list[str]) -> list[str]:
    """A sentence for each leak that bears on one of ``tasks``, and what follows from it."""
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


# --- Kept beside the shards -----------------------------------------------------------------------


def _kept(prepared: PreparedDataset) -> Leaks | None:
    try:
        kept = Leaks.model_validate_json((prepared.path / LEAKS_FILE).read_bytes())
    except (OSError, ValidationError):
        return None
    same = (kept.format, kept.fingerprint) == (LEAKS_FORMAT, prepared.fingerprint)
    return kept if same else None


def _keep(leaks: Leaks, folder: Path) -> Leaks:
    with contextlib.suppress(OSError, InputError):  # closed to writing, or full: measured again next time
        write_atomically(folder / LEAKS_FILE, (leaks.model_dump_json(indent=1) + "\n").encode())
    return leaks


# --- Measured -------------------------------------------------------------------------------------


def _measure(prepared: PreparedDataset) -> Leaks:
    files = {split: _chosen(prepared.shards(split)) for split in prepared.rows}
    paths = {split: [prepared.path / shard["file"] for shard in chosen] for split, chosen in files.items()}
    read = {split: sum(shard["rows"] for shard in chosen) for split, chosen in files.items()}
    found: list[Leak] = []
    scores: list[FeatureScore] = []
    pairs = _pairs(paths, prepared.schema.task_names)
    rest = Sample([*paths["valid"], *paths["test"]], [])
    for feature in prepared.schema.features:
        for split, fit, held in pairs:
            by_task = score_feature(feature, prepared.schema, prepared.table_sizes, fit, held)
            for task, score in by_task.items():
                scores.append(FeatureScore(
                    feature=feature.name, task=task, auc=score.auc, by=score.by, split=split, rows=score.rows
                ))  # fmt: skip
                found += _label_leaks(feature.name, task, score, split)
        found += _split_leaks(prepared, feature, Sample(paths["train"], []), rest)
    return Leaks(
        fingerprint=prepared.fingerprint,
        found=found,
        scores=scores,
        sampled={split: rows for split, rows in read.items() if rows < prepared.rows[split]},
    )


def _chosen(shards: list[dict]) -> list[dict]:
    """All shards, or as many, evenly spaced, as hold ``MOST_ROWS`` rows."""
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
    """Whether values are new to training, or keep it apart from validation and test."""
    says = _apart_by_gaps(prepared, feature)
    if not says and feature.kind == "numeric":
        says = _apart_by_size(prepared, feature, train, rest)
    if says:
        return [Leak(feature=feature.name, kind="split", task=None, number=1.0, says=says)]
    return _new_values(prepared, feature, train) if feature.is_sparse else []


def _apart_by_gaps(prepared: PreparedDataset, feature: Feature) -> str:
    """Missing in training and there in validation and test, or the other way round."""
    coverage = prepared.manifest["coverage"]
    train, *others = (coverage[split][feature.name]["missing"] / prepared.rows[split] for split in coverage)
    if (train < 1 - APART and min(others) > APART) or (train > APART and max(others) < 1 - APART):
        where = "present in training and missing" if train < APART else "missing in training and present"
        return f"names the split: it is {where} in validation and test"
    return ""


def _apart_by_size(prepared: PreparedDataset, feature: Feature, train: Sample, rest: Sample) -> str:
    """Numbers that end in training where they begin in validation and test, but for ties at the bound."""
    values = [sample.column(feature.name) for sample in (train, rest)]
    if any(counts[feature.name]["missing"] for counts in prepared.manifest["coverage"].values()):
        values = [numbers[numbers != 0] for numbers in values]  # which stands for a missing one
    if min(map(len, values)) < FEW_VALUES:
        return ""
    above, below = _order(*values)
    if max(above, below) < APART or min(above, below) > CROSSED:
        return ""
    where = "above" if above > below else "below"
    return f"names the split: its numbers in validation and test lie {where} all those of training"


def _order(train: np.ndarray, rest: np.ndarray) -> tuple[float, float]:
    """Shares of the pairs of a training row and another in which the other is greater, and less."""
    rest = np.sort(rest)
    not_above = np.searchsorted(rest, train, side="right") / len(rest)
    below = np.searchsorted(rest, train, side="left") / len(rest)
    return float(1.0 - not_above.mean()), float(below.mean())


def _new_values(prepared: PreparedDataset, feature: Feature, train: Sample) -> list[Leak]:
    """Categories that training does not know, beside those that min_count or max_size left out of it."""
    coverage = {split: _coverage(prepared, split, feature) for split in SPLITS}
    values, unseen = coverage["train"]
    known = (1 - unseen / max(values, 1)) * _known_again(prepared, feature) if unseen else 1.0
    later = [coverage[split] for split in ("valid", "test")]
    if min(number * known for number, _ in later) < FEW_VALUES:
        return []
    new = [max(0.0, 1 - (1 - missed / number) / known) for number, missed in later]
    shares = f"{new[0]:.0%} of its values in validation and {new[1]:.0%} in test were never seen in training"
    if min(new) >= APART and 2 * _distinct(feature, train) <= values:
        says = f"names the split: {shares}, where each is repeated"
        return [Leak(feature=feature.name, kind="split", task=None, number=min(new), says=says)]
    if max(new) > NEW:
        says = f"is new: {shares}"
        return [Leak(feature=feature.name, kind="unseen", task=None, number=max(new), says=says)]
    return []


def _coverage(prepared: PreparedDataset, split: str, feature: Feature) -> tuple[int, int]:
    """How many values of a split there are, and how many are unseen."""
    counts = prepared.manifest["coverage"][split][feature.name]
    return counts["elements"] - (0 if feature.is_list else counts["missing"]), counts["unseen"]


def _known_again(prepared: PreparedDataset, feature: Feature) -> float:
    """Of the training values with a category, the share that would have one without their own row.

    A further value is met as often: a category that has just ``min_count`` rows owes it to each of them.
    """
    counts = pq.read_table(prepared.path / "vocabulary" / f"{feature.table}.parquet")["count"].to_numpy()
    sharing = [other for other in prepared.schema.sparse_features if other.table == feature.table]
    least = max(other.min_count for other in sharing)
    return float(counts[counts > least].sum() / max(counts.sum(), 1)) if least > 1 else 1.0


def _distinct(feature: Feature, train: Sample) -> int:
    """How many categories the rows read of training have."""
    if feature.is_list:
        parts = [np.unique(values) for values, _, _ in train.lists(feature.name)]
        return len(np.unique(np.concatenate(parts)))
    return len(np.unique(train.column(feature.name)))
