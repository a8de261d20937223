"""The look of all figures: seaborn's theme for papers, with the colours that this project uses.

The colours are seaborn's palette for colour-blind readers, after black for the first model and without the
two that are too pale on white.
"""

from __future__ import annotations

from typing import Any

import matplotlib
import seaborn as sns

INK, FAINT, GRID, BAND = "#222222", "#8A8A8A", "#E4E4E4", "#E9E9E9"
SMALL_INK = "#666666"  # for less important words; its contrast on white is still above 4.5:1
PAPER_COLOR, PAPER_GROUND = "#6E6E6E", "#F6F6F6"
COLORS = [INK, *(sns.color_palette("colorblind").as_hex()[i] for i in (0, 1, 2, 3, 4, 9, 5, 7))]

SETTINGS: Any = {
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
}

styled = matplotlib.rc_context(SETTINGS)  # decorates a function that draws
