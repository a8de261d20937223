"""The parts of a draft as lines of a schema: its head, one line per feature, one per task."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from datasets.draft.choices import SplitDraft
from datasets.draft.document import Line
from datasets.draft.kinds import Draft
from datasets.draft.profile import Column
from datasets.draft.roles import Label
from datasets.draft.table import DraftTable
from datasets.draft.vocabularies import min_count, shared
from datasets.expressions.syntax import columns_of
from datasets.prepare.stage import RESERVED


def schema_head(
    table: DraftTable,
    columns: Mapping[str, Column],
    kept: list[Draft],
    labels: list[Label],
    user: str,
    split: SplitDraft,
    schema_file: Path,
) -> dict[str, object]:
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", schema_file.absolute().parent.name).strip("-._")
    if schema_file.stem != "schema":
        name = re.sub(r"[^A-Za-z0-9_.-]+", "-", schema_file.stem).strip("-._")
    head: dict[str, object] = {"name": name[:64] or "own-data", "files": table.patterns}
    settings = table.csv.model_dump(exclude_defaults=True)
    if settings:
        head["csv"] = settings
    used = (
        [draft.column for draft in kept] + [columns[user]] + ([columns[split.column]] if split.column else [])
    )
    used += [
        columns[name]
        for label in labels
        if label.expression is not None
        for name in columns_of(label.expression)
    ]
    if words := sorted({word for column in used for word in column.words}):
        head["missing"] = words
    return head


def feature_lines(
    drafts: list[Draft], kept: list[Draft], counts: Mapping[str, pl.DataFrame], leaks: Mapping[str, str]
) -> list[Line]:
    owners = shared(kept, counts)
    given: dict[str, str] = {}
    for draft in drafts:
        given[draft.column.name] = _feature_name(draft.column.name, set(given.values()))
    members: dict[str, list[Draft]] = {}
    for draft in kept:
        owner = owners.get(draft.column.name, (draft.column.name, ""))[0]
        members.setdefault(owner, []).append(draft)
    lines = []
    for draft in drafts:
        name = draft.column.name
        fields: dict[str, object] = {"name": given[name], "kind": draft.kind, "group": draft.group}
        if given[name] != name:
            fields["column"] = name
        if name in leaks:
            lines.append(Line(fields | {"embedding_dim": draft.embedding_dim}, leaks[name], is_comment=True))
            continue
        owner, evidence = owners.get(name, (name, ""))
        reason = draft.reason
        if draft.kind == "categorical" and name in counts:
            reason = f"{counts[name].height:,} categories"
        reason = "; ".join(filter(None, [reason, evidence]))
        if owner != name:
            fields["vocabulary"] = given[owner]
        fields["embedding_dim"] = max(
            (one.embedding_dim for one in members.get(owner, [draft])), default=draft.embedding_dim
        )
        if draft.kind == "vector":
            fields |= {"embedding_dim": draft.embedding_dim, "length": int(draft.column.high or 0)}
        if owner == name and name in counts:
            together = [counts[one.column.name] for one in members[name] if one.column.name in counts]
            if rare := min_count(together):
                fields["min_count"], reason = rare[0], f"{reason}; {rare[1]}"
        if draft.column.separator is not None:
            fields["separator"] = draft.column.separator
        if draft.max_length is not None:
            fields["max_length"] = draft.max_length
        if draft.normalization != "standard":
            fields["normalization"] = draft.normalization
        lines.append(Line(fields, reason))
    return lines


def _feature_name(column: str, taken: set[str]) -> str:
    """An identifier for a column that no other feature has."""
    name = re.sub(r"[^A-Za-z0-9_]+", "_", column).strip("_")[:60] or "column"
    name = f"f_{name}" if name[0].isdigit() else name
    if name in RESERVED or name.startswith(("label_", "probability_")):
        name = f"the_{name}"
    number = 2
    while name in taken:
        name = f"{re.sub(r'_[0-9]+$', '', name)}_{number}"
        number += 1
    return name


def task_line(label: Label, is_comment: bool = False) -> Line:
    name = _feature_name(label.name, set()).removeprefix("the_")
    fields: dict[str, object] = {"name": name}
    if label.expression is not None:
        fields["expression"] = label.expression
    elif label.column != name:
        fields["column"] = label.column
    return Line(fields, label.reason, is_comment)
