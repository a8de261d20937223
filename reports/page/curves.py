"""Curves of one run as small SVGs.

A template writes them: a report has hundreds of them, and matplotlib takes a third of a second for each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from reports.cells import grouped, short_tick
from reports.page.templating import templates

WIDTH, HEIGHT = 420, 190
LEFT, RIGHT, TOP, BOTTOM = 62, 392, 10, 152  # edges of the panel
MOST_POINTS = 60  # that show their values; the line is drawn through all
Point = tuple[float, float]


@dataclass(frozen=True)
class Across:
    """What runs across a chart: its title, a value in words, and whether x = y is drawn."""

    title: str
    words: Callable[[float], str]
    diagonal: bool = False


SAMPLES = Across("training samples seen", lambda samples: f"after {grouped(samples)} samples")
SCORES = Across("mean score", lambda score: f"where the mean score is {score:.4f}", diagonal=True)


def line_chart(points: Sequence[Point], title: str, color: str, across: Across = SAMPLES) -> Markup:
    """``points`` joined by a line; each shows its value where a reader points at it.

    Args:
        points: x and y, by rising x.
        title: what the values are.
        color: of the line.
        across: what x is.
    """
    x, y = np.array(points, dtype=float).T
    both = np.concatenate([x, y]) if across.diagonal else None
    x_ticks, y_ticks = (_ticks(values if both is None else both) for values in (x, y))

    def to_x(values):
        return np.interp(values, x_ticks[[0, -1]], [LEFT, RIGHT])

    def to_y(values):
        return np.interp(values, y_ticks[[0, -1]], [BOTTOM, TOP])

    places = list(zip(to_x(x), to_y(y), strict=True))
    texts = [f"{title}: {value:.4f} {across.words(place)}" for place, value in points]
    step = max(1, len(points) // MOST_POINTS)
    template = templates().get_template("chart.html")
    chart = template.render(
        **{"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "bottom": BOTTOM, "top": TOP},
        **{"title": title, "color": color, "places": places},
        **{"across": across.title, "diagonal": across.diagonal},
        rows=[(place, f"{tick:.6g}") for place, tick in zip(to_y(y_ticks), y_ticks, strict=True)],
        columns=[(place, short_tick(tick)) for place, tick in zip(to_x(x_ticks), x_ticks, strict=True)],
        marks=list(zip(places, texts, strict=True))[::step],
    )
    return Markup(chart)  # the template has escaped the texts


def _ticks(values: np.ndarray) -> np.ndarray:
    """Round numbers, the first and last of them around all values."""
    low, high = float(values.min()), float(values.max())
    if low == high:
        low, high = low - (abs(low) or 1) * 0.05, high + (abs(high) or 1) * 0.05
    return np.asarray(MaxNLocator(nbins=4).tick_values(low, high))
