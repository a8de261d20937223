"""How far validation and test are from training: each feature's distribution, users and items that are new.

Distances are between what a model sees: indices and normalised numbers. Categories have the total variation
distance, half the sum over all categories of the differences between their shares (elements of lists count
one by one, a missing value is a category). Numbers have the Kolmogorov-Smirnov distance, the greatest
difference between the shares of rows at or below a number; a vector has that of its component where it is
greatest. Both are 0 for equal distributions and 1 for those that have nothing in common.

An id with few rows in a split differs by chance alone, so its distance is not small where nothing has moved.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from datasets.leaks.report import sampled_shards
from datasets.leaks.scores import VECTOR_NUMBERS, Sample
from datasets.prepared import PreparedDataset
from datasets.schema import Feature

LATER = ("valid", "test")
TOTAL_VARIATION, KOLMOGOROV_SMIRNOV = "total variation", "Kolmogorov-Smirnov"


@dataclass(frozen=True)
class Drift:
    """``features``: feature, distance (its name), then the distance from training to validation and to test.

    ``new``: split; the share of its users without a training row, the share of its rows that are theirs, and
    the share of its rows whose ``item`` training has not seen. Columns about users and items are absent where
    there are none. ``item`` is the feature that is taken for the item: of the categories in the group
    ``item``, the one with the most values; None without one. ``sampled``: the rows that distances were
    measured on, of splits that were not read fully (evenly spaced shards).
    """

    features: pl.DataFrame
    new: pl.DataFrame
    item: str | None
    sampled: dict[str, int]


def find_drift(prepared: PreparedDataset) -> Drift:
    """Measure it. Memory: one feature's values of two splits, and two counts of each category."""
    samples, sampled = {}, {}
    for split, rows in prepared.rows.items():
        chosen = sampled_shards(prepared.shards(split))
        samples[split] = Sample([prepared.path / shard["file"] for shard in chosen], [])
        if samples[split].rows < rows:
            sampled[split] = samples[split].rows
    features = []
    for feature in prepared.schema.features:
        distance = TOTAL_VARIATION if feature.is_sparse else KOLMOGOROV_SMIRNOV
        found = _distances(feature, samples, prepared.table_sizes)
        features.append({"feature": feature.name, "distance": distance, **found})
    item = _item(prepared)
    return Drift(
        features=pl.DataFrame(features, infer_schema_length=None).sort(
            "test", descending=True, nulls_last=True, maintain_order=True
        ),
        new=pl.DataFrame([_new(prepared, split, item) for split in LATER]),
        item=item.name if item else None,
        sampled=sampled,
    )


def total_variation(left: np.ndarray, right: np.ndarray) -> float | None:
    """Between two counts of the same categories, (K,) each; None where one of them is empty."""
    if not left.sum() or not right.sum():
        return None
    return float(np.abs(left / left.sum() - right / right.sum()).sum() / 2)


def kolmogorov_smirnov(left: np.ndarray, right: np.ndarray) -> float:
    """Between two samples of numbers, (N,) and (M,)."""
    left, right = np.sort(left), np.sort(right)
    at = np.concatenate([left, right])
    shares = [np.searchsorted(values, at, side="right") / len(values) for values in (left, right)]
    return float(np.abs(shares[0] - shares[1]).max())


def _distances(
    feature: Feature, samples: dict[str, Sample], table_sizes: dict[str, int]
) -> dict[str, float | None]:
    if feature.is_sparse:
        counts = {split: _counts(feature, sample, table_sizes) for split, sample in samples.items()}
        return {split: total_variation(counts["train"], counts[split]) for split in LATER}
    numbers = {split: _numbers(feature, sample) for split, sample in samples.items()}
    return {split: max(map(kolmogorov_smirnov, numbers["train"].T, numbers[split].T)) for split in LATER}


def _counts(feature: Feature, sample: Sample, table_sizes: dict[str, int]) -> np.ndarray:
    """How often each index occurs, (K,)."""
    size = table_sizes[feature.table]
    if not feature.is_list:
        return np.bincount(sample.column(feature.name), minlength=size)
    total = np.zeros(size, np.int64)
    for elements, _, _ in sample.lists(feature.name):
        total += np.bincount(elements, minlength=size)
    return total


def _numbers(feature: Feature, sample: Sample) -> np.ndarray:
    """(N, components); of long vectors, every n-th row."""
    if feature.kind == "numeric":
        return sample.column(feature.name)[:, None]
    length = feature.length or 1
    every = max(1, sample.rows * length // VECTOR_NUMBERS)
    return sample.vectors(feature.name, length, every)


def _item(prepared: PreparedDataset) -> Feature | None:
    single = [feature for feature in prepared.schema.features if feature.kind == "categorical"]
    items = [feature for feature in single if feature.group == "item"]
    return max(items, key=lambda feature: prepared.table_sizes[feature.table], default=None)


def _new(prepared: PreparedDataset, split: str, item: Feature | None) -> dict:
    found: dict = {"split": split}
    if prepared.has_users:
        found |= _new_users(prepared, split)
    if item is not None:
        unseen = prepared.manifest["coverage"][split][item.name]["unseen"]
        found["rows_with_new_item"] = unseen / prepared.rows[split]
    return found


def _new_users(prepared: PreparedDataset, split: str) -> dict[str, float]:
    files = [prepared.path / shard["file"] for shard in prepared.shards(split)]
    rows = pl.scan_parquet(files, glob=False).group_by("user_index").agg(pl.len().alias("rows"))
    trained = pl.scan_parquet(prepared.path / "users.parquet", glob=False).select(
        user_index=pl.col("index").cast(pl.Int32), is_new=pl.col("train_rows") == 0
    )
    users = rows.join(trained, on="user_index").collect(engine="streaming")
    new = users.filter("is_new")
    return {
        "new_users": new.height / users.height,
        "rows_of_new_users": int(new["rows"].sum()) / prepared.rows[split],
    }
