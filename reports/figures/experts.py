"""Which experts are active: over training, as the paper's Figure 4, and at the end, with the dead ones.

The frames are those of :mod:`reports.frames`.
"""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from harness.records.record import DEAD_SHARE
from reports.cells import short_tick
from reports.figures.drawing.models import Look, select_model
from reports.figures.drawing.panels import Options, Panels, Plot
from reports.figures.drawing.saving import hover, hover_line
from reports.figures.drawing.style import INK, SMALL_INK, styled

DEAD_COLOR, DEAD_INK = "#D55E00", "#A84A00"  # the words are darker, to be readable
LIGHT_BLUES = sns.light_palette("#64BCF0", as_cmap=True)  # light enough for black numbers on every shade


@styled
def active_over_training(routing: pd.DataFrame, **options: Unpack[Options]) -> Panels:
    """Active ratio over training, a panel for each layer: a line for each token, and the mean over tokens.

    Lines are means over seeds.

    Args:
        routing: rows of :func:`reports.frames.routing_frame` of one model.
    """
    plot = Plot(routing, options)
    [model] = plot.models
    look, layers = plot.looks[model], sorted(set(plot.rows["layer"]))
    panels = plot.grid(len(layers), 4, 3.4, 2.6, sharex=True, sharey=True)
    for axes, layer in zip(panels, layers, strict=True):
        _active_panel(axes, plot.rows[plot.rows["layer"] == layer], look)
        axes.set_title(f"layer {layer}")
    plot.ylabel("share of a token's experts that are active")
    plot.xlabel(f"training samples seen by {look.shown}")
    tokens, seeds = routing["token"].nunique(), routing["seed"].nunique()
    over = f", mean over {seeds} seeds" if seeds > 1 else ""
    plot.legend([
        Line2D([], [], color=look.color, linewidth=2.4, label=f"mean over {tokens} tokens"),
        Line2D([], [], color=look.color, alpha=0.4, linewidth=0.8, label=f"one token{over}"),
        Line2D([], [], color=INK, linestyle=":", linewidth=1.2, label="target, over all tokens and layers"),
    ])  # fmt: skip
    return plot.result


def _active_panel(axes: Axes, rows: pd.DataFrame, look: Look) -> None:
    tokens = rows.pivot_table(index="samples", columns="token", values="active", aggfunc="mean")
    for token, active in tokens.items():
        axes.plot(tokens.index, active, color=look.color, alpha=0.4, linewidth=0.8)
        text = f"token {token}: {active.iloc[-1]:.3f} active at the end"
        hover_line(axes, tokens.index, active, text)
    axes.plot(tokens.index, tokens.mean(axis=1), color=look.color, linewidth=2.4)
    axes.axhline(float(rows["target"].iloc[0]), color=INK, linestyle=":", linewidth=1.2)
    axes.set(xlabel="", ylabel="", ylim=(0, 1.02))
    axes.set_yticks([0, 0.5, 1], ["0", "½", "1"])
    axes.locator_params(axis="x", nbins=4)
    axes.xaxis.set_major_formatter(short_tick)


@styled
def active_heat_map(experts: pd.DataFrame, **options: Unpack[Options]) -> Panels:
    """Active ratio on the test split by layer and token, mean over seeds: a map for each model.

    Args:
        experts: rows of :func:`reports.frames.active_experts_frame`.
    """
    plot = Plot(experts, options)
    num_tokens, num_layers = experts["token"].max(), experts["layer"].max()
    size = max(6.0, 1.2 + 0.36 * num_tokens), 0.5 + 0.3 * num_layers
    panels = plot.grid(len(plot.models), 1, *size, sharex=True)
    for model, axes in zip(plot.models, panels, strict=True):
        rows = select_model(experts, model)
        _heat_panel(axes, rows.pivot_table(index="layer", columns="token", values="share", aggfunc="mean"))
        overall, target = rows["share"].mean(), rows["target"].iloc[0]
        title = f"{plot.looks[model].shown}: {overall:.3f} active, target {target:g}"
        plot.title(axes, title)
        axes.set_ylabel("layer")
    panels[-1].set_xlabel("token")
    return plot.result


def _heat_panel(axes: Axes, ratios: pd.DataFrame) -> None:
    shown = ratios.map(lambda value: f"{value:.2f}".removeprefix("0") if value < 0.995 else "1")
    sns.heatmap(
        ratios,
        **{"cmap": LIGHT_BLUES, "vmin": 0, "vmax": 1, "cbar": False, "ax": axes},
        **{"annot": shown, "fmt": "", "annot_kws": {"fontsize": "x-small", "color": "black"}},
    )
    places = [(layer, token) for layer in ratios.index for token in ratios.columns]
    for text, (layer, token) in zip(axes.texts, places, strict=True):
        hover(text, f"layer {layer}, token {token}: {ratios.loc[layer, token]:.3f} active")
    axes.set(xlabel="", ylabel="")
    axes.tick_params(length=0, labelsize="small", rotation=0)


@styled
def expert_histogram(experts: pd.DataFrame, **options: Unpack[Options]) -> Panels:
    """How often each expert is active on the test split: a histogram for each model, the dead ones apart.

    Counts are over the experts of all layers, tokens and seeds; dead is active on less than 0.1% of rows.

    Args:
        experts: rows of :func:`reports.frames.active_experts_frame`.
    """
    plot = Plot(experts, options)
    columns = 3 if len(plot.models) % 3 == 0 else 4
    panels = plot.grid(len(plot.models), columns, 2.9, 2.1, sharey=True)
    for axes, model in zip(panels, plot.models, strict=True):
        _expert_panel(axes, select_model(experts, model), plot.looks[model].color)
        plot.title(axes, plot.looks[model].shown)
    plot.xlabel("share of test rows on which an expert is active (dotted: target)")
    plot.ylabel("share of experts")
    return plot.result


def _expert_panel(axes: Axes, rows: pd.DataFrame, color: Any) -> None:
    shares = rows["share"].to_numpy()
    alive, dead = shares[shares >= DEAD_SHARE], int((shares < DEAD_SHARE).sum())
    weights = np.full(len(alive), 1 / len(shares))
    bins: dict[str, Any] = {"bins": 20, "binrange": (0, 1), "weights": weights, "ax": axes}
    sns.histplot(x=alive, **bins, color=color, alpha=1, edgecolor="white")
    for bar in axes.patches:
        left, count = bar.get_x(), round(bar.get_height() * len(shares))  # type: ignore[attr-defined]
        hover(bar, f"active on {left:.2f} to {left + 0.05:.2f} of rows: {count:,} experts")
    axes.bar([-0.155], [dead / len(shares)], width=0.05, color=DEAD_COLOR, hatch="////", edgecolor="white")
    axes.axvline(float(rows["target"].iloc[0]), color=INK, linestyle=":", linewidth=1)
    axes.set(xlabel="", ylabel="", xlim=(-0.22, 1.02))
    axes.set_xticks([-0.13, 0, 0.5, 1], ["dead", "0", "½", "1"])
    axes.get_xticklabels()[0].set(color=DEAD_INK)
    axes.set_ylim(top=1.2 * max(axes.dataLim.y1, axes.get_ylim()[1] / 1.2))  # room for the words
    words, color = f"dead: {dead:,} of {len(shares):,}", DEAD_INK if dead else SMALL_INK
    place: dict[str, Any] = {"xycoords": "axes fraction", "ha": "right", "va": "top", "fontsize": "small"}
    axes.annotate(words, (0.98, 0.99), color=color, **place)
