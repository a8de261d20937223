"""Which experts are active: over training, as the paper's Figure 4, and at the end, the dead ones counted.

As in :mod:`reports.figures`, each function takes a DataFrame and returns a matplotlib figure; the frames are
those of :mod:`reports.frames`.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.records.contestant import label
from harness.records.record import DEAD_SHARE
from reports.cells import short_tick
from reports.figures import contestants, drawn_name, rows_of
from reports.style import INK, SMALL_INK, canvas, hover, hover_line, look, styled

PANELS_PER_ROW = 8
DEAD_COLOR, DEAD_INK = "#D55E00", "#A84A00"  # the words darker, to be read


# --- Active experts over training, as the paper's Figure 4 ------------------------------------------------


@styled
def active_over_training(routing: pd.DataFrame) -> Figure:
    """Active ratio over training, a small panel a token and layer: a faint line a seed, and their mean.

    Args:
        routing: rows of :func:`reports.frames.routing_frame` of one contestant.
    """
    [model] = contestants(routing)
    layers, tokens = sorted(set(routing["layer"])), sorted(set(routing["token"]))
    columns = min(PANELS_PER_ROW, len(tokens))
    rows_per_layer = math.ceil(len(tokens) / columns)
    figure, panels = canvas(len(layers) * rows_per_layer, columns, 1.32, 1.12, sharex=True, sharey=True)
    target = float(routing["target"].iloc[0])
    for axes in (axes for row in panels for axes in row):
        axes.set_visible(False)
    for at_layer, layer in enumerate(layers):
        for at_token, token in enumerate(tokens):
            axes = panels[at_layer * rows_per_layer + at_token // columns][at_token % columns]
            axes.set_visible(True)
            mine = routing[(routing["layer"] == layer) & (routing["token"] == token)]
            _active_panel(axes, mine, target, look(*model).color)
            axes.set_title(f"layer {layer}, token {token}", loc="left", fontsize=7.5, fontweight="normal")
    figure.supxlabel("training samples seen", fontsize="medium")
    title = f"{label(*model)}: share of each token's experts that are active"
    handles = _active_legend(routing, look(*model).color)
    figure.legend(handles=handles, title=title, loc="outside upper center", ncols=3)
    return figure


def _active_panel(axes: Axes, rows: pd.DataFrame, target: float, color: str) -> None:
    axes.axhline(target, color=INK, linestyle=":", linewidth=1)
    for _, of_seed in rows.groupby("seed"):
        axes.plot(of_seed["samples"], of_seed["active"], color=color, alpha=0.35, linewidth=0.8)
    mean = rows.groupby("samples")["active"].mean()
    axes.plot(mean.index, mean, color=color, linewidth=1.6, label="mean")
    place = f"layer {rows['layer'].iloc[0]}, token {rows['token'].iloc[0]}"
    hover_line(axes, mean.index, mean, f"{place}: {mean.iloc[-1]:.3f} active at the end")
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1], ["0", "½", "1"])
    axes.locator_params(axis="x", nbins=2)
    axes.xaxis.set_major_formatter(short_tick)
    axes.tick_params(labelsize=7, length=2)


def _active_legend(routing: pd.DataFrame, color: str) -> list[Line2D]:
    seeds = routing["seed"].nunique()
    return [
        Line2D([], [], color=color, linewidth=1.6, label=f"mean over {seeds} seed{'s' * (seeds > 1)}"),
        Line2D([], [], color=color, alpha=0.35, linewidth=0.8, label="one seed"),
        Line2D([], [], color=INK, linestyle=":", linewidth=1, label="target, over all tokens and layers"),
    ]


# --- Active experts at the end ----------------------------------------------------------------------------

# White to dark blue, even in lightness, so that it also reads in grey.
_BLUES = ("#FFFFFF", "#DCE9F4", "#B5D0E6", "#86B3D5", "#5594C1", "#2E74A8", "#16558A", "#083A66")


@styled
def active_heat_map(experts: pd.DataFrame) -> Figure:
    """Active ratio on the test split by layer and token, mean over seeds: a map a contestant.

    Args:
        experts: rows of :func:`reports.frames.active_experts_frame`.
    """
    models = contestants(experts)
    num_tokens, num_layers = experts["token"].max(), experts["layer"].max()
    width = 1.2 + 0.36 * num_tokens
    figure, panels = canvas(len(models), 1, max(6.0, width), 0.5 + 0.3 * num_layers, sharex=True)
    for model, [axes] in zip(models, panels, strict=True):
        mine = rows_of(experts, model)
        cells = mine.pivot_table(index="layer", columns="token", values="share", aggfunc="mean")
        _heat_panel(axes, cells)
        overall, target = mine["share"].mean(), mine["target"].iloc[0]
        axes.set_title(f"{label(*model)}: {overall:.3f} active, target {target:g}", loc="left", fontsize=9)
    panels[-1][0].set_xlabel("token")
    figure.supylabel("layer", fontsize="medium")
    return figure


def _heat_panel(axes: Axes, cells: pd.DataFrame) -> None:
    blues = _even_blues()
    axes.imshow(cells.to_numpy(), cmap=blues, vmin=0, vmax=1, aspect="auto")
    axes.grid(visible=False)
    axes.set_xticks(range(cells.shape[1]), [str(token) for token in cells.columns])
    axes.set_yticks(range(cells.shape[0]), [str(layer) for layer in cells.index])
    axes.tick_params(length=0, labelsize=7.5)
    for (y, x), value in np.ndenumerate(cells.to_numpy()):
        shown = f"{value:.2f}".removeprefix("0") if value < 0.995 else "1"
        color = readable_on(blues(float(value)))
        text = axes.text(x, y, shown, ha="center", va="center", fontsize=7.5, color=color)
        hover(text, f"layer {cells.index[y]}, token {cells.columns[x]}: {value:.3f} active")


def readable_on(background: tuple[float, ...]) -> str:
    """Black or white, whichever stands out more; one of them always reaches a contrast of 4.5:1."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in background[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if (luminance + 0.05) ** 2 > 0.05 * 1.05 else "white"


def _even_blues() -> Colormap:
    stops = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in _BLUES])
    at = np.linspace(0, len(stops) - 1, 256)
    return ListedColormap(np.column_stack([np.interp(at, range(len(stops)), stops[:, i]) for i in range(3)]))


@styled
def expert_histogram(experts: pd.DataFrame) -> Figure:
    """How often each expert is active on the test split: a histogram a contestant, the dead ones apart.

    Counts are over the experts of all layers, tokens and seeds; dead is active on less than 0.1% of rows.

    Args:
        experts: rows of :func:`reports.frames.active_experts_frame`.
    """
    models = contestants(experts)
    columns = 3 if len(models) % 3 == 0 else min(4, len(models))
    num_rows = math.ceil(len(models) / columns)
    figure, panels = canvas(num_rows, columns, 2.9, 2.1, sharey=True)
    every = [axes for row in panels for axes in row]
    for axes in every[len(models) :]:
        axes.set_visible(False)
    for axes, model in zip(every, models, strict=False):
        _expert_panel(axes, rows_of(experts, model), look(*model).color)
        axes.set_title(drawn_name(model), loc="left", fontsize=9)
    figure.supxlabel("share of test rows on which an expert is active (dotted: target)", fontsize="medium")
    figure.supylabel("share of experts", fontsize="medium")
    return figure


def _expert_panel(axes: Axes, rows: pd.DataFrame, color: str) -> None:
    shares = rows["share"].to_numpy()
    alive, dead = shares[shares >= DEAD_SHARE], int((shares < DEAD_SHARE).sum())
    counts, edges = np.histogram(alive, bins=20, range=(0, 1))
    heights = counts / len(shares)
    bars = axes.bar(edges[:-1], heights, width=0.05, align="edge", color=color, edgecolor="white")
    for bar, left, count in zip(bars, edges, counts, strict=False):
        hover(bar, f"active on {left:.2f} to {left + 0.05:.2f} of rows: {count:,} experts")
    axes.bar([-0.155], [dead / len(shares)], width=0.05, color=DEAD_COLOR, hatch="////", edgecolor="white")
    axes.axvline(float(rows["target"].iloc[0]), color=INK, linestyle=":", linewidth=1)
    axes.set_xticks([-0.13, 0, 0.5, 1], ["dead", "0", "½", "1"])
    axes.get_xticklabels()[0].set(color=DEAD_INK)
    axes.set_xlim(-0.22, 1.02)
    axes.set_ylim(top=1.2 * max(axes.dataLim.y1, axes.get_ylim()[1] / 1.2))  # room for the words
    color = DEAD_INK if dead else SMALL_INK
    words = f"dead: {dead:,} of {len(shares):,}"
    axes.annotate(
        words, (0.98, 0.99), xycoords="axes fraction", ha="right", va="top", color=color, fontsize=8.5
    )
