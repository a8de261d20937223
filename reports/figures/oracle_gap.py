"""How much of the gap to the oracle each model closes after few rows and after many."""

from __future__ import annotations

import math
from typing import Unpack

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from reports.cells import percent, short
from reports.figures.drawing.models import Look
from reports.figures.drawing.panels import Options, Panels, Plot, marker_size
from reports.figures.drawing.saving import hover
from reports.figures.drawing.style import FAINT, INK, styled

PERCENT = 100
ENDS = {"few": "white", "most": ""}  # what fills the mark; the second has the model's colour
APART = 0.13  # of a row: half of the distance between its two intervals, which may overlap


@styled
def gap_closed(gaps: pd.DataFrame, **options: Unpack[Options]) -> Panels:
    """Shares of the oracle's gap at the fewest and the most rows, joined: a row a model, a panel a task and
    metric.

    Rows stand in the order asked for, else from the largest to the smallest share of the first panel.

    Args:
        gaps: of :func:`harness.evaluation.oracle.gap_along_rows.gap_along_rows`.
    """
    plot = Plot(gaps, options)
    models = plot.by_first_panel("share_most")
    for axes, rows in plot.facets(4.6, 0.9 + 0.34 * len(models), sharey="row", sharex="col"):
        for row in rows.to_dict("records"):
            model = (row["architecture"], row["variant"])
            _mark(axes, row, models.index(model), plot.looks[model])
        plot.name_rows(axes, [plot.looks[model].shown for model in models])
    plot.xlabel("share of the gap between a constant and the oracle, %, with 95% interval")
    plot.legend(_legend(plot.rows))
    return plot.result


def _mark(axes: Axes, row: dict, at: int, look: Look) -> None:
    heights = (at - APART, at + APART)
    shares = [PERCENT * row[f"share_{end}"] for end in ENDS]
    axes.plot(shares, heights, color=FAINT, linewidth=1, zorder=1)
    for height, (end, fill) in zip(heights, ENDS.items(), strict=True):
        share, low, high = (row[f"share_{end}{which}"] for which in ("", "_low", "_high"))
        ends = [PERCENT * low, PERCENT * high]
        axes.plot(ends, [height, height], "|-", color=look.color, lw=1.4, ms=marker_size(0.8))
        (point,) = axes.plot([PERCENT * share], [height], look.marker, color=look.color, ms=marker_size(1.1))
        point.set(mfc=fill or look.color, label=look.name)
        known = "" if math.isnan(low) else f" ({percent(low)} to {percent(high)})"
        hover(point, f"{look.name}: {percent(share)}{known} after {short(row[end])} rows")


def _legend(rows: pd.DataFrame) -> list[Line2D]:
    handles = []
    for end, fill in ENDS.items():
        least, most = short(rows[end].min()), short(rows[end].max())
        words = f"after {least} rows" if least == most else f"after {least} to {most} rows"
        handles.append(Line2D([], [], color=INK, marker="o", ls="", mfc=fill or INK, label=words))
    return handles
