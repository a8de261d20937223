"""Quality against size, as the paper's Figure 2, and that figure's own points.

As in :mod:`reports.figures`, a figure's function takes DataFrames and returns a matplotlib figure.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from harness.records.contestant import label
from reports.cells import short, short_tick
from reports.cost_figures import front_line, pareto_front
from reports.direct_labels import name_ends, names_fit
from reports.figures import contestants, drawn_name, rows_of
from reports.style import canvas, hover_point, look, styled
from reports.tables import POINTS

HEIGHT = 3.4
ALIKE = 1.05  # sizes within this factor are the same size
STEP_ASIDE = 1.02
PANELS = {"dense_params": "dense parameters", "flops_per_sample": "forward FLOPs per sample"}
PAPER_PANELS = {
    "dense_params": "dense parameters",
    "flops_per_sample": "FLOPs per batch of 512, the paper's own count",
}


@styled
def quality_against_size(means: pd.DataFrame, fits: pd.DataFrame) -> Figure:
    """AUC and UAUC of one task against parameters and FLOPs: means, intervals, lines of points a decade.

    Args:
        means: rows of one task of :func:`harness.evaluation.scaling.size_means`.
        fits: rows of the same task of :func:`harness.evaluation.scaling.scaling_fits`.
    """
    metrics = list(dict.fromkeys(means["metric"]))
    models = contestants(means)
    figure, panels = canvas(len(metrics), len(PANELS), 4.6, HEIGHT, sharex="col")
    for metric, row in zip(metrics, panels, strict=True):
        mine, ends = means[means["metric"] == metric], {}
        for (axis, words), axes in zip(PANELS.items(), row, strict=True):
            lines = fits[(fits["metric"] == metric) & (fits["axis"] == axis) & (fits["law"] == "points")]
            for model, shift in zip(models, _shifts(mine, axis, models), strict=True):
                of_model = rows_of(mine, model)
                _points(axes, of_model.assign(x=of_model[axis] * shift), axis, model)
                ends[model] = _line(axes, rows_of(lines, model), of_model[axis], 1 / POINTS, model, models)
            axes.set_title(f"{means['task'].iloc[0]}: {metric.upper()}", loc="left")
            _size_axis(axes, mine[axis], words if metric == metrics[-1] else "")
        if names_fit(HEIGHT, len(models)):
            name_ends(row[-1], {model: end for model, end in ends.items() if end})
    if not names_fit(HEIGHT, len(models)):
        figure.legend(handles=_legend(models), loc="outside right upper")
    return figure


def _shifts(rows: pd.DataFrame, axis: str, models: list[tuple[str, str]]) -> list[float]:
    """What to multiply each model's sizes by, so that models of the same sizes stand side by side."""
    sizes = rows.groupby("size")[axis]
    are_alike = bool((sizes.max() < ALIKE * sizes.min()).all())
    middle = (len(models) - 1) / 2
    return [STEP_ASIDE ** (number - middle) if are_alike else 1.0 for number in range(len(models))]


@styled
def size_front(means: pd.DataFrame) -> Figure:
    """AUC and UAUC of one task against parameters and FLOPs, with the front that no model beats at its size.

    The front joins the sizes whose mean no row of lower or equal cost reaches, resolved or not.

    Args:
        means: rows of one task of :func:`harness.evaluation.scaling.size_means`.
    """
    metrics, models = list(dict.fromkeys(means["metric"])), contestants(means)
    figure, panels = canvas(len(metrics), len(PANELS), 4.6, HEIGHT, sharex="col")
    for metric, row in zip(metrics, panels, strict=True):
        mine = means[means["metric"] == metric]
        for (axis, words), axes in zip(PANELS.items(), row, strict=True):
            for model in models:
                _sizes(axes, rows_of(mine, model).sort_values(axis), axis, model)
            axes.set_title(f"{means['task'].iloc[0]}: {metric.upper()}", loc="left")
            _size_axis(axes, mine[axis], words if metric == metrics[-1] else "")
            every_size = mine.assign(variant=mine["variant"] + "-" + mine["size"])
            front_line(axes, pareto_front(every_size, "mean", axis))
        if names_fit(HEIGHT, len(models)):
            largest = {model: rows_of(mine, model).sort_values(axis).iloc[-1] for model in models}
            name_ends(row[-1], {model: (last[axis], last["mean"]) for model, last in largest.items()})
    if not names_fit(HEIGHT, len(models)):
        figure.legend(handles=_legend(models), loc="outside right upper")
    figure.supxlabel("steps: Pareto front of the means, resolved or not", fontsize="medium")
    return figure


def _sizes(axes: Axes, rows: pd.DataFrame, axis: str, model: tuple[str, str]) -> None:
    style = look(*model)
    axes.plot(rows[axis], rows["mean"], color=style.color, linewidth=0.8, alpha=0.5)
    axes.plot(rows[axis], rows["mean"], style.marker, color=style.color, markersize=6, label=label(*model))
    for size, cost, mean in zip(rows["size"], rows[axis], rows["mean"], strict=True):
        hover_point(axes, cost, mean, f"{label(*model)} at {size}: {mean:.4f}, {short(cost)}")


@styled
def paper_scaling(points: pd.DataFrame, slopes: pd.DataFrame) -> Figure:
    """The paper's digitised Figure 2, with the same lines: gains over its DLRM-MLP, on its own data.

    Args:
        points: :func:`reports.paper_scaling.paper_points`.
        slopes: :func:`reports.paper_scaling.paper_slopes`.
    """
    points, slopes = points.assign(variant=""), slopes.assign(variant="")
    models = contestants(points)
    figure, [panels] = canvas(1, len(PAPER_PANELS), 4.6, HEIGHT, sharey=True)
    for (axis, words), axes in zip(PAPER_PANELS.items(), panels, strict=True):
        for model in models:
            mine, style = rows_of(points, model), look(*model)
            axes.plot(mine[axis], mine["gain"], style.marker, color=style.color, label=label(*model))
            for size, gain in zip(mine[axis], mine["gain"], strict=True):
                hover_point(axes, size, gain, f"{label(*model)}: {gain:+.2f} at {short(size)}")
            _line(axes, rows_of(slopes[slopes["axis"] == axis], model), mine[axis], 1.0, model, models)
        axes.set_facecolor("#F6F6F6")
        axes.set_title("the paper's Figure 2: its own data", loc="left")
        _size_axis(axes, points[axis], words)
    panels[0].set_ylabel("Finish AUC gain, points x 100")
    largest = points.sort_values(axis).groupby("architecture").last()
    name_ends(panels[-1], {model: tuple(largest.loc[model[0], [axis, "gain"]]) for model in models})
    return figure


def _points(axes: Axes, rows: pd.DataFrame, axis: str, model: tuple[str, str]) -> None:
    style = look(*model)
    axes.plot(rows["x"], rows["mean"], style.marker, color=style.color, markersize=6, label=label(*model))
    axes.vlines(rows["x"], rows["low"], rows["high"], color=style.color, linewidth=1.0, alpha=0.6)
    for row in rows.to_dict("records"):
        hover_point(axes, row["x"], row["mean"], f"{label(*model)}: {row['mean']:.4f} at {short(row[axis])}")


def _line(
    axes: Axes,
    fit: pd.DataFrame,
    sizes: pd.Series,
    scale: float,
    model: tuple[str, str],
    models: list[tuple[str, str]],
) -> tuple[float, float] | None:
    """The fitted line between the smallest and the largest size; where it ends, None where there is none."""
    if fit.empty:
        return None
    row, ends = fit.iloc[0], np.array([sizes.min(), sizes.max()], dtype=float)
    heights = scale * (row["intercept"] + row["slope"] * np.log10(ends))
    axes.plot(ends, heights, _dashes(model, models), color=look(*model).color, linewidth=1.3)
    return float(ends[-1]), float(heights[-1])


def _dashes(model: tuple[str, str], models: list[tuple[str, str]]) -> str:
    """Dashed where a model before it has the same colour."""
    before = {look(*other).color for other in models[: models.index(model)]}
    return "--" if look(*model).color in before else "-"


def _size_axis(axes: Axes, sizes: pd.Series, words: str) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(short_tick)
    axes.xaxis.set_minor_formatter(lambda value, _: "")
    axes.set_xlim(sizes.min() / 1.3, sizes.max() * 1.3)
    axes.set_xlabel(words)


def _legend(models: list[tuple[str, str]]) -> list[Line2D]:
    return [
        Line2D(
            [],
            [],
            color=look(*model).color,
            marker=look(*model).marker,
            linestyle=_dashes(model, models),  # type: ignore[arg-type]
            label=drawn_name(model),
        )
        for model in models
    ]
