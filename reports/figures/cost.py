"""Quality against FLOPs and against latency, with the front of what no other model beats at its cost."""

from __future__ import annotations

import math
from typing import Any, Unpack

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from reports.cells import METRICS, POINTS, short, signed
from reports.figures.drawing.line_names import apart
from reports.figures.drawing.models import Look, Looks, Model, contestants, family, select_model
from reports.figures.drawing.panels import Options, Panels, Plot, log_axis, marker_size
from reports.figures.drawing.saving import hover_point
from reports.figures.drawing.style import FAINT, INK, SMALL_INK, styled

ROOM_FOR_A_NAME = 0.45  # of the width of a panel
CROWD = 8  # the intervals of more models than this hide their marks
LATENCY_TICKS = (1, 1.5, 2, 3, 5, 7)  # models of one budget differ by less than a decade
SIDE_BY_SIDE = 0.035  # of the width of a panel, between marks of nearly one cost
ONE_BUDGET = 1.5  # FLOPs within this factor are one budget's: a picture over them would be a vertical heap


@styled
def quality_against_cost(results: pd.DataFrame, **options: Unpack[Options]) -> Panels:
    """AUC and UAUC against forward FLOPs per sample: mean, seeds, the oracle, and the Pareto front.

    Experts that a sample does not activate do not count. The front joins the models that no model of lower
    or equal cost reaches, by their means, resolved or not. Marks of nearly one cost stand side by side.

    Args:
        results: rows of ``results.csv`` for one dataset; the rows without FLOPs are references.
    """
    results = results.assign(flops=results["active_flops_per_sample"].fillna(results["flops_per_sample"]))
    models = results[results["flops"].notna()]
    long = models.melt([c for c in models if c not in METRICS], METRICS, "metric", "quality")
    plot = Plot(long, options)
    height = max(3.1, plot.names_height / plot.rows["task"].nunique())
    oracle = results[results["architecture"] == "oracle"].groupby("task")[list(METRICS)].mean()
    for axes, rows in plot.facets(4.6, height):
        _cost_panel(axes, rows.dropna(subset="quality"), plot.looks)
        task, metric = rows["task"].iloc[0], rows["metric"].iloc[0]
        if task in oracle.index and pd.notna(value := oracle.loc[task, metric]):
            _oracle_line(axes, float(value))
    kind = "forward FLOPs" if models["flops"].equals(models["flops_per_sample"]) else "active forward FLOPs"
    plot.xlabel(
        f"{kind} per sample (marker: mean, dot: one seed; line: Pareto front of the means; marks of nearly "
        "one cost stand side by side)"
    )
    plot.legend(plot.handles(), beside=True)
    return plot.result


def _cost_panel(axes: Axes, rows: pd.DataFrame, looks: Looks) -> None:
    if rows.empty:
        return
    models = contestants(rows)
    means = {model: select_model(rows, model)[["flops", "quality"]].astype(float).mean() for model in models}
    places = _side_by_side([means[model]["flops"] for model in models])
    for members in _families(models):
        at = [models.index(model) for model in members]
        heights = [means[model]["quality"] for model in members]
        axes.plot([places[i] for i in at], heights, color=looks[members[0]].color, lw=0.7, alpha=0.5)
    for model, place in zip(models, places, strict=True):
        look, values = looks[model], select_model(rows, model)["quality"].astype(float)
        flops, quality = means[model]
        seeds = np.full(len(values), place)
        axes.scatter(seeds, values, marker="o", s=marker_size(0.5) ** 2, color=look.color, alpha=0.35, lw=0)
        mark: dict[str, Any] = {"marker": look.marker, "s": marker_size(1.4) ** 2, "color": look.color}
        axes.scatter([place], [quality], edgecolor="white", linewidth=0.7, zorder=3, **mark)
        text = f"{look.name}: {rows['metric'].iloc[0].upper()} {quality:.4f}, {short(flops)} FLOPs"
        hover_point(axes, place, quality, text)
    axes.set(xlabel="", ylabel="")
    low, high = min([*places, rows["flops"].min()]), max([*places, rows["flops"].max()])
    log_axis(axes.xaxis)
    axes.set_xlim(low / 1.3, high * 1.3)
    best = pareto_front(rows, "quality")
    front_line(axes, best)
    _front_names(axes, best, looks)


def _side_by_side(costs: list[float]) -> list[float]:
    """Places of marks over a logarithmic axis, moved apart where they would stand on each other."""
    logs = np.log(costs)
    low, span = logs.min(), max(float(np.ptp(logs)), 1e-9)
    step = min(SIDE_BY_SIDE, 1 / max(1, len(costs)))
    moved = apart(0.25 + 0.5 * (logs - low) / span, 0.5 * step)  # with room on both sides
    return list(np.exp(low + span * 2 * (moved - 0.25)))


def _families(models: list[Model]) -> list[list[Model]]:
    """The models that differ in their ratio or size alone, together, where there are several."""
    found: dict[Model, list[Model]] = {}
    for model in models:
        found.setdefault(family(model), []).append(model)
    return [members for members in found.values() if len(members) > 1]


def costs_differ(results: pd.DataFrame) -> bool:
    """Whether FLOPs differ by more than a matched budget lets them."""
    flops = results["flops_per_sample"].dropna().astype(float)
    return not flops.empty and bool(flops.max() > ONE_BUDGET * flops.min())


def pareto_front(rows: pd.DataFrame, metric: str, cost: str = "flops") -> pd.DataFrame:
    """The models that no model of lower or equal cost reaches, by rising cost.

    Args:
        rows: architecture, variant, cost and the metric, a row for each run.
        metric: the column that is better where it is higher.
        cost: the column that is better where it is lower.

    Returns:
        Columns architecture, variant, cost and the metric, both means over the model's runs.
    """
    named = rows.assign(variant=rows["variant"].fillna("").astype(str))
    means = named.groupby(["architecture", "variant"], sort=False)[[cost, metric]].mean().reset_index()
    means = means.sort_values([cost, metric], ascending=[True, False], kind="stable")
    before = means[metric].astype(float).cummax().shift()
    return means[before.isna() | (means[metric].astype(float) > before)].reset_index(drop=True)


# --- Against latency --------------------------------------------------------------------------------------


@styled
def quality_against_latency(rows: pd.DataFrame, **options: Unpack[Options]) -> Panels:
    """Differences to the base against the measured p99, each with its 95% interval, and the Pareto front.

    The front joins the models that no model of lower or equal p99 reaches, by their means, resolved or not.
    A mark is filled where the difference is resolved.

    Args:
        rows: one a model, task and metric: ``diff``, ``low``, ``high`` (fractions) and ``resolved`` as in
            ``comparisons.csv``, those of the base zero and empty; ``latency_ms_p99`` with ``_low`` and
            ``_high`` as in ``serving.csv``; ``noisy``, ``batch_size``, ``base``.
    """
    points = POINTS * rows[["diff", "low", "high"]].astype(float)
    plot = Plot(rows.assign(variant=rows["variant"].fillna(""), **points), options)
    height = max(3.3, plot.names_height / plot.rows["task"].nunique())
    for axes, shown in plot.facets(4.6, height):
        axes.axhline(0, color=INK, linewidth=1)
        for row in shown.to_dict("records"):
            look = plot.looks[row["architecture"], row["variant"]]
            _latency_mark(axes, row, look, pale_lines=len(plot.models) > CROWD)
        log_axis(axes.xaxis)
        axes.xaxis.set_major_locator(LogLocator(subs=LATENCY_TICKS))
        best = pareto_front(shown, "diff", "latency_ms_p99")
        front_line(axes, best)
        _front_names(axes, best, plot.looks)
    plot.ylabel(f"difference to {rows['base'].iloc[0]}, AUC points x {POINTS}")
    noisy = "; pale: noisy" if rows["noisy"].any() else ""
    plot.xlabel(
        f"p99 of a call with {rows['batch_size'].iloc[0]} rows, ms, look-ups included "
        f"(lines: 95% intervals; filled: resolved; steps: Pareto front{noisy})"
    )
    plot.legend(plot.handles(), beside=True)
    return plot.result


def _latency_mark(axes: Axes, row: dict, look: Look, pale_lines: bool) -> None:
    x, y = row["latency_ms_p99"], row["diff"]
    faint = 0.45 if row["noisy"] else 1.0
    line = {"color": look.color, "linewidth": 1.2, "alpha": faint * (0.4 if pale_lines else 1.0)}
    axes.plot([x, x], [row["low"], row["high"]], **line)
    ends = row["latency_ms_p99_low"], row["latency_ms_p99_high"]
    axes.plot([x if pd.isna(end) else end for end in ends], [y, y], **line)
    fill = look.color if row["resolved"] == "yes" else "white"
    axes.plot([x], [y], look.marker, color=look.color, mfc=fill, mec=look.color, alpha=faint)
    hover_point(axes, x, y, f"{look.name}: {signed(y, 2)}, p99 {short(x)} ms")


def front_line(axes: Axes, front: pd.DataFrame) -> None:
    """Steps: what the best model within a cost reaches."""
    costs, values = front.iloc[:, -2].astype(float), front.iloc[:, -1].astype(float)
    axes.plot(costs, values, drawstyle="steps-post", color=FAINT, linewidth=1.4, zorder=1, label="_front")
    axes.margins(y=0.12)


def _front_names(axes: Axes, front: pd.DataFrame, looks: Looks) -> None:
    """The name of the model at each step where there is room for it."""
    low, high = axes.get_xlim()
    named = -ROOM_FOR_A_NAME
    for architecture, variant, flops, quality in front.itertuples(index=False):
        across = math.log(flops / low) / math.log(high / low)
        if across - named >= ROOM_FOR_A_NAME:
            side = "left" if across < 0.5 else "right"
            name, place = looks[architecture, variant].shown, (flops, quality)
            near: dict[str, Any] = {"textcoords": "offset points", "ha": side, "va": "bottom"}
            axes.annotate(name, place, (0, 6), fontsize="small", **near)
            named = across


def _oracle_line(axes: Axes, oracle: float) -> None:
    """A dashed line, or a word at the top edge where the line would squeeze the models together."""
    low, high = axes.get_ylim()
    is_near = low <= oracle <= high + 1.5 * (high - low)
    if is_near:
        axes.axhline(oracle, color=FAINT, linestyle="--", linewidth=1.2, label="oracle")
    else:
        axes.set_ylim(low, high + 0.1 * (high - low))
    axes.annotate(
        f"oracle {oracle:.4f}" + ("" if is_near else ", beyond this axis"),
        (0.02, oracle if is_near else 0.98),
        (0, -3 if is_near else 0),
        xycoords=("axes fraction", "data" if is_near else "axes fraction"),
        textcoords="offset points",
        va="top",
        color=SMALL_INK,
    )
