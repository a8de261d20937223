"""The schema of Yambda."""

from __future__ import annotations

from datasets.schema import ColumnSplit, Feature, Schema, Task
from datasets.streamed.schema import counts, feature, histories, rates

MOST_ARTISTS = 5  # of a track, and as many albums
OUTCOMES = ("listened", "skip")  # whose rates are features
STREAMS = ("played", "listened", "skipped")
HISTORIES = {"items": "item_id", "artists": "artist"}


def yambda_schema(name: str, description: str, history_length: int) -> Schema:
    """356 numbers: user 32, item 64, sequence 96, cross 116 and context 48."""
    return Schema(
        name=name,
        description=description,
        features=[*_user(), *_item(), *histories(STREAMS, HISTORIES, history_length), *_cross(), *_context()],
        tasks=[Task(name=task) for task in ("listened", "finish", "skip")],
        default_tasks=["listened"],
        user_id="uid",
        time="timestamp",
        split=ColumnSplit(column="split"),
    )


def _user() -> list[Feature]:
    return [feature("uid", "categorical", "user", 32)]


def _item() -> list[Feature]:
    return [
        feature("item_id", "categorical", "item", 16),
        feature("artists", "multi_hot", "item", 16, vocabulary="artist", max_length=MOST_ARTISTS),
        feature("albums", "multi_hot", "item", 16, max_length=MOST_ARTISTS),
        feature("track_length_seconds", "numeric", "item", 16, normalization="log1p"),
    ]


def _cross() -> list[Feature]:
    numbers = [f"user_{name}" for name in STREAMS]
    numbers += [f"{kind}_recently_{name}" for kind in ("item", "artist") for name in STREAMS]
    numbers += ["item_trials", "artist_trials"]
    return [*counts(numbers, 4), *rates(("user", "item", "artist"), OUTCOMES, 12)]


def _context() -> list[Feature]:
    return [
        feature("is_organic", "categorical", "context", 8),
        feature("hour", "categorical", "context", 16),
        feature("weekday", "categorical", "context", 8),
        feature("minutes_since_listen", "numeric", "context", 16, normalization="log1p"),
    ]
