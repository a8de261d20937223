"""A small table as raw files, and the same table staged by plain Python, as another engine would do it."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from datasets.own_table import OwnTable
from datasets.prepared import schema_fingerprint
from tests.datasets.conftest import (
    EXAMPLE_SCHEMA,
    TABLES,
    categories_of,
    example_frame,
    example_rows,
    expected_splits,
    number_of,
)

COLUMNS = {
    "member": pl.Int64,
    "history": pl.List(pl.Int64),
    "item": pl.Int64,
    "price": pl.Float64,
    "city": pl.String,
    "balance": pl.Float64,
    "tags": pl.List(pl.String),
    "raw": pl.Float64,
    "@user": pl.Int64,
    "@label.click": pl.Float64,
    "@probability.click": pl.Float64,
    "@label.skip": pl.Float64,
    "@time": pl.Int64,
    "@baseline": pl.Float64,
}
LISTS = ("history", "tags")
ROWS_A_FILE = 17


def write_raw(folder: Path, rows: list[dict], **changes: object) -> Path:
    """The schema file of the rows as two parquet files."""
    for number, part in enumerate((rows[:50], rows[50:])):
        example_frame(part).write_parquet(folder / f"{number}.parquet")
    schema_file = folder / "schema.yaml"
    schema_file.write_text(yaml.safe_dump(EXAMPLE_SCHEMA | {"files": ["?.parquet"]} | changes))
    return schema_file


def staged_row(row: dict) -> dict:
    """A raw row as it is staged, before log1p."""
    found = {name: categories_of(name, row) for names in TABLES.values() for name in names}
    found = {name: values if name in LISTS else values[0] for name, values in found.items()}
    for name in ("price", "balance", "raw"):
        value = row[name]
        found[name] = value if value is not None and math.isfinite(value) else None
    return found | {
        "@user": row["user"],
        "@label.click": row["click"],
        "@probability.click": row["chance"],
        "@label.skip": float(row["was_skipped"]),
        "@time": row["when"],
        "@baseline": found["raw"],
    }


def write_staged(schema_file: Path, rows: list[dict], folder: Path, origin: bool = True) -> None:
    """The staged folder of the rows, which ``schema_file`` describes."""
    splits = expected_splits(rows)
    for split, ordered in splits.items():
        (folder / split).mkdir(parents=True)
        frame = pl.DataFrame([staged_row(row) for row in ordered], schema=COLUMNS)
        for start in range(0, frame.height, ROWS_A_FILE):
            frame[start : start + ROWS_A_FILE].write_parquet(folder / split / f"{start:06d}.parquet")
    for name, counts in expected_counts(splits["train"]).items():
        (folder / "counts" / name).mkdir(parents=True)
        ordered_counts = sorted(counts.items())
        for number, part in enumerate((ordered_counts[:2], ordered_counts[2:])):
            kind = pl.String if name in ("city", "tags") else pl.Int64
            frame = pl.DataFrame(part, schema={"value": kind, "count": pl.Int64}, orient="row")
            frame.write_parquet(folder / "counts" / name / f"{number}.parquet")
    (folder / "moments.json").write_text(json.dumps(expected_moments(splits["train"])))
    notes = expected_notes(rows) if origin else None
    write_manifest(schema_file, folder, {split: len(of) for split, of in splits.items()}, "int64", notes)


def expected_notes(rows: list[dict]) -> dict[str, str]:
    """What the raw files' reading notes of the rows."""
    histories = [len(row["history"]) for row in rows if row["history"]]
    tags = [sum(tag is not None for tag in row["tags"]) for row in rows if row["tags"]]
    cut = {"history": sum(n > 3 for n in histories), "tags": sum(n > 2 for n in tags)}
    return {
        "files": "0.parquet, 1.parquet",
        "lists of history with over 3 elements": (
            f"{cut['history']} of {len(histories)}; only the latest 3 are kept (max_length)"
        ),
        "lists of tags with over 2 elements": (
            f"{cut['tags']} of {len(tags)}; only the first 2 are kept (max_length)"
        ),
    }


def write_manifest(
    schema_file: Path, folder: Path, rows: dict[str, int], time: str | None, notes: dict[str, str] | None
) -> None:
    """``manifest.json`` of a folder that is complete but for it."""
    table = OwnTable.find(schema_file)
    manifest: dict = {
        "format": 1,
        "schema": schema_fingerprint(table.schema),
        "time": time,
        "rows": rows,
        "made_with": {"python": "3"},
    }
    if notes is not None:
        of_raw = table.identity
        manifest["origin"] = {
            "files": of_raw["files"],
            "reading": of_raw["reading"],
            "notes": notes,
        }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    state_files(folder)


def expected_counts(train: list[dict]) -> dict[str, Counter]:
    return {
        table: Counter(
            value
            for row in train
            for name in names
            for value in categories_of(name, row)
            if value is not None
        )
        for table, names in TABLES.items()
    }


def expected_moments(train: list[dict]) -> dict[str, list[dict]]:
    """As numpy sums them: these few rows are one stretch of the raw table, in the order of time."""
    found = {}
    for name in ("price", "balance"):
        known = np.array([n for n in (number_of(name, row) for row in train) if n is not None])
        squares = float(np.square(known - known.mean()).sum())
        found[name] = [{"number": len(known), "mean": float(known.mean()), "squares": squares}]
    return found


def state_files(folder: Path) -> None:
    """Write the checksums of what is there into the manifest."""
    change_manifest(
        folder,
        lambda manifest: manifest | {
            "files": {
                str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
                for path in sorted(folder.rglob("*"))
                if path.is_file() and path.name != "manifest.json"
            }
        },
    )  # fmt: skip


def change_manifest(folder: Path, change: Callable[[dict], dict]) -> None:
    file = folder / "manifest.json"
    file.write_text(json.dumps(change(json.loads(file.read_text()))))


def use_staged(schema_file: Path, folder: Path) -> Path:
    """The schema with the folder in place of its files."""
    content = yaml.safe_load(schema_file.read_text())
    written = schema_file.with_name("staged.yaml")
    written.write_text(yaml.safe_dump(content | {"staged": str(folder)}))
    return written


@pytest.fixture
def rows() -> list[dict]:
    return example_rows(160, seed=3)
