"""The same differences in several results side by side, and what one result's are less another's."""

from __future__ import annotations

from typing import Any, Unpack

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from harness.records.listed import display_name
from reports.cells import POINTS, interval
from reports.figures.drawing.panels import Options, Panels, Plot, marker_size
from reports.figures.drawing.saving import hover
from reports.figures.drawing.style import COLORS, INK, styled

MARKS = "osD^v"
STEP = 0.22  # between the marks of one row


@styled
def contrasts_side_by_side(contrasts: pd.DataFrame, **options: Unpack[Options]) -> Panels:
    """Differences of pairs with their 95% intervals: a row a pair, in it a mark for each result.

    A mark is filled where the difference is resolved. ``order`` and ``names`` are those of the second model
    of each pair.

    Args:
        contrasts: task, metric, architecture, variant, base, base_variant (the pair), result (what the mark
            stands for, in the order of the marks), and as fractions diff, diff_low and diff_high; resolved.
    """
    firsts = [
        display_name(*pair) for pair in zip(contrasts["architecture"], contrasts["variant"], strict=True)
    ]
    rows = contrasts.assign(
        first=firsts, architecture=contrasts["base"], variant=contrasts["base_variant"].fillna("")
    )
    plot, results = Plot(rows, options), list(dict.fromkeys(contrasts["result"]))
    for axes, here in plot.facets(4.6, 1.0 + 0.3 * len(results) * len(plot.models), sharey="row"):
        names = {}
        for row in here.to_dict("records"):
            model = (row["architecture"], row["variant"])
            at, place = plot.models.index(model), results.index(row["result"])
            names[at] = f"{row['first']}\nminus {plot.looks[model].shown}"
            _mark(axes, row, at + STEP * (place - (len(results) - 1) / 2), place)
        axes.axvline(0, color=INK, linewidth=1)
        axes.grid(axis="y", visible=False)
        axes.set_yticks(list(names), list(names.values()))
        axes.set_ylim(len(plot.models) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
    plot.xlabel(f"difference, points x {POINTS}, with 95% interval (filled: resolved)")
    plot.legend([
        Line2D([], [], color=_color(place), marker=MARKS[place], lw=1.4, label=name)
        for place, name in enumerate(results)
    ])  # fmt: skip
    return plot.result


def _color(place: int) -> Any:
    return COLORS[place % len(COLORS)]


def _mark(axes: Axes, row: dict, at: float, place: int) -> None:
    diff, low, high = (POINTS * row[name] for name in ("diff", "diff_low", "diff_high"))
    axes.plot([low, high], [at, at], "|-", color=_color(place), linewidth=1.4, markersize=marker_size())
    (point,) = axes.plot([diff], [at], MARKS[place], color=_color(place), ms=marker_size(1.1))
    point.set(mfc=_color(place) if row["resolved"] == "yes" else "white", label=row["result"])
    hover(point, f"{row['result']}: {interval(diff, low, high, 2)}")
