"""Figures: each function takes a DataFrame and returns a matplotlib figure, for a notebook to change.

Here the forest of differences to the base, and what all figures share. The frames are rows of
``comparisons.csv`` and ``results.csv`` for one dataset, and the curves of :mod:`reports.frames`. Contestants
are drawn in the order in which the frame first names them. What a point shows when it is pointed at is set
with :func:`reports.style.hover`.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.evaluation.verdict import WITHHELD
from harness.records.contestant import label
from reports.cells import grouped, interval
from reports.style import INK, PAPER_COLOR, canvas, hover, look, styled

POINTS = 100
METRICS = ("auc", "uauc")
LONGEST_NAME = 42
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


def drawn_name(model: tuple[str, str]) -> str:
    """The contestant's label, cut where it would leave no room for the figure."""
    name = " ".join(label(*model).split())
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def rows_of(frame: pd.DataFrame, contestant: tuple[str, str]) -> pd.DataFrame:
    """The rows of one (architecture, variant)."""
    architecture, variant = contestant
    return frame[(frame["architecture"] == architecture) & (frame["variant"].fillna("") == variant)]


def rows_among(frame: pd.DataFrame, models: list[tuple[str, str]]) -> pd.DataFrame:
    """The rows of any of these (architecture, variant) pairs."""
    keys = zip(frame["architecture"].astype(str), frame["variant"].fillna("").astype(str), strict=True)
    return frame[[key in models for key in keys]]


def legend_height(rows: pd.DataFrame) -> float:
    """Inches that the names of all models take below each other."""
    return 0.4 + 0.2 * len(contestants(rows))


def legend_beside(figure: Figure, models: list[tuple[str, str]], lines: bool = False) -> None:
    """The models' looks beside the panels, with lines or markers alone."""
    handles = [
        Line2D(
            [],
            [],
            color=look(*m).color,
            marker=look(*m).marker,
            linewidth=1.6 if lines else 0,
            label=drawn_name(m),
        )
        for m in models
    ]
    figure.legend(handles=handles, loc="outside right upper")


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
    axes.set_yticks(range(len(models)), map(drawn_name, models))
    axes.set_ylim(len(models) - 0.4, -0.6)


def _difference(axes: Axes, row: dict, position: int, model: tuple[str, str]) -> None:
    """Marker and interval; without a spread over seeds the users' part alone, dotted."""
    color, known = look(*model).color, pd.notna(row["low"])
    ends = ("low", "high") if known else ("users_low", "users_high")
    low, high = (POINTS * row[end] for end in ends)
    axes.plot([low, high], [position] * 2, "|-" if known else "|:", color=color, linewidth=2, markersize=6)
    fill = color if row["resolved"] == "yes" else "white"
    marker = look(*model).marker
    (point,) = axes.plot([POINTS * row["diff"]], [position], marker, color=color, markersize=7)
    point.set(markerfacecolor=fill, label=label(*model))
    shown = interval(POINTS * row["diff"], low, high, 2)
    hover(point, f"{label(*model)}: {shown}")


def _forest_legend(comparisons: pd.DataFrame) -> list[Line2D]:
    kinds: dict[str, dict[str, Any]] = {}
    verdicts = set(comparisons["resolved"])
    if "yes" in verdicts:
        kinds["resolved"] = {"marker": "o"}
    if "no" in verdicts:
        kinds["no difference seen"] = {"marker": "o", "markerfacecolor": "white"}
    if WITHHELD in verdicts:
        kinds[WITHHELD] = {"marker": "o", "markerfacecolor": "white"}
    if comparisons["low"].isna().any():
        alone = {"marker": "o", "markerfacecolor": "white", "linestyle": ":"}
        kinds["interval over users alone, nothing claimed"] = alone
    handles = [Line2D([], [], color=INK, linewidth=2, label=name, **style) for name, style in kinds.items()]
    if "paper_gain" in comparisons and comparisons["paper_gain"].notna().any():
        handles.append(Line2D([], [], **PAPER_MARK, label="the paper's gain (its own data and base)"))
    return handles
