"""Quality against FLOPs and against latency, with the front of what no other model beats at its cost."""

from __future__ import annotations

import math

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from reports.cells import METRICS, POINTS, model_name, short, signed
from reports.figures.models import (
    Look,
    Looks,
    contestants,
    drawn_name,
    looks_for,
    looks_in,
    seaborn_looks,
    with_labels,
)
from reports.figures.panels import facets, legend_beside, legend_handles, legend_height, log_axis
from reports.figures.saving import hover_point
from reports.figures.style import FAINT, INK, SMALL_INK, styled

ROOM_FOR_A_NAME = 0.45  # of the width of a panel
LATENCY_TICKS = (1, 1.5, 2, 3, 5, 7)  # models of one budget differ by less than a decade
ONE_BUDGET = 1.5  # FLOPs within this factor are one budget's: a picture over them would be a vertical heap


@styled
def quality_against_cost(results: pd.DataFrame, looks: Looks | None = None) -> Figure:
    """AUC and UAUC against forward FLOPs per sample: mean, seeds, the oracle, and the Pareto front.

    Experts that a sample does not activate do not count. The front joins the models that no model of lower
    or equal cost reaches, by their means, resolved or not.

    Args:
        results: rows of ``results.csv`` for one dataset; the rows without FLOPs are references.
    """
    results = results.assign(flops=results["active_flops_per_sample"].fillna(results["flops_per_sample"]))
    models = with_labels(results[results["flops"].notna()])
    looks = looks_for(contestants(models), looks)
    height = max(3.1, legend_height(models) / models["task"].nunique())
    long = models.melt([c for c in models if c not in METRICS], METRICS, "metric", "quality")
    figure, panels = facets(long, 4.6, height)
    oracle = results[results["architecture"] == "oracle"].groupby("task")[list(METRICS)].mean()
    for axes, rows in panels:
        _cost_panel(axes, rows.dropna(subset="quality"), looks)
        task, metric = rows["task"].iloc[0], rows["metric"].iloc[0]
        if task in oracle.index and pd.notna(value := oracle.loc[task, metric]):
            _oracle_line(axes, float(value))
    kind = "forward FLOPs" if models["flops"].equals(models["flops_per_sample"]) else "active forward FLOPs"
    figure.supxlabel(f"{kind} per sample (marker: mean, dot: one seed; line: Pareto front of the means)")
    legend_beside(figure, legend_handles(contestants(models), looks))
    return figure


def _cost_panel(axes: Axes, rows: pd.DataFrame, looks: Looks) -> None:
    if rows.empty:
        return
    styles = seaborn_looks(contestants(rows), looks)
    dots = {name: styles[name] for name in ("hue", "palette", "legend")}
    place = {"x": "flops", "y": "quality", "ax": axes}
    sns.scatterplot(rows, **place, **dots, s=14, alpha=0.55, linewidth=0)
    means = rows.groupby("model", observed=True)[["flops", "quality"]].mean().reset_index()
    sns.scatterplot(means, **place, **styles, s=80)
    for name, flops, quality in means.itertuples(index=False):
        text = f"{name}: {rows['metric'].iloc[0].upper()} {quality:.4f}, {short(flops)} FLOPs"
        hover_point(axes, flops, quality, text)
    axes.set(xlabel="", ylabel="")
    low, high = float(rows["flops"].min()), float(rows["flops"].max())
    log_axis(axes.xaxis)
    axes.set_xlim(low / 1.3, high * 1.3)
    best = pareto_front(rows, "quality")
    front_line(axes, best)
    _front_names(axes, best)


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
def quality_against_latency(rows: pd.DataFrame, looks: Looks | None = None) -> Figure:
    """Differences to the base against the measured p99, each with its 95% interval, and the Pareto front.

    The front joins the models that no model of lower or equal p99 reaches, by their means, resolved or not.
    A mark is filled where the difference is resolved.

    Args:
        rows: one a model, task and metric: ``diff``, ``low``, ``high`` (fractions) and ``resolved`` as in
            ``comparisons.csv``, those of the base zero and empty; ``latency_ms_p99`` with ``_low`` and
            ``_high`` as in ``serving.csv``; ``noisy``, ``batch_size``, ``base``.
    """
    models, looks = looks_in(rows, looks)
    points = POINTS * rows[["diff", "low", "high"]].astype(float)
    rows = rows.assign(variant=rows["variant"].fillna(""), **points)
    figure, panels = facets(rows, 4.6, max(3.3, legend_height(rows) / rows["task"].nunique()))
    for axes, shown in panels:
        axes.axhline(0, color=INK, linewidth=1)
        for row in shown.to_dict("records"):
            _latency_mark(axes, row, looks[row["architecture"], row["variant"]])
        log_axis(axes.xaxis)
        axes.xaxis.set_major_locator(LogLocator(subs=LATENCY_TICKS))
        best = pareto_front(shown, "diff", "latency_ms_p99")
        front_line(axes, best)
        _front_names(axes, best)
    for axes, _ in panels[::2]:
        axes.set_ylabel(f"difference to {rows['base'].iloc[0]}, AUC points x {POINTS}")
    noisy = "; pale: noisy" if rows["noisy"].any() else ""
    figure.supxlabel(
        f"p99 of a call with {rows['batch_size'].iloc[0]} rows, ms, look-ups included "
        f"(lines: 95% intervals; filled: resolved; steps: Pareto front{noisy})"
    )
    legend_beside(figure, legend_handles(models, looks))
    return figure


def _latency_mark(axes: Axes, row: dict, look: Look) -> None:
    x, y = row["latency_ms_p99"], row["diff"]
    faint = 0.45 if row["noisy"] else 1.0
    line = {"color": look.color, "linewidth": 1.2, "alpha": faint}
    axes.plot([x, x], [row["low"], row["high"]], **line)
    ends = row["latency_ms_p99_low"], row["latency_ms_p99_high"]
    axes.plot([x if pd.isna(end) else end for end in ends], [y, y], **line)
    fill = look.color if row["resolved"] == "yes" else "white"
    axes.plot([x], [y], look.marker, color=look.color, mfc=fill, mec=look.color, alpha=faint, markersize=7)
    hover_point(axes, x, y, f"{model_name(row)}: {signed(y, 2)}, p99 {short(x)} ms")


def front_line(axes: Axes, front: pd.DataFrame) -> None:
    """Steps: what the best model within a cost reaches."""
    costs, values = front.iloc[:, -2].astype(float), front.iloc[:, -1].astype(float)
    axes.plot(costs, values, drawstyle="steps-post", color=FAINT, linewidth=1.4, zorder=1, label="_front")
    axes.margins(y=0.12)


def _front_names(axes: Axes, front: pd.DataFrame) -> None:
    """The name of the model at each step where there is room for it."""
    low, high = axes.get_xlim()
    named = -ROOM_FOR_A_NAME
    for architecture, variant, flops, quality in front.itertuples(index=False):
        across = math.log(flops / low) / math.log(high / low)
        if across - named >= ROOM_FOR_A_NAME:
            side = "left" if across < 0.5 else "right"
            name, place = drawn_name((architecture, variant)), (flops, quality)
            axes.annotate(name, place, (0, 6), textcoords="offset points", ha=side, va="bottom", fontsize=7.5)
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
