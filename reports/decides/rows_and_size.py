"""Who is ahead when there is more to learn from: over rows, and over rows at each size."""

from __future__ import annotations

import pandas as pd

from harness.evaluation.contrasts.along_rows import (
    change_with_rows,
    change_with_size,
    contrasts_along_rows,
    paired_differences,
    same_size_pairs,
)
from harness.records.listed import display_name
from reports.cells import grouped, model_name
from reports.contents import Part, Words
from reports.decides.frames import rows_of_ours, rows_of_task, unsized, with_verdicts
from reports.decides.results import CURVES, METRIC, ONE_SIZE, WORLDS, Results, compared, flops_words, ordered
from reports.decides.words import answer, difference, judged_table, points
from reports.figures.curves import learning_curves, learning_curves_by_size
from reports.figures.drawing.saving import Drawing
from reports.sections import Section

HOW = Words(
    "How differences are taken",
    [
        "A model's runs are compared with those of the base that share their world and seed. Users are not "
        "drawn anew on the way. Nothing is corrected across tasks and metrics. Rows are a prefix of the log: "
        "fewer are also older ones, whose users have short histories, so a change along them is not one of "
        "their number alone."
    ],
)
OPTIONS = {"metrics": [METRIC]}


def rows_part(results: Results) -> Part | None:
    """The difference to the base over rows at one size, over worlds where several ran."""
    found = results.first_of(WORLDS, CURVES)
    if found is None or (paired := _to_base(found[1], ONE_SIZE)).empty:
        return None
    name, section = found
    along = with_verdicts(contrasts_along_rows(paired), section)
    change = with_verdicts(change_with_rows(paired), section)
    size = flops_words(ONE_SIZE)
    clauses = [
        f"in AUC of {row['task']} it goes from {points(row['diff_least'])} points after "
        f"{grouped(row['few'])} rows to {points(row['diff_most'])} after "
        f"{grouped(row['most'])}, a change of {difference(row)}"
        for row in _ours(change, section)
    ]
    asked = f"Does RankMixer's difference to {section.base_name} grow with rows, at {size} a sample?"
    caption = f"Differences to {section.base_name} after so many rows at {size} a sample, 95% intervals"
    drawing = Drawing(learning_curves, unsized(along, section), caption, options=OPTIONS)
    table = judged_table(
        "decides-rows",
        f"How differences to {section.base_name} change from the fewest rows to the most",
        change,
        ["model", "rows"],
        lambda row: [_model(row, section), f"{grouped(row['few'])} to {grouped(row['most'])}"],
        ["The difference at the most rows less that at the fewest, in each world (or seed) by itself."],
    )
    return Part(
        name="rows",
        title="More rows",
        in_short=answer(asked, clauses, change, section),
        overview=[compared(name, section), HOW],
        tables=[table],
        figures={"decides-rows": drawing},
    )


def size_part(results: Results) -> Part | None:
    """The difference to the base of the same size over rows, for each size."""
    found = results.first_of(CURVES)
    if found is None or (paired := _to_base(found[1])).empty:
        return None
    name, section = found
    along = with_verdicts(contrasts_along_rows(paired), section)
    change = with_verdicts(change_with_size(paired), section)
    clauses = [
        f"after the most rows it goes in AUC of {row['task']} from {points(row['diff_least'])} points at "
        f"{flops_words(row['smallest'])} to {points(row['diff_most'])} at {flops_words(row['largest'])}, "
        f"a change of {difference(row)}"
        for row in _ours(change, section)
    ]
    asked = f"Does RankMixer's difference to {section.base_name} of its own size grow with size?"
    caption = (
        f"Differences to {section.base_name} of the same size after so many rows; 95% intervals, of which "
        "the longer ones leave the panels"
    )
    drawing = Drawing(learning_curves_by_size, unsized(along, section), caption, options=OPTIONS)
    table = judged_table(
        "decides-size",
        f"How differences to {section.base_name} change from the least size to the largest",
        change,
        ["model", "sizes"],
        lambda row: [
            display_name(row["architecture"], row["line"]),
            f"{row['smallest']} to {row['largest']}",
        ],
        ["At the most rows; the difference at the largest size less that at the least, paired as above."],
    )
    return Part(
        name="size",
        title="More rows at each size",
        in_short=answer(asked, clauses, change, section),
        overview=[compared(name, section), HOW],
        tables=[table],
        figures={"decides-size": drawing},
    )


def _to_base(section: Section, size: str = "") -> pd.DataFrame:
    """Paired differences to the base of the same size, RankMixer's first; of all sizes or one."""
    if section.base is None:
        return pd.DataFrame()
    sized = [who for who in ordered(section.contestants) if who.size and size in ("", who.size)]
    return paired_differences(section.records, same_size_pairs(sized, section.base))


def _ours(change: pd.DataFrame, section: Section) -> list[dict]:
    """RankMixer's change in each task."""
    return [
        row
        for task in section.tasks
        for row in rows_of_ours(rows_of_task(change, task), section).to_dict("records")
    ]


def _model(row: dict, section: Section) -> str:
    [only] = unsized(pd.DataFrame([row]), section).to_dict("records")
    return model_name(only)
