"""Where the learning curves of RankMixer and of the other models cross."""

from __future__ import annotations

import pandas as pd

from harness.evaluation.contrasts.along_rows import contrasts_along_rows, paired_differences, same_size_pairs
from harness.evaluation.contrasts.crossings import crossings
from harness.records.listed import display_name
from reports.cells import MISSING, POINTS, grouped, signed
from reports.contents import Part
from reports.decides.frames import rows_of_task, unsized, with_verdicts
from reports.decides.results import CURVES, METRIC, OURS, WORLDS, Results
from reports.decides.rows_and_size import HOW
from reports.decides.words import corrected, over, verdict
from reports.sections import Section, slug
from reports.tables.markup import Table

PAIR = ["task", "base", "base_variant", "size"]
NONE = "none"


def crossings_part(results: Results) -> Part | None:
    """A table for each folder of curves and task, of all metrics in its CSV."""
    tables, clauses = [], []
    for name in (WORLDS, CURVES):
        section = results.sections.get(name)
        if section is None or (along := _against_others(section)).empty:
            continue
        found = crossings(along)
        tables += [_table(name, section, task, found) for task in section.tasks]
        clauses.append(_clause(name, section, found, along))
    if not tables:
        return None
    asked = "Where does the line of RankMixer cross that of another model?"
    return Part(
        name="crossings",
        title="Where lines cross",
        in_short=f"{asked} Its mean difference in AUC changes sign {'; '.join(clauses)}.",
        overview=[HOW],
        tables=tables,
    )


def _against_others(section: Section) -> pd.DataFrame:
    """The differences of RankMixer to each other model of its size, at each number of rows."""
    pairs = same_size_pairs([who for who in section.contestants if who.size], OURS)
    paired = paired_differences(section.records, [(ours, other) for other, ours in pairs])
    return with_verdicts(contrasts_along_rows(paired), section)


def _clause(name: str, section: Section, found: pd.DataFrame, along: pd.DataFrame) -> str:
    shown = found[found["metric"] == METRIC]
    changes = shown[shown["crossing"].notna()]
    resolved = int((changes["resolved"] == "yes").sum())
    return (
        f"{len(changes)} times among {len(shown.drop_duplicates(PAIR))} pairs of curves in {name}, and "
        f"{resolved} of these are resolved on both sides ({over(section, shown)}; "
        f"{corrected(rows_of_task(along, section.tasks[0]))})"
    )


def _table(name: str, section: Section, task: str, found: pd.DataFrame) -> Table:
    numbers = found[found["task"] == task]
    shown = unsized(numbers[numbers["metric"] == METRIC], section)
    return Table(
        name=f"crossings-{name}-{slug(task)}",
        caption=f"Where RankMixer's difference in AUC of {task} changes sign ({name})",
        numbers=numbers,
        header=[
            *("RankMixer minus", "size", "between rows", "at about", "resolved"),
            *(f"at the {end} rows x {POINTS}" for end in ("fewest", "most")),
        ],
        rows=[_row(row) for row in shown.to_dict("records")],
        notes=[
            "Between rows: the two measured points between which the mean difference changes its sign; at "
            "about: where the straight line between them, over the logarithm of rows, is zero. Resolved: "
            "whether the nearest resolved differences on both sides have these signs. Then the lines cross, "
            "if perhaps elsewhere; else the crossing itself may be chance.",
            f"Differences at the ends of the curves, in points x {POINTS}, with their verdicts.",
        ],
    )


def _row(row: dict) -> list[str]:
    ends = [
        f"{signed(POINTS * row[f'diff_{end}'], 2)}, {verdict(row, f'resolved_{end}')}"
        for end in ("few", "most")
    ]
    if pd.isna(row["crossing"]):
        where = [NONE, MISSING, MISSING]
    else:
        where = [f"{grouped(row['before'])} and {grouped(row['after'])}"]
        where += [grouped(float(f"{row['crossing']:.3g}")), row["resolved"]]
    return [display_name(row["base"], row["base_variant"]), row["size"], *where, *ends]
