"""Draws the pictures of the front page and of notebook 2: ``python docs/pictures.py``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from rankmixer.mixing import mix_tokens  # noqa: E402 - the checkout need not be installed
from reports.figures.drawing.style import COLORS, INK, SMALL_INK, styled  # noqa: E402

PICTURES = ROOT / "docs/pictures"
TOKENS = ("user", "video", "author", "history")
HEIGHT = 0.74  # of a token
TINTS = COLORS[1:5]


@styled
def rankmixer_block() -> Figure:
    """Four tokens on their way through a block: mixed without weights, then a network for each.

    Colours tell which token a slice comes from; where the slices go is what `mix_tokens` does with them.
    """
    origin = torch.arange(4).repeat_interleave(4).reshape(1, 4, 4)  # (B, T, D)
    figure, axes = plt.subplots(figsize=(7.2, 2.15), layout="constrained")
    for left, tokens, title in ((0.0, origin, "tokens"), (6.3, mix_tokens(origin), "mixed tokens")):
        draw_tokens(axes, tokens[0], left)
        axes.text(left + 2, -0.25, title, ha="center", va="bottom", fontweight="bold")
    for row, name in enumerate(TOKENS):
        middle = row + HEIGHT / 2
        axes.text(-0.2, middle, name, ha="right", va="center")
        _arrow(axes, (10.45, middle), (11.35, middle))
        axes.add_patch(
            FancyBboxPatch(
                (11.5, row + 0.07), 2.3, HEIGHT - 0.14, "round,pad=0.06", facecolor="white", edgecolor=INK
            )
        )
        axes.text(12.65, middle, f"network {row + 1}", ha="center", va="center")
        _arrow(axes, (13.95, middle), (14.85, middle))
    axes.text(12.65, -0.25, "one for each token", ha="center", va="bottom", fontweight="bold")
    _arrow(axes, (4.3, 1.87), (6.0, 1.87))
    axes.text(5.15, 1.72, "mixing", ha="center", va="bottom")
    axes.text(5.15, 2.05, "no weights,\nno FLOPs", ha="center", va="top", color=SMALL_INK, fontsize="small")
    axes.set(xlim=(-1.8, 15), ylim=(3.85, -0.75), aspect="equal")
    axes.set_axis_off()
    return figure


def draw_tokens(axes: Axes, origin: Tensor, left: float = 0.0) -> None:
    """Draw tokens as rows of cells, each in the colour of the token that its number comes from.

    ``origin`` (T, D) holds the numbers of these tokens, 0 to 3; token 0 is at the top, a cell is one wide.
    """
    for row, numbers in enumerate(origin.tolist()):
        for column, number in enumerate(numbers):
            place = (left + column, row)
            axes.add_patch(Rectangle(place, 1, HEIGHT, facecolor=TINTS[number], edgecolor="white"))


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=9, color=INK, linewidth=1))


DRAWN = {"rankmixer_block.svg": rankmixer_block}


def main(folder: Path = PICTURES) -> None:
    """Write every picture; the same code gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in DRAWN.items():
        with plt.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}):  # viewers may lack the font
            draw().savefig(folder / name, metadata={"Date": None}, facecolor="white")


if __name__ == "__main__":
    main()
