"""The one look of all figures: fonts, sizes, and a colour and marker for every architecture.

Colours are the colour-blind-safe sets of Okabe and Ito and of Paul Tol, chosen for contrast on white.
An architecture has the same colour and marker in every figure, whatever else is drawn; where two share
a colour their markers differ. Variants of one architecture share its colour and differ in marker.
"""

from __future__ import annotations

import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.files import replacing

INK, FAINT, BAND = "#222222", "#8A8A8A", "#E9E9E9"
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
_FREE_COLORS = (_BLUE, _ORANGE, _GREEN, _PINK, _SKY, _WINE, _OLIVE, _INDIGO)
_MARKERS = "os^Dv<>PXph*d"


def look(architecture: str, variant: str = "") -> Look:
    """The look of a contestant; a user's own architecture gets one that its name alone decides."""
    known = LOOKS.get(architecture)
    if known is None:
        number = zlib.crc32(architecture.encode())
        known = Look(_FREE_COLORS[number % len(_FREE_COLORS)], _MARKERS[number // 8 % len(_MARKERS)])
    if variant in ("", "default", architecture):
        return known
    others = [marker for marker in _MARKERS if marker != known.marker]
    return Look(known.color, others[zlib.crc32(variant.encode()) % len(others)])


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


@styled
def save_figure(figure: Figure, stem: Path) -> None:
    """Write ``<stem>.png`` and ``<stem>.svg``, the same bytes for the same figure."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a box in the figure; tables have the letter
        with replacing(stem.with_name(f"{stem.name}.png")) as temporary:
            figure.savefig(temporary, metadata={"Software": None})
        with replacing(stem.with_name(f"{stem.name}.svg")) as temporary:
            figure.savefig(temporary, metadata={"Date": None})
