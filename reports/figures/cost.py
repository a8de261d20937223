"""Quality against cost, with the front of the models that no other model beats at their cost."""

from __future__ import annotations

import math

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.cells import METRICS, short, short_tick
from reports.figures.models import Looks, contestants, drawn_name, looks_for, seaborn_looks, with_labels
from reports.figures.panels import facets, legend_beside, legend_handles, legend_height, log_axis
from reports.figures.saving import hover_point
from reports.figures.style import BAND, FAINT, SMALL_INK, styled

BUDGET_BAND = 0.03
ROOM_FOR_A_NAME = 0.45  # of the width of a panel
ONE_BUDGET = 1.5  # costs within this factor are drawn on a linear axis, and have no front


@styled
def quality_against_cost(results: pd.DataFrame, looks: Looks | None = None) -> Figure:
    """AUC and UAUC against forward FLOPs per sample: mean, seeds, the oracle, and the Pareto front.

    Experts that a sample does not activate do not count. The front joins the models that no model of lower
    or equal cost reaches, by their means, resolved or not; models of one budget have none.

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
    shaded = "; shaded: budget ± 3%" if _has_one_budget(models) else ""
    front = "; line: Pareto front of the means" if _has_front(models) else ""
    kind = "forward FLOPs" if models["flops"].equals(models["flops_per_sample"]) else "active forward FLOPs"
    figure.supxlabel(f"{kind} per sample (marker: mean, dot: one seed{shaded}{front})")
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
    _flops_axis(axes, rows)
    if _has_front(rows):
        best = pareto_front(rows, "quality")
        front_line(axes, best)
        _front_names(axes, best)


def _flops_axis(axes: Axes, rows: pd.DataFrame) -> None:
    """Linear around one budget (its 3% band shaded), else logarithmic."""
    low, high = float(rows["flops"].min()), float(rows["flops"].max())
    if _has_front(rows):
        log_axis(axes.xaxis)
        axes.set_xlim(low / 1.3, high * 1.3)
        return
    if _has_one_budget(rows):
        budget = float(rows["budget_flops"].iloc[0])
        inner, outer = (budget * (1 + sign * BUDGET_BAND) for sign in (-1, 1))
        axes.axvspan(inner, outer, color=BAND, zorder=0)
        low, high = min(low, inner), max(high, outer)
    margin = 0.15 * (high - low) or 0.05 * low
    axes.set_xlim(low - margin, high + margin)
    axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter(short_tick)


def _has_front(rows: pd.DataFrame) -> bool:
    """Whether costs differ by more than a matched budget lets them."""
    return not rows.empty and bool(rows["flops"].max() > ONE_BUDGET * rows["flops"].min())


def _has_one_budget(rows: pd.DataFrame) -> bool:
    return bool(rows["budget_flops"].notna().all()) and len(set(rows["budget_flops"])) == 1


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
