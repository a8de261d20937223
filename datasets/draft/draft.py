"""`data init`: drafts a schema that can be prepared without changes."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from datasets.draft.choices import (
    Wishes,
    choose_labels,
    choose_split,
    choose_user,
    explained,
    taken_columns,
    trainable,
)
from datasets.draft.document import Document, plain
from datasets.draft.kinds import features
from datasets.draft.leaks import suspected_leaks
from datasets.draft.lines import feature_lines, schema_head, task_line
from datasets.draft.profile import profile
from datasets.draft.roles import belongings
from datasets.draft.table import Report, read_table
from datasets.draft.vocabularies import count_categories
from datasets.schema import load_schema
from files.errors import InputError

FEWEST_ROWS = 30
NO_WISHES = Wishes()


@dataclass(frozen=True)
class Drafted:
    """The schema's text, and the decisions, to show in the terminal."""

    text: str
    check: list[tuple[str, str]]


def draft(
    inputs: list[str],
    schema_file: Path,
    wishes: Wishes = NO_WISHES,
    report: Report = lambda what, share: None,
) -> Drafted:
    """Draft the schema of some files, to be saved as ``schema_file``, which is not written here.

    Raises InputError where files cannot be read, and where no column can be the user, the time or a label.
    """
    with tempfile.TemporaryDirectory(prefix="data-init-") as scratch:
        table = read_table(inputs, schema_file, Path(scratch), report)
        columns, sample = profile(table, report)
        if sample.height < FEWEST_ROWS:
            raise InputError(
                f"data init: {table.files[0].path.name}: {sample.height} rows are too few to recognise "
                f"columns; give at least {FEWEST_ROWS}"
            )
        user, user_candidates = choose_user(columns, wishes)
        belonging = belongings(columns, sample, user)
        chosen, suggested = choose_labels(columns, belonging, sample, wishes)
        split = choose_split(table, columns, wishes)
        chosen = trainable(table, columns, chosen, split)
        drafts, left_out = features(
            columns, belonging, user, taken_columns(columns, chosen, suggested, split)
        )
        leaks = suspected_leaks(drafts, chosen, columns, sample)
        kept = [one for one in drafts if one.column.name not in leaks]
        if not kept:
            raise InputError("data init: no column is left that can be a feature; see to the files' columns")
        counts = count_categories(table.frame, kept, report)
    left_out = {name: why for name, why in left_out.items() if name not in (user, split.time)}
    check = [
        ("user_id", explained(user, user_candidates)),
        ("split", split.reason),
        *((("time", explained(split.time, split.candidates)),) if split.time else ()),
        ("tasks", "; ".join(f"{label.name} ({label.reason})" for label in chosen)),
        ("features", "leave out all that is known only after the row was shown"),
        *((("files", _left_out(table.skipped)),) if table.skipped else ()),
        *((f"feature {name}", why) for name, why in leaks.items()),
    ]
    rows, many = next(iter(columns.values())).rows, "s" * (len(table.files) > 1)
    document = Document(
        title=f"Drafted by data init from {rows:,} rows in {len(table.files)} file{many}.",
        check=check,
        head=schema_head(table, columns, kept, chosen, user, split, schema_file),
        features=feature_lines(drafts, kept, counts, leaks),
        left_out={**table.left_out, **left_out},
        tasks=[
            *(task_line(label) for label in chosen),
            *(task_line(label, is_comment=True) for label in suggested),
        ],
        tail={"user_id": user, **split.fields},
        tail_reasons={"split": split.reason},
    )
    return Drafted(document.text(), [(plain(what), plain(why)) for what, why in check])


def _left_out(skipped: list[str]) -> str:
    more = f" and {len(skipped) - 1} more" if len(skipped) > 1 else ""
    return f"{skipped[0]}{more} left out for a leading underscore; name such files in full to read them"


def write(drafted: Drafted, schema_file: Path, force: bool) -> None:
    """Write the schema atomically; InputError where the file exists already."""
    refuse_to_overwrite(schema_file, force)
    scratch = schema_file.with_name(f".{schema_file.name}.{os.getpid()}")
    try:
        scratch.write_text(drafted.text, encoding="utf-8")
        load_schema(scratch)  # refuses a schema that could not be read back
        os.replace(scratch, schema_file)
    finally:
        scratch.unlink(missing_ok=True)


def refuse_to_overwrite(schema_file: Path, force: bool) -> None:
    """InputError where ``schema_file`` exists and may not be replaced, or its folder does not exist."""
    if schema_file.exists() and not force:
        raise InputError(f"{schema_file}: exists already; choose another --output, or --force to replace it")
    if not schema_file.absolute().parent.is_dir():
        raise InputError(f"{schema_file}: its folder does not exist; make it, or choose another --output")
