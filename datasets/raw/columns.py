"""The raw columns that a schema uses: what each is for, and what it must hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from datasets.expressions.syntax import operands_of
from datasets.schema import ColumnSplit, Feature, Schema, Task
from files.errors import InputError

FILE_COLUMN, LINE_COLUMN = "@file", "@line"  # a row's file and line
Role = Literal["number", "category", "list", "vector", "time", "word", "text"]


@dataclass(frozen=True)
class Use:
    """One use of a raw column. ``vocabulary`` is what its categories are compared in, "@user" for users."""

    column: str
    what: str  # such as "feature 'price'", for messages
    role: Role
    vocabulary: str | None = None
    feature: Feature | None = None


def uses(schema: Schema) -> list[Use]:
    """Every use of a raw column, in the order of the schema's fields.

    Raises InputError on a column whose name has a special meaning when tables are read.
    """
    found = _uses(schema)
    for use in found:
        if has_another_meaning(use.column):
            raise InputError(
                f"dataset {schema.name!r}: {use.what} needs column {use.column!r}, a name that has another "
                "meaning here; rename the column in the table"
            )
    return found


def has_another_meaning(column: str) -> bool:
    """Whether a column's name has a special meaning when tables are read."""
    is_pattern = column == "*" or (column.startswith("^") and column.endswith("$"))
    return is_pattern or column in (LINE_COLUMN, FILE_COLUMN)


def _uses(schema: Schema) -> list[Use]:
    found = [_feature_use(feature) for feature in schema.features]
    for task in schema.tasks:
        for column, held in _columns_of(task).items():
            found.append(Use(column, f"task {task.name!r}", held))
        if task.probability:
            found.append(Use(task.probability, f"the probability of task {task.name!r}", "number"))
    if schema.user_id is not None:
        found.append(Use(schema.user_id, "user_id", "category", "@user"))
    if schema.time:
        found.append(Use(schema.time, "time", "time"))
    if schema.tier:
        found.append(Use(schema.tier, "tier", "number"))
    if schema.baseline:
        found.append(Use(schema.baseline.column, f"baseline {schema.baseline.name!r}", "number"))
    if isinstance(schema.split, ColumnSplit):
        found.append(Use(schema.split.column, "split.column", "word"))
    return found


def _feature_use(feature: Feature) -> Use:
    what = f"feature {feature.name!r}"
    if feature.is_list:
        return Use(feature.source_column, what, "list", feature.table, feature)
    if feature.is_sparse:
        return Use(feature.source_column, what, "category", feature.table, feature)
    role: Role = "vector" if feature.kind == "vector" else "number"
    return Use(feature.source_column, what, role, None, feature)


def _columns_of(task: Task) -> dict[str, Literal["number", "text"]]:
    return {task.source_column: "number"} if task.expression is None else operands_of(task.expression)


def wanted_columns(uses: list[Use]) -> dict[str, str]:
    """Every column that is used, and the first use that needs it."""
    wanted: dict[str, str] = {}
    for use in uses:
        wanted.setdefault(use.column, use.what)
    return wanted
