"""Which experts are active: over training, as the paper's Figure 4, and at the end, with the dead ones.

The frames are those of :mod:`reports.frames`.
"""

from __future__ import annotations

import math
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.records.listed import display_name
from harness.records.record import DEAD_SHARE
from reports.cells import short_tick
from reports.figures.models import Looks, contestants, drawn_name, looks_for, looks_in, select_model
from reports.figures.panels import canvas
from reports.figures.saving import hover, hover_line
from reports.figures.style import INK, SMALL_INK, styled

PANELS_PER_ROW = 8
DEAD_COLOR, DEAD_INK = "#D55E00", "#A84A00"  # the words are darker, to be readable
LIGHT_BLUES = sns.light_palette("#64BCF0", as_cmap=True)  # light enough for black numbers on every shade


@styled
def active_over_training(routing: pd.DataFrame, looks: Looks | None = None) -> Figure:
    """Active ratio over training, a panel for each token and layer: a line for each seed, and their mean.

    Args:
        routing: rows of :func:`reports.frames.routing_frame` of one model.
    """
    [model] = contestants(routing)
    color = looks_for([model], looks)[model].color
    layers, tokens = sorted(set(routing["layer"])), sorted(set(routing["token"]))
    columns = min(PANELS_PER_ROW, len(tokens))
    rows_per_layer = math.ceil(len(tokens) / columns)
    figure, panels = canvas(len(layers) * rows_per_layer, columns, 1.32, 1.12, sharex=True, sharey=True)
    for layer, layer_panels in zip(layers, np.array_split(np.array(panels), len(layers)), strict=True):
        for axes in layer_panels.flat[len(tokens) :]:
            axes.set_visible(False)
        for token, axes in zip(tokens, layer_panels.flat, strict=False):
            rows = routing[(routing["layer"] == layer) & (routing["token"] == token)]
            _active_panel(axes, rows, f"layer {layer}, token {token}", color)
    figure.supxlabel("training samples seen")
    title = f"{display_name(*model)}: share of each token's experts that are active"
    handles = _active_legend(routing["seed"].nunique(), color)
    figure.legend(handles=handles, title=title, loc="outside upper center", ncols=3)
    return figure


def _active_panel(axes: Axes, rows: pd.DataFrame, place: str, color: Any) -> None:
    axes.axhline(float(rows["target"].iloc[0]), color=INK, linestyle=":", linewidth=1)
    lines: dict[str, Any] = {"x": "samples", "y": "active", "color": color, "ax": axes}
    sns.lineplot(rows, **lines, units="seed", estimator=None, alpha=0.35, linewidth=0.8)
    mean = rows.groupby("samples")["active"].mean().reset_index()
    sns.lineplot(mean, **lines, linewidth=1.6, label="mean", legend=False)
    text = f"{place}: {mean['active'].iloc[-1]:.3f} active at the end"
    hover_line(axes, mean["samples"], mean["active"], text)
    axes.set(xlabel="", ylabel="", ylim=(0, 1))
    axes.set_title(place, fontsize=7.5, fontweight="normal")
    axes.set_yticks([0, 0.5, 1], ["0", "½", "1"])
    axes.locator_params(axis="x", nbins=2)
    axes.xaxis.set_major_formatter(short_tick)
    axes.tick_params(labelsize=7, length=2)


def _active_legend(seeds: int, color: Any) -> list[Line2D]:
    return [
        Line2D([], [], color=color, linewidth=1.6, label=f"mean over {seeds} seed{'s' * (seeds > 1)}"),
        Line2D([], [], color=color, alpha=0.35, linewidth=0.8, label="one seed"),
        Line2D([], [], color=INK, linestyle=":", linewidth=1, label="target, over all tokens and layers"),
    ]


@styled
def active_heat_map(experts: pd.DataFrame) -> Figure:
    """Active ratio on the test split by layer and token, mean over seeds: a map for each model.

    Args:
        experts: rows of :func:`reports.frames.active_experts_frame`.
    """
    models = contestants(experts)
    num_tokens, num_layers = experts["token"].max(), experts["layer"].max()
    size = max(6.0, 1.2 + 0.36 * num_tokens), 0.5 + 0.3 * num_layers
    figure, panels = canvas(len(models), 1, *size, sharex=True)
    for model, [axes] in zip(models, panels, strict=True):
        rows = select_model(experts, model)
        _heat_panel(axes, rows.pivot_table(index="layer", columns="token", values="share", aggfunc="mean"))
        overall, target = rows["share"].mean(), rows["target"].iloc[0]
        axes.set_title(f"{display_name(*model)}: {overall:.3f} active, target {target:g}", fontsize=9)
    panels[-1][0].set_xlabel("token")
    figure.supylabel("layer")
    return figure


def _heat_panel(axes: Axes, ratios: pd.DataFrame) -> None:
    shown = ratios.map(lambda value: f"{value:.2f}".removeprefix("0") if value < 0.995 else "1")
    sns.heatmap(
        ratios,
        **{"cmap": LIGHT_BLUES, "vmin": 0, "vmax": 1, "cbar": False, "ax": axes},
        **{"annot": shown, "fmt": "", "annot_kws": {"fontsize": 7.5, "color": "black"}},
    )
    places = [(layer, token) for layer in ratios.index for token in ratios.columns]
    for text, (layer, token) in zip(axes.texts, places, strict=True):
        hover(text, f"layer {layer}, token {token}: {ratios.loc[layer, token]:.3f} active")
    axes.set(xlabel="", ylabel="")
    axes.tick_params(length=0, labelsize=7.5, rotation=0)


@styled
def expert_histogram(experts: pd.DataFrame, looks: Looks | None = None) -> Figure:
    """How often each expert is active on the test split: a histogram for each model, the dead ones apart.

    Counts are over the experts of all layers, tokens and seeds; dead is active on less than 0.1% of rows.

    Args:
        experts: rows of :func:`reports.frames.active_experts_frame`.
    """
    models, looks = looks_in(experts, looks)
    columns = 3 if len(models) % 3 == 0 else min(4, len(models))
    figure, panels = canvas(math.ceil(len(models) / columns), columns, 2.9, 2.1, sharey=True)
    every = list(chain.from_iterable(panels))
    for axes in every[len(models) :]:
        axes.set_visible(False)
    for axes, model in zip(every, models, strict=False):
        _expert_panel(axes, select_model(experts, model), looks[model].color)
        axes.set_title(drawn_name(model), fontsize=9)
    figure.supxlabel("share of test rows on which an expert is active (dotted: target)")
    figure.supylabel("share of experts")
    return figure


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
    place: dict[str, Any] = {"xycoords": "axes fraction", "ha": "right", "va": "top", "fontsize": 8.5}
    axes.annotate(words, (0.98, 0.99), color=color, **place)
