"""MovielensLatest_x1: which tag a user gave which film, with drawn tags beside each as negatives.

Harper and Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015,
https://doi.org/10.1145/2827872; the split (7:2:1, random) is AFN's.
"""

from __future__ import annotations

from datasets.published.table import BY_FILE, THREE_FILES, PublishedTable, categories
from datasets.schema import Schema, Task


def _schema(name: str, dim: int) -> Schema:
    return Schema(
        name=name,
        description="MovielensLatest_x1, tags of films (GroupLens), drawn tags as negatives; research use",
        features=[*categories(["user_id"], "user", dim), *categories(["item_id", "tag_id"], "item", dim)],
        tasks=[Task(name="label")],
        user_id="user_id",
        split=BY_FILE,
    )


X1 = PublishedTable(
    "movielens-latest-x1", "movielens-latest-x1", "MovielensLatest_x1", THREE_FILES, 12, _schema
)
