"""Curves of one run, drawn straight as SVG: hundreds of pages of them take seconds."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from reports.cells import grouped, short_tick

WIDTH, HEIGHT = 420, 190
LEFT, RIGHT, TOP, BOTTOM = 62, 28, 10, 38
MOST_POINTS = 60  # that can be pointed at; the line is drawn through all
Point = tuple[float, float]


def line_chart(points: Sequence[Point], title: str, color: str) -> Markup:
    """``points`` (samples seen, value) joined by a line; each says its value when pointed at.

    Args:
        title: what the values are.
    """
    x_ticks, y_ticks = (_ticks([point[i] for point in points]) for i in (0, 1))
    to_x = _scale(x_ticks, LEFT, WIDTH - RIGHT)
    to_y = _scale(y_ticks, HEIGHT - BOTTOM, TOP)
    parts = [
        Markup(
            '<svg class="chart" role="group" aria-label="{}" viewBox="0 0 {} {}" width="{}" height="{}">'
        ).format(title, WIDTH, HEIGHT, WIDTH, HEIGHT)
    ]
    parts += [_across(to_y(tick), f"{tick:.6g}") for tick in y_ticks]
    parts += [_below(to_x(tick), short_tick(tick)) for tick in x_ticks]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 3, "middle", "training samples seen"))
    places = [(to_x(x), to_y(y)) for x, y in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    parts.append(
        Markup('<polyline points="{}" fill="none" stroke="{}" stroke-width="2"/>').format(path, color)
    )
    for i in range(0, len(points), max(1, len(points) // MOST_POINTS)):
        parts.append(_point(places[i], points[i], title, color))
    return Markup("").join([*parts, Markup("</svg>")])


def _ticks(values: list[float]) -> list[float]:
    """Round numbers, the first and last of them around all values."""
    low, high = min(values), max(values)
    if low == high:
        low, high = low - (abs(low) or 1) * 0.05, high + (abs(high) or 1) * 0.05
    return [float(tick) for tick in MaxNLocator(nbins=4).tick_values(low, high)]


def _scale(ticks: list[float], start: float, end: float):
    low, high = ticks[0], ticks[-1]
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _across(y: float, text: str) -> Markup:
    line = Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>')
    return line.format(LEFT, WIDTH - RIGHT, y, y) + _text(LEFT - 6, y + 4, "end", text)


def _below(x: float, text: str) -> Markup:
    return _text(x, HEIGHT - BOTTOM + 15, "middle", text)


def _text(x: float, y: float, anchor: str, text: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(x, y, anchor, text)


def _point(place: Point, point: Point, title: str, color: str) -> Markup:
    said = f"{title}: {point[1]:.4f} after {grouped(point[0])} samples"
    return Markup(
        '<g class="value"><title>{}</title><circle cx="{:.1f}" cy="{:.1f}" r="7" fill="transparent"/>'
        '<circle cx="{:.1f}" cy="{:.1f}" r="2.5" fill="{}"/></g>'
    ).format(said, *place, *place, color)
