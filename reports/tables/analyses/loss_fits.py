"""The fits of the loss above the oracle's over rows and FLOPs, as a table for each task."""

from __future__ import annotations

import pandas as pd

from harness.evaluation.oracle.loss_fits import COLUMNS
from reports.cells import MISSING, Shown, fixed, is_missing, model_name, percent, short
from reports.sections import Section, slug
from reports.tables.markup import Table

NOT_IDENTIFIED = "not identified"


def loss_fit_tables(section: Section) -> list[Table]:
    """E, the exponents and the best size by model; none where the suite did not ask for fits."""
    found = section.loss_fits.groupby("task", sort=False)
    return [_table(section, str(task), numbers) for task, numbers in found]


def _table(section: Section, task: str, numbers: pd.DataFrame) -> Table:
    rows = numbers.to_dict("records")
    columns: dict[str, list[str]] = {
        "model": list(map(model_name, rows)),
        "E": [_value(row, "E", 4) for row in rows],
        "exponent of FLOPs": [_value(row, "alpha", 2) for row in rows],
        "exponent of rows": [_value(row, "beta", 2) for row in rows],
        "best FLOPs grow with compute to the": [_value(row, "size_share", 2) for row in rows],
        "best FLOPs/sample": list(map(_best_flops, rows)),
        "best for rows": [_short(row, "most_rows") for row in rows],
        "off by": [MISSING if _is_refused(row) else percent(row["off"]) for row in rows],
    }
    return Table.from_columns(
        name=f"loss-fits-{section.name}-{slug(task)}",
        caption=f"{task}, log loss above the oracle's on {section.dataset}: E + A / FLOPs^a + B / rows^b",
        numbers=numbers[COLUMNS],
        columns=columns,
        notes=[
            *_notes(section, rows),
            *(f"{model_name(row)}: no fit, {row['refused']}." for row in rows if _is_refused(row)),
        ],
    )


def _notes(section: Section, rows: list[dict]) -> list[str]:
    if all(map(_is_refused, rows)):
        return []
    return [
        "Huber's loss of the difference in logarithms (Hoffmann et al., 2022), linear beyond 1%, fitted to "
        f"the means over {section.repeats}. Brackets: 95%, over curves drawn anew as the {section.repeats} "
        "vary, with Student's tails; none with one. Off by: the largest distance of a mean from the fit.",
        "E: what neither more FLOPs nor more rows would remove; not told from 0 where its interval begins "
        "below 1% of the least loss. An exponent is not identified where its interval ends where the search "
        "did. Without intervals the values themselves are looked at. With three sizes a wrong form in FLOPs "
        "would not show.",
        "Rows are a prefix of the log: unless it was shuffled as a whole, fewer rows are also older ones, "
        "with shorter histories. E holds what the oracle knows and no row tells.",
        "Best FLOPs a sample: of the least loss among all sizes and rows of the same training FLOPs (3 x "
        "FLOPs a sample x rows), where these rows are the most that was measured. Extrapolated: no model of "
        "about that size was measured.",
    ]


def _is_refused(row: dict) -> bool:
    return not is_missing(row["refused"])


def _value(row: dict, name: str, digits: int) -> str:
    """``0.34 (0.30 to 0.38)``, or why there is no number."""
    if _is_refused(row):
        return MISSING
    if name == "E" and "E" in _not_identified(row):
        return "not told from 0"
    if _not_identified(row) & ({"alpha", "beta"} if name == "size_share" else {name}):
        return NOT_IDENTIFIED
    value, low, high = (fixed(row[f"{name}{end}"], digits) for end in ("", "_low", "_high"))
    if is_missing(row[f"{name}_low"]):
        return value
    return Shown(f"{value} ({low} to {high})", row[name])


def _not_identified(row: dict) -> set[str]:
    return set() if is_missing(row["not_identified"]) else set(row["not_identified"].split(", "))


def _best_flops(row: dict) -> str:
    if _not_identified(row) & {"alpha", "beta"}:
        return NOT_IDENTIFIED
    shown = _short(row, "best_flops")
    if _is_refused(row) or row["least_flops"] <= row["best_flops"] <= row["most_flops"]:
        return shown
    return Shown(f"{shown}, extrapolated", row["best_flops"])


def _short(row: dict, name: str) -> str:
    return MISSING if _is_refused(row) else short(row[name])
