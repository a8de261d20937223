"""Panels of a figure with their titles, axes and legends."""

from __future__ import annotations

from typing import Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from reports.cells import METRICS, short_tick
from reports.figures.models import Looks, Model, contestants, drawn_name
from reports.figures.style import styled


@styled
def canvas(
    num_rows: int,
    num_columns: int,
    width: float,
    height: float,
    sharex: bool | Literal["col"] = False,
    sharey: bool = False,
) -> tuple[Figure, list[list[Axes]]]:
    """A figure of rows of panels, each ``width`` x ``height`` inches.

    Made without pyplot, which keeps every figure in memory and may change a notebook's backend. seaborn's
    FacetGrid cannot do without it, so its functions draw into these panels.
    """
    figure = Figure(figsize=(width * num_columns, height * num_rows), layout="constrained")
    panels = figure.subplots(num_rows, num_columns, squeeze=False, sharex=sharex, sharey=sharey)
    return figure, panels.tolist()


def facets(
    frame: pd.DataFrame, width: float, height: float, **shared: bool | Literal["col"]
) -> tuple[Figure, list[tuple[Axes, pd.DataFrame]]]:
    """A figure with a row of panels for each task and a column for each metric, and the rows of each panel.

    Args:
        frame: columns task and metric (auc, uauc), and what is drawn.
        shared: ``sharex`` and ``sharey`` as in :func:`canvas`.
    """
    tasks = list(dict.fromkeys(frame["task"].dropna()))
    figure, panels = canvas(len(tasks), len(METRICS), width, height, **shared)  # type: ignore[arg-type]
    found = []
    for task, row in zip(tasks, panels, strict=True):
        for metric, axes in zip(METRICS, row, strict=True):
            axes.set_title(f"{task}: {metric.upper()}")
            found.append((axes, frame[(frame["task"] == task) & (frame["metric"] == metric)]))
    return figure, found


def log_axis(axis: Axis) -> None:
    """Logarithmic ticks at 1, 2 and 5, printed as ``5 k``."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})  # type: ignore[attr-defined]
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(short_tick)
    axis.set_minor_formatter(lambda value, _: "")


def legend_height(rows: pd.DataFrame) -> float:
    """Inches that the names of all models take below each other."""
    return 0.4 + 0.2 * len(contestants(rows))


def legend_handles(models: list[Model], looks: Looks, linestyle: str = "") -> list[Line2D]:
    """A handle for each model: its marker, on a line where ``linestyle`` is given."""
    return [
        Line2D([], [], color=looks[m].color, marker=looks[m].marker, ls=linestyle, label=drawn_name(m))
        for m in models
    ]


def legend_beside(figure: Figure, handles: list[Line2D]) -> None:
    """A legend to the right of all panels."""
    figure.legend(handles=handles, loc="outside right upper")
