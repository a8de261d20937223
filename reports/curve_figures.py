"""Training loss and validation metrics over the samples seen.

As in :mod:`reports.figures`, each function takes a DataFrame and returns a matplotlib figure.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.records.contestant import label
from reports.cells import grouped, short_tick
from reports.direct_labels import name_ends, names_fit
from reports.figures import METRICS, contestants, legend_beside, legend_height, rows_of
from reports.style import canvas, hover_line, look, styled


@styled
def loss_curves(losses: pd.DataFrame) -> Figure:
    """Training loss over samples seen, mean over seeds, smoothed by a running mean of a twentieth.

    Args:
        losses: architecture, variant, seed, samples, value (:func:`reports.frames.loss_frame`).
    """
    models, ends = contestants(losses), {}
    height = max(3.4, legend_height(losses))
    figure, [[axes]] = canvas(1, 1, 7.0, height)
    for model in models:
        mean = rows_of(losses, model).groupby("samples")["value"].mean()
        smooth = mean.rolling(max(1, len(mean) // 20), min_periods=1).mean()
        ends[model] = _curve(axes, smooth, model)
    settled = losses.loc[losses["samples"] >= 0.1 * losses["samples"].max(), "value"]
    axes.set_ylim(
        top=axes.get_ylim()[0] + 1.1 * (settled.max() - axes.get_ylim()[0])
    )  # the first fall is out of sight
    axes.set_ylabel("training loss")
    axes.set_xlabel("training samples seen")
    axes.xaxis.set_major_formatter(short_tick)
    if names_fit(height, len(models)):
        name_ends(axes, ends)
    else:
        legend_beside(figure, models, lines=True)
    return figure


@styled
def validation_curves(validation: pd.DataFrame) -> Figure:
    """Validation AUC and UAUC over samples seen, mean over seeds, a panel a task and metric.

    Args:
        validation: architecture, variant, seed, samples, task, metric, value
            (:func:`reports.frames.validation_frame`).
    """
    tasks = list(dict.fromkeys(validation["task"]))
    height = max(2.9, legend_height(validation) / len(tasks))
    models, ends = contestants(validation), {}
    figure, panels = canvas(len(tasks), len(METRICS), 4.6, height, sharex=True)
    for task, row in zip(tasks, panels, strict=True):
        for metric, axes in zip(METRICS, row, strict=True):
            of_panel = validation[(validation["task"] == task) & (validation["metric"] == metric)]
            ends[axes] = {
                model: _curve(axes, rows_of(of_panel, model).groupby("samples")["value"].mean(), model)
                for model in contestants(of_panel)
            }
            axes.set_title(f"{task}: {metric.upper()}, validation", loc="left")
            axes.xaxis.set_major_formatter(short_tick)
    figure.supxlabel("training samples seen", fontsize="medium")
    if names_fit(height, len(models)):
        for axes, of_panel in ends.items():
            name_ends(axes, of_panel)
    else:
        legend_beside(figure, models, lines=True)
    return figure


def _curve(axes: Axes, values: pd.Series, model: tuple[str, str]) -> tuple[float, float]:
    """``values`` by samples; pointed at, the line says where it ends. The place of its end."""
    axes.plot(values.index, values, color=look(*model).color, **_sparse_markers(model, len(values)))
    text = f"{label(*model)}: {values.iloc[-1]:.4f} after {grouped(values.index[-1])} samples"
    hover_line(axes, values.index, values, text)
    return float(values.index[-1]), float(values.iloc[-1])


def _sparse_markers(model: tuple[str, str], num_points: int) -> dict[str, Any]:
    return {
        "marker": look(*model).marker,
        "markersize": 5,
        "markevery": max(1, num_points // 8),
        "label": label(*model),
    }
