"""The loss above the oracle's against the FLOPs of training, and the least that each model's law allows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from harness.evaluation.oracle.loss_fits import PARAMETERS
from harness.evaluation.statistics.power_law import PASSES, PowerLaw
from reports.cells import short
from reports.figures.drawing.line_names import End, name_lines
from reports.figures.drawing.models import Looks, Model, select_model
from reports.figures.drawing.panels import Options, Panels, Plot, log_axis, marker_size
from reports.figures.drawing.saving import hover_point
from reports.figures.drawing.style import styled

HEIGHT = 3.6
POINTS = 200  # of a front


@styled
def loss_against_compute(points: pd.DataFrame, fits: pd.DataFrame, **options: Unpack[Options]) -> Panels:
    """Log loss above the oracle's against 3 x FLOPs a sample x rows, a panel for each task.

    Every size and point of the curves is a mark; a line is the model's compute-optimal front: the least loss
    that its fitted law allows at so many FLOPs, where its size and rows lie between those measured.

    Args:
        points: of :func:`harness.evaluation.oracle.loss_fits.loss_points`.
        fits: rows of ``loss_fits.csv``; models without a fit have marks alone.
    """
    plot = Plot(points.assign(compute=PASSES * points["flops"] * points["samples"]), options)
    tasks = list(dict.fromkeys(plot.rows["task"]))
    ends: dict[Axes, dict[Model, End]] = {}
    for axes, task in zip(plot.grid(len(tasks), len(tasks), 4.6, HEIGHT), tasks, strict=True):
        rows = plot.rows[plot.rows["task"] == task]
        ends[axes] = {}
        for model in plot.models:
            model_rows = select_model(rows, model)
            _marks(axes, model_rows, plot.looks, model)
            fit = select_model(fits[fits["task"] == task], model).dropna(subset="E")
            if not fit.empty and not model_rows.empty:
                ends[axes] |= _front(axes, fit.iloc[0], model_rows["compute"], plot.looks, model)
        log_axis(axes.xaxis)
        axes.xaxis.set_major_locator(LogLocator())  # sizes times rows: several decades
        log_axis(axes.yaxis)
        plot.title(axes, task)
    plot.xlabel("FLOPs of training (lines: the compute-optimal fronts of the fits)")
    plot.ylabel("log loss above the oracle's")
    name_lines(plot, ends, plot.looks, HEIGHT)
    return plot.result


def _marks(axes: Axes, rows: pd.DataFrame, looks: Looks, model: Model) -> None:
    look = looks[model]
    means = rows.groupby(["flops", "samples"], as_index=False)[["compute", "value"]].mean()
    axes.plot(means["compute"], means["value"], look.marker, color=look.color, ms=marker_size(0.5), alpha=0.6)
    for row in means.to_dict("records"):
        at = f"{short(row['flops'])} FLOPs a sample, {short(row['samples'])} rows"
        hover_point(axes, row["compute"], row["value"], f"{look.name}: {row['value']:.4f} at {at}")


def _front(axes: Axes, fit: pd.Series, computes: pd.Series, looks: Looks, model: Model) -> dict[Model, End]:
    """Draw the front and return where it ends; nothing where none of it is measured."""
    law = PowerLaw(**{name: float(fit[name]) for name in PARAMETERS})
    whole = np.geomspace(computes.min(), computes.max(), POINTS)
    places = [
        (at, size) for at in whole if front_is_measured(fit, size := law.best_size(at), at / PASSES / size)
    ]
    if not places:
        return {}
    at, sizes = np.array(places).T
    least = law.loss(sizes, at / PASSES / sizes)
    axes.plot(at, least, color=looks[model].color, linestyle=looks[model].line, zorder=3)
    return {model: (float(at[-1]), float(least[-1]))}


def front_is_measured(fit: Mapping | pd.Series, size: float, rows: float) -> bool:
    """Whether a place on a model's front lies among the sizes and rows that its law was fitted to."""
    nearly = 1 + 1e-9
    return bool(
        fit["least_flops"] <= size * nearly
        and size <= fit["most_flops"] * nearly
        and fit["least_rows"] <= rows * nearly
        and rows <= fit["most_rows"] * nearly
    )
