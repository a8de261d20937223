"""The quality tables of a dataset, by task, the paper's own numbers beside ours.

``quality_numbers`` returns raw numbers; ``quality_tables`` puts them into the words and digits that people
read.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from reports.beside import paper_note, paper_row, paper_table, sign, stands_on_its_base
from reports.cells import MISSING, Shown, fixed, grouped, interval, is_missing, signed, spread
from reports.comparisons import TEST_COLUMNS, WITHHELD
from reports.markup import Table
from reports.paper import Paper
from reports.paper import Table as PaperTable
from reports.records import Contestant, label
from reports.sections import Section, slug
from reports.significance import HOLM_MARK, HOLM_NOTE, has_p_values, holds_after_holm, significance_table

QUALITIES = ("auc", "uauc", "gauc")
PROBABILITY_METRICS = {
    "logloss": "log loss",
    "normalized_entropy": "normalized entropy",
    "calibration": "calibration",
}
POINTS = 100  # differences are printed as the paper prints them: AUC points x 100
NO_DIFFERENCE = "no difference seen"
SIGN_NOTE = (
    "Sign: whether a resolved difference to the base has the sign that the paper prints (agrees, differs); "
    "not resolved: the interval holds zero; untested: one seed or few users."
)


def mean_interval(values: list[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean and Student-t interval over seeds: (mean, low, high).

    The interval is NaN for one value, all three for none.
    """
    if not values:
        return math.nan, math.nan, math.nan
    mean = float(np.mean(values))
    if len(values) == 1:
        return mean, math.nan, math.nan
    half = float(
        stdtrit(len(values) - 1, 0.5 + confidence / 2) * np.std(values, ddof=1) / math.sqrt(len(values))
    )
    return mean, mean - half, mean + half


# --- Quality ----------------------------------------------------------------------------------------------


def quality_numbers(section: Section, task: str, paper: Paper) -> pd.DataFrame:
    """One row a contestant (base first), then one a reference; AUCs and differences are fractions.

    For each of auc, uauc and gauc: ``<metric>`` (mean over seeds) with ``_low`` and ``_high`` (95%
    interval over seeds), ``_diff`` to the base with ``_diff_low``, ``_diff_high`` (95% interval),
    ``_diff_users_low``, ``_diff_users_high`` (its part from users) and ``_resolved`` (yes, no, one seed,
    few users), ``_p_value``, ``_p_holm`` and ``_effect_size`` of it, ``_paper``, the paper's
    printed value (points x 100, or the AUC in its base row), and
    ``_sign``, whether the difference goes the paper's way (:func:`reports.beside.sign`).
    """
    printed = paper_table(section, paper)
    rows = [_quality_row(section, task, contestant, "model", printed) for contestant in section.contestants]
    rows += [_quality_row(section, task, reference, "reference", None) for reference in section.references]
    return pd.DataFrame(rows)


def _quality_row(
    section: Section, task: str, contestant: Contestant, kind: str, printed: PaperTable | None
) -> dict[str, object]:
    runs = section.runs_of(contestant)
    measured = [run.metrics[task] for run in section.finished(contestant) if task in run.metrics]
    beside = paper_row(printed, contestant)
    row: dict[str, object] = {
        "kind": kind,
        "architecture": contestant.architecture,
        "variant": contestant.variant,
        "is_base": kind == "model" and contestant == section.base,
        "task": task,
        "seeds": len(measured),
        "failed_seeds": sum(run.status == "failed" for run in runs),
        "users": max((m.users for m in measured if m.users is not None), default=None),
        "rows": max((m.rows for m in measured if m.rows is not None), default=None),
        "paper_row": beside.name if beside else None,
    }
    for metric in PROBABILITY_METRICS:
        row[metric] = mean_interval(_values(measured, metric))[0]
    for metric in QUALITIES:
        row[metric], row[f"{metric}_low"], row[f"{metric}_high"] = mean_interval(_values(measured, metric))
        row |= difference(section.comparisons, task, metric, contestant)
        column = printed.column(task, metric) if printed else None
        row[f"{metric}_paper"] = beside.numbers.get(column, math.nan) if beside and column else math.nan
        can_compare = stands_on_its_base(section, printed) and not row["is_base"]
        row[f"{metric}_sign"] = (
            sign(row[f"{metric}_resolved"], row[f"{metric}_diff"], row[f"{metric}_paper"])  # type: ignore[arg-type]
            if can_compare
            else None
        )
    return row


def _values(measured: list, metric: str) -> list[float]:
    return [value for m in measured if (value := getattr(m, metric)) is not None]


def difference(compared: pd.DataFrame, task: str, metric: str, contestant: Contestant) -> dict[str, object]:
    """A contestant's difference out of a table of comparisons, as the cells that `quality_numbers` names."""
    match = compared[
        (compared["task"] == task)
        & (compared["metric"] == metric)
        & (compared["architecture"] == contestant.architecture)
        & (compared["variant"] == contestant.variant)
    ]
    names = {"diff": "diff", "low": "diff_low", "high": "diff_high", "resolved": "resolved"}
    names |= {"users_low": "diff_users_low", "users_high": "diff_users_high"}
    names |= {name: name for name in TEST_COLUMNS}
    if match.empty:
        return {f"{metric}_{ours}": None if ours == "resolved" else math.nan for ours in names.values()}
    return {f"{metric}_{ours}": match.iloc[-1][theirs] for theirs, ours in names.items()}


def quality_tables(section: Section, task: str, paper: Paper) -> list[Table]:
    """The tables of one task: AUC and UAUC, the paper's gains beside ours; p-values; GAUC and the others.

    The CSV of each holds all of :func:`quality_numbers`.
    """
    numbers = quality_numbers(section, task, paper)
    rows, printed = numbers.to_dict("records"), paper_table(section, paper)
    models = {"model": [label(row["architecture"], row["variant"]) for row in rows]}
    models["seeds"] = [_seeds_cell(row) for row in rows]
    main = _metric_columns(rows, "auc", task, printed) | _metric_columns(rows, "uauc", task, printed)
    more = _metric_columns(rows, "gauc", task, printed)
    for metric, title in PROBABILITY_METRICS.items():
        more[title] = [fixed(row[metric], 4) for row in rows]
    where = f"on {section.dataset}, task {task}, test split"
    notes = [*_measure_notes(numbers), *_difference_notes(section, numbers)]
    beside = _paper_notes(section, task, printed, paper)
    stem = f"{section.name}-{slug(task)}"
    return [
        _from_columns(f"quality-{stem}", f"Quality {where}", numbers, models | main, notes + beside),
        *significance_table(section, task, numbers, QUALITIES),
        _from_columns(f"more-{stem}", f"More metrics {where}", numbers, models | more, notes),
    ]


def _paper_notes(section: Section, task: str, printed: PaperTable | None, paper: Paper) -> list[str]:
    if printed is None or not printed.has_task(task):
        return []
    signs = [SIGN_NOTE] if stands_on_its_base(section, printed) else []
    return [paper_note(section, printed, paper), *printed.column_notes(task), *signs]


def _from_columns(
    name: str, caption: str, numbers: pd.DataFrame, columns: dict[str, list[str]], notes: list[str]
) -> Table:
    rows = [list(cells) for cells in zip(*columns.values(), strict=True)]
    num_models = int((numbers["kind"] == "model").sum())
    return Table(name, caption, numbers, list(columns), rows[:num_models], rows[num_models:], notes)


def _seeds_cell(row: dict) -> str:
    if row["kind"] == "reference":
        return MISSING
    failed = row["failed_seeds"]
    of = f" of {row['seeds'] + failed}" if failed else ""
    return Shown(f"{row['seeds']}{of}", row["seeds"])


def _metric_columns(
    rows: list[dict], metric: str, task: str, printed: PaperTable | None
) -> dict[str, list[str]]:
    """A metric's mean, its difference to the base and, where the paper has the column, its printed value."""
    title = metric.upper()
    columns = {
        title: [_mean_cell(row, metric) for row in rows],
        f"{title} vs base x100": [difference_cell(row, metric) for row in rows],
    }
    if printed and (column := printed.column(task, metric)):
        columns[f"paper: {printed.columns[column].label}"] = [
            _paper_cell(row, metric, printed) for row in rows
        ]
        signs = [row[f"{metric}_sign"] for row in rows]
        if not all(map(is_missing, signs)):
            columns[f"{title} sign"] = [MISSING if is_missing(said) else said for said in signs]
    return columns


def _mean_cell(row: dict, metric: str) -> str:
    if not row["seeds"] and row["failed_seeds"]:
        return "failed"
    return spread(row[metric], row[f"{metric}_low"], row[f"{metric}_high"], 4)


def difference_cell(row: dict, metric: str) -> str:
    """``+0.64 (+0.51 to +0.77) higher``, or ``no difference seen`` after the interval.

    A dagger where it holds after Holm's correction; where it is untested the interval is the users' alone.
    """
    if row["is_base"]:
        return Shown("base", 0.0)
    if is_missing(row[f"{metric}_diff"]):
        return MISSING
    diff, low, high = (POINTS * row[f"{metric}_{name}"] for name in ("diff", "diff_low", "diff_high"))
    claimed = not is_missing(low) and row[f"{metric}_resolved"] != WITHHELD
    if is_missing(low) and not is_missing(row[f"{metric}_diff_users_low"]):
        low, high = (POINTS * row[f"{metric}_diff_users_{end}"] for end in ("low", "high"))
    return interval(diff, low, high, 2, marked_verdict(row, metric), claimed)


def marked_verdict(row: dict, metric: str) -> str:
    """:func:`verdict`, with a dagger where it holds after Holm's correction."""
    return verdict(row, metric) + (f" {HOLM_MARK}" if holds_after_holm(row, metric) else "")


def verdict(row: dict, metric: str) -> str:
    """``higher``, ``lower``, ``no difference seen``, ``no verdict``, or ``untested`` and why."""
    resolved = str(row[f"{metric}_resolved"])
    if resolved == WITHHELD:
        return WITHHELD
    if resolved == "yes":
        return "higher" if row[f"{metric}_diff"] > 0 else "lower"
    return NO_DIFFERENCE if resolved == "no" else f"untested ({resolved})"


def _paper_cell(row: dict, metric: str, printed: PaperTable) -> str:
    value = row[f"{metric}_paper"]
    if not any(r.base and r.name == row["paper_row"] for r in printed.rows):
        return signed(value, 2)
    return Shown("its base" if is_missing(value) else f"{fixed(value, 4)} (its base)", 0.0)


def _measure_notes(numbers: pd.DataFrame) -> list[str]:
    notes = []
    if numbers["users"].notna().any():
        users, rows = grouped(numbers["users"].max()), grouped(numbers["rows"].max())
        notes.append(f"AUC over {rows} test rows; UAUC and GAUC over {users} users who have both labels.")
    notes.append(
        "Means over seeds; ± is half the width of the 95% t-interval over seeds (none for one seed)."
    )
    return notes


def _difference_notes(section: Section, numbers: pd.DataFrame) -> list[str]:
    if section.comparisons.empty:
        return ["The folder holds no comparisons, so differences to the base are not shown."]
    if section.no_verdict:
        return [
            f"vs base: difference to {section.suite.base} in AUC points x 100 over the seeds both finished, "
            "with its 95% interval over users and seeds. No verdict: the data leak, as the report says above."
        ]
    note = (
        f"vs base: difference to {section.suite.base} in AUC points x 100 over the seeds both finished, with "
        f'its 95% interval over users and seeds; "higher" and "lower" are resolved, else {NO_DIFFERENCE}. '
        "Untested: the interval is over users alone, and nothing is claimed."
    )
    return [note, HOLM_NOTE] if has_p_values(numbers) else [note]
