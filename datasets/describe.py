"""What a prepared dataset holds: fields, labels, users and the quirks its source reported."""

from __future__ import annotations

import io
from dataclasses import dataclass

import polars as pl
from rich import box
from rich.console import Console
from rich.table import Table

from datasets.prepared import PreparedDataset


@dataclass(frozen=True)
class Description:
    """Tables over a prepared dataset.

    ``fields``: name, kind, group, vocabulary (name of the embedding table), categories, then by
    split the share of rows without a value (a list: without an element) and the share of elements
    that the training split does not know. ``labels``: split, task, rows, positive rate of the
    defined rows, undefined rows, users, users with both classes. ``splits``: split, rows, users.
    ``notes``: what the source handled, counted and used.
    """

    name: str
    text: str
    fields: pl.DataFrame
    labels: pl.DataFrame
    splits: pl.DataFrame
    notes: dict[str, int | float | str]


def describe(prepared: PreparedDataset) -> Description:
    """Count over the manifest and, for users, stream over the shards. Memory: one row a user."""
    return Description(
        name=prepared.schema.name,
        text=prepared.schema.description,
        fields=_fields(prepared),
        labels=pl.DataFrame([row for split in prepared.rows for row in _labels(prepared, split)]),
        splits=pl.DataFrame([_split(prepared, split) for split in prepared.rows]),
        notes=prepared.manifest["notes"],
    )


def _fields(prepared: PreparedDataset) -> pl.DataFrame:
    rows = []
    for feature in prepared.schema.features:
        row: dict = {"name": feature.name, "kind": feature.kind, "group": feature.group}
        row["vocabulary"] = feature.table if feature.is_sparse else None
        row["categories"] = (
            prepared.manifest["vocabulary_sizes"][feature.table] if feature.is_sparse else None
        )
        for split, coverage in prepared.manifest["coverage"].items():
            counts = coverage[feature.name]
            row[f"missing_{split}"] = counts["missing"] / prepared.rows[split]
            known = feature.is_sparse and counts["elements"] > 0
            row[f"unseen_{split}"] = counts["unseen"] / counts["elements"] if known else None
        rows.append(row)
    return pl.DataFrame(rows, infer_schema_length=None)


def _shards(prepared: PreparedDataset, split: str) -> pl.LazyFrame:
    files = [prepared.path / shard["file"] for shard in prepared.shards(split)]
    return pl.scan_parquet(files, glob=False)  # brackets in the folder's name are no wildcards


def _labels(prepared: PreparedDataset, split: str) -> list[dict]:
    shards = _shards(prepared, split)
    rows = []
    for task, counts in prepared.manifest["labels"][split].items():
        label = pl.col(f"label_{task}")
        by_user = shards.filter(label.is_not_nan()).group_by("user_index").agg(both=label.min() < label.max())
        users = by_user.select(pl.len().alias("users"), pl.col("both").sum()).collect(engine="streaming")
        defined = counts["positive"] + counts["negative"]
        rows.append({
            "split": split,
            "task": task,
            "rows": defined,
            "positive_rate": counts["positive"] / defined if defined else None,
            "undefined_rows": counts["undefined"],
            "users": users["users"][0],
            "users_with_both_classes": users["both"][0],
        })  # fmt: skip
    return rows


def _split(prepared: PreparedDataset, split: str) -> dict:
    users = (
        _shards(prepared, split).select(pl.col("user_index").n_unique()).collect(engine="streaming").item()
    )
    return {"split": split, "rows": prepared.rows[split], "users": users}


def render(description: Description, width: int = 140) -> str:
    """The description as text, in tables at most ``width`` characters wide."""
    console = Console(file=io.StringIO(), width=width, force_terminal=False, highlight=False)
    console.print(
        f"{description.name}: {description.text}" if description.text else description.name, markup=False
    )
    for title, table in (
        ("Fields", description.fields),
        ("Labels", description.labels),
        ("Splits", description.splits),
    ):
        console.print(_rich_table(title, table))
    if description.notes:
        notes = pl.DataFrame({
            "note": list(description.notes),
            "value": [_cell(value) for value in description.notes.values()],
        })  # fmt: skip
        console.print(_rich_table("Notes of the source", notes))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def _rich_table(title: str, table: pl.DataFrame) -> Table:
    rendered = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name, dtype in table.schema.items():
        heading = name.replace("_", " ")
        rendered.add_column(heading, justify="right" if dtype.is_numeric() else "left", overflow="fold")
    for row in table.iter_rows():
        rendered.add_row(*map(_cell, row))
    return rendered


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
