"""The lift by user-activity tier, drawn.

As in :mod:`reports.figures`, a figure's function takes a DataFrame and returns a matplotlib figure.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.records.contestant import label
from reports.cells import interval
from reports.comparisons import not_filled
from reports.figures import METRICS, POINTS, contestants, drawn_name, rows_of
from reports.style import INK, canvas, hover, look, styled
from reports.tiers import TIERS


@styled
def lift_by_tier(tiers: pd.DataFrame) -> Figure:
    """Differences to the base within each tier, a panel a task and metric, a colour a model.

    Bars are 95% intervals over users and seeds; with one seed, over users alone and dotted.

    Args:
        tiers: rows of ``tiers.csv`` for one dataset, models only.
    """
    within = tiers[tiers["tier"].isin(TIERS) & tiers["diff"].notna()]
    tasks, models = list(dict.fromkeys(within["task"])), contestants(within)
    figure, panels = canvas(len(tasks), len(METRICS), 4.0, 2.9, sharex=True)
    for task, row in zip(tasks, panels, strict=True):
        for metric, axes in zip(METRICS, row, strict=True):
            of_panel = within[(within["task"] == task) & (within["metric"] == metric)]
            _panel(axes, of_panel, models)
            axes.set_title(f"{task}: {metric.upper()}", loc="left")
        row[0].set_ylabel("lift, AUC points x 100")
    bases = ", ".join(dict.fromkeys(within["base"].astype(str)))
    figure.supxlabel(f"user activity (lift: difference to {bases} within the tier)", fontsize="medium")
    handles = [
        Line2D([], [], color=look(*model).color, marker=look(*model).marker, label=drawn_name(model))
        for model in models
    ]
    handles.append(Line2D([], [], color=INK, marker="o", markerfacecolor="white", label=not_filled(within)))
    figure.legend(handles=handles, loc="outside right upper")
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, models: list[tuple[str, str]]) -> None:
    axes.axhline(0, color=INK, linewidth=1)
    axes.grid(axis="x", visible=False)
    axes.set_xticks(range(len(TIERS)), TIERS)
    axes.set_xlim(-0.5, len(TIERS) - 0.5)
    step = min(0.14, 0.7 / max(1, len(models)))
    for number, model in enumerate(models):
        style, shift = look(*model), step * (number - (len(models) - 1) / 2)
        for row in rows_of(rows, model).to_dict("records"):
            known = pd.notna(row["low"])
            low, high = (row[end] for end in (("low", "high") if known else ("users_low", "users_high")))
            x = TIERS.index(row["tier"]) + shift
            line = "-" if known else ":"
            axes.plot([x, x], [POINTS * low, POINTS * high], line, color=style.color, linewidth=1.4)
            (point,) = axes.plot([x], [POINTS * row["diff"]], style.marker, color=style.color, markersize=6)
            fill = style.color if row["resolved"] == "yes" else "white"
            point.set(markerfacecolor=fill, label=label(*model))
            shown = interval(POINTS * row["diff"], POINTS * low, POINTS * high, 2)
            hover(point, f"{label(*model)}, {row['tier']}: {shown}")
