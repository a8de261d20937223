"""How much of the way to the oracle each model goes, as a table for each task."""

from __future__ import annotations

import pandas as pd

from harness.evaluation.oracle.gap import COLUMNS, LOGLOSS
from harness.records.contestant import Contestant
from reports.cells import MISSING, Shown, fixed, is_missing, percent, spread
from reports.sections import Section, slug
from reports.tables.markup import Table

SHOWN = {"auc": "AUC", "uauc": "UAUC", LOGLOSS: "log loss"}  # the CSV has GAUC, too


def oracle_gap_tables(section: Section) -> list[Table]:
    """Shares of the gap between a constant and the oracle; none where no oracle ran."""
    found = section.oracle_gap.groupby("task", sort=False)
    return [_table(section, str(task), numbers) for task, numbers in found]


def _table(section: Section, task: str, numbers: pd.DataFrame) -> Table:
    known = {(row["architecture"], row["variant"], row["metric"]): row for row in numbers.to_dict("records")}
    there = {(architecture, variant) for architecture, variant, _ in known}
    references = [who for who in section.references if who.key in there]
    everyone = [*(who for who in section.contestants if who.key in there), *references]
    columns: dict[str, list[str]] = {"model": [who.display_name for who in everyone]}
    for metric, words in SHOWN.items():
        columns[f"of the {words}"] = [_share(known.get((*who.key, metric))) for who in everyone]
    columns["log loss above the oracle's"] = [_distance(known, who) for who in everyone]
    return Table.from_columns(
        name=f"oracle-gap-{section.name}-{slug(task)}",
        caption=f"How much of the way to the oracle each model goes: {task} on {section.dataset}",
        numbers=numbers[COLUMNS],
        columns=columns,
        notes=[
            "100%: as good as the oracle, which scores with the true probabilities. 0%: as good as a "
            "constant, whose AUC and UAUC are .5 and whose log loss is the row constant's.",
            "± is half of the 95% interval, over "
            f"{section.drawn_anew}; a reference with one run has none. Below 0%: worse than a constant.",
        ],
        num_references=len(references),
    )


def _share(row: dict | None) -> str:
    if row is None or is_missing(row["share"]):
        return MISSING
    share, low, high = (row[f"share{end}"] for end in ("", "_low", "_high"))
    half = "" if is_missing(low) or is_missing(high) else f" ± {fixed(50 * (high - low), 1)}"
    return Shown(f"{percent(share)}{half}", share)


def _distance(known: dict[tuple[str, str, str], dict], who: Contestant) -> str:
    row = known.get((*who.key, LOGLOSS))
    return MISSING if row is None else spread(row["distance"], row["distance_low"], row["distance_high"], 4)
