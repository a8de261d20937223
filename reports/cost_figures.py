"""Quality against cost, with the front of the models that none beats at their cost.

As in :mod:`reports.figures`, a figure's function takes a DataFrame and returns a matplotlib figure.
"""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from harness.records.contestant import label
from reports.cells import short, short_tick
from reports.figures import METRICS, contestants, drawn_name, legend_beside, legend_height, rows_of
from reports.style import BAND, FAINT, INK, SMALL_INK, canvas, hover, look, styled

BUDGET_BAND = 0.03
ROOM_FOR_A_NAME = 0.45  # of the width of a panel
ONE_BUDGET = 1.5  # costs within this factor are drawn on a linear axis, and have no front


@styled
def quality_against_cost(results: pd.DataFrame) -> Figure:
    """AUC and UAUC against forward FLOPs per sample: mean, seeds, the oracle, and the Pareto front.

    Experts that a sample does not activate do not count. The front joins the models that no model of lower
    or equal cost reaches, by their means, resolved or not; models of one budget have none.

    Args:
        results: rows of ``results.csv`` for one dataset; the rows without FLOPs are references.
    """
    active = results["active_flops_per_sample"].fillna(results["flops_per_sample"])
    results = results.assign(flops=active)
    models = results[results["flops"].notna()]
    oracle = results[results["architecture"] == "oracle"]
    tasks = list(dict.fromkeys(models["task"].dropna()))
    height = max(3.1, legend_height(models) / len(tasks))
    figure, panels = canvas(len(tasks), len(METRICS), 4.6, height)
    for task, row in zip(tasks, panels, strict=True):
        for metric, axes in zip(METRICS, row, strict=True):
            of_task = models[(models["task"] == task) & models[metric].notna()]
            _cost_panel(axes, of_task, metric)
            if _has_front(of_task):
                best = pareto_front(of_task, metric)
                front_line(axes, best)
                _front_names(axes, best)
            _oracle_line(axes, oracle.loc[oracle["task"] == task, metric].dropna())
            axes.set_title(f"{task}: {metric.upper()}", loc="left")
    shaded = "; shaded: budget ± 3%" if _has_one_budget(models) else ""
    front = "; line: Pareto front of the means" if _has_front(models) else ""
    kind = "forward FLOPs" if models["flops"].equals(models["flops_per_sample"]) else "active forward FLOPs"
    figure.supxlabel(f"{kind} per sample (marker: mean, dot: one seed{shaded}{front})", fontsize="medium")
    legend_beside(figure, contestants(models))
    return figure


def _cost_panel(axes: Axes, rows: pd.DataFrame, metric: str) -> None:
    for model in contestants(rows):
        mine, style = rows_of(rows, model), look(*model)
        flops, values = mine["flops"].astype(float), mine[metric].astype(float)
        axes.plot(flops, values, ".", color=style.color, alpha=0.55, markersize=5)
        (point,) = axes.plot(
            [flops.mean()],
            [values.mean()],
            style.marker,
            color=style.color,
            markersize=9,
            markeredgecolor="white",
            label=label(*model),
        )
        hover(point, f"{label(*model)}: {metric.upper()} {values.mean():.4f}, {short(flops.mean())} FLOPs")
    _flops_axis(axes, rows)


def _flops_axis(axes: Axes, rows: pd.DataFrame) -> None:
    """Linear around one budget (its 3% band shaded), else logarithmic."""
    flops = rows["flops"].dropna()
    if flops.empty:
        return
    low, high = float(flops.min()), float(flops.max())
    if _has_front(rows):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.set_xlim(low / 1.3, high * 1.3)
    else:
        if _has_one_budget(rows):
            budget = float(rows["budget_flops"].iloc[0])
            inner, outer = (budget * (1 + sign * BUDGET_BAND) for sign in (-1, 1))
            axes.axvspan(inner, outer, color=BAND, zorder=0)
            low, high = min(low, inner), max(high, outer)
        margin = 0.15 * (high - low) or 0.05 * low
        axes.set_xlim(low - margin, high + margin)
        axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter(short_tick)
    axes.xaxis.set_minor_formatter(lambda value, _: "")


def _has_front(rows: pd.DataFrame) -> bool:
    """Whether costs differ by more than a matched budget lets them."""
    return not rows.empty and bool(rows["flops"].max() > ONE_BUDGET * rows["flops"].min())


def pareto_front(rows: pd.DataFrame, metric: str, cost: str = "flops") -> pd.DataFrame:
    """The models that no model of lower or equal cost reaches, by rising cost.

    Args:
        rows: architecture, variant, cost and the metric, a row a run.

    Returns:
        Columns architecture, variant, cost and the metric, both means over the model's runs.
    """
    named = rows.assign(variant=rows["variant"].fillna("").astype(str))
    means = named.groupby(["architecture", "variant"], sort=False)[[cost, metric]].mean().reset_index()
    means = means.sort_values([cost, metric], ascending=[True, False], kind="stable")
    before = means[metric].astype(float).cummax().shift()
    return means[before.isna() | (means[metric].astype(float) > before)].reset_index(drop=True)


def front_line(axes: Axes, front: pd.DataFrame) -> None:
    """Steps: what the best model within a cost reaches."""
    costs, values = front.iloc[:, -2].astype(float), front.iloc[:, -1].astype(float)
    axes.plot(costs, values, drawstyle="steps-post", color=FAINT, linewidth=1.4, zorder=1, label="_front")
    axes.margins(y=0.12)


def _front_names(axes: Axes, front: pd.DataFrame) -> None:
    """The name of the model at each step where there is room for it."""
    low, high = axes.get_xlim()
    named = -ROOM_FOR_A_NAME
    for row, x, y in zip(front.to_dict("records"), front.iloc[:, -2], front.iloc[:, -1], strict=True):
        across = math.log(x / low) / math.log(high / low)
        if across - named >= ROOM_FOR_A_NAME:
            side = "left" if across < 0.5 else "right"
            place: dict[str, Any] = {"ha": side, "va": "bottom", "fontsize": 7.5, "color": INK}
            name = drawn_name((row["architecture"], row["variant"]))
            axes.annotate(name, (x, y), (0, 6), textcoords="offset points", **place)
            named = across


def _has_one_budget(rows: pd.DataFrame) -> bool:
    return bool(rows["budget_flops"].notna().all()) and len(set(rows["budget_flops"])) == 1


def _oracle_line(axes: Axes, values: pd.Series) -> None:
    """A dashed line, or a word at the top edge where the line would squeeze the models together."""
    if values.empty:
        return
    oracle = float(values.mean())
    low, high = axes.get_ylim()
    if low <= oracle <= high + 1.5 * (high - low):
        axes.axhline(oracle, color=FAINT, linestyle="--", linewidth=1.2, label="oracle")
        axes.annotate(
            f"oracle {oracle:.4f}",
            (0.02, oracle),
            (0, -3),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="top",
            color=SMALL_INK,
        )
    else:
        axes.set_ylim(low, high + 0.1 * (high - low))
        axes.annotate(
            f"oracle {oracle:.4f}, beyond this axis",
            (0.02, 0.98),
            xycoords="axes fraction",
            va="top",
            color=SMALL_INK,
        )
