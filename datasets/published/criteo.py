"""Criteo: one week of display advertising, as two benchmarks split it. Nobody's rows: there is no user.

``criteo-x1`` is the split of AFN (Cheng et al., AAAI 2020; 7:2:1, random), whose I1 to I13 were scaled by
its authors and are read as they are, and whose categories are integers. ``criteo-x4`` is the split of
AutoInt (Song et al., CIKM 2019; 8:1:1, random) of the raw rows. Its counts become categories as the
published runs make them, floor(log(x)**2) above 2 and x itself below, a missing one 0, and values rarer
than 10 are unseen (Criteo_x4_001). Positives and negatives were sampled at different, unknown rates, and
both splits ignore time.
"""

from __future__ import annotations

import polars as pl

from datasets.published.table import BY_FILE, THREE_FILES, PublishedTable, categories, numbers
from datasets.raw.text import cell, number
from datasets.schema import Schema, Task

COUNTS = [f"I{i}" for i in range(1, 14)]
HASHED = [f"C{i}" for i in range(1, 27)]


def _x1(name: str, dim: int) -> Schema:
    return Schema(
        name=name,
        description="Criteo_x1, display advertisements (Criteo, 2014), the split of AFN; no users",
        features=[*numbers(COUNTS, "numbers", dim), *categories(HASHED, "categories", dim)],
        tasks=[Task(name="click", column="label")],
        user_id=None,
        split=BY_FILE,
    )


def _x4(name: str, dim: int) -> Schema:
    return Schema(
        name=name,
        description="Criteo_x4, display advertisements (Criteo, 2014), the split of AutoInt; no users",
        features=[
            *categories(COUNTS, "numbers", dim, min_count=10),
            *categories(HASHED, "categories", dim, min_count=10),
        ],
        tasks=[Task(name="click", column="Label")],
        user_id=None,
        split=BY_FILE,
    )


def _counts_as_numbers(schema: Schema) -> Schema:
    """How the raw columns are read: I1 to I13 must be numbers."""
    others = [feature for feature in schema.features if feature.name not in COUNTS]
    return schema.model_copy(update={"features": [*numbers(COUNTS, "numbers", 4), *others]})


def bucket(column: str) -> pl.Expr:
    """A count as text -> its category: floor(log(x)**2) above 2, x itself (without a fraction) up to 2.

    A missing count is 0, as in the published runs.
    """
    count = number(cell(pl.col(column), None)).fill_null(0.0)
    return pl.when(count > 2).then((count.log() ** 2).floor()).otherwise(count).cast(pl.Int64)


X1 = PublishedTable("criteo-x1", "criteo-x1", "Criteo_x1", THREE_FILES, 12, _x1)
X4 = PublishedTable(
    "criteo-x4",
    "criteo-x4",
    "Criteo_x4",
    THREE_FILES,
    16,
    _x4,
    {name: bucket(name) for name in COUNTS},
    _counts_as_numbers,
)
