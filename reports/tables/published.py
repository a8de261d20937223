"""Published comparisons with the same base, beside our differences: tables, and what is shown and why not."""

from __future__ import annotations

from dataclasses import replace

from harness.records.contestant import Contestant
from reports.cells import MISSING, fixed, signed
from reports.paper.beside import Beside, beside_frame, match
from reports.paper.comparison import its_base, printed_table
from reports.paper.printed import EVIDENCE, load_published
from reports.paper.reached import DIGITS, reached
from reports.sections import Section
from reports.tables.markup import Table
from reports.tables.quality import difference_cell, select_metric

VERDICT = (
    "Verdict: whether the mean of our runs is inside the range of the published seeds; where one value alone "
    "was published, how far ours is from it."
)


def published_tables(section: Section) -> list[Table]:
    """One table for each published comparison that the suite names and that has our base.

    Its rows are our models that the comparison has. Its CSV is :func:`reports.paper.beside.beside_frame`.
    """
    frame = beside_frame(section)
    return [
        Table.from_columns(
            name=f"published-{one.name}-{one.key}-{section.name}",
            caption=f"Beside {one.title}: differences to {section.base_name} on {section.dataset}",
            numbers=frame[(frame["paper"] == one.name) & (frame["table"] == one.key)],
            columns=_columns(section, one),
            notes=_notes(section, one),
        )
        for one in match(section)[0]
    ]


def _columns(section: Section, beside: Beside) -> dict[str, list[str]]:
    columns: dict[str, list[str]] = {"model": [ours.display_name for ours in beside.rows]}
    for metric in beside.metrics:
        for task, numbers in section.quality.items():
            rows = {
                Contestant(row["architecture"], row["variant"]): row
                for row in select_metric(numbers, metric)
                if row["kind"] == "model"
            }
            columns[f"{task} {metric.upper()} vs base x100"] = [
                difference_cell(rows[ours]) if ours in rows else MISSING for ours in beside.rows
            ]
        for key, column in beside.columns.items():
            if column.metric == metric:
                columns[f"published: {column.label}"] = [_cell(beside, key, ours) for ours in beside.rows]
        columns |= _reached_columns(section, beside, metric)
    return columns


def _reached_columns(section: Section, beside: Beside, metric: str) -> dict[str, list[str]]:
    """Ours, the published value and whether ours is inside its range; nothing where none is of our data."""
    found = [reached(section, beside, ours, metric) for ours in beside.rows]
    if not any(found):
        return {}
    title = metric.upper()
    return {
        f"{title} here": [MISSING if one is None else fixed(one.ours, DIGITS) for one in found],
        f"{title} published (range)": [MISSING if one is None else one.printed for one in found],
        f"{title} verdict": [MISSING if one is None else one.verdict for one in found],
    }


def _cell(beside: Beside, key: str, ours: Contestant) -> str:
    row = beside.rows[ours]
    return its_base(row.numbers.get(key)) if row == beside.base else signed(beside.diff(key, row), 2)


def _notes(section: Section, beside: Beside) -> list[str]:
    pairs = ", ".join(f"{ours.display_name} = {row.name}" for ours, row in beside.rows.items())
    how = "values less that of" if beside.table.base is None else "differences to"
    same = {column.dataset for column in beside.columns.values()} == {section.dataset}
    where = "the same dataset, in its own setting" if same else "its own data, sizes and training"
    return [
        f"published: {beside.paper.citation}: {beside.table.about}; {where}. Evidence: "
        f"{EVIDENCE[beside.paper.evidence]}.",
        f"Its columns are {how} {beside.base.name}, in points x 100, as they are printed, without an error; "
        f"rows: {pairs}.",
        *([VERDICT] if same else []),
        *_left_out(section, beside),
        *beside.paper.notes_on(beside.key),
    ]


def _left_out(section: Section, beside: Beside) -> list[str]:
    """Which models stand on one side only."""
    ours = [who.display_name for who in section.contestants if who not in beside.rows]
    shown = list(beside.rows.values())
    theirs = [row.name for row in beside.table.rows if row not in shown]
    sides = (("ours that it has not", ours), ("its own that did not run here", theirs))
    parts = [f"{which}: {', '.join(names)}" for which, names in sides if names]
    return [f"Not shown: {'; '.join(parts)}."] if parts else []


def printed_tables(section: Section) -> list[Table]:
    """Each comparison that :func:`published_tables` shows a part of, as it was published.

    Without the one that the suite's ``paper_table`` shows already.
    """
    already = ("rankmixer", section.suite.paper_table)
    keys = [(one.name, one.key) for one in match(section)[0]]
    return [published_table(*key) for key in keys if key != already]


def published_table(name: str, key: str) -> Table:
    """A table of any paper as it was published, with its evidence and caveats.

    Args:
        name: the paper's, in suites.
        key: the table's, in the paper's file.
    """
    paper = load_published()[name]
    table = printed_table(key, paper)
    return replace(
        table,
        name=f"paper-{name}-{key}",
        caption=f"{paper.tables[key].label} ({paper.tables[key].about}), from {paper.citation}",
        notes=[f"Evidence: {EVIDENCE[paper.evidence]}.", *table.notes],
    )


def published_words(section: Section) -> list[str]:
    """Which of the published comparisons that the suite names are shown, and why others are not."""
    found, unmatched = match(section)
    shown = [f"{one.title} ({len(one.rows) - 1} models)" for one in found]
    not_shown = [f"{title} ({why})" for title, why in unmatched.items()]
    return [
        *([f"Beside our differences stand those of {'; '.join(shown)}."] if shown else []),
        *([f"Not shown: {'; '.join(not_shown)}."] if not_shown else []),
    ]
