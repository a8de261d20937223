"""The quality tables of a dataset, by task, with the paper's own numbers.

``quality_numbers`` returns raw numbers; ``quality_tables`` puts them into the words and digits that people
read.
"""

from __future__ import annotations

import math

import pandas as pd

from harness.evaluation.quality import DIFFERENCE, QUALITIES, to_wide
from harness.evaluation.verdict import WITHHELD
from harness.records.contestant import Contestant
from harness.records.listed import display_name
from reports.cells import (
    MISSING,
    POINTS,
    Shown,
    fixed,
    grouped,
    interval,
    is_missing,
    model_name,
    signed,
    spread,
)
from reports.paper.comparison import has_the_papers_base, its_base, paper_note, paper_row, paper_table, sign
from reports.paper.printed import Table as PaperTable
from reports.sections import Section, shown_metrics, slug
from reports.tables.markup import Table
from reports.tables.significance import detectable_note, number_tested, significance_table
from reports.tables.unequal_runs import unequal_runs_notes

PROBABILITY_METRICS = {
    "logloss": "log loss",
    "normalized_entropy": "normalized entropy",
    "calibration": "calibration",
}
NOT_RESOLVED = "not resolved"
NO_USERS = (
    "The rows of these data belong to no user, so there are no UAUC, GAUC and tiers of activity, and "
    "intervals are over rows where others are over users."
)
SIGN_NOTE = (
    "Sign: whether a resolved difference to the base has the sign that the paper prints (agrees, differs); "
    "untested: too few seeds, worlds or users, or failed seeds."
)


# --- Quality ----------------------------------------------------------------------------------------------


def quality_numbers(section: Section, task: str) -> pd.DataFrame:
    """The section's quality in one task, with the paper's numbers.

    Further columns: paper_row, the paper's row of this name; paper, its printed value (points x 100, or the
    AUC in its base row); sign, whether the difference goes the paper's way
    (:func:`reports.paper.comparison.sign`).
    """
    printed = paper_table(section)
    numbers = section.quality[task]
    can_compare = has_the_papers_base(section) and not section.no_verdict
    return numbers.join(
        pd.DataFrame(
            [_printed_cells(row, printed, can_compare) for row in numbers.to_dict("records")],
            index=numbers.index,
            columns=["paper_row", "paper", "sign"],
            dtype=object,
        )
    )


def _printed_cells(row: dict, printed: PaperTable | None, can_compare: bool) -> dict[str, object]:
    if row["kind"] == "reference" or printed is None:
        return {"paper_row": None, "paper": math.nan, "sign": None}
    theirs = paper_row(printed, Contestant(row["architecture"], row["variant"]))
    column = printed.column(row["task"], row["metric"])
    value = theirs.numbers.get(column, math.nan) if theirs and column else math.nan
    can_compare = can_compare and not row["is_base"] and row["metric"] in QUALITIES
    return {
        "paper_row": theirs.name if theirs else None,
        "paper": value,
        "sign": sign(row["resolved"], row["diff"], value) if can_compare else None,
    }


def select_metric(numbers: pd.DataFrame, metric: str) -> list[dict]:
    """The rows of one metric: one a contestant, then one a reference."""
    return numbers[numbers["metric"] == metric].to_dict("records")


def _csv_columns() -> dict[str, dict[str, str]]:
    """The columns of the tables' CSV files, by metric and quantity."""
    means = {metric: {"mean": metric} for metric in PROBABILITY_METRICS}
    suffixes = {"mean": "", "mean_low": "_low", "mean_high": "_high"}
    suffixes |= {name: f"_{name}" for name in (*DIFFERENCE.values(), "paper", "sign")}
    return means | {
        metric: {name: metric + suffix for name, suffix in suffixes.items()} for metric in QUALITIES
    }


def quality_tables(section: Section, task: str) -> list[Table]:
    """The tables of one task: AUC and UAUC with the paper's gains; p-values; GAUC and the others.

    The CSV of each holds all of :func:`quality_numbers`.
    """
    numbers, printed = quality_numbers(section, task), paper_table(section)
    rows = select_metric(numbers, "auc")
    models = {"model": [model_name(row) for row in rows]}
    models["runs" if section.num_worlds else "seeds"] = [_seeds_cell(row) for row in rows]
    main: dict[str, list[str]] = {}
    for metric in shown_metrics(section):
        main |= _metric_columns(numbers, metric, task, printed)
    more = _metric_columns(numbers, "gauc", task, printed) if "gauc" in section.metrics else {}
    for metric, title in PROBABILITY_METRICS.items():
        more[title] = [fixed(row["mean"], 4) for row in select_metric(numbers, metric)]
    untuned = ", untuned" if section.suite.untuned(section.dataset) else ""
    where = f"on {section.dataset}, task {task}, test split{untuned}"
    notes = [*_measure_notes(section, numbers), *_difference_notes(section, numbers)]
    notes += [*unequal_runs_notes(section, task), *_partial_note(section)]
    paper_notes = _paper_notes(section, task, printed)
    stem = f"{section.name}-{slug(task)}"
    csv = to_wide(numbers, _csv_columns())
    count = int((csv["kind"] == "reference").sum())
    caption, notes_of_main = f"Quality {where}", notes + paper_notes
    ranked = [title for title in main | more if title.endswith(" vs base x100")]
    return [
        Table.from_columns(f"quality-{stem}", caption, csv, models | main, notes_of_main, count, ranked),
        *significance_table(section, task, numbers, csv),
        Table.from_columns(f"more-{stem}", f"More metrics {where}", csv, models | more, notes, count, ranked),
    ]


def _paper_notes(section: Section, task: str, printed: PaperTable | None) -> list[str]:
    if printed is None or not printed.has_task(task):
        return []
    signs = [SIGN_NOTE] if has_the_papers_base(section) and not section.no_verdict else []
    return [paper_note(section, printed), *printed.column_notes(task), *signs]


def _seeds_cell(row: dict) -> str:
    if row["kind"] == "reference":
        return MISSING
    failed = row["failed_seeds"]
    total = f" of {row['seeds'] + failed}" if failed else ""
    return Shown(f"{row['seeds']}{total}", row["seeds"])


def _metric_columns(
    numbers: pd.DataFrame, metric: str, task: str, printed: PaperTable | None
) -> dict[str, list[str]]:
    """A metric's mean, its difference to the base and, where the paper has the column, its printed value."""
    title, rows = metric.upper(), select_metric(numbers, metric)
    columns = {
        title: [_mean_cell(row) for row in rows],
        f"{title} vs base x100": [difference_cell(row) for row in rows],
    }
    if printed and (column := printed.column(task, metric)):
        base = printed.base.name if printed.base else None
        columns[f"paper: {printed.columns[column].label}"] = [
            its_base(row["paper"]) if base and row["paper_row"] == base else signed(row["paper"], 2)
            for row in rows
        ]
        signs = [row["sign"] for row in rows]
        if not all(map(is_missing, signs)):
            columns[f"{title} sign"] = [MISSING if is_missing(word) else word for word in signs]
    return columns


def _mean_cell(row: dict) -> str:
    if not row["seeds"] and row["failed_seeds"]:
        return "failed"
    return spread(row["mean"], row["mean_low"], row["mean_high"], 4)


def difference_cell(row: dict) -> str:
    """``+0.64 (+0.51 to +0.77) higher``, or ``not resolved`` after the interval.

    Where no interval over seeds is known, the interval is over users alone.
    """
    if row["is_base"]:
        return Shown("base", 0.0)
    if is_missing(row["diff"]):
        return MISSING
    diff, low, high = in_points(row)
    claimed = not is_missing(low) and row["resolved"] != WITHHELD
    if is_missing(low) and not is_missing(row["diff_users_low"]):
        low, high = (POINTS * row[f"diff_users_{end}"] for end in ("low", "high"))
    return interval(diff, low, high, 2, verdict(row), claimed)


def marked_difference(row: dict, of_base: str, mark: str) -> str:
    """The difference in points, a mark after it where it is resolved; the base's row has ``of_base``."""
    if row["is_base"]:
        return Shown(of_base, 0.0)
    if is_missing(row["diff"]):
        return MISSING
    diff, low, high = in_points(row)
    shown = f"{signed(diff, 2)}{mark if row['resolved'] == 'yes' else ''}"
    return Shown(shown, diff, low, high, row["resolved"] in ("yes", "no"))


def in_points(row: dict) -> tuple[float, float, float]:
    """The difference and its interval in AUC points x 100."""
    return POINTS * row["diff"], POINTS * row["diff_low"], POINTS * row["diff_high"]


def verdict(row: dict) -> str:
    """``higher``, ``lower``, ``not resolved``, ``no verdict``, or ``untested`` and why."""
    resolved = str(row["resolved"])
    if resolved == WITHHELD:
        return WITHHELD
    if resolved == "yes":
        return "higher" if row["diff"] > 0 else "lower"
    return NOT_RESOLVED if resolved == "no" else f"untested ({resolved})"


def _measure_notes(section: Section, numbers: pd.DataFrame) -> list[str]:
    notes, each = [], ", in each world" if section.num_worlds > 1 else ""
    if numbers["users"].notna().any():
        users, rows = grouped(numbers["users"].max()), grouped(numbers["rows"].max())
        notes.append(
            f"AUC over {rows} test rows; UAUC and GAUC over {users} users who have both labels{each}."
        )
    elif "uauc" not in section.metrics:
        notes.append(NO_USERS)
    notes.append(
        "Means over worlds of each world's mean over seeds; ± is half the width of the 95% t-interval over "
        "worlds (over seeds for a row with one world)."
        if section.num_worlds > 1
        else "Means over seeds; ± is half the width of the 95% t-interval over seeds (none with one seed)."
    )
    return notes


def _partial_note(section: Section) -> list[str]:
    """Which rows implement only a part of their paper's model."""
    ran = {contestant.architecture for contestant in section.contestants}
    partial = [f"{display_name(name)}: {why}" for name, why in section.suite.partial.items() if name in ran]
    return [f"Partial, by the defaults: {'; '.join(partial)}."] if partial else []


def _difference_notes(section: Section, numbers: pd.DataFrame) -> list[str]:
    if section.comparisons.empty:
        return ["The folder holds no comparisons, so differences to the base are not shown."]
    what = (
        f"vs base: difference to {section.base_name} in AUC points x 100 over the runs that both finished, "
        f"with its 95% interval over {section.drawn_anew}."
    )
    if section.no_verdict:
        return [f"{what} No verdict: the data leak, as the report says above."]
    models = numbers[(numbers["kind"] == "model") & ~numbers["is_base"]]
    alone = " Reference rows are tested one by one, without a correction." if section.references else ""
    return [
        f'{what} "Higher" and "lower" survive Holm\'s correction over {number_tested(models)} of a column. '
        f"The interval of one model is not corrected, so it can leave out zero where the cell says "
        f"{NOT_RESOLVED!r}. Untested: too few seeds, worlds or users, or a failed seed; nothing is claimed."
        f"{alone}",
        *detectable_note(numbers),
    ]
