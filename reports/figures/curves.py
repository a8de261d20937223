"""Training loss and validation metrics over the samples seen."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.cells import grouped, short_tick
from reports.figures.line_names import End, name_lines
from reports.figures.models import Looks, Model, contestants, looks_for, seaborn_looks, with_labels
from reports.figures.panels import canvas, facets, legend_height
from reports.figures.saving import hover_line
from reports.figures.style import styled


@styled
def loss_curves(losses: pd.DataFrame, looks: Looks | None = None) -> Figure:
    """Training loss over samples seen, mean over seeds, smoothed by a running mean of a twentieth.

    Args:
        losses: architecture, variant, seed, samples, value (:func:`reports.frames.loss_frame`).
    """
    looks, height = looks_for(contestants(losses), looks), max(3.4, legend_height(losses))
    figure, [[axes]] = canvas(1, 1, 7.0, height)
    means = _means(losses)
    means["value"] = means.groupby("model", observed=True)["value"].transform(_running_mean)
    ends = _curves(axes, means, looks)
    settled = losses.loc[losses["samples"] >= 0.1 * losses["samples"].max(), "value"]
    low = axes.get_ylim()[0]
    axes.set_ylim(top=low + 1.1 * (settled.max() - low))  # the fall at the beginning is cut off
    axes.set(xlabel="training samples seen", ylabel="training loss")
    name_lines(figure, {axes: ends}, contestants(losses), looks, height)
    return figure


@styled
def validation_curves(validation: pd.DataFrame, looks: Looks | None = None) -> Figure:
    """Validation AUC and UAUC over samples seen, mean over seeds, a panel for each task and metric.

    Args:
        validation: architecture, variant, seed, samples, task, metric, value
            (:func:`reports.frames.validation_frame`).
    """
    looks = looks_for(contestants(validation), looks)
    height = max(2.9, legend_height(validation) / validation["task"].nunique())
    figure, panels = facets(validation, 4.6, height, sharex=True)
    ends = {axes: _curves(axes, _means(rows), looks) for axes, rows in panels}
    for axes, _ in panels:
        axes.set_title(f"{axes.get_title('left')}, validation")
    figure.supxlabel("training samples seen")
    name_lines(figure, ends, contestants(validation), looks, height)
    return figure


def _means(curves: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds, models in the order of the rows, each by rising samples."""
    keys = ["model", "architecture", "variant", "samples"]
    return with_labels(curves).groupby(keys, observed=True)["value"].mean().reset_index()


def _running_mean(values: pd.Series) -> pd.Series:
    return values.rolling(max(1, len(values) // 20), min_periods=1).mean()


def _curves(axes: Axes, means: pd.DataFrame, looks: Looks) -> dict[Model, End]:
    """Draw a line for each model and return where each line ends."""
    if means.empty:
        return {}
    models, ends = contestants(means), {}
    step = max(1, means["samples"].nunique() // 8)
    styles = seaborn_looks(models, looks)
    place = {"x": "samples", "y": "value", "ax": axes}
    sns.lineplot(means, **place, **styles, dashes=False, errorbar=None, markevery=step)
    for model, (name, rows) in zip(models, means.groupby("model", observed=True), strict=True):
        samples, value = rows.iloc[-1][["samples", "value"]]
        text = f"{name}: {value:.4f} after {grouped(samples)} samples"
        hover_line(axes, rows["samples"], rows["value"], text)
        ends[model] = (float(samples), float(value))
    axes.set(xlabel="", ylabel="")
    axes.xaxis.set_major_formatter(short_tick)
    return ends
