"""Measured speeds as figures: the roofline with every model on it, and latency against batch size.

As in :mod:`reports.figures`, a figure's function takes a DataFrame and returns a matplotlib figure.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator

from harness.records.contestant import label
from reports.cells import is_missing, percent, short, short_tick
from reports.direct_labels import name_ends, names_fit
from reports.figures import contestants, legend_beside, rows_of
from reports.style import INK, canvas, hover, hover_point, look, styled

HEIGHT = 4.0
MODES = {"inference": "inference", "train": "training step"}


@styled
def roofline(rows: pd.DataFrame) -> Figure:
    """FLOPs a second against FLOPs a byte, under the peak and the bandwidth measured in the same run.

    Args:
        rows: of ``profile.csv``, part ``dense``, one precision and batch; rows without
            ``flops_per_second`` are left out.
    """
    rows = rows[rows["flops_per_second"].notna()]
    modes = [mode for mode in MODES if (rows["mode"] == mode).any()]
    models = contestants(rows)
    figure, [panels] = canvas(1, len(modes), 4.8, 4.0, sharey=True)
    for mode, axes in zip(modes, panels, strict=True):
        mine = rows[rows["mode"] == mode]
        _roof(axes, mine)
        for model in models:
            style, points = look(*model), rows_of(mine, model)
            (point,) = axes.plot(
                points["intensity"],
                points["flops_per_second"],
                style.marker,
                color=style.color,
                markersize=7,
                label=label(*model),
            )
            for row in points.to_dict("records"):
                reached = f"{short(row['flops_per_second'])}FLOP/s at {row['intensity']:.1f} FLOPs a byte"
                share = "" if is_missing(row["mfu"]) else f", {percent(row['mfu'], 0)} of the peak"
                hover(point, f"{label(*model)}: {reached}{share}")
        _title(axes, mode, "FLOPs a byte of all operators' operands")
    panels[0].set_ylabel("FLOPs a second")
    legend_beside(figure, models)
    return figure


def _roof(axes: Axes, rows: pd.DataFrame) -> None:
    """The two limits, from a third of the least intensity to three times the greatest."""
    peak, bandwidth = float(rows["peak_flops"].max()), float(rows["bandwidth"].max())
    ridge = peak / bandwidth
    low = min(rows["intensity"].min() / 3, ridge / 3)
    high = max(rows["intensity"].max() * 3, ridge * 3)
    ends = np.array([low, ridge, high])
    axes.loglog(ends, np.minimum(ends * bandwidth, peak), color=INK, linewidth=1.2)
    axes.annotate(
        f"peak {short(peak)}FLOP/s",
        (high, peak),
        ha="right",
        va="bottom",
        xytext=(0, 2),
        textcoords="offset points",
    )
    axes.annotate(
        f"{short(bandwidth)}B/s",
        (low, low * bandwidth),
        ha="left",
        va="center",
        xytext=(8, 0),
        textcoords="offset points",
    )


@styled
def latency_against_batch(rows: pd.DataFrame) -> Figure:
    """Median time of a batch against its size, a line a model; rows of ``profile.csv`` of one precision."""
    modes = [mode for mode in MODES if (rows["mode"] == mode).any()]
    figure, [panels] = canvas(1, len(modes), 4.6, HEIGHT)
    for mode, axes in zip(modes, panels, strict=True):
        for model in contestants(rows):
            mine = rows_of(rows[rows["mode"] == mode], model).sort_values("batch_size")
            style = look(*model)
            axes.loglog(
                mine["batch_size"],
                mine["latency_ms_p50"],
                marker=style.marker,
                color=style.color,
                label=label(*model),
            )
            for batch, milliseconds in zip(mine["batch_size"], mine["latency_ms_p50"], strict=True):
                hover_point(axes, batch, milliseconds, f"{label(*model)}: {milliseconds:.3g} ms at {batch}")
        _title(axes, mode, "batch size")
        axes.xaxis.set_major_locator(FixedLocator(sorted(set(rows["batch_size"]))))
    panels[0].set_ylabel("milliseconds, median")
    models = contestants(rows)
    if not names_fit(HEIGHT, len(models)):
        legend_beside(figure, models, lines=True)
        return figure
    for mode, axes in zip(modes, panels, strict=True):
        name_ends(axes, _ends(rows[rows["mode"] == mode]))
    return figure


def _ends(rows: pd.DataFrame) -> dict[tuple[str, str], tuple[float, float]]:
    """Each model's latency at its largest batch."""
    last = {model: rows_of(rows, model).sort_values("batch_size").iloc[-1] for model in contestants(rows)}
    return {model: (float(row["batch_size"]), float(row["latency_ms_p50"])) for model, row in last.items()}


def _title(axes: Axes, mode: str, across: str) -> None:
    axes.set_title(MODES[mode], loc="left")
    axes.set_xlabel(across)
    for one in (axes.xaxis, axes.yaxis):
        one.set_major_locator(LogLocator(subs=(1, 2, 5)))
        one.set_major_formatter(short_tick)
        one.set_minor_formatter(lambda value, _: "")
