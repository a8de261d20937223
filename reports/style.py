"""The one look of all figures: fonts, sizes, and a colour and marker for every architecture.

Colours are the colour-blind-safe sets of Okabe and Ito and of Paul Tol, chosen for contrast on white.
An architecture has the same colour and marker in every figure, whatever else is drawn; where two share
a colour their markers differ. A variant has a colour of its own, which is never its architecture's, and the
variants of one series (``smoe-1``, ``smoe-1/2``) share a colour and differ in marker.
"""

from __future__ import annotations

import io
import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.records.contestant import is_plain, parts_of_name
from reports.files import replacing, write_text

INK, FAINT, BAND = "#222222", "#8A8A8A", "#E9E9E9"
SMALL_INK = "#666666"  # words that step back, still 4.5:1 on white
PAPER_COLOR = "#6E6E6E"

_BLACK, _BLUE, _ORANGE, _GREEN, _PINK, _VERMILLION = (
    "#222222",
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#D55E00",
)
_SKY, _WINE, _OLIVE, _INDIGO = "#56B4E9", "#882255", "#8A8A20", "#332288"


@dataclass(frozen=True)
class Look:
    """How an architecture is drawn, the same in every figure."""

    color: str
    marker: str


LOOKS = {
    "dlrm_mlp": Look(_BLACK, "s"),
    "deepfm": Look(_ORANGE, "^"),
    "dcn": Look(_SKY, "D"),
    "dcnv2": Look(_BLUE, "D"),
    "rdcn": Look(_INDIGO, "d"),
    "gdcn": Look(_SKY, "d"),
    "autoint": Look(_GREEN, "v"),
    "transformer": Look(_PINK, "P"),
    "moe": Look(_OLIVE, "h"),
    "dhen": Look(_WINE, "p"),
    "hiformer": Look(_PINK, "X"),
    "wukong": Look(_ORANGE, "<"),
    "xdeepfm": Look(_OLIVE, "^"),
    "masknet": Look(_GREEN, ">"),
    "finalmlp": Look(_INDIGO, "s"),
    "hstu": Look(_BLUE, "P"),
    "unimixer": Look(_WINE, "o"),
    "rankmixer": Look(_VERMILLION, "o"),
    "tokenmixer_large": Look(_VERMILLION, "*"),
}
# Variants that stand in one table differ in colour; a series' ratios differ in marker.
VARIANT_LOOKS = {
    "no-residual": Look(_BLUE, "s"),
    "no-mixing": Look(_BLACK, "X"),
    "no-norm": Look(_GREEN, "D"),
    "shared-ffn": Look(_PINK, "v"),
    "all-concat-mlp": Look(_BLUE, "D"),
    "all-share": Look(_GREEN, "s"),
    "self-attention": Look(_PINK, "^"),
    "dense": Look(_BLACK, "s"),
    "smoe": Look(_SKY, "v"),
    "smoe-balance": Look(_GREEN, "^"),
    "dtsi-relu": Look(_BLUE, "D"),
    "relu": Look(_PINK, "P"),
    "chunks-4": Look(_SKY, "v"),
    "chunks-8": Look(_BLUE, "s"),
    "chunks-32": Look(_INDIGO, "D"),
    "chunks-64": Look(_BLACK, "X"),
    "groups": Look(_GREEN, "^"),
    "groups-16": Look(_OLIVE, "<"),
    "fields": Look(_PINK, "P"),
}
_RATIO_MARKERS = {1: "o", 2: "s", 4: "^", 8: "v"}
_FREE_COLORS = (_BLUE, _ORANGE, _GREEN, _PINK, _SKY, _WINE, _OLIVE, _INDIGO)
_MARKERS = "os^Dv<>PXph*d"


def look(architecture: str, variant: str = "") -> Look:
    """The look of a contestant; what is not listed gets one that its name alone decides."""
    plain = LOOKS.get(architecture) or _free_look(architecture, "")
    if is_plain(architecture, variant):
        return plain
    stem, size, ratio = parts_of_name(variant)
    if size:
        return look(architecture, variant[: -len(size)].rstrip("-"))
    shared = VARIANT_LOOKS.get(stem)
    if shared is None or shared.color == plain.color:
        shared = _free_look(stem, plain.color)
    if ratio is None:
        return shared
    denominator = ratio.denominator
    return Look(shared.color, _RATIO_MARKERS.get(denominator, _MARKERS[denominator % len(_MARKERS)]))


def _free_look(name: str, taken: str) -> Look:
    number = zlib.crc32(name.encode())
    colors = [color for color in _FREE_COLORS if color != taken]
    return Look(colors[number % len(colors)], _MARKERS[number // 8 % len(_MARKERS)])


SETTINGS: Any = {
    "figure.dpi": 110,
    "savefig.dpi": 160,
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.labelsize": 9.5,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "text.parse_math": False,  # a name with dollar signs is no formula
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "figure.constrained_layout.w_pad": 0.09,
    "svg.hashsalt": "reports",  # the same figure is the same file
    "svg.fonttype": "none",
}


styled = matplotlib.rc_context(SETTINGS)  # decorates a function that draws


@styled
def canvas(
    num_rows: int,
    num_columns: int,
    width: float,
    height: float,
    sharex: bool | Literal["col"] = False,
    sharey: bool = False,
) -> tuple[Figure, list[list[Axes]]]:
    """A figure of rows of panels, each ``width`` x ``height`` inches.

    Made without pyplot, so that it keeps no list of figures and leaves a notebook's backend alone.
    """
    figure = Figure(figsize=(width * num_columns, height * num_rows), layout="constrained")
    panels = figure.subplots(num_rows, num_columns, squeeze=False, sharex=sharex, sharey=sharey)
    return figure, panels.tolist()


# --- What a figure shows when it is pointed at ---------------------------------------------------------

_HOVER = "value: "
_HOVER_GROUP = re.compile(rf"""<g id=(?:"{_HOVER}([^"]*)"|'{_HOVER}([^']*)')>""")


def hover(artist: Artist, text: str) -> None:
    """Have the SVG of the figure show ``text`` where this artist is pointed at."""
    artist.set_gid(_HOVER + " ".join(text.split()))


def hover_point(axes: Axes, x: float, y: float, text: str) -> None:
    """Have the SVG show ``text`` at one point of a line."""
    (point,) = axes.plot([x], [y], "o", alpha=0, markersize=9, label="_hover")
    hover(point, text)


def hover_line(axes: Axes, x: Any, y: Any, text: str) -> None:
    """The same along a line, which alone would be too thin to be hit."""
    (line,) = axes.plot(x, y, linewidth=9, alpha=0, label="_hover")
    hover(line, text)


def _with_titles(svg: str) -> str:
    """The SVG with each hover text as its group's title, which browsers show."""
    return _HOVER_GROUP.sub(lambda match: f'<g class="value"><title>{match[1] or match[2]}</title>', svg)


@styled
def lay_out(figure: Figure) -> None:
    """Settle where the panels stand, which is else known only once the figure is drawn."""
    with _missing_letters_are_boxes():
        figure.draw_without_rendering()


@contextmanager
def _missing_letters_are_boxes() -> Iterator[None]:
    """A letter that the font lacks is a box in the figure, without a warning; tables have the letter."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        yield


@styled
def save_figure(figure: Figure, stem: Path) -> None:
    """Write ``<stem>.png`` and ``<stem>.svg``, the same bytes for the same figure."""
    with _missing_letters_are_boxes():
        with replacing(stem.with_name(f"{stem.name}.png")) as temporary:
            figure.savefig(temporary, metadata={"Software": None})
        svg = io.StringIO()
        figure.savefig(svg, format="svg", metadata={"Date": None})
    write_text(stem.with_name(f"{stem.name}.svg"), _with_titles(svg.getvalue()))
