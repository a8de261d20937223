"""A small table in memory, to be written in a format and changed cell by cell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import yaml

from datasets.own_table import source
from datasets.prepare.pipeline import prepare
from files.errors import InputError

SCHEMA = {
    "name": "small",
    "features": [
        {"name": "item", "kind": "categorical", "group": "item"},
        {"name": "price", "kind": "numeric", "group": "item", "normalization": "none"},
    ],
    "tasks": [{"name": "click"}],
    "user_id": "who",
    "split": {"by": "column", "column": "part"},
}
TAGS = {"name": "tags", "kind": "sequence", "group": "item"}
BY_TIME = {"time": "at", "split": {"by": "time", "valid_from": "2024-03-05", "test_from": "2024-03-06"}}


def columns(**changes: list) -> dict[str, list]:
    """Six rows of text: four to train, one to validate, one to test."""
    return {
        "who": ["a", "b", "a", "b", "a", "b"],
        "item": ["1", "2", "3", "1", "2", "3"],
        "price": ["1", "2", "3", "4", "5", "6"],
        "click": ["1", "0", "1", "0", "1", "0"],
        "part": ["train", "train", "train", "train", "valid", "test"],
    } | changes


def text(table: dict[str, list], separator: str = ",") -> str:
    """Delimited text, in which nothing is quoted that does not bring its quotes."""
    lines = [list(table), *zip(*table.values(), strict=True)]
    return "".join(separator.join(map(str, line)) + "\n" for line in lines)


def write_schema(folder: Path, more: list | None = None, **changes: object) -> Path:
    path = folder / "small.yaml"
    features = [*SCHEMA["features"], *(more or [])]  # type: ignore[misc]
    path.write_text(yaml.safe_dump(SCHEMA | {"features": features} | changes), encoding="utf-8")
    return path


def read(folder: Path, more: list | None = None, **changes: object) -> tuple[dict[str, list], dict]:
    """Features, labels and times of all prepared rows (categories as in the vocabulary), and the notes.

    A category that training does not know is "unseen".
    """
    found = prepare(source(write_schema(folder, more, **changes)), folder / "prepared")
    shards = [s["file"] for split in ("train", "valid", "test") for s in found.manifest["shards"][split]]
    rows = pl.concat([pl.read_parquet(found.path / shard) for shard in shards])
    table = {name: rows[name].to_list() for name in rows.columns}
    for feature in found.schema.sparse_features:
        words = pl.read_parquet(found.path / "vocabulary" / f"{feature.table}.parquet")
        names = {0: None, 1: "unseen", **dict(words.select("index", "value").iter_rows())}
        table[feature.name] = [
            [names[one] for one in cell] if isinstance(cell, list) else names[cell]
            for cell in table[feature.name]
        ]
    return table, found.manifest["notes"]


@pytest.fixture
def refusal(tmp_path: Path) -> Callable[..., str]:
    """The sentence with which a folder's table is refused, without the folder's name."""

    def refused(*args: object, **changes: object) -> str:
        with pytest.raises(InputError) as error:
            read(tmp_path, *args, **changes)  # type: ignore[arg-type]
        return str(error.value).replace(f"{tmp_path}/", "")

    return refused
