"""A small drawing of a difference and its interval, which stands before the number in a table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup

from reports.cells import Shown

WIDTH, HEIGHT, MARGIN = 96, 14, 4  # in pixels


@dataclass(frozen=True)
class Scale:
    """From the numbers of a column to pixels; always holds zero."""

    low: float
    high: float

    @classmethod
    def fit(cls, cells: Iterable[object]) -> Scale | None:
        """The scale that holds every interval among ``cells``; None if no cell has one."""
        ends = [end for cell in cells if has_interval(cell) for end in (cell.low, cell.high)]  # type: ignore
        return cls(min(0.0, *ends), max(0.0, *ends)) if ends and max(map(abs, ends)) > 0 else None

    def x(self, value: float) -> float:
        """The place of ``value``; what lies outside is at the edge."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(MARGIN + share * (WIDTH - 2 * MARGIN), 2)


def has_interval(cell: object) -> bool:
    """Whether the cell is a number with both ends of an interval."""
    return isinstance(cell, Shown) and None not in (cell.value, cell.low, cell.high)


def draw(cell: Shown, scale: Scale) -> Markup:
    """Zero as a line across, the interval, and its middle: filled where the interval leaves out zero.

    An interval that claims nothing is dotted; one that lies beyond the scale is an arrow at its edge.
    """
    if cell.high < scale.low or cell.low > scale.high:  # type: ignore[operator]
        return _arrow(scale, cell.high < scale.low)  # type: ignore[operator]
    low, middle, high = (scale.x(end) for end in (cell.low, cell.value, cell.high))  # type: ignore[arg-type]
    is_away = cell.claimed and (cell.low > 0 or cell.high < 0)  # type: ignore[operator]
    kind = "away" if is_away else "open" if cell.claimed else "open unclaimed"
    zero, y = scale.x(0.0), HEIGHT / 2
    return _OPEN.format(kind, zero, zero) + Markup(
        '<line class="span" x1="{}" x2="{}" y1="{}" y2="{}"/><circle cx="{}" cy="{}" r="3"/></svg>'
    ).format(low, high, y, y, middle, y)


_OPEN = Markup(
    f'<svg class="interval {{}}" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
    f'aria-hidden="true"><line class="zero" x1="{{}}" x2="{{}}" y1="0" y2="{HEIGHT}"/>'
)


def _arrow(scale: Scale, to_the_left: bool) -> Markup:
    tip, back = (1, 8) if to_the_left else (WIDTH - 1, WIDTH - 8)
    points = f"{tip},{HEIGHT / 2} {back},{HEIGHT / 2 - 4} {back},{HEIGHT / 2 + 4}"
    zero = scale.x(0.0)
    return _OPEN.format("away", zero, zero) + Markup('<polygon points="{}"/></svg>').format(points)
