"""Which row of the paper corresponds to which of our models, and the paper's tables as printed."""

from __future__ import annotations

import pandas as pd

from harness.records.contestant import Contestant
from reports.cells import Shown, fixed, is_missing, params, short, signed
from reports.paper.printed import Paper, load_paper
from reports.paper.printed import Row as PaperRow
from reports.paper.printed import Table as PaperTable
from reports.sections import Section
from reports.tables.markup import Table

SIGNS = AGREES, DIFFERS, NOT_RESOLVED, UNTESTED = "agrees", "differs", "not resolved", "untested"


def paper_table(section: Section) -> PaperTable | None:
    """The RankMixer paper's table that the suite is compared with, if it names one."""
    return load_paper().tables.get(section.suite.paper_table or "")


def paper_row(printed: PaperTable | None, contestant: Contestant) -> PaperRow | None:
    """The paper's row for a contestant; the default variant has the row of the plain architecture."""
    if printed is None:
        return None
    return printed.row(contestant.architecture, "" if contestant.is_plain else contestant.variant)


def has_the_papers_base(section: Section) -> bool:
    """Whether our base is the row that the paper's differences are taken to."""
    row = paper_row(paper_table(section), section.base) if section.base else None
    return row is not None and row.base


def sign(resolved: str | None, diff: float, paper: float) -> str | None:
    """Whether our difference to the base has the sign of the paper's; None where either is missing.

    ``agrees`` and ``differs`` need a resolved difference; else it is ``not resolved`` or ``untested`` (too
    few seeds, worlds or users, or failed seeds). A resolved difference differs from a printed one of zero.
    """
    if is_missing(diff) or is_missing(paper):
        return None
    if resolved != "yes":
        return NOT_RESOLVED if resolved == "no" else UNTESTED
    return AGREES if diff * paper > 0 else DIFFERS


def paper_note(section: Section, printed: PaperTable) -> str:
    """Which of the paper's rows correspond to which of ours, and whose data they are from."""
    pairs = [
        f"{contestant.display_name} = {row.name}"
        for contestant in section.contestants
        if (row := paper_row(printed, contestant))
    ]
    rows = f"; rows: {', '.join(pairs)}" if pairs else "; none of these models is in it"
    base = f", differences to {printed.base.name}" if printed.base else ""
    return f"paper: {printed.label} of {load_paper().citation}, on its own data and sizes{base}{rows}."


def printed_table(key: str, paper: Paper) -> Table:
    """A table of the paper as it was printed (costs to three digits), its units, and notes on what is odd."""
    printed = paper.tables[key]
    columns = list(printed.columns.values())
    units = {
        unit: ", ".join(c.label for c in columns if c.unit == unit)
        for unit in dict.fromkeys(c.unit for c in columns)
    }
    rows = [
        [row.name, *(_printed_cell(row, name, printed) for name in printed.columns)] for row in printed.rows
    ]
    frame = paper.frame()
    notes = [f"{names}: {unit}." for unit, names in units.items()]
    notes += [column.note for column in columns if column.note]
    return Table(
        name=f"paper-{key}",
        caption=f"The paper's {printed.label} ({printed.about}), from {paper.citation}",
        numbers=frame[frame["table"] == printed.label],
        header=["row", *(column.label for column in columns)],
        rows=rows,
        notes=[*notes, *paper.notes_on(key)],
    )


def _printed_cell(row: PaperRow, name: str, printed: PaperTable) -> str:
    value, column = row.numbers.get(name), printed.columns[name]
    if column.gain and (not row.base or value is None):
        return "base" if row.base else signed(value, 2)
    if column.gain or column.unit.startswith(_FINE):
        return as_printed(value)
    if column.unit.startswith(("dense parameters", "parameters")):
        return params(value)
    counted = column.unit.startswith(("FLOPs", "fraction", "counted", "runs"))
    return short(value) if counted else fixed(value, 2)


_FINE = ("AUC", "UAUC", "gAUC", "log loss", "population")  # units whose fourth digit counts


def as_printed(value: float | None) -> Shown:
    """A quality with the digits that it was printed with, four at least and six at most."""
    if value is None:
        return fixed(value, 4)
    return fixed(value, max(4, len(f"{value:.6f}".rstrip("0").partition(".")[2])))


def its_base(value: float | None) -> Shown:
    """The cell of the row that published differences are taken to, with its value where it is printed."""
    return Shown("its base" if is_missing(value) else f"{as_printed(value)} (its base)", 0.0)


def active_ratio_curves(paper: Paper) -> pd.DataFrame:
    """The paper's Figure 3 as curves: name, series (as our variants'; empty for a flat line), ratio, auc."""
    rows = [
        (row.name.rpartition(", ")[0] or row.name, Contestant.from_name("", row.variant).series, row.numbers)
        for row in paper.tables["figure3"].rows
    ]
    return pd.DataFrame(
        [(name, stem, numbers.get("active_ratio"), numbers["auc"]) for name, stem, numbers in rows],
        columns=["name", "series", "ratio", "auc"],
    )
