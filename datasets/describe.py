"""Describes a prepared dataset: leaks, fields, labels, drift, users, the quirks that its source reported."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import polars as pl
from rich import box
from rich.console import Console
from rich.table import Table

from datasets.drift import Drift, find_drift
from datasets.leaks.report import RED_LINE, Leaks, find_leaks
from datasets.prepared import PreparedDataset


@dataclass(frozen=True)
class Description:
    """Tables over a prepared dataset.

    ``fields``: name, kind, group, vocabulary (name of the embedding table), categories, then by
    split the share of rows without a value (for a list: without an element) and the share of elements
    that do not occur in the training split. ``labels``: split, task, rows, positive rate of the
    defined rows, undefined rows, its change from the training split's rate, users, users with both classes.
    ``hashing``: for each table of hashed ids
    the buckets, those that have an id, the distinct ids of all splits, and the shares of ids and of elements
    whose bucket has another id. ``splits``: split, rows, users. Where
    rows belong to no user, neither labels nor splits have columns about users.
    ``drift``: how far validation and test are from training (:func:`datasets.drift.find_drift`).
    ``notes``: what the source handled, counted and used. ``leaks``: :func:`datasets.leaks.report.find_leaks`,
    with the features whose leaks the schema acknowledges as ``leak_ok``.
    """

    name: str
    text: str
    fields: pl.DataFrame
    hashing: pl.DataFrame
    labels: pl.DataFrame
    splits: pl.DataFrame
    drift: Drift
    notes: dict[str, int | float | str]
    leaks: Leaks
    leak_ok: list[str]


def describe(prepared: PreparedDataset) -> Description:
    """Count over the manifest and, for users, stream over the shards.

    Memory: one row a user, and what `find_drift` and `find_leaks` hold.
    """
    return Description(
        name=prepared.schema.name,
        text=prepared.schema.description,
        fields=_fields(prepared),
        hashing=_hashing(prepared),
        labels=pl.DataFrame([row for split in prepared.rows for row in _labels(prepared, split)]),
        splits=pl.DataFrame([_split(prepared, split) for split in prepared.rows]),
        drift=find_drift(prepared),
        notes=prepared.manifest["notes"],
        leaks=find_leaks(prepared),
        leak_ok=prepared.schema.leak_ok,
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


def _hashing(prepared: PreparedDataset) -> pl.DataFrame:
    columns = ("buckets", "used_buckets", "ids", "ids_are_estimated", "ids_sharing", "elements_sharing")
    return pl.DataFrame([
        {"vocabulary": table} | {name: found[name] for name in columns}
        for table, found in prepared.hashing.items()
    ])  # fmt: skip


def _shards(prepared: PreparedDataset, split: str) -> pl.LazyFrame:
    files = [prepared.path / shard["file"] for shard in prepared.shards(split)]
    return pl.scan_parquet(files, glob=False)  # brackets in the folder's name are no wildcards


def _labels(prepared: PreparedDataset, split: str) -> list[dict]:
    shards = _shards(prepared, split)
    rows = []
    for task, counts in prepared.manifest["labels"][split].items():
        label = pl.col(f"label_{task}")
        rate, in_training = (_rate(prepared.manifest["labels"][name][task]) for name in (split, "train"))
        rows.append({
            "split": split,
            "task": task,
            "rows": counts["positive"] + counts["negative"],
            "positive_rate": rate,
            "undefined_rows": counts["undefined"],
            "change_from_train": None if rate is None or in_training is None else rate - in_training,
            **(_users(shards, label) if prepared.has_users else {}),
        })  # fmt: skip
    return rows


def _rate(counts: dict[str, int]) -> float | None:
    defined = counts["positive"] + counts["negative"]
    return counts["positive"] / defined if defined else None


def _users(shards: pl.LazyFrame, label: pl.Expr) -> dict[str, int]:
    by_user = shards.filter(label.is_not_nan()).group_by("user_index").agg(both=label.min() < label.max())
    found = by_user.select(pl.len().alias("users"), pl.col("both").sum()).collect(engine="streaming")
    return {"users": found["users"][0], "users_with_both_classes": found["both"][0]}


def _split(prepared: PreparedDataset, split: str) -> dict:
    if not prepared.has_users:
        return {"split": split, "rows": prepared.rows[split]}
    users = (
        _shards(prepared, split).select(pl.col("user_index").n_unique()).collect(engine="streaming").item()
    )
    return {"split": split, "rows": prepared.rows[split], "users": users}


def render(description: Description, width: int = 140) -> str:
    """The description as text, in tables at most ``width`` characters wide."""
    console = Console(
        file=_Page(), width=width, force_terminal=False, highlight=False, markup=False, emoji=False
    )
    console.print(f"{description.name}: {description.text}" if description.text else description.name)
    for part in parts(description):
        console.print(part if isinstance(part, str) else _rich_table(part))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


class Titled(NamedTuple):
    """A table of a description."""

    title: str
    table: pl.DataFrame


def parts(description: Description) -> Iterator[Titled | str]:
    """The tables and the sentences of a description, in the order in which they are read."""
    yield from _leaks(description)
    yield Titled("Fields", description.fields)
    yield from _hashed_ids(description.hashing)
    yield Titled("Labels", description.labels)
    yield Titled("Splits", description.splits)
    yield Titled("Distance of each feature from training", description.drift.features)
    yield from _new(description.drift)
    if description.notes:
        yield Titled("Notes of the source", pl.DataFrame({
            "note": list(description.notes),
            "value": [_cell(value) for value in description.notes.values()],
        }))  # fmt: skip


def _leaks(description: Description) -> Iterator[Titled | str]:
    """The leaks (unacknowledged ones first) or a line that there are none, and each single feature's AUC."""
    leaks, leak_ok = description.leaks, description.leak_ok
    if leaks.found:
        ordered = sorted(leaks.found, key=lambda leak: leak.feature in leak_ok)
        yield Titled("Leaks", pl.DataFrame({
            "": ["acknowledged" if leak.feature in leak_ok else "LEAK" for leak in ordered],
            "feature": [leak.feature for leak in ordered],
            "what was found": [leak.says for leak in ordered],
        }))  # fmt: skip
    else:
        yield f"Leaks: none found; no feature alone has an AUC above {RED_LINE}."
    if unacknowledged := list(
        dict.fromkeys(leak.feature for leak in leaks.found if leak.feature not in leak_ok)
    ):
        yield (
            "Reports on these data give no verdict until these features are removed, or acknowledged in the "
            f"schema with leak_ok: [{', '.join(unacknowledged)}]."
        )
    if needless := [name for name in leak_ok if name not in {leak.feature for leak in leaks.found}]:
        yield f"leak_ok names {', '.join(needless)}, but no leak was found there."
    for split, rows in leaks.sampled.items():
        yield f"Leaks were searched in {rows:,} rows of {split}, in evenly spaced shards."
    for name, others in leaks.not_compared.items():
        yield (
            f"Whether {name} holds its own row's {', '.join(others)} was not looked for: they are hashed in "
            "two ways, or too many; give both one vocabulary."
        )
    measured = {score.task for score in leaks.scores}
    if few := [
        task for task in description.labels["task"].unique(maintain_order=True) if task not in measured
    ]:
        yield f"Too few rows of both classes to look for leaks of {', '.join(few)}."
    if leaks.scores:
        yield Titled("AUC of each feature alone, by label", _single_feature_aucs(leaks))


def _hashed_ids(hashing: pl.DataFrame) -> Iterator[Titled | str]:
    if hashing.height:
        shown = hashing.drop("ids_are_estimated")
        yield Titled("Hashed ids (sharing: the bucket has another id)", shown)
        if estimated := hashing.filter("ids_are_estimated")["vocabulary"].to_list():
            yield (
                f"Of {', '.join(estimated)}, ids are estimated (standard error .4 %), and so is the share of "
                "those that share a bucket (at most .002); the other columns are counted."
            )


def _new(drift: Drift) -> Iterator[Titled | str]:
    """The rows that distances were measured on, and the shares of users and items that training lacks."""
    for split, rows in drift.sampled.items():
        yield f"Distances were measured on {rows:,} rows of {split}, in evenly spaced shards."
    if len(drift.new.columns) > 1:
        yield Titled("Without a training row", drift.new)
    if drift.item is not None:
        yield f"The item is {drift.item}: of the categories in the group item, the one with the most values."


def _single_feature_aucs(leaks: Leaks) -> pl.DataFrame:
    """One row per feature, the highest AUC first; AUCs above RED_LINE are marked."""
    tasks = list(dict.fromkeys(score.task for score in leaks.scores))
    found: dict[str, dict[str, float]] = {}
    for score in leaks.scores:
        found.setdefault(score.feature, {})[score.task] = score.auc
    rows = [
        {"": f"above {RED_LINE}" if max(auc_by_task.values()) > RED_LINE else "", "feature alone": feature}
        | {task: auc_by_task.get(task) for task in tasks}
        for feature, auc_by_task in sorted(found.items(), key=lambda item: -max(item[1].values()))
    ]
    return pl.DataFrame(
        rows, schema={"": pl.String, "feature alone": pl.String} | dict.fromkeys(tasks, pl.Float64)
    )


class _Page(io.StringIO):
    """Text in memory with the terminal's encoding, so that rich only uses characters it can show."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(sys.stdout, "encoding", None) or "utf-8"


def _rich_table(titled: Titled) -> Table:
    title, table = titled
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
