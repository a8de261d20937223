"""The files of a figure, the rows that it shows, and what its SVG says where a reader points at a mark."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from files.writing import replacing
from reports.figures.drawing.style import current_style, styled, use_style
from reports.files import write_csv, write_text

METADATA: dict[str, Any] = {"png": {"Software": None}, "pdf": {"CreationDate": None}}


@dataclass(frozen=True)
class Drawing:
    """A figure that is drawn when it is asked for: ``function(data, *arguments, **options)``, which returns
    its axes.

    ``data`` are the rows that it shows, which stand beside it as a CSV file.
    """

    function: Callable[..., Any]
    data: pd.DataFrame
    caption: str
    arguments: tuple = ()
    options: dict[str, Any] = field(default_factory=dict)

    def draw(self, **options: Any) -> Figure:
        """Draw it anew; ``options`` as in :class:`reports.figures.drawing.panels.Options`."""
        return figure_of(self.function(self.data, *self.arguments, **(self.options | options)))

    def with_options(self, **options: Any) -> Drawing:
        """The same drawing with further options; those that it has go before them."""
        return replace(self, options=options | self.options)

    @cached_property
    def figure(self) -> Figure:
        """The figure, drawn once."""
        return self.draw()


Figures = dict[str, Drawing]  # by the stem of their files


def figure_of(axes: Any) -> Figure:
    """The figure that one axes, or the first of several, stand in."""
    figure = np.atleast_1d(np.asarray(axes, dtype=object)).flat[0].get_figure(root=True)
    assert isinstance(figure, Figure)
    return figure


def write_drawing(drawing: Drawing, stem: Path) -> None:
    """Write the files of :func:`save_figure`, and the rows as ``<stem>.csv``."""
    save_figure(drawing.draw(), stem)  # not kept: a report may have a hundred
    write_csv(stem.with_name(f"{stem.name}.csv"), drawing.data)


def write_front(drawing: Drawing, stem: Path) -> None:
    """Write the SVG and the rows: a page shows it, and no paper, so it has the same look in every style."""
    with use_style(""):
        save_svg(drawing.draw(), stem)
    write_csv(stem.with_name(f"{stem.name}.csv"), drawing.data)


def markdown_drawing(name: str, drawing: Drawing) -> str:
    """The picture with its caption and the links to its files in ``figures/``."""
    links = f"[vector](figures/{name}.svg), [data](figures/{name}.csv)"
    return f"![{drawing.caption}](figures/{name}.png)\n\n*{drawing.caption}* ({links})"


@contextmanager
def missing_letters_are_boxes() -> Iterator[None]:
    """A letter that the font lacks is a box in the figure, without a warning; tables have the letter."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        yield


@styled
def save_figure(figure: Figure, stem: Path) -> None:
    """Write ``<stem>.png`` and ``.svg``, in some styles ``.pdf``, the same bytes for the same figure.

    A file of another style that was there is removed. The figure is laid out once, for all of them.
    """
    with missing_letters_are_boxes():
        for suffix, metadata in METADATA.items():
            path = stem.with_name(f"{stem.name}.{suffix}")
            if suffix not in current_style().suffixes:
                path.unlink(missing_ok=True)
                continue
            with replacing(path) as temporary:
                figure.savefig(temporary, format=suffix, metadata=metadata)
            figure.set_layout_engine("none")  # laid out now; each further file would do it again
    save_svg(figure, stem)


@styled
def save_svg(figure: Figure, stem: Path) -> None:
    """Write ``<stem>.svg``, which says at its marks what :func:`hover` gave them."""
    write_text(stem.with_name(f"{stem.name}.svg"), svg_text(figure))


@styled
def svg_text(figure: Figure) -> str:
    """The figure as SVG, with what :func:`hover` gave its marks."""
    svg = io.StringIO()
    with missing_letters_are_boxes():
        figure.savefig(svg, format="svg", metadata={"Date": None})
    return with_titles(svg.getvalue())


# --- Texts that are shown where a reader points ------------------------------------------------------------

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
