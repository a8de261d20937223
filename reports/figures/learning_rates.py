"""Learning-rate curves: how a tuned model's score falls on both sides of the chosen learning rate."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.figures.models import Looks, Model, drawn_name, looks_in, select_model
from reports.figures.panels import canvas
from reports.figures.saving import hover_line
from reports.figures.style import styled

COLUMNS = 4


@styled
def learning_rate_curves(curves: pd.DataFrame, looks: Looks | None = None) -> Figure:
    """Validation score over the dense learning rate, a panel for each model, on shared axes.

    The chosen rate is a dotted line; a cross at the foot is a training that diverged.

    Args:
        curves: architecture, variant, metric, factor, dense_lr, score (NaN: diverged), as in
            :func:`reports.tables.tuning.learning_rate_frame`.
    """
    models, looks = looks_in(curves, looks)
    columns = min(COLUMNS, len(models))
    figure, grid = canvas(math.ceil(len(models) / columns), columns, 2.6, 2.1, sharex=True, sharey=True)
    panels = [axes for row in grid for axes in row]
    for axes, model in zip(panels, models, strict=False):
        _panel(axes, select_model(curves, model), model, looks)
    for axes in panels[len(models) :]:
        axes.remove()
    figure.supxlabel("dense learning rate")
    metric = str(curves["metric"].iloc[0]).upper()
    figure.supylabel(f"validation {metric}")
    return figure


def _panel(axes: Axes, curve: pd.DataFrame, model: Model, looks: Looks) -> None:
    look, name = looks[model], drawn_name(model)
    trained = curve[curve["score"].notna()]
    axes.set_title(name, fontsize="small")
    axes.set_xscale("log")
    axes.plot(trained["dense_lr"], trained["score"], color=look.color, marker=look.marker)
    hover_line(axes, trained["dense_lr"], trained["score"], name)
    axes.axvline(curve.loc[curve["factor"] == 1, "dense_lr"].iloc[0], color="0.6", ls=":", lw=0.8)
    lost = curve.loc[curve["score"].isna(), "dense_lr"]
    foot = axes.get_xaxis_transform()  # the rate across, the panel's height upwards
    axes.plot(lost, [0.05] * len(lost), "x", color=look.color, transform=foot)
