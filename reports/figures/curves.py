"""Training loss, validation metrics and differences to the base over the samples seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Unpack

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from reports.cells import POINTS, grouped, short_tick
from reports.figures.differences import base_names
from reports.figures.drawing.line_names import End, name_lines
from reports.figures.drawing.models import Looks, Model, contestants, select_model
from reports.figures.drawing.panels import Options, Panels, Plot, log_axis
from reports.figures.drawing.saving import hover_line
from reports.figures.drawing.style import FAINT, INK, styled

MOST_COLORED = 6  # more curves than this hide each other


@styled
def loss_curves(losses: pd.DataFrame, **options: Unpack[Options]) -> Panels:
    """Training loss over samples seen, mean over seeds, smoothed by a running mean of a twentieth.

    Of more than six models, the first and the five that end lowest have their colours, the others are grey.

    Args:
        losses: architecture, variant, seed, samples, value (:func:`reports.frames.loss_frame`).
    """
    plot = Plot(losses, options)
    height = max(3.4, plot.names_height)
    [axes] = plot.grid(1, 1, 7.0, height)
    means = _means(plot, plot.rows)
    means["value"] = means.groupby("model", observed=True)["value"].transform(
        lambda losses: losses.rolling(max(1, len(losses) // 20), min_periods=1).mean()
    )
    shown = _faded(plot, means, lower_is_better=True)
    ends = _curves(axes, means, shown)
    settled = means.loc[means["samples"] >= 0.2 * means["samples"].max(), "value"]
    room = 0.08 * (settled.max() - settled.min())
    axes.set_ylim(settled.min() - room, settled.max() + room)  # the fall at the beginning is cut off
    axes.set(xlabel="training samples seen", ylabel="training loss")
    name_lines(plot, {axes: ends}, shown, height)
    return plot.result


@styled
def validation_curves(validation: pd.DataFrame, **options: Unpack[Options]) -> Panels:
    """Validation AUC and UAUC over samples seen, mean over seeds, a panel for each task and metric.

    Of more than six models, the first and the five that end highest in the first panel have their colours.

    Args:
        validation: architecture, variant, seed, samples, task, metric, value
            (:func:`reports.frames.validation_frame`).
    """
    plot = Plot(validation, options)
    height = max(2.9, plot.names_height / plot.rows["task"].nunique())
    panels = plot.facets(4.6, height, sharex=True)
    shown = _faded(plot, _means(plot, panels[0][1]), lower_is_better=False)
    ends = {axes: _curves(axes, _means(plot, rows), shown) for axes, rows in panels}
    for axes in plot.panels:
        axes.set_title(f"{axes.get_title('left')}, validation")
    plot.xlabel("training samples seen")
    name_lines(plot, ends, shown, height)
    return plot.result


@styled
def learning_curves(curves: pd.DataFrame, **options: Unpack[Options]) -> Panels:
    """Differences to the base over training samples, with 95% intervals, a panel for each task and metric.

    Of more than six models, the five that end highest in the first panel have their colours.

    Args:
        curves: of :func:`harness.evaluation.learning_curves.curve_means`, without the base's rows, or of
            :func:`harness.evaluation.contrasts.along_rows.contrasts_along_rows`.
    """
    plot = Plot(curves.assign(value=POINTS * curves["diff"]), options)
    height = max(2.9, plot.names_height / plot.rows["task"].nunique())
    panels = plot.facets(4.6, height, sharex=True)
    shown = _faded(plot, _means(plot, panels[0][1]), lower_is_better=False)
    ends = {axes: _differences(axes, plot, rows, shown) for axes, rows in panels}
    plot.xlabel("training samples seen")
    plot.ylabel(f"difference to {base_names(curves)}, points x {POINTS}")
    name_lines(plot, ends, shown, height)
    return plot.result


@styled
def learning_curves_by_size(curves: pd.DataFrame, **options: Unpack[Options]) -> Panels:
    """Differences to the base of the same size over training samples: a row of panels a task and metric.

    A panel is one size, and all have one y-axis, which shows the lines: intervals that are longer leave the
    panel. Of more than six models, the first and the five that end highest in the last panel have their
    colours.

    Args:
        curves: of :func:`harness.evaluation.contrasts.along_rows.contrasts_along_rows`, of models of several
            sizes; ``variant`` without the size, and the sizes in the order of their panels.
    """
    plot = Plot(curves.assign(value=POINTS * curves["diff"]), options)
    sizes = list(dict.fromkeys(curves["size"]))
    places = [
        (task, metric, size)
        for task in dict.fromkeys(plot.rows["task"])
        for metric in plot.metrics
        for size in sizes
    ]
    height = max(2.6, plot.names_height * len(sizes) / len(places))
    panels = plot.grid(len(places), len(sizes), 2.5, height, sharex=True, sharey=True)
    rows = [plot.rows[(plot.rows[["task", "metric", "size"]] == place).all(axis=1)] for place in places]
    shown, ends = _faded(plot, _means(plot, rows[-1]), lower_is_better=False), {}
    for axes, (task, metric, size), here in zip(panels, places, rows, strict=True):
        plot.title(axes, f"{task}: {metric.upper()}, {size}")
        at_the_ends = _differences(axes, plot, here, shown)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.set_ylim(*_room_around(plot.rows["value"]))
        if size == sizes[-1]:
            ends[axes] = at_the_ends
    plot.xlabel(f"training samples seen (differences: to {base_names(curves)} of the size)")
    plot.ylabel(f"points x {POINTS}")
    name_lines(plot, ends, shown, height)
    return plot.result


def _room_around(values: pd.Series) -> tuple[float, float]:
    """Limits that hold all values and zero, with a fifth of their range on either side."""
    low, high = min(0.0, values.min()), max(0.0, values.max())
    room = 0.2 * (high - low) or 1.0
    return low - room, high + room


def _differences(axes: Axes, plot: Plot, rows: pd.DataFrame, shown: Looks) -> dict[Model, End]:
    """Draw the differences of one panel with their intervals, and return where each line ends."""
    axes.axhline(0, color=INK, linewidth=1.0)
    ends = _curves(axes, _means(plot, rows), shown)
    for model in contestants(rows):
        if shown[model].color != FAINT:
            known = select_model(rows, model).dropna(subset="diff_low")
            low, high = POINTS * known["diff_low"], POINTS * known["diff_high"]
            axes.vlines(known["samples"], low, high, color=shown[model].color, lw=1, alpha=0.6)
    log_axis(axes.xaxis)
    return ends


def _means(plot: Plot, curves: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds, models in the order of the rows, each by rising samples."""
    keys = ["model", "architecture", "variant", "samples"]
    return plot.labelled(curves).groupby(keys, observed=True)["value"].mean().reset_index()


def _faded(plot: Plot, means: pd.DataFrame, lower_is_better: bool) -> Looks:
    """The looks, grey for all but the first model and those whose curves end best."""
    if len(plot.models) <= MOST_COLORED:
        return plot.looks
    ends = {model: select_model(means, model)["value"].iloc[-1] for model in contestants(means)}
    best = sorted(ends, key=lambda model: ends[model] if lower_is_better else -ends[model])
    colored = {plot.models[0], *[model for model in best if model != plot.models[0]][: MOST_COLORED - 1]}
    grey = {model: replace(plot.looks[model], color=FAINT, line="-") for model in plot.models}
    return plot.looks | {model: look for model, look in grey.items() if model not in colored}


def _curves(axes: Axes, means: pd.DataFrame, looks: Looks) -> dict[Model, End]:
    """Draw a line for each model and return where each line ends."""
    if means.empty:
        return {}
    models, ends = contestants(means), {}
    step = max(1, means["samples"].nunique() // 8)
    for model in models:
        look, rows = looks[model], select_model(means, model)
        line: dict[str, Any] = {"color": look.color, "linestyle": look.line}
        line |= (
            {"alpha": 0.45, "linewidth": 0.8} if look.color == FAINT else {"marker": look.marker, "zorder": 3}
        )
        axes.plot(rows["samples"], rows["value"], markevery=step, mec="white", **line)
        samples, value = rows.iloc[-1][["samples", "value"]]
        text = f"{look.name}: {value:.4f} after {grouped(samples)} samples"
        hover_line(axes, rows["samples"], rows["value"], text)
        ends[model] = (float(samples), float(value))
    axes.set(xlabel="", ylabel="")
    axes.xaxis.set_major_formatter(short_tick)
    return ends
