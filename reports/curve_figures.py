"""Training loss and validation metrics over the samples seen.

As in :mod:`reports.figures`, each function takes a DataFrame and returns a matplotlib figure.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.cells import grouped, short_tick
from reports.figures import METRICS, contestants, legend_beside, legend_height, rows_of
from reports.records import label
from reports.style import canvas, hover_line, look, styled


@styled
def loss_curves(losses: pd.DataFrame) -> Figure:
    """Training loss over samples seen, mean over seeds, smoothed by a running mean of a twentieth.

    Args:
        losses: architecture, variant, seed, samples, value (:func:`reports.frames.loss_frame`).
    """
    figure, [[axes]] = canvas(1, 1, 7.0, max(3.4, legend_height(losses)))
    for model in contestants(losses):
        mean = rows_of(losses, model).groupby("samples")["value"].mean()
        smooth = mean.rolling(max(1, len(mean) // 20), min_periods=1).mean()
        _curve(axes, smooth, model)
    settled = losses.loc[losses["samples"] >= 0.1 * losses["samples"].max(), "value"]
    axes.set_ylim(
        top=axes.get_ylim()[0] + 1.1 * (settled.max() - axes.get_ylim()[0])
    )  # the first fall is out of sight
    axes.set_ylabel("training loss")
    axes.set_xlabel("training samples seen")
    axes.xaxis.set_major_formatter(short_tick)
    legend_beside(figure, contestants(losses), lines=True)
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
    figure, panels = canvas(len(tasks), len(METRICS), 4.6, height, sharex=True)
    for task, row in zip(tasks, panels, strict=True):
        for metric, axes in zip(METRICS, row, strict=True):
            of_panel = validation[(validation["task"] == task) & (validation["metric"] == metric)]
            for model in contestants(of_panel):
                mean = rows_of(of_panel, model).groupby("samples")["value"].mean()
                _curve(axes, mean, model)
            axes.set_title(f"{task}: {metric.upper()}, validation", loc="left")
            axes.xaxis.set_major_formatter(short_tick)
    figure.supxlabel("training samples seen", fontsize="medium")
    legend_beside(figure, contestants(validation), lines=True)
    return figure


def _curve(axes: Axes, values: pd.Series, model: tuple[str, str]) -> None:
    """``values`` by samples; pointed at, the line says where it ends."""
    axes.plot(values.index, values, color=look(*model).color, **_sparse_markers(model, len(values)))
    text = f"{label(*model)}: {values.iloc[-1]:.4f} after {grouped(values.index[-1])} samples"
    hover_line(axes, values.index, values, text)


def _sparse_markers(model: tuple[str, str], num_points: int) -> dict[str, Any]:
    return {
        "marker": look(*model).marker,
        "markersize": 5,
        "markevery": max(1, num_points // 8),
        "label": label(*model),
    }
