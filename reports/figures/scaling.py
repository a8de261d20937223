"""Quality against size, as the paper's Figure 2, and that figure's own points."""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from numpy.polynomial import Polynomial

from reports.cells import POINTS, short
from reports.figures.cost import front_line, pareto_front
from reports.figures.drawing.line_names import End, line_ends, name_lines
from reports.figures.drawing.models import Look, Looks, Model, contestants, seaborn_looks, select_model
from reports.figures.drawing.panels import Options, Panels, Plot, log_axis, marker_size
from reports.figures.drawing.saving import hover_point
from reports.figures.drawing.style import FAINT, styled

HEIGHT = 3.4
MOST_COLUMNS, NARROWEST = 5, 1.05  # inches
BEYOND_MEANS = 0.75  # of the span of all means that a panel shows on either side of them
AXIS = "flops_per_sample"  # of the panels with intervals; over parameters there is the front
PANELS = {"dense_params": "dense parameters", "flops_per_sample": "forward FLOPs per sample"}
PAPER_PANELS = PANELS | {"flops_per_sample": "FLOPs per batch of 512, the paper's own count"}


@styled
def quality_against_size(means: pd.DataFrame, fits: pd.DataFrame, **options: Unpack[Options]) -> Panels:
    """AUC and UAUC of one task against FLOPs, a panel for each model, with its means, intervals and line.

    Each panel repeats the other models' lines in grey, so that intervals do not cover each other. The axis
    is that of the means; an interval that goes on beyond it ends in an arrow.

    Args:
        means: rows of one task of :func:`harness.evaluation.scaling.size_means`.
        fits: rows of the same task of :func:`harness.evaluation.scaling.scaling_fits`.
    """
    plot = Plot(means, options)
    columns = plot.columns(min(MOST_COLUMNS, len(plot.models)), NARROWEST)
    spare = [None] * (-len(plot.models) % columns if plot.is_new else 0)  # each metric begins a row
    places = [(metric, model) for metric in plot.metrics for model in [*plot.models, *spare]]
    panels = plot.grid(len(places), columns, 2.6, 2.2, narrowest=NARROWEST)
    for axes, (metric, model) in zip(panels, places, strict=True):
        if model is None:
            axes.set_visible(False)
            continue
        rows = plot.rows[plot.rows["metric"] == metric]
        lines = fits[(fits["metric"] == metric) & (fits["axis"] == AXIS) & (fits["law"] == "points")]
        low, high = rows["mean"].min(), rows["mean"].max()
        room = BEYOND_MEANS * max(high - low, 1e-6)
        axes.set_ylim(low - room, high + room)
        _one_models_panel(axes, model, rows, lines, plot.looks)
        name = plot.looks[model].shown
        plot.title(axes, f"{name}: {metric.upper()}", color=plot.looks[model].color)
        axes.tick_params(labelleft=plot.is_first_of_row(axes) or not plot.is_new)
    plot.xlabel(
        f"{PANELS[AXIS]} (bars: 95% intervals, arrows: they go on; grey: the lines of the other models)"
    )
    plot.ylabel(str(means["task"].iloc[0]))
    plot.panels = [axes for axes in panels if axes.get_visible()]
    return plot.result


def _one_models_panel(
    axes: Axes, model: Model, rows: pd.DataFrame, lines: pd.DataFrame, looks: Looks
) -> None:
    for other in contestants(rows):
        if other != model:
            sizes = select_model(rows, other)[AXIS]
            _line(axes, select_model(lines, other), sizes, 1 / POINTS, FAINT, linewidth=0.8, alpha=0.45)
    points = select_model(rows, model)
    _interval_points(axes, points, looks[model])
    _line(axes, select_model(lines, model), points[AXIS], 1 / POINTS, looks[model].color)
    _size_axis(axes, rows[AXIS], "")


@styled
def size_front(means: pd.DataFrame, **options: Unpack[Options]) -> Panels:
    """AUC and UAUC of one task against parameters and FLOPs, with the front that no model beats at its size.

    The front joins the sizes whose mean no row of lower or equal cost reaches, resolved or not.

    Args:
        means: rows of one task of :func:`harness.evaluation.scaling.size_means`.
    """
    plot = Plot(means, options)
    places = [(metric, axis) for metric in plot.metrics for axis in PANELS]
    panels = plot.grid(len(places), len(PANELS), 4.6, HEIGHT, sharex="col")
    styles, labelled = seaborn_looks(plot.models, plot.looks), plot.labelled()
    ends: dict[Axes, dict[Model, End]] = {}
    for axes, (metric, axis) in zip(panels, places, strict=True):
        rows = labelled[labelled["metric"] == metric]
        axes.set_title(f"{means['task'].iloc[0]}: {metric.upper()}")
        sns.lineplot(rows, x=axis, y="mean", **styles, dashes=False, lw=0.8, errorbar=None, ax=axes)
        _size_axis(axes, rows[axis], PANELS[axis] if metric == plot.metrics[-1] else "")
        axes.set_ylabel("")
        for row in rows.to_dict("records"):
            text = f"{row['model']} at {row['size']}: {row['mean']:.4f}, {short(row[axis])}"
            hover_point(axes, row[axis], row["mean"], text)
        every_size = rows.assign(variant=rows["variant"] + "-" + rows["size"])
        front_line(axes, pareto_front(every_size, "mean", axis))
        if axis == list(PANELS)[-1]:
            ends[axes] = line_ends(rows, axis, "mean")
    if plot.is_new:
        plot.xlabel("steps: Pareto front of the means, resolved or not")
    name_lines(plot, ends, plot.looks, HEIGHT)
    return plot.result


@styled
def paper_scaling(points: pd.DataFrame, slopes: pd.DataFrame, **options: Unpack[Options]) -> Panels:
    """The paper's digitised Figure 2, with the same lines: gains over its DLRM-MLP, on its own data.

    Args:
        points: :func:`reports.paper.scaling.paper_points`.
        slopes: :func:`reports.paper.scaling.paper_slopes`.
    """
    plot = Plot(points.assign(variant=""), options)
    slopes = slopes.assign(variant="")
    panels = plot.grid(len(PAPER_PANELS), len(PAPER_PANELS), 4.6, HEIGHT, sharey="row", narrowest=2.5)
    ends: dict[Axes, dict[Model, End]] = {}
    for (axis, words), axes in zip(PAPER_PANELS.items(), panels, strict=True):
        styles = seaborn_looks(plot.models, plot.looks)
        sns.scatterplot(plot.labelled(), x=axis, y="gain", **styles, s=marker_size(1.2) ** 2, ax=axes)
        for model in plot.models:
            rows, look = select_model(plot.rows, model), plot.looks[model]
            for row in rows.to_dict("records"):
                text = f"{look.name}: {row['gain']:+.2f} at {short(row[axis])}"
                hover_point(axes, row[axis], row["gain"], text)
            lines = select_model(slopes[slopes["axis"] == axis], model)
            _line(axes, lines, rows[axis], 1.0, look.color, linestyle=look.line)
        plot.title(axes, "the paper's Figure 2: its own data")
        _size_axis(axes, plot.rows[axis], words)
        axes.set_ylabel("")
        ends[axes] = line_ends(plot.rows, axis, "gain")
    plot.ylabel("Finish AUC gain, points x 100")
    name_lines(plot, dict(list(ends.items())[-1:]), plot.looks, HEIGHT)
    return plot.result


# --- What they share --------------------------------------------------------------------------------------


def _size_axis(axes: Axes, sizes: pd.Series, words: str) -> None:
    log_axis(axes.xaxis)
    axes.set_xlim(sizes.min() / 1.3, sizes.max() * 1.3)
    axes.set_xlabel(words)


def _interval_points(axes: Axes, rows: pd.DataFrame, look: Look) -> None:
    """Means with their intervals, cut at the edges of the panel, where an arrow says that they go on."""
    axes.plot(rows[AXIS], rows["mean"], look.marker, color=look.color, ms=marker_size(0.8), label=look.name)
    bottom, top = axes.get_ylim()
    axes.vlines(rows[AXIS], rows["low"].clip(lower=bottom), rows["high"].clip(upper=top), look.color, lw=1.2)
    for edge, arrow, is_beyond in ((top, 6, rows["high"] > top), (bottom, 7, rows["low"] < bottom)):
        there = rows.loc[is_beyond, AXIS]
        axes.plot(there, [edge] * len(there), ls="", marker=arrow, color=look.color, ms=marker_size(0.7))
    for row in rows.to_dict("records"):
        hover_point(axes, row[AXIS], row["mean"], f"{look.name}: {row['mean']:.4f} at {short(row[AXIS])}")


def _line(axes: Axes, fit: pd.DataFrame, sizes: pd.Series, scale: float, color: Any, **style: Any) -> None:
    """The fitted line between the smallest and the largest size; none where there is no fit."""
    if fit.empty:
        return
    points_a_decade = Polynomial(fit.iloc[0][["intercept", "slope"]].to_numpy(float))
    ends = np.array([sizes.min(), sizes.max()], dtype=float)
    axes.plot(ends, scale * points_a_decade(np.log10(ends)), color=color, **({"linewidth": 1.3} | style))
