"""Quality against size, as the paper's Figure 2, and that figure's own points."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.polynomial import Polynomial

from harness.records.listed import display_name
from reports.cells import POINTS, short
from reports.figures.cost import front_line, pareto_front
from reports.figures.line_names import End, line_ends, name_ends, name_lines
from reports.figures.models import (
    Look,
    Looks,
    Model,
    contestants,
    drawn_name,
    looks_in,
    seaborn_looks,
    select_model,
    with_labels,
)
from reports.figures.panels import canvas, log_axis
from reports.figures.saving import hover_point
from reports.figures.style import PAPER_GROUND, styled

HEIGHT = 3.4
MOST_COLUMNS = 5
OTHERS = "#D5D5D5"  # lines that are drawn for comparison alone
AXIS = "flops_per_sample"  # of the panels with intervals; over parameters there is the front
PANELS = {"dense_params": "dense parameters", "flops_per_sample": "forward FLOPs per sample"}
PAPER_PANELS = PANELS | {"flops_per_sample": "FLOPs per batch of 512, the paper's own count"}


@styled
def quality_against_size(means: pd.DataFrame, fits: pd.DataFrame, looks: Looks | None = None) -> Figure:
    """AUC and UAUC of one task against FLOPs, a panel for each model, with its means, intervals and line.

    Each panel repeats the other models' lines in grey, so that intervals do not cover each other.

    Args:
        means: rows of one task of :func:`harness.evaluation.scaling.size_means`.
        fits: rows of the same task of :func:`harness.evaluation.scaling.scaling_fits`.
    """
    models, looks = looks_in(means, looks)
    metrics, columns = list(dict.fromkeys(means["metric"])), min(MOST_COLUMNS, len(models))
    rows_a_metric = math.ceil(len(models) / columns)
    figure, panels = canvas(len(metrics) * rows_a_metric, columns, 2.6, 2.2, sharex=True)
    for number, metric in enumerate(metrics):
        rows = means[means["metric"] == metric]
        lines = fits[(fits["metric"] == metric) & (fits["axis"] == AXIS) & (fits["law"] == "points")]
        low, high = rows["low"].fillna(rows["mean"]).min(), rows["high"].fillna(rows["mean"]).max()
        cells = panels[number * rows_a_metric : (number + 1) * rows_a_metric]
        places = [axes for row in cells for axes in row]
        for axes, model in zip(places, models, strict=False):
            _one_models_panel(axes, model, rows, lines, looks)
            axes.set_title(f"{drawn_name(model)}: {metric.upper()}", color=looks[model].color)
            axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
            axes.tick_params(labelleft=axes in [row[0] for row in cells])
        for axes in places[len(models) :]:
            axes.set_visible(False)
        for axes in places[len(models) - columns : len(models)]:  # the lowest of each column
            axes.tick_params(labelbottom=number == len(metrics) - 1)
    figure.supxlabel(f"{PANELS[AXIS]} (grey: the lines of the other models)")
    figure.supylabel(str(means["task"].iloc[0]), fontsize="medium")
    return figure


def _one_models_panel(
    axes: Axes, model: Model, rows: pd.DataFrame, lines: pd.DataFrame, looks: Looks
) -> None:
    grey = dict.fromkeys(looks, Look(OTHERS, ""))
    for other in contestants(rows):
        if other != model:
            _line(axes, select_model(lines, other), select_model(rows, other)[AXIS], 1 / POINTS, other, grey)
    points = select_model(rows, model)
    _interval_points(axes, points, model, looks)
    _line(axes, select_model(lines, model), points[AXIS], 1 / POINTS, model, looks)
    _size_axis(axes, rows[AXIS], "")


@styled
def size_front(means: pd.DataFrame, looks: Looks | None = None) -> Figure:
    """AUC and UAUC of one task against parameters and FLOPs, with the front that no model beats at its size.

    The front joins the sizes whose mean no row of lower or equal cost reaches, resolved or not.

    Args:
        means: rows of one task of :func:`harness.evaluation.scaling.size_means`.
    """
    models, looks = looks_in(means, looks)
    figure, panels = _size_panels(with_labels(means))
    ends: dict[Axes, dict[Model, End]] = {}
    for axes, rows, axis in panels:
        styles = seaborn_looks(models, looks)
        sns.lineplot(rows, x=axis, y="mean", **styles, dashes=False, lw=0.8, errorbar=None, ax=axes)
        axes.set(xlabel=axes.get_xlabel() and PANELS[axis], ylabel="")
        for row in rows.to_dict("records"):
            text = f"{row['model']} at {row['size']}: {row['mean']:.4f}, {short(row[axis])}"
            hover_point(axes, row[axis], row["mean"], text)
        every_size = rows.assign(variant=rows["variant"] + "-" + rows["size"])
        front_line(axes, pareto_front(every_size, "mean", axis))
        if axis == list(PANELS)[-1]:
            ends[axes] = line_ends(rows, axis, "mean")
    figure.supxlabel("steps: Pareto front of the means, resolved or not")
    name_lines(figure, ends, models, looks, HEIGHT)
    return figure


@styled
def paper_scaling(points: pd.DataFrame, slopes: pd.DataFrame, looks: Looks | None = None) -> Figure:
    """The paper's digitised Figure 2, with the same lines: gains over its DLRM-MLP, on its own data.

    Args:
        points: :func:`reports.paper.scaling.paper_points`.
        slopes: :func:`reports.paper.scaling.paper_slopes`.
    """
    points, slopes = with_labels(points.assign(variant="")), slopes.assign(variant="")
    models, looks = looks_in(points, looks)
    figure, [panels] = canvas(1, len(PAPER_PANELS), 4.6, HEIGHT, sharey=True)
    for (axis, words), axes in zip(PAPER_PANELS.items(), panels, strict=True):
        styles = seaborn_looks(models, looks)
        sns.scatterplot(points, x=axis, y="gain", **styles, s=60, ax=axes)
        for row in points.to_dict("records"):
            text = f"{row['model']}: {row['gain']:+.2f} at {short(row[axis])}"
            hover_point(axes, row[axis], row["gain"], text)
        for model in models:
            lines = select_model(slopes[slopes["axis"] == axis], model)
            _line(axes, lines, select_model(points, model)[axis], 1.0, model, looks)
        axes.set_facecolor(PAPER_GROUND)
        axes.set_title("the paper's Figure 2: its own data")
        _size_axis(axes, points[axis], words)
    panels[0].set_ylabel("Finish AUC gain, points x 100")
    name_ends(panels[-1], line_ends(points, axis, "gain"), looks)
    return figure


# --- What they share --------------------------------------------------------------------------------------


def _size_panels(means: pd.DataFrame) -> tuple[Figure, Iterator[tuple[Axes, pd.DataFrame, str]]]:
    """A figure with a row of panels for each metric and a column for each axis; what each is about."""
    metrics = list(dict.fromkeys(means["metric"]))
    figure, panels = canvas(len(metrics), len(PANELS), 4.6, HEIGHT, sharex="col")

    def each() -> Iterator[tuple[Axes, pd.DataFrame, str]]:
        for metric, row in zip(metrics, panels, strict=True):
            rows = means[means["metric"] == metric]
            for (axis, words), axes in zip(PANELS.items(), row, strict=True):
                axes.set_title(f"{means['task'].iloc[0]}: {metric.upper()}")
                _size_axis(axes, rows[axis], words if metric == metrics[-1] else "")
                yield axes, rows, axis

    return figure, each()


def _size_axis(axes: Axes, sizes: pd.Series, words: str) -> None:
    log_axis(axes.xaxis)
    axes.set_xlim(sizes.min() / 1.3, sizes.max() * 1.3)
    axes.set_xlabel(words)


def _interval_points(axes: Axes, rows: pd.DataFrame, model: Model, looks: Looks) -> None:
    look = looks[model]
    axes.plot(
        rows[AXIS], rows["mean"], look.marker, color=look.color, markersize=5, label=display_name(*model)
    )
    axes.vlines(rows[AXIS], rows["low"], rows["high"], color=look.color, linewidth=1.2)
    for row in rows.to_dict("records"):
        text = f"{display_name(*model)}: {row['mean']:.4f} at {short(row[AXIS])}"
        hover_point(axes, row[AXIS], row["mean"], text)


def _line(
    axes: Axes, fit: pd.DataFrame, sizes: pd.Series, scale: float, model: Model, looks: Looks
) -> End | None:
    """The fitted line between the smallest and the largest size; its end, None where there is no fit."""
    if fit.empty:
        return None
    points_a_decade = Polynomial(fit.iloc[0][["intercept", "slope"]].to_numpy(float))
    ends = np.array([sizes.min(), sizes.max()], dtype=float)
    heights = scale * points_a_decade(np.log10(ends))
    axes.plot(ends, heights, color=looks[model].color, linewidth=1.3)
    return float(ends[-1]), float(heights[-1])
