"""Latency against offered load: how the wait grows as a server fills up."""

from __future__ import annotations

from typing import Any, Unpack

import pandas as pd
from matplotlib.lines import Line2D

from reports.figures.drawing.models import Looks, contestants, select_model
from reports.figures.drawing.panels import Options, Plot, legend_handles, log_axis
from reports.figures.drawing.saving import hover_point
from reports.figures.drawing.style import INK, styled

HEIGHT = 4.0
STYLES: dict[str, Any] = {"eager": "-", "compile": "--", "aoti": "-.", "onnx": ":"}


@styled
def latency_against_load(
    loads: pd.DataFrame, bound_ms: float, looks: Looks | None = None, **options: Unpack[Options]
) -> Any:
    """p50 and p99 against requests a second, a panel for each number of candidates.

    Args:
        loads: of ``serving_loads.csv``: architecture, variant, engine, candidates, offered_qps,
            latency_ms_p50, latency_ms_p99.
        bound_ms: of the p99; a dashed line.
        options: as :class:`~reports.figures.drawing.panels.Options`.

    Returns the axes.
    """
    plot = Plot(loads, looks, options)
    loads, looks = plot.rows, plot.looks
    counts = list(dict.fromkeys(loads["candidates"]))
    panels = plot.grid(len(counts), len(counts), 4.8, HEIGHT, sharey="row")
    for axes, count in zip(panels, counts, strict=True):
        axes.set_title(f"{count} candidates a request")
        rows = loads[loads["candidates"] == count]
        for model in contestants(rows):
            for engine, points in select_model(rows, model).groupby("engine", sort=False):
                line: dict[str, Any] = {"color": looks[model].color, "linestyle": STYLES[str(engine)]}
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
    engines = [name for name in STYLES if (loads["engine"] == name).any()]
    lines = [Line2D([], [], color=INK, ls=STYLES[name], label=name) for name in engines]
    plot.legend([*legend_handles(plot.models, looks), *lines], beside=True)
    return plot.result
