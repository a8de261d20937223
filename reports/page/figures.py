"""A figure's saved SVG, made to stand inside a page among others."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from reports.figures.drawing.saving import Figures
from reports.figures.drawing.style import FAINT, GRID, INK, SMALL_INK

_HEAD = re.compile(r"\A.*?(?=<svg\b)", re.DOTALL)
_METADATA = re.compile(r"<metadata>.*?</metadata>\s*", re.DOTALL)
_STYLE = re.compile(r"<style\b.*?</style>\s*", re.DOTALL)  # it would style the whole page
_SIZE = re.compile(r'<svg\b[^>]*?viewBox="0 0 ([\d.]+) ([\d.]+)"[^>]*>')
_OWN_ID = re.compile(r'\bid="([^"]*)"')
_USED_ID = re.compile(r'(url\(#|href="#)([^)"]*)')
PIXELS_PER_POINT = 4 / 3

# The colours of ground, words and lines: in the dark theme the page's variables give them others.
NEUTRAL_COLORS = {
    "#ffffff": "ground",
    INK.lower(): "ink",
    SMALL_INK.lower(): "soft",
    FAINT.lower(): "faint",
    GRID.lower(): "grid",
}
_NEUTRAL = re.compile(rf"((?:fill|stroke): )({'|'.join(NEUTRAL_COLORS)})\b", re.IGNORECASE)


@dataclass(frozen=True)
class FigureView:
    """A figure as the template takes it; ``stem`` names its files in ``figures/``."""

    stem: str
    caption: str
    svg: Markup


def figure_views(figures: Figures, folder: Path) -> list[FigureView]:
    """The views of drawings whose SVGs were saved in ``folder``."""
    return [
        FigureView(name, drawing.caption, inline_svg(svg, name, drawing.caption))
        for name, drawing in figures.items()
        for svg in [(folder / f"{name}.svg").read_text(encoding="utf-8")]
    ]


def inline_svg(svg: str, name: str, caption: str) -> Markup:
    """The ``svg`` element alone, its ids made unlike those of other figures, as wide as it was drawn.

    Users' text in it was escaped when it was saved.
    """
    svg = _STYLE.sub("", _METADATA.sub("", _HEAD.sub("", svg, count=1)))
    svg = _OWN_ID.sub(lambda match: f'id="{name}-{match[1]}"', svg)
    svg = _USED_ID.sub(lambda match: f"{match[1]}{name}-{match[2]}", svg)
    size = _SIZE.search(svg)
    assert size, "matplotlib's SVGs have a viewBox"
    width, height = (round(float(side) * PIXELS_PER_POINT) for side in size.groups())
    opening = Markup(
        '<svg class="drawing" role="group" aria-label="{}" width="{}" height="{}" viewBox="0 0 {} {}" '
        'xmlns:xlink="http://www.w3.org/1999/xlink">'
    ).format(caption, width, height, *size.groups())
    drawn = _NEUTRAL.sub(
        lambda match: f"{match[1]}var(--drawn-{NEUTRAL_COLORS[match[2].lower()]})", svg[size.end() :].strip()
    )
    return opening + Markup(drawn)
