"""What a figure's SVG shows where a reader points at one of its marks."""

from __future__ import annotations

import re
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes

_PREFIX = "value: "
_GROUP = re.compile(rf"""<g id=(?:"{_PREFIX}([^"]*)"|'{_PREFIX}([^']*)')>""")


def hover(artist: Artist, text: str) -> None:
    """Have the SVG of the figure show ``text`` where a reader points at this artist."""
    artist.set_gid(_PREFIX + " ".join(text.split()))


def hover_point(axes: Axes, x: float, y: float, text: str) -> None:
    """Have the SVG show ``text`` at one point, whatever is drawn there."""
    (point,) = axes.plot([x], [y], "o", alpha=0, markersize=9, label="_hover")
    hover(point, text)


def hover_line(axes: Axes, x: Any, y: Any, text: str) -> None:
    """Have the SVG show ``text`` along a line, which is too thin to be hit by itself."""
    (line,) = axes.plot(x, y, linewidth=9, alpha=0, label="_hover")
    hover(line, text)


def with_titles(svg: str) -> str:
    """The SVG with each text as the title of its group, which browsers show."""
    return _GROUP.sub(lambda match: f'<g class="value"><title>{match[1] or match[2]}</title>', svg)
