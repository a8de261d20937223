"""The look of all figures: seaborn's theme, with the colours that this project uses, in three styles.

The plain style is that of reports; ``paper`` is one column of a paper, ``talk`` a slide. What a user has set
in matplotlib's ``rcParams`` goes before any of them.

The colours are seaborn's palette for colour-blind readers, after black for the first model and without those
that are too pale on white or grey. Beside them there are these neutral colours, and white, alone: pages with
a dark ground exchange them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

import matplotlib
import seaborn as sns

from files.errors import InputError

INK, FAINT, GRID = "#222222", "#8A8A8A", "#E4E4E4"
SMALL_INK = "#666666"  # for less important words; its contrast on white is still above 4.5:1
COLORS = [INK, *(sns.color_palette("colorblind").as_hex()[i] for i in (0, 1, 2, 3, 4, 9, 5)), "#999933"]

SETTINGS: dict[str, Any] = {
    **sns.axes_style("whitegrid"),
    **sns.plotting_context("paper"),
    "figure.dpi": 110,
    "savefig.dpi": 160,
    "font.family": "DejaVu Sans",  # matplotlib brings it: the same figure on every machine
    "figure.labelsize": "medium",
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.bottom": True,
    "ytick.left": True,
    "grid.color": GRID,
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    "text.parse_math": False,  # a name with dollar signs is not a formula
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 6,
    "figure.constrained_layout.w_pad": 0.09,
    "svg.hashsalt": "reports",  # the same figure gives the same file
    "svg.fonttype": "none",
    "pdf.fonttype": 42,  # venues refuse Type 3
}
_SMALL = dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 7)
_PAPER = {
    **{"font.family": ["STIXGeneral", "DejaVu Serif"], "font.size": 8, "axes.labelsize": 8},
    **{"axes.titlesize": 8, "savefig.dpi": 300, "lines.linewidth": 1.1, "lines.markersize": 4},
    **{"figure.constrained_layout.w_pad": 0.03, "figure.constrained_layout.h_pad": 0.03},
    **{"axes.linewidth": 0.6, "grid.linewidth": 0.5, "legend.handlelength": 1.4, "legend.columnspacing": 1.0},
    **dict.fromkeys(("xtick.major.width", "ytick.major.width"), 0.6),
    **_SMALL,
}
_TALK = {
    **{name: size for name, size in sns.plotting_context("talk").items() if name != "legend.title_fontsize"},
    **{"axes.titlesize": 18, "lines.linewidth": 2.4, "lines.markersize": 9},
}


@dataclass(frozen=True)
class Style:
    """``width`` is that of a whole figure in inches, ``stretch`` what the heights of panels are times."""

    settings: dict[str, Any] = field(default_factory=dict)
    width: float | None = None
    stretch: float = 1.0
    suffixes: tuple[str, ...] = ("png", "svg")


STYLES = {
    "": Style(SETTINGS),
    "paper": Style(SETTINGS | _PAPER, width=3.3, stretch=0.55, suffixes=("png", "svg", "pdf")),
    "talk": Style(SETTINGS | _TALK, stretch=1.5),
}
_chosen: ContextVar[Style] = ContextVar("style", default=STYLES[""])


def current_style() -> Style:
    return _chosen.get()


@contextmanager
def use_style(name: str | None) -> Iterator[None]:
    """Draw what follows in this style; None leaves the one that is in use.

    Raises InputError where there is no such style.
    """
    if name is not None and name not in STYLES:
        raise InputError(f"style: there is no {name!r}; choose paper or talk, or leave it out")
    token = _chosen.set(current_style() if name is None else STYLES[name])
    try:
        yield
    finally:
        _chosen.reset(token)


P = ParamSpec("P")
R = TypeVar("R")


def styled(function: Callable[P, R]) -> Callable[P, R]:
    """A function that draws in the style in use, or in that of its argument ``style``."""

    @functools.wraps(function)
    def in_style(*args: P.args, **kwargs: P.kwargs) -> R:
        with use_style(kwargs.get("style")), matplotlib.rc_context(_not_set_by_user()):  # type: ignore[arg-type]
            return function(*args, **kwargs)

    return in_style


def _not_set_by_user() -> Any:
    """The style's settings, of those that are as matplotlib has them."""
    now: Any = matplotlib.rcParams
    usual: Any = matplotlib.rcParamsDefault
    return {name: value for name, value in current_style().settings.items() if now[name] == usual[name]}
