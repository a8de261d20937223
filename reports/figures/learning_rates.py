"""Learning-rate curves: how a tuned model's score falls on both sides of the chosen learning rate."""

from __future__ import annotations

from typing import Unpack

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from reports.figures.drawing.models import Look, select_model
from reports.figures.drawing.panels import Options, Panels, Plot
from reports.figures.drawing.saving import hover_line
from reports.figures.drawing.style import FAINT, styled

COLUMNS = 4


@styled
def learning_rate_curves(curves: pd.DataFrame, **options: Unpack[Options]) -> Panels:
    """Validation score over the dense learning rate, a panel for each model, on shared axes.

    The chosen rate is a dotted line; a cross at the foot is a training that diverged.

    Args:
        curves: architecture, variant, metric, factor, dense_lr, score (NaN: diverged), as in
            :func:`reports.tables.tuning.learning_rate_frame`.
    """
    plot = Plot(curves, options)
    panels = plot.grid(len(plot.models), COLUMNS, 2.6, 2.1, sharex=True, sharey=True)
    for axes, model in zip(panels, plot.models, strict=True):
        _panel(axes, select_model(curves, model), plot.looks[model])
        plot.title(axes, plot.looks[model].shown)
    plot.xlabel("dense learning rate (dotted: the chosen one; cross: diverged)")
    plot.ylabel(f"validation {str(curves['metric'].iloc[0]).upper()}")
    return plot.result


def _panel(axes: Axes, curve: pd.DataFrame, look: Look) -> None:
    trained = curve[curve["score"].notna()]
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.plot(trained["dense_lr"], trained["score"], color=look.color, marker=look.marker)
    hover_line(axes, trained["dense_lr"], trained["score"], look.name)
    axes.axvline(curve.loc[curve["factor"] == 1, "dense_lr"].iloc[0], color=FAINT, ls=":", lw=1)
    lost = curve.loc[curve["score"].isna(), "dense_lr"]
    foot = axes.get_xaxis_transform()  # the rate across, the panel's height upwards
    axes.plot(lost, [0.05] * len(lost), "x", color=look.color, transform=foot)
