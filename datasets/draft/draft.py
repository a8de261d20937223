"""`data init`: from files to a schema that runs as it is."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import yaml

from datasets.draft import names
from datasets.draft.bounds import bounds, training_rows
from datasets.draft.document import Document, Line, plain
from datasets.draft.kinds import Draft, features
from datasets.draft.leaks import label_of, label_values, suspects
from datasets.draft.profile import Column, profile
from datasets.draft.roles import (
    Belongings,
    Candidate,
    Label,
    belongings,
    labels,
    likely_ids,
    outcomes,
    split_column,
    times,
    users,
)
from datasets.draft.table import DraftTable, Report, read_table
from datasets.draft.vocabularies import count_categories, min_count, shared
from datasets.errors import InputError
from datasets.expressions import ExpressionError, columns_of
from datasets.prepare_stage import RESERVED
from datasets.schema import Schema

FEWEST_ROWS = 30


@dataclass(frozen=True)
class Wishes:
    """What the command line says about roles; empty where it is to be guessed."""

    user: str | None = None
    time: str | None = None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Drafted:
    """The schema's text, and what was decided, for the terminal."""

    text: str
    check: list[tuple[str, str]]


def draft(
    inputs: list[str], schema_file: Path, wishes: Wishes = Wishes(), report: Report = lambda what, share: None
) -> Drafted:
    """Draft the schema of some files, as it would stand in ``schema_file``, which is not written.

    Raises InputError where files cannot be read, and where no column can be the user, the time or a label.
    """
    with tempfile.TemporaryDirectory(prefix="data-init-") as scratch:
        table = read_table(inputs, schema_file, Path(scratch), report)
        columns, sample = profile(table, report)
        if sample.height < FEWEST_ROWS:
            raise InputError(
                f"data init: {table.files[0].path.name}: {sample.height} rows are too few to tell what a "
                f"column is; give at least {FEWEST_ROWS}"
            )
        user, user_candidates = _user(columns, wishes)
        belonging = belongings(columns, sample, user)
        chosen, suggested = _labels(columns, belonging, sample, wishes)
        split = _split(table, columns, wishes)
        chosen = _trainable(table, columns, chosen, split)
        drafts, left_out = features(columns, belonging, user, _taken(columns, chosen, suggested, split))
        leaks = suspects(drafts, chosen, columns, sample)
        kept = [one for one in drafts if one.column.name not in leaks]
        if not kept:
            raise InputError("data init: no column is left that can be a feature; see to the files' columns")
        counts = count_categories(table.frame, kept, report)
    left_out = {name: why for name, why in left_out.items() if name not in (user, split.time)}
    check = [
        ("user_id", _explained(user, user_candidates)),
        ("split", split.reason),
        *((("time", _explained(split.time, split.candidates)),) if split.time else ()),
        ("tasks", "; ".join(f"{label.name} ({label.reason})" for label in chosen)),
        ("features", "leave out all that is known only after the row was shown"),
        *((f"feature {name}", why) for name, why in leaks.items()),
    ]
    document = Document(
        title=f"Drafted by data init from {next(iter(columns.values())).rows:,} rows in "
        f"{len(table.files)} file{'s' * (len(table.files) > 1)}.",
        check=check,
        head=_head(table, columns, kept, user, split, schema_file),
        features=_feature_lines(drafts, kept, counts, leaks),
        left_out={**table.left_out, **left_out},
        tasks=[*(_task(label) for label in chosen), *(_task(label, is_comment=True) for label in suggested)],
        tail={"user_id": user, **split.fields},
        tail_reasons={"split": split.reason},
    )
    text = document.text()
    Schema.model_validate(yaml.safe_load(text))
    return Drafted(text, [(plain(what), plain(why)) for what, why in check])


def write(drafted: Drafted, schema_file: Path, force: bool) -> None:
    """Write the schema, whole or not at all; InputError where a file is there already."""
    refuse_to_overwrite(schema_file, force)
    scratch = schema_file.with_name(f".{schema_file.name}.{os.getpid()}")
    try:
        scratch.write_text(drafted.text, encoding="utf-8")
        os.replace(scratch, schema_file)
    finally:
        scratch.unlink(missing_ok=True)


def refuse_to_overwrite(schema_file: Path, force: bool) -> None:
    """InputError where ``schema_file`` is there and may not be replaced, or its folder is not."""
    if schema_file.exists() and not force:
        raise InputError(
            f"{schema_file}: is there already; choose another --output, or --force to replace it"
        )
    if not schema_file.absolute().parent.is_dir():
        raise InputError(f"{schema_file}: its folder does not exist; make it, or choose another --output")


# ------------------------------------------------------------------ roles


def _wished(columns: Mapping[str, Column], name: str, flag: str) -> Column:
    if name not in columns:
        known = ", ".join(list(columns)[:20]) + (", ..." if len(columns) > 20 else "")
        raise InputError(f"{flag} {name}: the files have no such column; they have {known}")
    return columns[name]


def _user(columns: Mapping[str, Column], wishes: Wishes) -> tuple[str, list[Candidate]]:
    if wishes.user is not None:
        column = _wished(columns, wishes.user, "--user")
        if column.missing:
            raise InputError(
                f"--user {column.name}: {column.missing:,} of {column.rows:,} rows have none; drop these "
                "rows or choose another column"
            )
        return column.name, [Candidate(column.name, 1, "as --user says")]
    found = users(columns)
    if not found:
        perhaps = likely_ids(columns)
        hint = f" (perhaps {', '.join(perhaps)})" if perhaps else ""
        raise InputError(f"data init: no column is named like a user's id; say which it is with --user{hint}")
    return found[0].column, found


def _labels(
    columns: Mapping[str, Column], belonging: Belongings, sample: pl.DataFrame, wishes: Wishes
) -> tuple[list[Label], list[Label]]:
    guessed, others = labels(columns, belonging)
    if not wishes.labels:
        if not guessed:
            raise InputError(
                "data init: no column of 0 and 1 is named like a label; say which it is with --label COLUMN, "
                "or compute it with --label 'NAME: EXPRESSION', such as 'like: rating >= 4'"
            )
        return guessed, others
    wished = [_wished_label(columns, text, sample) for text in wishes.labels]
    used = {label.name for label in wished}
    return wished, [label for label in (*guessed, *others) if label.name not in used]


def _wished_label(columns: Mapping[str, Column], text: str, sample: pl.DataFrame) -> Label:
    name, colon, expression = text.partition(":")
    if text not in columns and colon:
        try:
            for operand in columns_of(expression):
                _wished(columns, operand, f"--label {name}: column")
        except ExpressionError as error:
            raise InputError(f"--label {name}: {error}") from None
        label = Label(name.strip(), "as --label says", expression=expression.strip())
        label_values(label, columns, sample)  # refuses types that do not fit
        return label
    column = _wished(columns, text, "--label")
    if not column.is_binary:
        raise InputError(
            f"--label {text}: the column holds other values than 0 and 1; compute a label from it, such as "
            f"--label '{text}_high: {text} >= 4'"
        )
    return Label(column.name, "as --label says", column=column.name)


@dataclass(frozen=True)
class _SplitDraft:
    """The schema's fields for time and split, and which rows they train on."""

    fields: dict[str, object]
    reason: str
    train: pl.Expr | None = None
    time: str | None = None
    candidates: tuple[Candidate, ...] = ()
    column: str | None = None


def _split(table: DraftTable, columns: Mapping[str, Column], wishes: Wishes) -> _SplitDraft:
    time, candidates = _time(columns, wishes)
    fields: dict[str, object] = {"time": time} if time else {}
    if time and columns[time].unit:
        fields["time_unit"] = columns[time].unit
    if given := split_column(columns):
        name, values = given
        fields["split"] = {"by": "column", "column": name, **values}
        train = pl.col(name).cast(pl.String).str.strip_chars() == values["train"]
        return _SplitDraft(fields, "the files say it themselves", train, time, tuple(candidates), name)
    if time is None:
        raise InputError(
            "data init: no column says when a row happened, nor to which split it belongs; say which is the "
            "time with --time, or add a column split of train, valid and test"
        )
    found = bounds(table.frame, columns[time])
    if found is None:
        raise InputError(
            f"data init: column {time!r} has too few different moments for a split by time; name another "
            "with --time, or add a column split of train, valid and test"
        )
    fields["split"] = {"by": "time", "valid_from": found.valid_from, "test_from": found.test_from}
    shares = " / ".join(f"{100 * share:.1f}" for share in found.shares)
    train = training_rows(columns[time], found)
    return _SplitDraft(fields, f"{shares} % of the rows", train, time, tuple(candidates))


def _time(columns: Mapping[str, Column], wishes: Wishes) -> tuple[str | None, list[Candidate]]:
    if wishes.time is not None:
        column = _wished(columns, wishes.time, "--time")
        if column.missing or column.form not in ("time", "integer", "number"):
            what = f"{column.missing:,} rows have none" if column.missing else f"it holds {column.dtype}"
            raise InputError(f"--time {column.name}: {what}; choose a column of dates, times or numbers")
        return column.name, [Candidate(column.name, 1, "as --time says")]
    found = times(columns)
    return (found[0].column if found else None), found


def _trainable(
    table: DraftTable, columns: Mapping[str, Column], chosen: list[Label], split: _SplitDraft
) -> list[Label]:
    """The labels of which the training rows have both values."""
    assert split.train is not None, "some rows train"
    counts = table.frame.filter(split.train).select(
        total
        for number, label in enumerate(chosen)
        for total in (
            (label_of(label, columns) == 1).sum().alias(f"{number} positive"),
            (label_of(label, columns) == 0).sum().alias(f"{number} negative"),
        )
    )
    found = counts.collect(engine="streaming").row(0, named=True)
    kept = [
        label
        for number, label in enumerate(chosen)
        if found[f"{number} positive"] and found[f"{number} negative"]
    ]
    if not kept:
        raise InputError(
            f"data init: the training rows have only one value of {chosen[0].name!r}, so there is nothing to "
            "learn; name another label with --label, or other times with --time"
        )
    return kept


def _taken(
    columns: Mapping[str, Column], chosen: list[Label], suggested: list[Label], split: _SplitDraft
) -> dict[str, str]:
    """Columns that cannot be features because they have a role, with that role."""
    taken = dict(outcomes(columns))
    for label in suggested:
        if label.column:
            taken[label.column] = "may be a label"
    for label in chosen:
        if label.column:
            taken[label.column] = "is a label"
        elif label.expression:
            read = columns_of(label.expression)
            late = [name for name in read if not names.has(name, names.LENGTH)] or read
            taken |= dict.fromkeys(late, f"the label {label.name} is computed from it")
    if split.time:
        taken[split.time] = "is the time"
    if split.column:
        taken[split.column] = "is the split"
    return taken


def _explained(chosen: str, candidates: list[Candidate] | tuple[Candidate, ...]) -> str:
    own = next((candidate.reason for candidate in candidates if candidate.column == chosen), "")
    others = [f"{other.column} ({other.reason})" for other in candidates if other.column != chosen]
    return f"{chosen} ({own})" + (f"; else {', '.join(others[:3])}" if others else "")


# ------------------------------------------------------------------ lines


def _head(
    table: DraftTable,
    columns: Mapping[str, Column],
    kept: list[Draft],
    user: str,
    split: _SplitDraft,
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
    if words := sorted({word for column in used for word in column.words}):
        head["missing"] = words
    return head


def _feature_lines(
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


def _task(label: Label, is_comment: bool = False) -> Line:
    name = _feature_name(label.name, set()).removeprefix("the_")
    fields: dict[str, object] = {"name": name}
    if label.expression is not None:
        fields["expression"] = label.expression
    elif label.column != name:
        fields["column"] = label.column
    return Line(fields, label.reason, is_comment)
