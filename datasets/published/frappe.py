"""Frappe_x1: which app a user ran in which context, with two drawn apps beside each as negatives.

Baltrunas et al., "Frappe: Understanding the Usage and Perception of Mobile App Recommendations
In-The-Wild", 2015, https://arxiv.org/abs/1505.03014; the split (7:2:1, random) is AFN's.
"""

from __future__ import annotations

from datasets.published.table import BY_FILE, THREE_FILES, PublishedTable, categories
from datasets.schema import Schema, Task

GROUPS = {
    "user": ["user"],
    "item": ["item", "cost"],
    "time": ["daytime", "weekday", "isweekend"],
    "place": ["homework", "country", "city"],
    "weather": ["weather"],
}


def _schema(name: str, dim: int) -> Schema:
    return Schema(
        name=name,
        description="Frappe_x1, apps used in context (2015), two negatives drawn for each use; research use",
        features=[f for group, fields in GROUPS.items() for f in categories(fields, group, dim)],
        tasks=[Task(name="label")],
        user_id="user",
        split=BY_FILE,
    )


X1 = PublishedTable("frappe-x1", "frappe-x1", "Frappe_x1", THREE_FILES, 12, _schema)
