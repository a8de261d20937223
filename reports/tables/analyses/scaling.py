"""Scaling in a section: one table for each task and metric, and the order of the slopes in words."""

from __future__ import annotations

import math
from itertools import pairwise

import pandas as pd

from harness.evaluation.differences import MIN_RUNS
from harness.evaluation.scaling import AXES, scaling_fits, sized_runs
from reports.cells import MISSING, fixed, grouped, interval, is_missing, model_name, short, signed
from reports.paper.comparison import paper_table
from reports.paper.printed import load_paper
from reports.paper.scaling import paper_slopes
from reports.sections import Section, slug
from reports.tables.markup import Table
from reports.tables.quality import NOT_RESOLVED

STEEPER = (
    " Steeper than the next row: the interval of that difference leaves out zero; not corrected for the "
    f"number of rows. Untested: fewer than {MIN_RUNS} seeds (or worlds) of both."
)


NOTES = [
    "Points a decade: slope of AUC x 100 on the base-10 logarithm of size. Exponent: alpha of "
    "1 - AUC = c x^-alpha, which has no floor. Both by least squares over all seeds' runs, seed by seed.",
    "Intervals: 95%, Student's t over the slopes of single seeds or, where there are several worlds, over "
    "the worlds' means; users are not drawn anew.",
    "Off the line: the largest distance of a size's mean from the line over FLOPs, in points x 100.",
]
PAPER_NOTE = (
    "Paper: the same fit to the digitised points of its Figure 2, one run a point and so without an "
    "interval; its FLOPs are its own count of training, its data and sizes its own."
)


def runs_by_size(section: Section) -> pd.DataFrame:
    """:func:`sized_runs` of a section; empty where its suite wants no analysis of scaling."""
    wanted = section.suite.wants("scaling")
    return sized_runs(section.contestants if wanted else [], section.records)


def scaling_tables(section: Section) -> list[Table]:
    """Slopes by task and metric, the steepest over FLOPs first; none without three sizes of a model."""
    fits = scaling_fits(runs_by_size(section))
    return [
        _table(section, str(task), str(metric), rows)
        for (task, metric), rows in fits.groupby(["task", "metric"], sort=False)
    ]


def _table(section: Section, task: str, metric: str, fits: pd.DataFrame) -> Table:
    numbers = _with_paper(section, task, metric, fits)
    fit_by_name = {(row["axis"], row["law"], model_name(row)): row for row in numbers.to_dict("records")}
    ranked = _ranked(numbers, "flops_per_sample")
    others = (("flops_per_sample", "exponent"), ("dense_params", "points"), ("dense_params", "exponent"))
    exponents, params, params_exponents = (
        [fit_by_name[axis, law, model_name(row)] for row in ranked] for axis, law in others
    )
    columns: dict[str, list[str]] = {
        "model": list(map(model_name, ranked)),
        "sizes": [grouped(row["sizes"]) for row in ranked],
        "seeds": [grouped(row["seeds"]) for row in ranked],
        "points a decade of FLOPs": [_slope(row, 2) for row in ranked],
        "steeper than the next": list(map(_steeper, ranked)),
        "off the line": [fixed(row["off_line"], 2) for row in ranked],
        "exponent of FLOPs": [_slope(row, 4) for row in exponents],
        "points a decade of parameters": [_slope(row, 2) for row in params],
        "exponent of parameters": [_slope(row, 4) for row in params_exponents],
    }
    notes = [NOTES[0], NOTES[1] + STEEPER, NOTES[2]]
    if section.no_verdict:
        del columns["steeper than the next"]
        notes = [*NOTES]
    if numbers["paper_slope"].notna().any():
        for unit, rows in zip(AXES.values(), (ranked, params), strict=True):
            columns[f"paper: points a decade of {unit}"] = [signed(row["paper_slope"], 2) for row in rows]
        notes.append(PAPER_NOTE)
    caption = f"{task}, {metric.upper()}: growth with size on {section.dataset}, the steepest first"
    name = f"scaling-{section.name}-{slug(task)}-{metric}"
    return Table.from_columns(name, caption, numbers, columns, notes)


def _ranked(fits: pd.DataFrame, axis: str) -> list[dict]:
    """The rows of points a decade over ``axis``, the steepest first."""
    return fits[(fits["axis"] == axis) & (fits["law"] == "points")].to_dict("records")


def _slope(row: dict, digits: int) -> str:
    return interval(row["slope"], row["low"], row["high"], digits)


def _steeper(row: dict) -> str:
    if is_missing(row["next_diff"]):
        return MISSING
    if is_missing(row["next_low"]) or row["next_repeats"] < MIN_RUNS:
        return "untested"
    return "yes" if row["next_low"] > 0 else NOT_RESOLVED


def _with_paper(section: Section, task: str, metric: str, fits: pd.DataFrame) -> pd.DataFrame:
    """The fits with the paper's slope of the same line, NaN where its Figure 2 has none."""
    printed = paper_table(section)
    if not section.suite.wants("scaling") or printed is None or not printed.column(task, metric):
        return fits.assign(paper_slope=math.nan)
    slopes = paper_slopes(load_paper()).drop(columns="intercept").rename(columns={"slope": "paper_slope"})
    slopes = slopes.assign(law="points", variant="")
    return fits.merge(slopes, how="left", on=["axis", "law", "architecture", "variant"])


# --- In words -------------------------------------------------------------------------------------------


def scaling_words(section: Section) -> list[str]:
    """The ranked slopes, which neighbours are resolved, the paper's slopes, and what this cannot show."""
    runs = runs_by_size(section)
    fits = scaling_fits(runs)
    if fits.empty:
        return []
    sentences = []
    for (task, metric), rows in fits.groupby(["task", "metric"], sort=False):
        where = f"{task}, {str(metric).upper()}"
        sentences += [f"{where}, {_ranking(_ranked(rows, axis), unit)}" for axis, unit in AXES.items()]
        numbers = _with_paper(section, str(task), str(metric), rows)
        sentences += _beside_the_paper(_ranked(numbers, "dense_params"))
    sizes = [short(runs["flops_per_sample"].agg(end)) for end in ("min", "max")]
    return [
        *sentences,
        f"This shows how fast quality grew from {sizes[0]} to {sizes[1]} FLOPs a sample with these data and "
        "this recipe. It cannot show where growth ends, nor that the order holds at the paper's sizes, which "
        "are hundreds of times larger; a recipe that suits some sizes better bends the lines.",
    ]


def _ranking(rows: list[dict], unit: str) -> str:
    order = ", ".join(f"{model_name(row)} {signed(row['slope'], 2)}" for row in rows)
    ranking = f"points a decade of {unit}, steepest first: {order}"
    if len(rows) < 2:
        return f"{ranking}."
    steeper = [pair for pair in pairwise(rows) if _steeper(pair[0]) == "yes"]
    steps = [f"{model_name(row)} over {model_name(after)}" for row, after in steeper]
    return f"{ranking}. Resolved between neighbours: {', '.join(steps) or 'none'}."


def _beside_the_paper(rows: list[dict]) -> list[str]:
    both = [row for row in rows if not is_missing(row["paper_slope"])]
    if not both:
        return []
    pairs = ", ".join(
        f"{model_name(row)} {_slope(row, 2)} here, {signed(row['paper_slope'], 2)} there" for row in both
    )
    return [f"The same line through the paper's digitised Figure 2, points a decade of parameters: {pairs}."]
