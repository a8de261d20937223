"""Avazu: ten days of mobile advertisements, as two benchmarks split them. There is no user.

``device_id`` (mostly one value) and ``device_ip`` only approximate one. ``avazu-x1`` is the split of AFN
(7:1:2) with 22 anonymous fields; its publisher calls it random, yet the rate of clicks falls from 17.5 % in
training to 15.3 % in test (counted in the logs of published runs), so it is not. ``avazu-x4`` is the split
of AutoInt (8:1:1, random); the time YYMMDDHH becomes hour, weekday and weekend, and values that occur once
are unseen (Avazu_x4_001).
"""

from __future__ import annotations

import polars as pl

from datasets.published.table import BY_FILE, THREE_FILES, PublishedTable, categories, numbers
from datasets.schema import Schema, Task

FIELDS = [f"feat_{i}" for i in range(1, 23)]
TIME = ["hour", "weekday", "weekend"]
GROUPS = {
    "position": ["C1", "banner_pos"],
    "site": ["site_id", "site_domain", "site_category"],
    "app": ["app_id", "app_domain", "app_category"],
    "device": ["device_id", "device_ip", "device_model", "device_type", "device_conn_type"],
    "item": [f"C{i}" for i in range(14, 22)],
}


def _x1(name: str, dim: int) -> Schema:
    return Schema(
        name=name,
        description="Avazu_x1, mobile advertisements (Avazu, 2014), the split of AFN; no users",
        features=categories(FIELDS, "fields", dim),
        tasks=[Task(name="click", column="label")],
        user_id=None,
        split=BY_FILE,
    )


def _x4(name: str, dim: int) -> Schema:
    features = categories(TIME, "time", dim, min_count=2)
    for group, fields in GROUPS.items():
        features += categories(fields, group, dim, min_count=2)
    return Schema(
        name=name,
        description="Avazu_x4, mobile advertisements (Avazu, 2014), the split of AutoInt; no users",
        features=features,
        tasks=[Task(name="click")],
        user_id=None,
        split=BY_FILE,
    )


def _time_as_number(schema: Schema) -> Schema:
    """How the raw columns are read: the time is one number."""
    others = [feature for feature in schema.features if feature.name not in TIME]
    return schema.model_copy(update={"features": [*numbers(["hour"], "time", 4), *others]})


_MOMENT = (pl.col("hour").str.strip_chars() + "00").str.to_datetime("%y%m%d%H%M")
_WEEKDAY = _MOMENT.dt.weekday().cast(pl.Int64)
CLOCK = {
    "hour": _MOMENT.dt.hour().cast(pl.Int64),  # 14102100 -> 0
    "weekday": _WEEKDAY,  # 1 = Monday
    "weekend": (_WEEKDAY >= 6).cast(pl.Int64),
}

X1 = PublishedTable("avazu-x1", "avazu-x1", "Avazu_x1", THREE_FILES, 12, _x1)
X4 = PublishedTable("avazu-x4", "avazu-x4", "Avazu_x4", THREE_FILES, 16, _x4, CLOCK, _time_as_number)
