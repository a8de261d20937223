"""Turns the simulation's arrays into the raw table whose columns the schema names."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa

PLAIN_COLUMNS = (
    "time",
    "user_id",
    "age_band",
    "gender",
    "city",
    "device",
    "registration_age",
    "activity_tier",
    "item_id",
    "author",
    "category",
    "music",
    "duration",
    "upload_age",
    "popularity",
    "hour",
    "weekday",
    "tab",
    "network",
    "watch_time",
    "finish",
    "skip",
    "p_finish",
    "p_skip",
)


def log_frame(rows: dict[str, np.ndarray], author: np.ndarray, category: np.ndarray) -> pl.DataFrame:
    """The raw table of simulated rows; ``author`` and ``category`` (items,) look histories up.

    A rate is null where there is no earlier impression to take it of; a sequence is a list of up to
    20, oldest first.
    """
    columns: dict[str, pl.Series | np.ndarray] = {name: rows[name] for name in PLAIN_COLUMNS}
    known = rows["history_items"] >= 0
    offsets = np.concatenate([[0], np.cumsum(known.sum(axis=1))])
    items = rows["history_items"][known]
    columns["seq_item"] = _lists(items, offsets)
    columns["seq_author"] = _lists(author[items], offsets)
    columns["seq_category"] = _lists(category[items], offsets)
    columns["seq_watch_ratio"] = _lists(rows["history_ratios"][known], offsets)
    for name in ("user_category", "user_author"):
        impressions, finishes, skips = rows[name].T
        columns[f"{name}_count"] = impressions.astype(np.int32)
        columns[f"{name}_finish_rate"] = _rate(finishes, impressions)
        columns[f"{name}_skip_rate"] = _rate(skips, impressions)
    return pl.DataFrame(columns)


def _lists(values: np.ndarray, offsets: np.ndarray) -> pl.Series:
    array = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values.astype(np.int32, copy=False)))
    return pl.Series(pl.from_arrow(array))


def _rate(count: np.ndarray, of: np.ndarray) -> pl.Series:
    rate = count / np.maximum(of, 1)
    return pl.Series(pl.from_arrow(pa.array(rate, mask=of == 0)))
