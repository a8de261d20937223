"""Quality against the active ratio of models with experts, as the paper's Figure 3.

As in :mod:`reports.figures`, a figure's function takes a DataFrame and returns a matplotlib figure.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.evaluation.intervals import mean_interval
from harness.records.contestant import is_plain, label
from reports.figures import contestants
from reports.results import with_row_fields
from reports.style import PAPER_COLOR, SMALL_INK, canvas, hover_point, look, styled


def series_rows(results: pd.DataFrame) -> pd.DataFrame:
    """The rows of ``results.csv`` that stand for an active ratio, which becomes a Fraction."""
    rows = with_row_fields(results)
    rows = rows[rows["ratio"].notna()]
    return rows.assign(ratio=pd.Series([Fraction(r) for r in rows["ratio"]], rows.index, dtype=object))


@styled
def quality_against_active_ratio(results: pd.DataFrame, paper: pd.DataFrame | None = None) -> Figure:
    """Test AUC by active ratio: a panel a task, a line a series, the dense base flat; then the paper's own.

    Bars are 95% t-intervals over seeds; what was measured of the active ratio stands below the first panel.

    Args:
        results: rows of ``results.csv`` for one dataset; variants are named ``<series>-<ratio>``, the row
            without a variant is the dense base, which is also where the series ``dense`` begins.
        paper: the paper's curves: ``name``, ``series``, ``ratio`` and ``auc``
            (:func:`reports.beside.active_ratio_curves`).
    """
    rows = series_rows(results)
    base = results[[is_plain(*key) for key in _keys(results)]]
    base = base[base["architecture"].isin(set(rows["architecture"]))]
    ratios = sorted(set(rows["ratio"]) | {Fraction(1)}, reverse=True)
    tasks = list(dict.fromkeys(rows["task"].dropna()))
    figure, [panels] = canvas(1, len(tasks) + (paper is not None), 3.9, 4.3)
    for axes, task in zip(panels, tasks, strict=False):
        _ratio_panel(axes, rows[rows["task"] == task], base[base["task"] == task], ratios)
        axes.set_title(f"{task}: AUC on the test split", loc="left")
    _measured_ratios(panels[0], rows, ratios)
    panels[0].set_ylabel("AUC")
    if paper is not None:
        _paper_panel(panels[-1], paper)
    figure.legend(handles=_ratio_legend(rows, base, paper), loc="outside upper center", ncols=3)
    return figure


def _keys(frame: pd.DataFrame) -> list[tuple[str, str]]:
    variants = frame["variant"].fillna("").astype(str)
    return list(zip(frame["architecture"].astype(str), variants, strict=True))


def _series_of(rows: pd.DataFrame) -> list[tuple[str, str]]:
    return list(dict.fromkeys(zip(rows["architecture"].astype(str), rows["series"], strict=True)))


def _ratio_panel(axes: Axes, rows: pd.DataFrame, base: pd.DataFrame, ratios: list[Fraction]) -> None:
    everywhere = _series_of(rows)
    for architecture, _ in contestants(base):
        mean, low, high = mean_interval(_aucs(base[base["architecture"] == architecture]))
        color = look(architecture).color
        axes.axhline(mean, color=color, linestyle="--", linewidth=1.4, label=architecture)
        if not math.isnan(low):
            axes.axhspan(low, high, color=color, alpha=0.10, linewidth=0)
    for number, (architecture, stem) in enumerate(everywhere):
        mine = rows[(rows["architecture"] == architecture) & (rows["series"] == stem)]
        values = {ratio: _aucs(mine[mine["ratio"] == ratio]) for ratio in ratios}
        if stem == "dense" and not values[Fraction(1)]:
            values[Fraction(1)] = _aucs(base[base["architecture"] == architecture])
        shift = 0.08 * (number - (len(everywhere) - 1) / 2)  # bars side by side
        _ratio_line(axes, values, shift, (architecture, stem))
    _ratio_axis(axes, ratios)


def _aucs(rows: pd.DataFrame) -> list[float]:
    return rows["auc"].dropna().tolist()


def _ratio_line(axes: Axes, values: dict[Fraction, list[float]], shift: float, name: tuple[str, str]) -> None:
    known = [(x + shift, *mean_interval(aucs)) for x, aucs in enumerate(values.values()) if aucs]
    if not known:
        return
    x, mean, low, high = np.array(known).T
    style = look(*name)
    axes.plot(x, mean, color=style.color, marker=style.marker, markersize=6, label=label(*name))
    axes.vlines(x, low, high, color=style.color, linewidth=1.2, alpha=0.8)
    for at, value, ratio in zip(x, mean, (r for r, aucs in values.items() if aucs), strict=True):
        hover_point(axes, at, value, f"{label(*name)} at {ratio}: AUC {value:.4f}")


def _ratio_axis(axes: Axes, ratios: list[Fraction]) -> None:
    axes.set_xticks(range(len(ratios)), [str(ratio) for ratio in ratios])
    axes.set_xlim(-0.4, len(ratios) - 0.6)
    axes.grid(axis="x", visible=False)
    axes.set_xlabel("active ratio, as asked for")
    axes.yaxis.set_major_formatter("{x:.4f}")


def _measured_ratios(axes: Axes, rows: pd.DataFrame, ratios: list[Fraction]) -> None:
    """A line a series below the axis: the active ratio measured on the test split, mean over seeds."""
    measured = rows[rows["active_ratio"].notna()]
    known = _series_of(measured)
    if not known:
        return
    for number, (architecture, stem) in enumerate(known):
        mine = measured[(measured["architecture"] == architecture) & (measured["series"] == stem)]
        place: dict[str, Any] = {
            "xycoords": ("data", "axes fraction"),
            "textcoords": "offset points",
            "fontsize": 8,
        }
        place |= {"color": SMALL_INK, "va": "top", "annotation_clip": False}
        below = -36 - 11 * number
        axes.annotate(f"{stem}, measured", (-0.4, 0), (-4, below), ha="right", **place)
        for x, ratio in enumerate(ratios):
            of_ratio = mine.loc[mine["ratio"] == ratio, "active_ratio"]
            if len(of_ratio):
                axes.annotate(f"{of_ratio.mean():.3f}", (x, 0), (0, below), ha="center", **place)


def _paper_panel(axes: Axes, paper: pd.DataFrame) -> None:
    curves = paper[paper["ratio"].notna() & (paper["series"] != "")]
    ratios = sorted({Fraction(ratio) for ratio in curves["ratio"]}, reverse=True)
    for name in dict.fromkeys(paper["name"]):
        mine = paper[paper["name"] == name]
        stem = mine["series"].iloc[0]
        if not stem:
            auc = float(mine["auc"].iloc[0])
            axes.axhline(auc, color=PAPER_COLOR, linestyle="--", linewidth=1.2)
            near: dict[str, Any] = {
                "xycoords": ("axes fraction", "data"),
                "textcoords": "offset points",
                "fontsize": 8,
            }
            axes.annotate(name, (0.02, auc), (0, 3), color=PAPER_COLOR, **near)
            continue
        style = look("rankmixer", stem)
        x = [ratios.index(Fraction(ratio)) for ratio in mine["ratio"]]
        axes.plot(x, mine["auc"], color=style.color, marker=style.marker, markersize=6, label=name)
    _ratio_axis(axes, ratios)
    axes.margins(y=0.12)
    axes.set_facecolor("#F6F6F6")
    axes.set_xlabel("active fraction of parameters")
    axes.set_title("the paper's Figure 3: its own data", loc="left")


def _ratio_legend(rows: pd.DataFrame, base: pd.DataFrame, paper: pd.DataFrame | None) -> list[Line2D]:
    handles = [
        Line2D([], [], color=look(a).color, linestyle="--", label=f"{a}, dense (band: 95% over seeds)")
        for a, _ in contestants(base)
    ]
    for name in _series_of(rows):
        style = look(*name)
        theirs = [] if paper is None else list(paper.loc[paper["series"] == name[1], "name"].unique())
        shown = label(*name) + (f" = {theirs[0]}" if theirs else "")
        handles.append(Line2D([], [], color=style.color, marker=style.marker, label=shown))
    return handles
