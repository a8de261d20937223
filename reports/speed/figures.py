"""Measured speeds: the roofline with every model on it, and latency against batch size and offered load."""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from reports.cells import is_missing, percent, short
from reports.figures.drawing.line_names import line_ends, name_lines
from reports.figures.drawing.models import contestants, seaborn_looks, select_model
from reports.figures.drawing.panels import Options, Panels, Plot, log_axis, marker_size
from reports.figures.drawing.saving import hover_point
from reports.figures.drawing.style import INK, STYLES, current_style, styled

HEIGHT = 4.0
MOST_SIZES = 4  # named below a panel whose letters are large for it
ENGINES: dict[str, Any] = {"eager": "-", "compile": "--", "aoti": "-.", "onnx": ":"}
MODES = {"inference": "inference", "train": "training step"}


@styled
def roofline(rows: pd.DataFrame, **options: Unpack[Options]) -> Panels:
    """FLOPs a second against FLOPs a byte, under the peak and the bandwidth measured in the same run.

    Args:
        rows: of ``profile.csv``, part ``dense``, one precision and batch; rows without
            ``flops_per_second`` are left out.
    """
    plot = Plot(rows[rows["flops_per_second"].notna()], options)
    styles, size = seaborn_looks(plot.models, plot.looks), marker_size(1.4) ** 2
    for axes, points in _mode_panels(plot, 4.8, sharey="row"):
        _roof(axes, points)
        sns.scatterplot(points, x="intensity", y="flops_per_second", **styles, s=size, ax=axes, zorder=3)
        for row in points.to_dict("records"):
            reached = f"{short(row['flops_per_second'])}FLOP/s at {row['intensity']:.1f} FLOPs a byte"
            share = "" if is_missing(row["mfu"]) else f", {percent(row['mfu'], 0)} of the peak"
            text = f"{row['model']}: {reached}{share}"
            hover_point(axes, row["intensity"], row["flops_per_second"], text)
        _log_axes(axes)
    plot.xlabel("FLOPs a byte of all operators' operands")
    plot.ylabel("FLOPs a second")
    plot.legend(plot.handles(), beside=True)
    return plot.result


def _roof(axes: Axes, rows: pd.DataFrame) -> None:
    """The two limits, from a third of the least intensity to three times the greatest."""
    peak = float(rows["page_peak" if "page_peak" in rows else "peak_flops"].median())
    bandwidth = float(rows["bandwidth"].max())
    ridge = peak / bandwidth
    low = min(rows["intensity"].min() / 3, ridge / 3)
    high = max(rows["intensity"].max() * 3, ridge * 3)
    ends = np.array([low, ridge, high])
    axes.plot(ends, np.minimum(ends * bandwidth, peak), color=INK, linewidth=1.2)
    offset: dict[str, Any] = {"textcoords": "offset points"}
    axes.annotate(f"peak {short(peak)}FLOP/s", (high, peak), (0, 2), ha="right", va="bottom", **offset)
    middle = float(np.sqrt(low * ridge))  # to the left of the slope, where no model can be
    axes.annotate(f"{short(bandwidth)}B/s", (middle, middle * bandwidth), (-5, 3), ha="right", **offset)
    axes.set_xlim(left=low / 2)


@styled
def latency_against_batch(rows: pd.DataFrame, **options: Unpack[Options]) -> Panels:
    """Median time of a batch against its size, a line for each model.

    Args:
        rows: of ``profile.csv``, part ``dense``, one precision.
    """
    plot = Plot(rows, options)
    panels = _mode_panels(plot, 4.6)
    styles = seaborn_looks(plot.models, plot.looks)
    for axes, points in panels:
        place = {"x": "batch_size", "y": "latency_ms_p50", "ax": axes}
        sns.lineplot(points, **place, **styles, dashes=False, errorbar=None)
        for row in points.to_dict("records"):
            text = f"{row['model']}: {row['latency_ms_p50']:.3g} ms at {row['batch_size']}"
            hover_point(axes, row["batch_size"], row["latency_ms_p50"], text)
        _log_axes(axes)
        few = None if current_style() is STYLES[""] else MOST_SIZES
        axes.xaxis.set_major_locator(FixedLocator(sorted(set(rows["batch_size"])), nbins=few))
        axes.xaxis.set_minor_locator(NullLocator())
    plot.xlabel("batch size")
    plot.ylabel("milliseconds, median")
    ends = {axes: line_ends(points, "batch_size", "latency_ms_p50") for axes, points in panels}
    name_lines(plot, ends, plot.looks, HEIGHT)
    return plot.result


def _mode_panels(plot: Plot, width: float, **shared: Any) -> list[tuple[Axes, pd.DataFrame]]:
    """A panel for each mode that was measured, with its rows."""
    rows = plot.labelled()
    modes = [mode for mode in MODES if (rows["mode"] == mode).any()]
    panels = plot.grid(len(modes), len(modes), width, HEIGHT, narrowest=2.5, **shared)
    for mode, axes in zip(modes, panels, strict=True):
        axes.set_title(MODES[mode])
    return [(axes, rows[rows["mode"] == mode]) for mode, axes in zip(modes, panels, strict=True)]


def _log_axes(axes: Axes) -> None:
    log_axis(axes.xaxis)
    log_axis(axes.yaxis)
    axes.set(xlabel="", ylabel="")


# --- A server under load ----------------------------------------------------------------------------------


@styled
def latency_against_load(loads: pd.DataFrame, bound_ms: float, **options: Unpack[Options]) -> Panels:
    """p50 and p99 against requests a second, a panel for each number of candidates.

    Args:
        loads: of ``serving_loads.csv``: architecture, variant, engine, candidates, offered_qps,
            latency_ms_p50, latency_ms_p99.
        bound_ms: of the p99; a dashed line.
    """
    plot = Plot(loads, options)
    loads, looks = plot.rows, plot.looks
    counts = list(dict.fromkeys(loads["candidates"]))
    panels = plot.grid(len(counts), len(counts), 4.8, HEIGHT, sharey="row")
    for axes, count in zip(panels, counts, strict=True):
        axes.set_title(f"{count} candidates a request")
        rows = loads[loads["candidates"] == count]
        for model in contestants(rows):
            for engine, points in select_model(rows, model).groupby("engine", sort=False):
                line: dict[str, Any] = {"color": looks[model].color, "linestyle": ENGINES[str(engine)]}
                axes.plot(points["offered_qps"], points["latency_ms_p99"], marker=looks[model].marker, **line)
                axes.plot(points["offered_qps"], points["latency_ms_p50"], alpha=0.35, **line)
                for load in points.to_dict("records"):
                    text = (
                        f"{looks[model].name}, {engine}: p99 {load['latency_ms_p99']:.3g} ms, "
                        f"p50 {load['latency_ms_p50']:.3g} ms at {load['offered_qps']:.0f} requests/s"
                    )
                    hover_point(axes, load["offered_qps"], load["latency_ms_p99"], text)
        axes.axhline(bound_ms, color=INK, linestyle=(0, (5, 3)), linewidth=1.0)
        log_axis(axes.yaxis)
        axes.set(xlabel="requests a second", ylabel="")
    plot.ylabel("milliseconds from arrival to answer")
    engines = [name for name in ENGINES if (loads["engine"] == name).any()]
    lines = [Line2D([], [], color=INK, ls=ENGINES[name], label=name) for name in engines]
    plot.legend([*plot.handles(), *lines], beside=True)
    return plot.result
