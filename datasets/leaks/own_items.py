"""Which single categories of a row a list may hold: compared by value, whatever their vocabularies.

A history and an item that have vocabularies of their own give the same id two indices. The index of one is
brought to the other's through the values of both, or through the hash of the values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from datasets.prepare.buckets import hashed
from datasets.prepared import PreparedDataset
from datasets.schema import FIRST_INDEX, MISSING_INDEX, Feature

MOST_COMPARED = 5_000_000  # categories of two vocabularies together


@dataclass(frozen=True)
class OwnItem:
    """A single category that a list may hold.

    ``of_single`` and ``of_list`` map the indices of the feature ``name`` and of the list to codes that are
    equal where the values are, and below ``FIRST_INDEX`` for a value without one. None: the indices are such.
    """

    name: str
    is_shared: bool = True
    of_single: np.ndarray | None = None
    of_list: np.ndarray | None = None


def own_items(prepared: PreparedDataset, feature: Feature) -> tuple[list[OwnItem], list[str]]:
    """The categories to look for in a list, and the features that cannot be compared with it at little cost.

    Of vocabularies of over ``MOST_COMPARED`` categories together, or hashed in two ways, only the owner knows
    whether they hold the same ids.
    """
    found: list[OwnItem] = []
    unknown: list[Feature] = []
    for single in prepared.schema.sparse_features:
        if single.is_list:
            continue
        if single.table == feature.table or _are_hashed_alike(single, feature):
            found.append(OwnItem(single.name, is_shared=single.table == feature.table))
        elif not _can_be_compared(prepared, single, feature):
            unknown.append(single)
        elif (item := _compared(prepared, single, feature)) is not None:
            found.append(item)
    known = {prepared.schema.feature(item.name).source_column for item in found}
    return found, [single.name for single in unknown if single.source_column not in known]


def _are_hashed_alike(one: Feature, other: Feature) -> bool:
    return one.hash_buckets is not None and (one.hash_buckets, one.hash_seed) == (
        other.hash_buckets,
        other.hash_seed,
    )


def _can_be_compared(prepared: PreparedDataset, one: Feature, other: Feature) -> bool:
    with_values = [feature for feature in (one, other) if feature.hash_buckets is None]
    categories = sum(prepared.manifest["vocabulary_sizes"][feature.table] for feature in with_values)
    return bool(with_values) and categories <= MOST_COMPARED


def _compared(prepared: PreparedDataset, single: Feature, feature: Feature) -> OwnItem | None:
    """The codes of a list and a single category, None where they have no value in common."""
    if feature.hash_buckets is not None:
        return OwnItem(single.name, False, of_single=_buckets(_vocabulary(prepared, single), feature))
    if single.hash_buckets is not None:
        return OwnItem(single.name, False, of_list=_buckets(_vocabulary(prepared, feature), single))
    own, listed = _vocabulary(prepared, single), _vocabulary(prepared, feature)
    if own["value"].dtype != listed["value"].dtype:  # one of them holds text beside the numbers
        own, listed = (table.with_columns(pl.col("value").cast(pl.String)) for table in (own, listed))
    both = own.join(listed, on="value", suffix="_in_list")
    if both.is_empty():
        return None
    return OwnItem(single.name, False, of_single=_codes(own.height, both["index"], both["index_in_list"]))


def _vocabulary(prepared: PreparedDataset, feature: Feature) -> pl.DataFrame:
    path = prepared.path / "vocabulary" / f"{feature.table}.parquet"
    return pl.read_parquet(path, columns=["value", "index"], glob=False)


def _buckets(vocabulary: pl.DataFrame, other: Feature) -> np.ndarray:
    """The indices that the values of a vocabulary have where ``other`` hashes them."""
    assert other.hash_buckets is not None, "it hashes its ids"
    hashes, _ = hashed(vocabulary["value"], other.hash_seed)
    buckets = FIRST_INDEX + (hashes % np.uint64(other.hash_buckets)).astype(np.int64)
    return _codes(vocabulary.height, vocabulary["index"], pl.Series(buckets))


def _codes(categories: int, indices: pl.Series, codes: pl.Series) -> np.ndarray:
    """An array of the codes by index, missing where there is none."""
    found = np.full(FIRST_INDEX + categories, MISSING_INDEX, np.int32)
    found[indices.to_numpy()] = codes.to_numpy()
    return found
