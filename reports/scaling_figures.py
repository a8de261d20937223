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

from reports.cells import short, short_tick
from reports.figures import contestants, drawn_name, rows_of
from reports.records import label
from reports.style import canvas, hover, look, styled
from reports.tables import POINTS

PANELS = {"dense_params": "dense parameters", "flops_per_sample": "forward FLOPs per sample"}
PAPER_PANELS = {
    "dense_params": "dense parameters",
    "flops_per_sample": "FLOPs per batch of 512, the paper's own count",
}


@styled
def quality_against_size(means: pd.DataFrame, fits: pd.DataFrame) -> Figure:
    """AUC and UAUC of one task against parameters and FLOPs: means, intervals, lines of points a decade.

    Args:
        means: rows of one task of :func:`reports.scaling.size_means`.
        fits: rows of the same task of :func:`reports.scaling.scaling_fits`.
    """
    metrics = list(dict.fromkeys(means["metric"]))
    models = contestants(means)
    figure, panels = canvas(len(metrics), len(PANELS), 4.6, 3.4, sharex="col")
    for metric, row in zip(metrics, panels, strict=True):
        for (axis, words), axes in zip(PANELS.items(), row, strict=True):
            mine = means[means["metric"] == metric]
            lines = fits[(fits["metric"] == metric) & (fits["axis"] == axis) & (fits["law"] == "points")]
            for model in models:
                _points(axes, rows_of(mine, model), axis, model)
                _line(axes, rows_of(lines, model), rows_of(mine, model)[axis], 1 / POINTS, model, models)
            axes.set_title(f"{means['task'].iloc[0]}: {metric.upper()}", loc="left")
            _size_axis(axes, mine[axis], words if metric == metrics[-1] else "")
    figure.legend(handles=_legend(models), loc="outside right upper")
    return figure


@styled
def paper_scaling(points: pd.DataFrame, slopes: pd.DataFrame) -> Figure:
    """The paper's digitised Figure 2, with the same lines: gains over its DLRM-MLP, on its own data.

    Args:
        points: :func:`reports.scaling.paper_points`.
        slopes: :func:`reports.scaling.paper_slopes`.
    """
    points, slopes = points.assign(variant=""), slopes.assign(variant="")
    models = contestants(points)
    figure, [panels] = canvas(1, len(PAPER_PANELS), 4.6, 3.4, sharey=True)
    for (axis, words), axes in zip(PAPER_PANELS.items(), panels, strict=True):
        for model in models:
            mine, style = rows_of(points, model), look(*model)
            axes.plot(mine[axis], mine["gain"], style.marker, color=style.color, label=label(*model))
            _hovers(axes, mine[axis], mine["gain"], model, "{:+.2f}")
            _line(axes, rows_of(slopes[slopes["axis"] == axis], model), mine[axis], 1.0, model, models)
        axes.set_facecolor("#F6F6F6")
        axes.set_title("the paper's Figure 2: its own data", loc="left")
        _size_axis(axes, points[axis], words)
    panels[0].set_ylabel("Finish AUC gain over its DLRM-MLP, points x 100")
    figure.legend(handles=_legend(models), loc="outside right upper")
    return figure


def _points(axes: Axes, rows: pd.DataFrame, axis: str, model: tuple[str, str]) -> None:
    style = look(*model)
    axes.plot(rows[axis], rows["mean"], style.marker, color=style.color, markersize=6, label=label(*model))
    _hovers(axes, rows[axis], rows["mean"], model, "{:.4f}")
    axes.vlines(rows[axis], rows["low"], rows["high"], color=style.color, linewidth=1.0, alpha=0.6)


def _hovers(axes: Axes, sizes: pd.Series, values: pd.Series, model: tuple[str, str], how: str) -> None:
    """Each point's value and size where it is pointed at."""
    for size, value in zip(sizes, values, strict=True):
        (point,) = axes.plot([size], [value], "o", alpha=0, markersize=9, label="_hover")
        hover(point, f"{label(*model)}: {how.format(value)} at {short(size)}")


def _line(
    axes: Axes,
    fit: pd.DataFrame,
    sizes: pd.Series,
    scale: float,
    model: tuple[str, str],
    models: list[tuple[str, str]],
) -> None:
    for row in fit.to_dict("records"):
        ends = np.array([sizes.min(), sizes.max()], dtype=float)
        heights = scale * (row["intercept"] + row["slope"] * np.log10(ends))
        axes.plot(ends, heights, _dashes(model, models), color=look(*model).color, linewidth=1.3)


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
