"""A small random table with every kind of feature, and an encoder of it in plain Python."""

from __future__ import annotations

import math
import random
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from datasets.prepare import encode as prepare_encode
from datasets.prepare import order as prepare_order
from datasets.prepare import stage as prepare_stage
from datasets.prepare.pipeline import prepare
from datasets.prepared import PreparedDataset
from datasets.schema import Schema
from datasets.source import Source

VALID_FROM, TEST_FROM = 60, 80

EXAMPLE_SCHEMA = {
    "name": "example",
    "description": "a table for tests",
    "features": [
        {"name": "member", "kind": "categorical", "group": "user", "column": "user"},
        {"name": "history", "kind": "sequence", "group": "sequence", "vocabulary": "item", "max_length": 3},
        {"name": "item", "kind": "categorical", "group": "item"},
        {"name": "price", "kind": "numeric", "group": "item"},
        {"name": "city", "kind": "categorical", "group": "user"},
        {"name": "balance", "kind": "numeric", "group": "user", "normalization": "log1p"},
        {"name": "tags", "kind": "multi_hot", "group": "item", "max_length": 2},
        {"name": "raw", "kind": "numeric", "group": "context", "normalization": "none"},
    ],
    "tasks": [{"name": "click", "probability": "chance"}, {"name": "skip", "column": "was_skipped"}],
    "user_id": "user",
    "time": "when",
    "baseline": {"name": "raw_only", "column": "raw"},
    "split": {"by": "time", "valid_from": VALID_FROM, "test_from": TEST_FROM},
}


def example_schema(**changes: object) -> Schema:
    """The example's schema with top-level fields changed."""
    return Schema.model_validate(EXAMPLE_SCHEMA | changes)


def example_rows(rows: int = 120, seed: int = 0) -> list[dict]:
    """Unordered rows with ties in time, gaps everywhere, and items that appear late."""
    rng = random.Random(seed)

    def maybe(value: object, gap: float = 0.15) -> object:
        return None if rng.random() < gap else value

    table = []
    for number in range(rows):
        when = rng.randrange(100) if number > 30 else (number * 7) % 100
        newest = 3 + when // 8
        table.append({
            "user": rng.randrange(9),
            "item": maybe(rng.randrange(newest)),
            "history": maybe([maybe(rng.randrange(newest)) for _ in range(rng.randrange(6))]),
            "city": maybe(rng.choice(["", "rome", "oslo", "lima"]) if when < 70 else "late city"),
            "tags": maybe([maybe(rng.choice("abcde")) for _ in range(rng.randrange(4))]),
            "price": maybe(rng.choice([math.nan, math.inf, rng.gauss(5, 3)])),
            "balance": maybe(rng.gauss(0, 100)),
            "raw": maybe(float(rng.randrange(10))),
            "click": maybe(number % 2),
            "was_skipped": (number // 2) % 2 == 0,
            "chance": rng.random(),
            "when": when,
        })  # fmt: skip
    return table


RAW_TYPES = {
    "user": pl.Int64,
    "item": pl.Int64,
    "history": pl.List(pl.Int64),
    "city": pl.String,
    "tags": pl.List(pl.String),
    "price": pl.Float64,
    "balance": pl.Float64,
    "raw": pl.Float64,
    "click": pl.Int8,
    "was_skipped": pl.Boolean,
    "chance": pl.Float64,
    "when": pl.Int32,
}


def example_frame(rows: list[dict]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=RAW_TYPES)


def example_source(rows: list[dict], identity: str = "example", **changes: object) -> Source:
    return Source(example_schema(**changes), example_frame(rows).lazy(), {"table": identity}, {"quirk": 3})


def prepare_example(folder: Path, rows: list[dict] | None = None, **options: object) -> PreparedDataset:
    return prepare(example_source(rows or example_rows()), folder / "prepared", **options)  # type: ignore[arg-type]


# --- the same preparation, a row at a time ------------------------------------------------------


def expected_splits(rows: list[dict]) -> dict[str, list[dict]]:
    ordered = sorted(rows, key=lambda row: row["when"])  # stable
    return {
        "train": [row for row in ordered if row["when"] < VALID_FROM],
        "valid": [row for row in ordered if VALID_FROM <= row["when"] < TEST_FROM],
        "test": [row for row in ordered if row["when"] >= TEST_FROM],
    }


def categories_of(feature: str, row: dict) -> list:
    """The categories that a model may see of a row's feature; None is a missing one."""
    if feature == "member":
        return [row["user"]]
    if feature == "history":
        return (row["history"] or [])[-3:]
    if feature == "tags":
        return [tag for tag in row["tags"] or [] if tag is not None][:2]
    return [row[feature] if row[feature] != "" else None]


TABLES = {"member": ["member"], "item": ["history", "item"], "city": ["city"], "tags": ["tags"]}


def expected_vocabularies(train: list[dict]) -> dict[str, dict]:
    vocabularies = {}
    for table, features in TABLES.items():
        counts = Counter(
            value
            for row in train
            for name in features
            for value in categories_of(name, row)
            if value is not None
        )
        ranked = sorted(counts, key=lambda value: (-counts[value], value))
        vocabularies[table] = {value: index for index, value in enumerate(ranked, start=2)}
    return vocabularies


def expected_indices(feature: str, row: dict, vocabularies: dict[str, dict]) -> list[int]:
    table = next(table for table, features in TABLES.items() if feature in features)
    return [
        0 if value is None else vocabularies[table].get(value, 1) for value in categories_of(feature, row)
    ]


def number_of(feature: str, row: dict) -> float | None:
    """A numeric feature before standardisation, None where it is missing."""
    value = row[feature]
    if value is None or not math.isfinite(value):
        return None
    return math.copysign(math.log1p(abs(value)), value) if feature == "balance" else value


def expected_number(feature: str, row: dict, train: list[dict]) -> float:
    value = number_of(feature, row)
    if feature == "raw":
        return value or 0.0
    known = [number for number in (number_of(feature, other) for other in train) if number is not None]
    mean = math.fsum(known) / len(known)
    std = math.sqrt(math.fsum((number - mean) ** 2 for number in known) / len(known))
    return 0.0 if value is None else max(-10.0, min(10.0, (value - mean) / std))


@pytest.fixture
def tiny_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs, chunks and row groups of a few rows, so that small tables take every path."""
    monkeypatch.setattr(prepare_stage, "RUN_ROWS", 23)
    monkeypatch.setattr(prepare_order, "ROW_GROUP_ROWS", 5)
    monkeypatch.setattr(prepare_order, "FAN_IN", 3)
    monkeypatch.setattr(prepare_order, "CHUNK_ROWS", 12)
    monkeypatch.setattr(prepare_order, "SAMPLE_EVERY", 3)
    monkeypatch.setattr(prepare_encode, "ROW_GROUP_ROWS", 4)
