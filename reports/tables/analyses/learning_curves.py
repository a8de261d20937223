"""Learning curves as tables: the test split on the way, and the log scored before it was trained on."""

from __future__ import annotations

import pandas as pd

from harness.evaluation.learning_curves import Kind, curve_means, curve_points, over_windows
from reports.cells import METRICS, MISSING, POINTS, fixed, grouped, is_missing, model_name, signed, spread
from reports.sections import Section, slug
from reports.tables.markup import Table
from reports.tables.quality import select_metric

METRIC = "auc"  # in the words; the CSV has the others, too


def learning_curve_tables(section: Section) -> list[Table]:
    """A table for each task of each kind of points; none where no run was scored on the way."""
    curves = curve_means(curve_points(section.records, "tested"), section.base)
    ahead = curve_means(over_windows(curve_points(section.records, "ahead")), section.base)
    return [
        make(section, task, rows[rows["task"] == task])
        for make, rows in ((_on_the_way, curves), (_ahead, ahead))
        for task in dict.fromkeys(rows["task"])
    ]


def learning_curve_frame(section: Section, kind: Kind) -> pd.DataFrame:
    """The differences to the base over training samples, without the base's own rows."""
    curves = curve_means(curve_points(section.records, kind), section.base)
    return curves[~curves["is_base"] & curves["diff"].notna() & curves["metric"].isin(METRICS)]


def _on_the_way(section: Section, task: str, curves: pd.DataFrame) -> Table:
    by_model: dict[str, dict[int, str]] = {}
    for point in select_metric(curves, METRIC):
        cell = f"{fixed(point['mean'], 4)} ({_difference(point)})"
        by_model.setdefault(model_name(point), {})[point["samples"]] = cell
    samples = sorted({at for cells in by_model.values() for at in cells})
    return Table(
        name=f"learning-curve-{section.name}-{slug(task)}",
        caption=f"AUC of {task} on {section.dataset} after so many training samples",
        numbers=curves,
        header=["model", *map(grouped, samples)],
        rows=[[name, *(cells.get(at, MISSING) for at in samples)] for name, cells in by_model.items()],
        notes=[
            f"The AUC and its difference to {section.base_name} x {POINTS}, with half of the 95% interval "
            f"over {section.repeats}, not corrected for how many there are. Users are not drawn anew here.",
            "The test rows are the same at every point, and later than all training rows; the last point is "
            "the run's result. Nothing was chosen by these points.",
        ],
    )


def _difference(point: dict) -> str:
    if is_missing(point["diff"]):
        return MISSING
    if point["is_base"]:
        return "base"
    half = point["diff_high"] - point["diff"]
    words = signed(POINTS * point["diff"], 2)
    return words if is_missing(half) else f"{words} ± {fixed(POINTS * half, 2)}"


def _ahead(section: Section, task: str, curves: pd.DataFrame) -> Table:
    return Table(
        name=f"ahead-{section.name}-{slug(task)}",
        caption=f"AUC of {task} on {section.dataset}, each window scored before it was trained on",
        numbers=curves,
        header=["model", "AUC", f"vs base x {POINTS}"],
        rows=[
            [model_name(row), spread(row["mean"], row["mean_low"], row["mean_high"], 4), _difference(row)]
            for row in select_metric(curves, METRIC)
        ],
        notes=[
            "The mean over the equal windows of the first epoch, without the first one, before which nothing "
            f"was learned. Intervals are of 95% over {section.repeats}, not corrected for how many there are."
        ],
    )
