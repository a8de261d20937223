"""Quality against the active ratio of models with experts, as the paper's Figure 3."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Unpack

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from files.errors import InputError
from harness.evaluation.statistics.intervals import mean_interval
from harness.records.listed import is_plain
from reports.figures.drawing.models import (
    Looks,
    Model,
    contestants,
    looks_for,
    seaborn_looks,
    select_model,
    with_labels,
)
from reports.figures.drawing.panels import Options, Panels, Plot, marker_size
from reports.figures.drawing.saving import hover_point
from reports.figures.drawing.style import SMALL_INK, styled
from reports.results import with_row_fields


def series_rows(results: pd.DataFrame) -> pd.DataFrame:
    """The rows of ``results.csv`` that stand for an active ratio, which becomes a Fraction."""
    rows = with_row_fields(results)
    rows = rows[rows["ratio"].notna()]
    return rows.assign(ratio=pd.Series([Fraction(r) for r in rows["ratio"]], rows.index, dtype=object))


@styled
def quality_against_active_ratio(
    results: pd.DataFrame, paper: pd.DataFrame | None = None, **options: Unpack[Options]
) -> Panels:
    """Test AUC by active ratio: a panel for each task, a line for each series; the dense base is flat.

    Bars are 95% t-intervals over seeds or, with several worlds, over worlds. The active ratios measured on
    the test split are written below the first panel. The last panel shows the paper's own curves.

    Args:
        results: rows of ``results.csv`` for one dataset; those that stand for a ratio, and the row
            without a variant, which is the dense base, which is also where the series ``dense`` begins.
        paper: the paper's curves: ``name``, ``series``, ``ratio`` and ``auc``
            (:func:`reports.paper.comparison.active_ratio_curves`).
        options: as :class:`~reports.figures.drawing.panels.Options`; of the metrics, ``auc`` alone is drawn.
    """
    if options.get("metrics") not in (None, ["auc"]):
        raise InputError("metrics: this figure shows AUC alone; give ['auc'] or leave it out")
    plot = Plot(results, options)
    looks = plot.looks
    base, rows = _base_and_series(plot.rows)
    ratios = sorted(set(rows["ratio"]) | {Fraction(1)}, reverse=True)
    tasks = list(dict.fromkeys(rows["task"].dropna()))
    number = len(tasks) + (paper is not None)
    panels = plot.grid(number, number, 3.9, 4.3)
    for axes, task in zip(panels, tasks, strict=False):
        _ratio_panel(axes, base[base["task"] == task], rows[rows["task"] == task], ratios, looks)
        plot.title(axes, f"{task}: AUC")
    if plot.has_room_around:
        _measured_ratios(panels[0], rows, ratios)
    panels[0].set_ylabel("AUC on the test split")
    if paper is not None:
        _paper_panel(panels[-1], paper, contestants(base), looks)
    over = "worlds" if _has_worlds(results) else "seeds"
    plot.legend(_ratio_legend(contestants(rows), contestants(base), paper, looks, over))
    return plot.result


def _base_and_series(results: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The dense base's rows, and those of the series, each named by its series as its variant."""
    rows = series_rows(results)
    variants = results["variant"].fillna("").astype(str)
    keys = zip(results["architecture"].astype(str), variants, strict=True)
    with_series = set(rows["architecture"])
    base = results[[is_plain(*key) and key[0] in with_series for key in keys]].assign(variant="")
    rows = rows.assign(variant=rows["series"])
    dense = rows[rows["series"] == "dense"]
    without_one = set(dense["architecture"]) - set(dense.loc[dense["ratio"] == 1, "architecture"])
    begin = base[base["architecture"].isin(without_one)]
    begin = begin.assign(variant="dense", ratio=[Fraction(1)] * len(begin), active_ratio=np.nan)  # type: ignore[list-item]
    return base, pd.concat([rows, begin])


def _ratio_panel(
    axes: Axes, base: pd.DataFrame, rows: pd.DataFrame, ratios: list[Fraction], looks: Looks
) -> None:
    for model in contestants(base):
        mean, low, high = mean_interval(_repeats(select_model(base, model))["auc"].tolist())
        color = looks[model].color
        axes.axhline(mean, color=color, linestyle="--", label=looks[model].name)
        if low == low:
            axes.axhspan(low, high, color=color, alpha=0.10, linewidth=0)
    models, rows = contestants(rows), with_labels(_repeats(rows), looks)
    styles, step = seaborn_looks(models, looks), 0.08
    styles = {name: styles[name] for name in ("hue", "hue_order", "palette", "legend")}
    place = {"x": rows["ratio"].map(str), "order": list(map(str, ratios)), "y": "auc", "ax": axes}
    lines = {"markers": [looks[model].marker for model in models], "markersize": marker_size()}
    dodge = step * (len(models) - 1) or False
    bars = {"errorbar": lambda aucs: mean_interval(aucs.tolist())[1:], "err_kws": {"linewidth": 1.2}}
    sns.pointplot(rows, **place, **styles, **lines, **bars, dodge=dodge)
    means = rows.groupby(["model", "ratio"], observed=True)["auc"].mean().reset_index()
    for name, ratio, auc in means.itertuples(index=False):
        number = styles["hue_order"].index(name) - (len(models) - 1) / 2
        hover_point(axes, ratios.index(ratio) + step * number, auc, f"{name} at {ratio}: AUC {auc:.4f}")
    _ratio_axis(axes, ratios)


def _repeats(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that have an AUC; with several worlds one a world, with the mean over its seeds."""
    known = rows.dropna(subset="auc")
    if not _has_worlds(rows):
        return known
    keys = [name for name in ("architecture", "variant", "ratio", "world") if name in known]
    return known.groupby(keys, sort=False, dropna=False)["auc"].mean().reset_index()


def _has_worlds(results: pd.DataFrame) -> bool:
    return "world" in results and len(results["world"].dropna().unique()) > 1


def _ratio_axis(axes: Axes, ratios: list[Fraction]) -> None:
    axes.set_xticks(range(len(ratios)), list(map(str, ratios)))
    axes.set(xlim=(-0.4, len(ratios) - 0.6), xlabel="active ratio, as asked for", ylabel="")
    axes.grid(axis="x", visible=False)
    axes.yaxis.set_major_formatter("{x:.4f}")


def _measured_ratios(axes: Axes, rows: pd.DataFrame, ratios: list[Fraction]) -> None:
    """A line for each series below the axis: the active ratio measured on the test split, mean over seeds."""
    rows = rows[rows["active_ratio"].notna()]
    place: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    place |= {"color": SMALL_INK, "va": "top", "annotation_clip": False, "fontsize": "small"}
    for number, model in enumerate(contestants(rows)):
        below = -36 - 11 * number
        axes.annotate(f"{model[1]}, measured", (-0.4, 0), (-4, below), ha="right", **place)
        means = select_model(rows, model).groupby("ratio")["active_ratio"].mean().reset_index()
        for ratio, measured in means.itertuples(index=False):
            axes.annotate(f"{measured:.3f}", (ratios.index(ratio), 0), (0, below), ha="center", **place)


def _paper_panel(axes: Axes, paper: pd.DataFrame, bases: list[Model], looks: Looks) -> None:
    architecture = bases[0][0] if bases else "rankmixer"
    looks = looks_for([(architecture, stem) for stem in paper["series"] if stem], looks)
    ratios = sorted({Fraction(ratio) for ratio in paper.loc[paper["series"] != "", "ratio"]}, reverse=True)
    for name in dict.fromkeys(paper["name"]):
        curve = paper[paper["name"] == name]
        stem = curve["series"].iloc[0]
        if stem:
            look, x = looks[architecture, stem], [ratios.index(Fraction(ratio)) for ratio in curve["ratio"]]
            axes.plot(x, curve["auc"], color=look.color, marker=look.marker, label=name)
            continue
        [auc] = curve["auc"]
        axes.axhline(auc, color=SMALL_INK, linestyle="--", linewidth=1.2)
        near: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        axes.annotate(name, (0.02, auc), (0, 3), color=SMALL_INK, fontsize="small", **near)
    _ratio_axis(axes, ratios)
    axes.margins(y=0.12)
    axes.set_xlabel("active fraction of parameters")
    axes.set_title("the paper's Figure 3")


def _ratio_legend(
    models: list[Model], bases: list[Model], paper: pd.DataFrame | None, looks: Looks, over: str
) -> list[Line2D]:
    dashed = f", dense (band: 95% over {over})"
    handles = [Line2D([], [], color=looks[m].color, ls="--", label=looks[m].shown + dashed) for m in bases]
    printed = {} if paper is None else dict(zip(paper["series"], paper["name"], strict=True))
    for model in models:
        look, theirs = looks[model], f" = {printed[model[1]]}" if model[1] in printed else ""
        handles.append(Line2D([], [], color=look.color, marker=look.marker, label=look.shown + theirs))
    return handles
