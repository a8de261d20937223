"""Names at the ends of lines, in place of a legend, moved apart where they would overlap."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from reports.figures.drawing.models import Looks, Model, contestants, select_model
from reports.figures.drawing.panels import Plot
from reports.figures.drawing.saving import missing_letters_are_boxes
from reports.figures.drawing.style import FAINT, styled

LINE_HEIGHT, MARKER_AT, NAME_AT = 11.5, 14.0, 21.0  # in points; the last two to the right of the panel
End = tuple[float, float]  # in data coordinates


def names_fit(height: float, num_names: int) -> bool:
    """Whether so many names can stand below each other beside a panel ``height`` inches high."""
    return num_names * LINE_HEIGHT <= 0.85 * height * 72


def line_ends(rows: pd.DataFrame, x: str, y: str) -> dict[Model, End]:
    """Where the line of each model ends: at its largest ``x``."""
    last = {model: select_model(rows, model).sort_values(x).iloc[-1] for model in contestants(rows)}
    return {model: (float(row[x]), float(row[y])) for model, row in last.items()}


def name_lines(plot: Plot, ends: dict[Axes, dict[Model, End]], looks: Looks, height: float) -> None:
    """Names at the ends of the lines of each panel, or one legend where a panel has no room for all.

    Args:
        ends: by panel, only those panels whose lines are to be named.
        height: of a panel, in inches.
    """
    if not plot.has_room_around or not names_fit(height, len(plot.models)):
        named = [model for model in plot.models if looks[model].color != FAINT]
        handles = plot.handles(True, named, looks)
        if len(named) < len(plot.models):
            rest = len(plot.models) - len(named)
            handles.append(Line2D([], [], color=FAINT, alpha=0.45, lw=0.8, label=f"the other {rest}"))
        plot.legend(handles, beside=True)
        return
    for axes, panel_ends in ends.items():
        name_ends(axes, panel_ends, looks)


@styled
def name_ends(axes: Axes, ends: dict[Model, End], looks: Looks) -> None:
    """Each model's marker and name to the right of the panel, joined to the end of its line by a thin line.

    To be called last: what moves the panel or its limits afterwards moves the names away from their lines.
    """
    if not ends:
        return
    figure = axes.get_figure(root=True)
    assert figure is not None
    with missing_letters_are_boxes():
        figure.draw_without_rendering()  # only then is it known where the panel stands
    panel = axes.get_window_extent()
    width, height = panel.width * 72 / figure.dpi, panel.height * 72 / figure.dpi
    wanted = axes.transAxes.inverted().transform(axes.transData.transform(list(ends.values())))
    heights = apart(wanted[:, 1], LINE_HEIGHT / height)
    placed: dict[str, Any] = {"textcoords": "axes fraction", "annotation_clip": False, "va": "center"}
    thread = {"arrowstyle": "-", "color": FAINT, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 0}
    for (model, end), at in zip(ends.items(), heights, strict=True):
        axes.annotate("", end, (1 + (MARKER_AT - 5) / width, at), arrowprops=thread, **placed)
        look = looks[model]
        place: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False, "label": "_name"}
        axes.plot([1 + MARKER_AT / width], [at], look.marker, color=look.color, markersize=5, **place)
        name = (1 + NAME_AT / width, at)
        axes.annotate(look.shown, name, name, "axes fraction", fontsize="small", **placed)


def apart(wanted: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """Heights (N,) at least ``step`` apart, in the order of those wanted and as near to them as possible.

    The sum of squared moves is the least possible; where all fit between 0 and 1, none lies outside.

    >>> apart(np.array([0.5, 0.5, 0.9]), 0.2).round(2)
    array([0.4, 0.6, 0.9])
    """
    order = np.argsort(wanted, kind="stable")
    steps = step * np.arange(len(wanted))
    free = isotonic_regression(wanted[order] - steps).x
    highest = max(0.0, 1.0 - (steps[-1] if len(steps) else 0.0))
    heights = np.empty(len(wanted))
    heights[order] = np.clip(free, 0.0, highest) + steps
    return heights
