"""Published comparisons with our base: which of them has it, and its differences beside ours.

Bases are never mixed. Printed differences match where the row that they are taken to is our base's; printed
values match where the comparison has a value for our base, and become differences to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from harness.records.contestant import Contestant
from harness.records.listed import is_plain
from reports.cells import POINTS
from reports.figures.drawing.models import select_models
from reports.paper.printed import Column, Paper, Row, Table, load_published
from reports.sections import Section

COLUMNS = [
    *("paper", "table", "source", "architecture", "variant", "row", "column", "task", "metric", "dataset"),
    *("base", "value", "diff_points", "low_points", "high_points", "resolved", "unit", "evidence"),
    *("least", "greatest"),
]
ENDS = {"diff": "diff", "low": "diff_low", "high": "diff_high"}


@dataclass(frozen=True)
class Beside:
    """A published comparison that has our base, ``base`` being its row there.

    ``columns`` are those of a quality whose differences are known; ``rows`` are the printed rows of our
    models, in our order, the base among them. ``name`` is the paper's in suites, ``key`` the table's.
    """

    name: str
    key: str
    paper: Paper
    table: Table
    base: Row
    columns: dict[str, Column]
    rows: dict[Contestant, Row]

    @property
    def metrics(self) -> list[str]:
        """Those that it has, each once."""
        return list(dict.fromkeys(str(column.metric) for column in self.columns.values()))

    @property
    def title(self) -> str:
        return table_title(self.paper, self.table)

    def diff(self, key: str, row: Row) -> float:
        """A row's difference to the base in points x 100; NaN where it is not published."""
        value = row.numbers.get(key, math.nan)
        if row == self.base:
            return 0.0
        return value if self.columns[key].gain else POINTS * (value - self.base.numbers.get(key, math.nan))


def table_title(paper: Paper, table: Table) -> str:
    """How a sentence names one of a paper's comparisons."""
    several = len(paper.comparisons) > 1 or table.label.startswith("Table")
    return f"{paper.citation.name} {table.label}" if several else paper.citation.name


def counterpart(table: Table, contestant: Contestant) -> Row | None:
    """The printed row of a contestant; each of its sizes has the row of the architecture without a size."""
    variant = contestant.variant_without_size
    plain = is_plain(contestant.architecture, variant)
    return table.row(contestant.architecture, "" if plain else variant)


def match(section: Section) -> tuple[list[Beside], dict[str, str]]:
    """The published comparisons that the suite names and that have our base, and why others do not.

    Of a paper that has results on the section's own dataset, these alone are taken.
    """
    found: list[Beside] = []
    unmatched: dict[str, str] = {}
    for name in section.suite.published:
        paper = load_published()[name]
        compared = [(key, table, _columns(table)) for key, table in paper.compared()]
        on_our_data = [(key, table, _on(section.dataset, columns)) for key, table, columns in compared]
        for key, table, columns in [one for one in on_our_data if one[2]] or compared:
            base = counterpart(table, section.base) if section.base else None
            rows = {c: row for c in section.contestants if (row := counterpart(table, c))}
            told = {k: c for k, c in columns.items() if base and _tells(table, k, base)}
            if base is None or not told:
                unmatched[table_title(paper, table)] = _why_not(table, columns, base, section.base)
            elif all(row == base for row in rows.values()):
                unmatched[table_title(paper, table)] = "none of our other models is in it"
            else:
                found.append(Beside(name, key, paper, table, base, told, rows))
    return found, unmatched


def _columns(table: Table) -> dict[str, Column]:
    return {key: column for key, column in table.columns.items() if column.metric}


def _on(dataset: str, columns: dict[str, Column]) -> dict[str, Column]:
    return {key: column for key, column in columns.items() if column.dataset == dataset}


def _tells(table: Table, key: str, base: Row) -> bool:
    """Whether a column has differences to this row, or values of it and of others."""
    return base == table.base if table.columns[key].gain else key in base.numbers


def _why_not(table: Table, columns: dict[str, Column], base: Row | None, ours: Contestant | None) -> str:
    """Why no column tells differences to our base, ``base`` being its printed row, if there is one."""
    if ours is None:
        return "the suite compares its models with no base"
    if table.base is not None and any(column.gain for column in columns.values()):
        return f"its differences are to {table.base.name}"
    if base is None:
        return f"it has no row of {ours.display_name}"
    return f"it prints no {base.name} on these data"


def beside_frame(section: Section) -> pd.DataFrame:
    """Our differences and those published, one a row, for every model that a matching comparison has.

    ``source`` is ``here`` or ``published``; ours stand with each ``paper`` (its name in suites) and ``table``
    that has them. Differences are to ``base`` and in points x 100; ``value`` is what is printed, of ours the
    mean.
    """
    rows = [
        {"paper": one.name, "table": one.key} | row
        for one in match(section)[0]
        for row in [*_ours(section, one), *_theirs(one)]
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _ours(section: Section, beside: Beside) -> list[dict]:
    rows = []
    for task, numbers in section.quality.items():
        where = {"source": "here", "column": task, "task": task, "dataset": section.dataset}
        numbers = numbers[(numbers["kind"] == "model") & numbers["metric"].isin(beside.metrics)]
        for row in select_models(numbers, (who.key for who in beside.rows)).to_dict("records"):
            shown = {name: row[name] for name in ("architecture", "variant", "metric", "resolved")}
            points = {f"{end}_points": POINTS * row[name] for end, name in ENDS.items()}
            measured = {"value": row["mean"], "base": section.base_name, "evidence": "measured"}
            rows.append(where | shown | measured | points)
    return rows


def _theirs(beside: Beside) -> list[dict]:
    return [
        {"source": "published", "row": row.name, "column": column.label, "unit": column.unit}
        | {"architecture": ours.architecture, "variant": ours.variant, "base": beside.base.name}
        | {"task": column.task, "metric": column.metric, "dataset": column.dataset}
        | {"value": row.numbers.get(key), "diff_points": beside.diff(key, row)}
        | {"evidence": beside.paper.evidence}
        | dict(zip(("least", "greatest"), map(row.numbers.get, column.range or ()), strict=False))
        for ours, row in beside.rows.items()
        for key, column in beside.columns.items()
    ]
