"""What each part of a model is worth, beside what its experts are worth after more and more rows."""

from __future__ import annotations

from typing import Unpack

import pandas as pd

from harness.records.contestant import label
from reports.figures.curves import learning_curves
from reports.figures.differences import ablation_waterfall
from reports.figures.drawing.models import contestants, select_models
from reports.figures.drawing.panels import Options, Panels, Plot
from reports.figures.drawing.style import styled


@styled
def parts_and_experts(parts: pd.DataFrame, experts: pd.DataFrame, **options: Unpack[Options]) -> Panels:
    """The waterfall of a model's parts, and a contrast along rows: two panels for each task and metric.

    ``order`` and ``names`` are those of the models of both.

    Args:
        parts: as :func:`reports.figures.differences.ablation_waterfall` takes them; empty: no such panel.
        experts: as :func:`reports.figures.curves.learning_curves` takes them; empty: no such panel.
    """
    shown = [frame for frame in (parts, experts) if len(frame)]
    keys = ["task", "metric", "architecture", "variant"]
    plot = Plot(pd.concat([frame[keys] for frame in shown], ignore_index=True), options)
    places = [
        (task, metric, frame)
        for task in dict.fromkeys(plot.rows["task"])
        for metric in plot.metrics
        for frame in shown
    ]
    num_parts = len(contestants(select_models(parts, plot.models))) if len(parts) else 0
    panels = plot.grid(len(places), len(shown), 4.9, 0.9 + 0.36 * max(6, num_parts + 1), narrowest=2.5)
    for axes, (task, metric, frame) in zip(panels, places, strict=True):
        rows = select_models(frame[(frame["task"] == task) & (frame["metric"] == metric)], plot.models)
        draw, what = (ablation_waterfall, "parts") if frame is parts else (learning_curves, "experts")
        if len(rows):
            given: Options = {"ax": axes, "metrics": [metric], "looks": plot.looks}
            given |= {"order": _order(rows, options), "names": options.get("names")}
            draw(rows, **given)
        plot.title(axes, f"{task}: {metric.upper()}, {what}")
    return plot.result


def _order(rows: pd.DataFrame, options: Options) -> list[str] | None:
    """The models asked for, of those in the rows."""
    known = {label(*model) for model in contestants(rows)}
    asked = options.get("order")
    return None if asked is None else [name for name in asked if name in known]
