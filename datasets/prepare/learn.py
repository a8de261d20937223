"""Learns vocabularies, normalisation, users and label counts from the staged table."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from datasets.prepare.buckets import Buckets
from datasets.prepare.split import SPLITS
from datasets.prepare.threads import in_order, workers_for
from datasets.prepare.vectors import present_rows, transformed
from datasets.prepare.vocabulary import Vocabulary, learn_vocabulary
from datasets.schema import Feature, Schema
from files.errors import InputError

# Relative to the mean. Rounding gives equal numbers a deviation below 4 float64 steps (at most 3.6 in 3,000
# constants from 1e-300 to 1e150, up to 1e6 rows each); numbers that differ only in their last bit are treated
# the same. Times since 1970 that differ by one second are 2.6 million steps apart.
CONSTANT_BELOW = 16 * float(np.finfo(np.float64).eps)
NO_USERS = pl.DataFrame(
    schema={"value": pl.Int64, "train_rows": pl.Int64, "tier": pl.Int8, "index": pl.Int32}
)
_SPLIT_MENDS = {
    "time": "mend its bounds",
    "fraction": "give more rows or other shares (rows of one time stay together)",
    "column": "mark some",
}


class Moments(NamedTuple):
    """How many numbers, their mean, and the sum of the squared deviations from it."""

    number: int
    mean: float
    squares: float


MomentsByPlace = dict[tuple[str, int], Moments]  # by feature and component


@dataclass(frozen=True)
class Learned:
    """Everything that turns a staged row into a prepared one.

    ``vocabularies`` and ``buckets`` are by table; a table is in one of the two.
    ``users`` has columns value, train_rows, tier and index (0.. in the order of value), and no rows for a
    table without users.
    ``normalization`` holds mean and std of each numeric feature that is normalised, after log1p
    where it applies; for a vector, lists with one value per component. ``labels`` counts positive, negative
    and undefined rows by split and task.
    """

    code: pl.Expr
    vocabularies: dict[str, Vocabulary]
    buckets: dict[str, Buckets]
    normalization: dict[str, dict]
    users: pl.DataFrame
    rows: dict[str, int]
    labels: dict[str, dict[str, dict[str, int]]]

    def table(self, feature: Feature) -> Vocabulary | Buckets:
        """What gives the feature's categories their indices."""
        return self.buckets.get(feature.table) or self.vocabularies[feature.table]

    @property
    def largest_table(self) -> int:
        """Rows of the largest of the tables that rows are looked up in: vocabularies and users."""
        return max(self.users.height, *(vocabulary.size for vocabulary in self.vocabularies.values()), 0)


class Counted(NamedTuple):
    """Vocabularies and moments of the training rows that were counted elsewhere."""

    vocabularies: dict[str, Vocabulary]
    moments: MomentsByPlace


def learn(schema: Schema, runs: list[Path], code: pl.Expr, counted: Counted | None = None) -> Learned:
    """One streaming pass for the splits' counts and, unless it is ``counted``, one for each vocabulary.

    Raises InputError on an empty split and on a task with one class in training.
    """
    staged = pl.scan_parquet(runs, glob=False)
    rows, labels = count_labels(schema, staged, code)
    if counted is None:
        train = staged.filter(code == 0)
        vocabularies = {
            table: learn_vocabulary(train, features) for table, features in learned_tables(schema).items()
        }
        counted = Counted(vocabularies, learn_moments(schema, runs, code))
    return Learned(
        code=code,
        vocabularies=counted.vocabularies,
        buckets={
            feature.table: Buckets(feature.hash_buckets, feature.hash_seed)
            for feature in {feature.table: feature for feature in schema.sparse_features}.values()
            if feature.hash_buckets is not None
        },
        normalization=constants(schema, counted.moments),
        users=learn_users(staged, code) if schema.user_id is not None else NO_USERS,
        rows=rows,
        labels=labels,
    )


def learned_tables(schema: Schema) -> dict[str, list[Feature]]:
    """The features of each vocabulary that is learned, in schema order; those of hashed ids are not."""
    tables: dict[str, list[Feature]] = {}
    for feature in schema.sparse_features:
        if feature.hash_buckets is None:
            tables.setdefault(feature.table, []).append(feature)
    return tables


def count_labels(schema: Schema, staged: pl.LazyFrame, code: pl.Expr) -> tuple[dict, dict]:
    """Rows by split, and label counts by split and task; InputError where nothing can be trained."""
    counts = [pl.len().alias("rows")]
    for task in schema.tasks:
        label = pl.col(f"@label.{task.name}")
        counts += [
            (label == 1).sum().alias(f"{task.name}.positive"),
            (label == 0).sum().alias(f"{task.name}.negative"),
            label.is_null().sum().alias(f"{task.name}.undefined"),
        ]
    table = staged.group_by(code.alias("code")).agg(counts).collect(engine="streaming")
    found = {SPLITS[row["code"]]: row for row in table.iter_rows(named=True)}
    where = f"dataset {schema.name!r}"
    for split in SPLITS:
        if split not in found:
            by = schema.split.by
            raise InputError(f"{where}: split ({by}): no row falls into {split}; {_SPLIT_MENDS[by]}")
    for task in schema.tasks:
        row = found["train"]
        for kind, value in (("positive", 1), ("negative", 0)):
            if row[f"{task.name}.{kind}"] == 0:
                raise InputError(
                    f"{where}: task {task.name!r}: {task.origin} is never {value} in the "
                    f"training split, so there is nothing to learn; move the split or remove the task"
                )
    rows = {split: found[split]["rows"] for split in SPLITS}
    kinds = ("positive", "negative", "undefined")
    labels = {
        split: {name: {kind: found[split][f"{name}.{kind}"] for kind in kinds} for name in schema.task_names}
        for split in SPLITS
    }
    return rows, labels


def normalized_features(schema: Schema) -> list[Feature]:
    """Numbers and vectors that are normalised, in schema order."""
    return [feature for feature in schema.dense_features if feature.normalization != "none"]


def learn_moments(schema: Schema, runs: list[Path], code: pl.Expr) -> MomentsByPlace:
    """Those of all training rows."""

    def moments(run: Path) -> MomentsByPlace:
        return moments_of_run(schema, run, code)

    found = in_order(moments, runs, workers_for(runs)) if normalized_features(schema) else []
    return merged_moments(schema, found)


def merged_moments(schema: Schema, found: Iterable[MomentsByPlace]) -> MomentsByPlace:
    """Those of several runs together, by every feature and component, of which a run may lack some.

    Runs are merged in order (Chan et al., 1983), so the last bit does not depend on threads.
    """
    moments = dict.fromkeys(places(schema), Moments(0, 0.0, 0.0))
    for several in found:
        for key, more in several.items():
            moments[key] = _merged(moments[key], more)
    return moments


def constants(schema: Schema, moments: MomentsByPlace) -> dict[str, dict]:
    """Mean and standard deviation over the training rows, 1 where a feature does not vary beyond rounding.

    Those of a vector are lists, with one number a component.
    Raises InputError where numbers are so large that their squares overflow.
    """
    features = normalized_features(schema)
    found: dict[str, list[dict[str, float]]] = {feature.name: [] for feature in features}
    for (name, _), (count, mean, squares) in moments.items():
        std = float(np.sqrt(squares / count)) if count else 0.0
        if not math.isfinite(std):
            raise InputError(
                f"dataset {schema.name!r}: feature {name!r}: its numbers are too large to normalise; "
                "empty those that stand for a missing value, or set normalization to log1p"
            )
        found[name].append({"mean": mean, "std": std if std > CONSTANT_BELOW * abs(mean) else 1.0})
    return {
        feature.name: _as_lists(found[feature.name]) if feature.kind == "vector" else found[feature.name][0]
        for feature in features
    }


def _components(feature: Feature, staged: pl.Series) -> Iterable[np.ndarray]:
    """The known numbers of a feature before standardisation; of a vector, those of each component."""
    if feature.kind == "vector":
        return present_rows(feature, staged).T
    return [staged.to_frame().select(transformed(feature)).to_series().drop_nulls().to_numpy()]


def _as_lists(components: list[dict[str, float]]) -> dict[str, list[float]]:
    return {kind: [component[kind] for component in components] for kind in ("mean", "std")}


def places(schema: Schema) -> list[tuple[str, int]]:
    """Every feature that is normalised, with each of its components (one, of a number)."""
    features = normalized_features(schema)
    return [(feature.name, place) for feature in features for place in range(feature.num_numbers)]


def moments_of_run(schema: Schema, run: Path, code: pl.Expr) -> MomentsByPlace:
    """Those of the training rows of a run, without places that have no number."""
    columns = [code.alias("@code"), *(feature.name for feature in normalized_features(schema))]
    rows = pl.scan_parquet(run, glob=False).select(columns).filter(pl.col("@code") == 0).collect()
    return moments_of(schema, rows)


def moments_of(schema: Schema, table: pl.DataFrame) -> MomentsByPlace:
    """Those of some staged rows, without places that have no number."""
    found = {}
    for feature in normalized_features(schema):
        for place, values in enumerate(_components(feature, table[feature.name])):
            if len(values):
                with np.errstate(over="ignore", invalid="ignore"):  # found by constants
                    mean = values.mean()
                    found[feature.name, place] = Moments(
                        len(values), float(mean), float(np.square(values - mean).sum())
                    )
    return found


def _merged(moments: Moments, more: Moments) -> Moments:
    total = moments.number + more.number
    shift = more.mean - moments.mean
    return Moments(
        total,
        moments.mean + shift * more.number / total,
        moments.squares + more.squares + shift * shift * moments.number * more.number / total,
    )


def learn_users(staged: pl.LazyFrame, code: pl.Expr) -> pl.DataFrame:
    """Users of all splits in the order of their ids, with their training rows and activity tier.

    A tier is a tercile of the users who have training rows, by the number of those rows: with F
    the share of such users with fewer rows plus half the share with equally many, the tier is
    floor(3 F). Users with equally many rows so share a tier; users without any are tier 0.
    Memory: one row a user.
    """
    counted = staged.group_by(value=pl.col("@user")).agg(train_rows=(code == 0).sum().cast(pl.Int64))
    users = counted.collect(engine="streaming").sort("value")
    active = users.filter(pl.col("train_rows") > 0).height
    rank = pl.col("train_rows").rank("average") - (users.height - active)  # users without rows rank lowest
    share = (rank - 0.5) / active
    tier = pl.when(pl.col("train_rows") > 0).then((3 * share).floor().clip(0, 2)).otherwise(0)
    return users.with_columns(tier=tier.cast(pl.Int8), index=pl.int_range(pl.len(), dtype=pl.Int32))
