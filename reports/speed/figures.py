"""Measured speeds: the roofline with every model on it, and latency against batch size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from reports.cells import is_missing, percent, short
from reports.figures.line_names import line_ends, name_lines
from reports.figures.models import Looks, looks_in, seaborn_looks, with_labels
from reports.figures.panels import canvas, legend_beside, legend_handles, log_axis
from reports.figures.saving import hover_point
from reports.figures.style import INK, styled

HEIGHT = 4.0
MODES = {"inference": "inference", "train": "training step"}


@styled
def roofline(rows: pd.DataFrame, looks: Looks | None = None) -> Figure:
    """FLOPs a second against FLOPs a byte, under the peak and the bandwidth measured in the same run.

    Args:
        rows: of ``profile.csv``, part ``dense``, one precision and batch; rows without
            ``flops_per_second`` are left out.
    """
    rows = with_labels(rows[rows["flops_per_second"].notna()])
    models, looks = looks_in(rows, looks)
    figure, panels = _mode_panels(rows, 4.8, sharey=True)
    styles = seaborn_looks(models, looks)
    for axes, points in panels:
        _roof(axes, points)
        sns.scatterplot(points, x="intensity", y="flops_per_second", **styles, s=80, ax=axes, zorder=3)
        for row in points.to_dict("records"):
            reached = f"{short(row['flops_per_second'])}FLOP/s at {row['intensity']:.1f} FLOPs a byte"
            share = "" if is_missing(row["mfu"]) else f", {percent(row['mfu'], 0)} of the peak"
            text = f"{row['model']}: {reached}{share}"
            hover_point(axes, row["intensity"], row["flops_per_second"], text)
        _log_axes(axes, "FLOPs a byte of all operators' operands")
    panels[0][0].set_ylabel("FLOPs a second")
    legend_beside(figure, legend_handles(models, looks))
    return figure


def _roof(axes: Axes, rows: pd.DataFrame) -> None:
    """The two limits, from a third of the least intensity to three times the greatest."""
    peak, bandwidth = float(rows["peak_flops"].max()), float(rows["bandwidth"].max())
    ridge = peak / bandwidth
    low = min(rows["intensity"].min() / 3, ridge / 3)
    high = max(rows["intensity"].max() * 3, ridge * 3)
    ends = np.array([low, ridge, high])
    axes.plot(ends, np.minimum(ends * bandwidth, peak), color=INK, linewidth=1.2)
    offset: dict[str, Any] = {"textcoords": "offset points"}
    axes.annotate(f"peak {short(peak)}FLOP/s", (high, peak), (0, 2), ha="right", va="bottom", **offset)
    axes.annotate(f"{short(bandwidth)}B/s", (low, low * bandwidth), (8, 0), ha="left", va="center", **offset)


@styled
def latency_against_batch(rows: pd.DataFrame, looks: Looks | None = None) -> Figure:
    """Median time of a batch against its size, a line for each model.

    Args:
        rows: of ``profile.csv``, part ``dense``, one precision.
    """
    rows = with_labels(rows)
    models, looks = looks_in(rows, looks)
    figure, panels = _mode_panels(rows, 4.6)
    styles = seaborn_looks(models, looks)
    for axes, points in panels:
        place = {"x": "batch_size", "y": "latency_ms_p50", "ax": axes}
        sns.lineplot(points, **place, **styles, dashes=False, errorbar=None)
        for row in points.to_dict("records"):
            text = f"{row['model']}: {row['latency_ms_p50']:.3g} ms at {row['batch_size']}"
            hover_point(axes, row["batch_size"], row["latency_ms_p50"], text)
        _log_axes(axes, "batch size")
        axes.xaxis.set_major_locator(FixedLocator(sorted(set(rows["batch_size"]))))
    panels[0][0].set_ylabel("milliseconds, median")
    ends = {axes: line_ends(points, "batch_size", "latency_ms_p50") for axes, points in panels}
    name_lines(figure, ends, models, looks, HEIGHT)
    return figure


def _mode_panels(
    rows: pd.DataFrame, width: float, sharey: bool = False
) -> tuple[Figure, list[tuple[Axes, pd.DataFrame]]]:
    """A panel for each mode that was measured, with its rows."""
    modes = [mode for mode in MODES if (rows["mode"] == mode).any()]
    figure, [panels] = canvas(1, len(modes), width, HEIGHT, sharey=sharey)
    for mode, axes in zip(modes, panels, strict=True):
        axes.set_title(MODES[mode])
    return figure, [(axes, rows[rows["mode"] == mode]) for mode, axes in zip(modes, panels, strict=True)]


def _log_axes(axes: Axes, across: str) -> None:
    log_axis(axes.xaxis)
    log_axis(axes.yaxis)
    axes.set(xlabel=across, ylabel="")
