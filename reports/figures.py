"""Figures: each function takes a DataFrame and returns a matplotlib figure, for a notebook to change.

The frames are rows of ``comparisons.csv`` and ``results.csv`` for one dataset, and the curves of
:mod:`reports.records`. Contestants are drawn in the order in which the frame first names them.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from reports.cells import grouped, short_tick
from reports.records import label
from reports.style import BAND, FAINT, INK, PAPER_COLOR, canvas, look, styled

POINTS = 100
METRICS = ("auc", "uauc")
BUDGET_BAND = 0.03
PAPER_MARK: dict[str, Any] = {
    "color": PAPER_COLOR,
    "marker": "|",
    "markersize": 10,
    "markeredgewidth": 2,
    "linestyle": "",
}


def contestants(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """(architecture, variant) pairs in order of first appearance; an absent variant is the empty one."""
    variants = frame["variant"].fillna("").astype(str)
    return list(dict.fromkeys(zip(frame["architecture"].astype(str), variants, strict=True)))


def rows_of(frame: pd.DataFrame, contestant: tuple[str, str]) -> pd.DataFrame:
    """The rows of one (architecture, variant)."""
    architecture, variant = contestant
    return frame[(frame["architecture"] == architecture) & (frame["variant"].fillna("") == variant)]


def rows_among(frame: pd.DataFrame, models: list[tuple[str, str]]) -> pd.DataFrame:
    """The rows of any of these (architecture, variant) pairs."""
    keys = zip(frame["architecture"].astype(str), frame["variant"].fillna("").astype(str), strict=True)
    return frame[[key in models for key in keys]]


# --- Differences to the base ------------------------------------------------------------------------------


@styled
def forest(comparisons: pd.DataFrame) -> Figure:
    """Differences to the base with their 95% intervals, a panel a task and metric.

    Args:
        comparisons: rows of ``comparisons.csv`` for one dataset, models only; a further column
            ``paper_gain`` (points x 100) adds the paper's marks.
    """
    models = contestants(comparisons)
    tasks = list(dict.fromkeys(comparisons["task"]))
    row_height = 0.38 if len(models) <= 10 else 0.27
    height = 0.9 + row_height * len(models)
    figure, panels = canvas(len(tasks), len(METRICS), 4.6, height, sharey=True, sharex="col")
    for task, row in zip(tasks, panels, strict=True):
        for metric, axes in zip(METRICS, row, strict=True):
            of_panel = comparisons[(comparisons["task"] == task) & (comparisons["metric"] == metric)]
            _forest_panel(axes, of_panel, models)
            axes.set_title(f"{task}: {metric.upper()}", loc="left")
            axes.tick_params(axis="y", length=0)
    bases = ", ".join(dict.fromkeys(comparisons["base"].astype(str)))
    numbers = f"seeds: {_span(comparisons['seeds'])}, users: {_span(comparisons['users'])}"
    figure.supxlabel(
        f"difference to {bases}, AUC points x 100, with 95% interval ({numbers})", fontsize="medium"
    )
    figure.legend(handles=_forest_legend(comparisons), loc="outside upper center", ncols=3)
    return figure


def _span(values: pd.Series) -> str:
    low, high = grouped(values.min()), grouped(values.max())
    return low if low == high else f"{low} to {high}"


def _forest_panel(axes: Axes, rows: pd.DataFrame, models: list[tuple[str, str]]) -> None:
    axes.axvline(0, color=INK, linewidth=1)
    axes.grid(axis="y", visible=False)
    for position, model in enumerate(models):
        for row in rows_of(rows, model).to_dict("records"):
            _difference(axes, row, position, model)
            if pd.notna(row.get("paper_gain")):
                axes.plot([row["paper_gain"]], [position + 0.28], **PAPER_MARK)
    axes.set_yticks(range(len(models)), [label(*model) for model in models])
    axes.set_ylim(len(models) - 0.4, -0.6)


def _difference(axes: Axes, row: dict, position: int, model: tuple[str, str]) -> None:
    """Marker and interval; without a spread over seeds the users' part alone, dotted."""
    color, known = look(*model).color, pd.notna(row["low"])
    ends = ("low", "high") if known else ("users_low", "users_high")
    interval = [POINTS * row[end] for end in ends]
    axes.plot(interval, [position] * 2, "|-" if known else "|:", color=color, linewidth=2, markersize=6)
    fill = color if row["resolved"] == "yes" else "white"
    marker = look(*model).marker
    (point,) = axes.plot([POINTS * row["diff"]], [position], marker, color=color, markersize=7)
    point.set(markerfacecolor=fill, label=label(*model))


def _forest_legend(comparisons: pd.DataFrame) -> list[Line2D]:
    kinds: dict[str, dict[str, Any]] = {}
    verdicts = set(comparisons["resolved"])
    if "yes" in verdicts:
        kinds["resolved"] = {"marker": "o"}
    if "no" in verdicts:
        kinds["no difference seen"] = {"marker": "o", "markerfacecolor": "white"}
    if comparisons["low"].isna().any():
        alone = {"marker": "o", "markerfacecolor": "white", "linestyle": ":"}
        kinds["interval over users alone, nothing claimed"] = alone
    handles = [Line2D([], [], color=INK, linewidth=2, label=name, **style) for name, style in kinds.items()]
    if "paper_gain" in comparisons and comparisons["paper_gain"].notna().any():
        handles.append(Line2D([], [], **PAPER_MARK, label="the paper's gain (its own data and base)"))
    return handles


# --- Quality against cost ---------------------------------------------------------------------------------


@styled
def quality_against_cost(results: pd.DataFrame) -> Figure:
    """AUC and UAUC against forward FLOPs per sample: mean, seeds, and the oracle.

    Experts that a sample does not activate do not count.

    Args:
        results: rows of ``results.csv`` for one dataset; the rows without FLOPs are references.
    """
    active = results["active_flops_per_sample"].fillna(results["flops_per_sample"])
    results = results.assign(flops=active)
    models = results[results["flops"].notna()]
    oracle = results[results["architecture"] == "oracle"]
    tasks = list(dict.fromkeys(models["task"].dropna()))
    height = max(3.1, _legend_height(models) / len(tasks))
    figure, panels = canvas(len(tasks), len(METRICS), 4.6, height)
    for task, row in zip(tasks, panels, strict=True):
        for metric, axes in zip(METRICS, row, strict=True):
            of_task = models[(models["task"] == task) & models[metric].notna()]
            _cost_panel(axes, of_task, metric)
            _oracle_line(axes, oracle.loc[oracle["task"] == task, metric].dropna())
            axes.set_title(f"{task}: {metric.upper()}", loc="left")
    shaded = "; shaded: budget ± 3%" if _has_one_budget(models) else ""
    kind = "forward FLOPs" if models["flops"].equals(models["flops_per_sample"]) else "active forward FLOPs"
    figure.supxlabel(f"{kind} per sample (marker: mean, dot: one seed{shaded})", fontsize="medium")
    _legend_beside(figure, contestants(models))
    return figure


def _cost_panel(axes: Axes, rows: pd.DataFrame, metric: str) -> None:
    for model in contestants(rows):
        mine, style = rows_of(rows, model), look(*model)
        flops, values = mine["flops"].astype(float), mine[metric].astype(float)
        axes.plot(flops, values, ".", color=style.color, alpha=0.55, markersize=5)
        axes.plot(
            [flops.mean()],
            [values.mean()],
            style.marker,
            color=style.color,
            markersize=9,
            markeredgecolor="white",
            label=label(*model),
        )
    _flops_axis(axes, rows)


def _flops_axis(axes: Axes, rows: pd.DataFrame) -> None:
    """Linear around one budget (its 3% band shaded), else logarithmic."""
    flops = rows["flops"].dropna()
    if flops.empty:
        return
    low, high = float(flops.min()), float(flops.max())
    if high > 1.5 * low:
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
            color=FAINT,
        )
    else:
        axes.set_ylim(low, high + 0.1 * (high - low))
        axes.annotate(
            f"oracle {oracle:.4f}, beyond this axis",
            (0.02, 0.98),
            xycoords="axes fraction",
            va="top",
            color=FAINT,
        )


def _legend_height(rows: pd.DataFrame) -> float:
    """Inches that the names of all models take below each other."""
    return 0.4 + 0.2 * len(contestants(rows))


def _legend_beside(figure: Figure, models: list[tuple[str, str]], lines: bool = False) -> None:
    handles = [
        Line2D(
            [],
            [],
            color=look(*m).color,
            marker=look(*m).marker,
            linewidth=1.6 if lines else 0,
            label=label(*m),
        )
        for m in models
    ]
    figure.legend(handles=handles, loc="outside right upper")


# --- Training over samples --------------------------------------------------------------------------------


@styled
def loss_curves(losses: pd.DataFrame) -> Figure:
    """Training loss over samples seen, mean over seeds, smoothed by a running mean of a twentieth.

    Args:
        losses: architecture, variant, seed, samples, value (:func:`reports.records.loss_frame`).
    """
    figure, [[axes]] = canvas(1, 1, 7.0, 3.4)
    for model in contestants(losses):
        mean = rows_of(losses, model).groupby("samples")["value"].mean()
        smooth = mean.rolling(max(1, len(mean) // 20), min_periods=1).mean()
        axes.plot(smooth.index, smooth, color=look(*model).color, **_sparse_markers(model, len(smooth)))
    settled = losses.loc[losses["samples"] >= 0.1 * losses["samples"].max(), "value"]
    axes.set_ylim(
        top=axes.get_ylim()[0] + 1.1 * (settled.max() - axes.get_ylim()[0])
    )  # the first fall is out of sight
    axes.set_ylabel("training loss")
    axes.set_xlabel("training samples seen")
    axes.xaxis.set_major_formatter(short_tick)
    _legend_beside(figure, contestants(losses), lines=True)
    return figure


@styled
def validation_curves(validation: pd.DataFrame) -> Figure:
    """Validation AUC and UAUC over samples seen, mean over seeds, a panel a task and metric.

    Args:
        validation: architecture, variant, seed, samples, task, metric, value
            (:func:`reports.records.validation_frame`).
    """
    tasks = list(dict.fromkeys(validation["task"]))
    figure, panels = canvas(len(tasks), len(METRICS), 4.6, 2.9, sharex=True)
    for task, row in zip(tasks, panels, strict=True):
        for metric, axes in zip(METRICS, row, strict=True):
            of_panel = validation[(validation["task"] == task) & (validation["metric"] == metric)]
            for model in contestants(of_panel):
                mean = rows_of(of_panel, model).groupby("samples")["value"].mean()
                axes.plot(mean.index, mean, color=look(*model).color, **_sparse_markers(model, len(mean)))
            axes.set_title(f"{task}: {metric.upper()}, validation", loc="left")
            axes.xaxis.set_major_formatter(short_tick)
    figure.supxlabel("training samples seen", fontsize="medium")
    _legend_beside(figure, contestants(validation), lines=True)
    return figure


def _sparse_markers(model: tuple[str, str], num_points: int) -> dict[str, Any]:
    return {
        "marker": look(*model).marker,
        "markersize": 5,
        "markevery": max(1, num_points // 8),
        "label": label(*model),
    }
