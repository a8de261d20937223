"""Differences to the base: the forest of all models, the parts of one model, and the tiers of user activity.

A mark is filled where the difference is resolved. Its line is the 95% interval over users and seeds (with
several worlds, over worlds); with one seed it is the interval over users alone, and dotted.
"""

from __future__ import annotations

from typing import Any, Unpack

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from harness.evaluation.verdict import WITHHELD
from harness.records.contestant import label
from harness.records.listed import display_name
from reports.cells import POINTS, grouped, interval
from reports.figures.drawing.models import Look, cut
from reports.figures.drawing.panels import Options, Panels, Plot, marker_size
from reports.figures.drawing.saving import hover
from reports.figures.drawing.style import FAINT, INK, styled
from reports.tables.analyses.tiers import TIERS

PAPER_MARK: dict[str, Any] = {"color": FAINT, "marker": "d", "mfc": "white", "mew": 1.2, "ls": ""}


@styled
def forest(comparisons: pd.DataFrame, **options: Unpack[Options]) -> Panels:
    """Differences to the base with their 95% intervals, a panel for each task and metric.

    Rows stand in the order asked for, else from the largest to the smallest difference of the first panel.

    Args:
        comparisons: rows of ``comparisons.csv`` for one dataset, models only; a further column
            ``paper_gain`` (points x 100) adds the paper's marks.
    """
    plot = Plot(_in_points(comparisons), options)
    models = plot.by_first_panel("diff")
    height = 0.9 + (0.38 if len(models) <= 10 else 0.27 if len(models) <= 24 else 0.2) * len(models)
    for axes, rows in plot.facets(4.6, height, sharey="row", sharex="col"):
        for row in rows.to_dict("records"):
            model = (row["architecture"], row["variant"])
            _paper_mark(axes, row, models.index(model))
            _mark(axes, row, models.index(model), plot.looks[model])
        axes.axvline(0, color=INK, linewidth=1)
        plot.name_rows(axes, [plot.looks[model].shown for model in models])
    bases = base_names(comparisons)
    numbers = f"seeds: {_span(comparisons['seeds'])}, users: {_span(comparisons['users'])}"
    if "worlds" in comparisons and comparisons["worlds"].max() > 1:
        numbers = f"worlds: {_span(comparisons['worlds'])}, runs{numbers.removeprefix('seeds')}"
    plot.xlabel(f"difference to {bases}, AUC points x 100, with 95% interval ({numbers})")
    plot.legend(_legend(plot.rows))
    return plot.result


@styled
def ablation_waterfall(comparisons: pd.DataFrame, **options: Unpack[Options]) -> Panels:
    """Bars from the whole model's mean to each variant's, the largest loss at the bottom.

    Every variant changes the whole model in one way, so the bars start at the same line and do not add up.
    Each panel (a task and metric) has an order of its own, unless one was asked for.

    Args:
        comparisons: as in :func:`forest`, variants of the base alone.
    """
    plot, base = Plot(_in_points(comparisons), options), base_names(comparisons)
    renamed = options.get("names") or {}
    for axes, rows in plot.facets(4.9, 0.8 + 0.36 * (len(plot.models) + 1), narrowest=2.5):
        names = [f"{base}, whole: {mean:.4f}" for mean in rows["base_mean"].head(1)]
        ordered = rows if options.get("order") else rows.sort_values("diff", ascending=False)
        for at, row in enumerate(ordered.to_dict("records"), 1):
            model = (row["architecture"], row["variant"])
            own = label(*model) in renamed
            names.append(plot.looks[model].shown if own else cut(display_name(row["variant"] or model[0])))
            _bar(axes, row, at, plot.looks[model])
            _paper_mark(axes, row, at)
        axes.axvline(0, color=INK, linewidth=1)
        plot.name_rows(axes, names)
        axes.margins(x=0.08)
    words = f"difference to the whole model ({base}), AUC points x 100, with 95% interval; each change alone"
    plot.xlabel(words)
    plot.legend(_legend(plot.rows, "s", ""))
    return plot.result


@styled
def lift_by_tier(tiers: pd.DataFrame, **options: Unpack[Options]) -> Panels:
    """Differences to the base within each tier of user activity, a panel for each task and metric.

    Args:
        tiers: rows of ``tiers.csv`` for one dataset, models only.
    """
    within = tiers[tiers["tier"].isin(TIERS) & tiers["diff"].notna()]
    plot = Plot(_in_points(within), options)
    models, step = plot.models, min(0.14, 0.7 / max(1, len(plot.models)))
    for axes, rows in plot.facets(4.0, 2.9, sharex=True):
        axes.axhline(0, color=INK, linewidth=1)
        for row in rows.to_dict("records"):
            model = (row["architecture"], row["variant"])
            at = TIERS.index(row["tier"]) + step * (models.index(model) - (len(models) - 1) / 2)
            _mark(axes, row, at, plot.looks[model], upright=True)
        axes.grid(axis="x", visible=False)
        axes.set_xticks(range(len(TIERS)), TIERS)
        axes.set_xlim(-0.5, len(TIERS) - 0.5)
    plot.ylabel("lift, AUC points x 100")
    plot.xlabel(f"user activity (lift: difference to {base_names(within)} within the tier)")
    plot.legend([*plot.handles(lines=True), *_legend(plot.rows)], beside=True)
    return plot.result


# --- Marks ------------------------------------------------------------------------------------------------


def _in_points(rows: pd.DataFrame) -> pd.DataFrame:
    """Differences in AUC points x 100; where no interval is known (``known``), the interval over users."""
    numbers = POINTS * rows[["diff", "low", "high", "users_low", "users_high"]].astype(float)
    for end in ("low", "high"):
        numbers[end] = numbers[end].fillna(numbers[f"users_{end}"])
    return rows.assign(variant=rows["variant"].fillna(""), known=rows["low"].notna(), **numbers)


def _mark(axes: Axes, row: dict, at: float, look: Look, upright: bool = False) -> None:
    """Marker and interval of one difference, across the panel or upright."""
    line, color = "-" if row["known"] else ":", look.color
    ends, middle = ([row["low"], row["high"]], [at, at]), ([row["diff"]], [at])
    if upright:
        axes.plot(*ends[::-1], line, color=color, linewidth=1.4)
    else:
        axes.plot(*ends, f"|{line}", color=color, markersize=marker_size())
    (point,) = axes.plot(
        *(middle[::-1] if upright else middle), look.marker, color=color, ms=marker_size(1.1)
    )
    point.set(mfc=color if row["resolved"] == "yes" else "white", mec=color)
    point.set_label(look.name)
    hover(point, _hover_text(row, look))


def _bar(axes: Axes, row: dict, at: int, look: Look) -> None:
    fill = look.color if row["resolved"] == "yes" else "white"
    [bar] = axes.barh([at], [row["diff"]], 0.46, color=fill, edgecolor=look.color, linewidth=1.4)
    hover(bar, _hover_text(row, look))
    line = "-" if row["known"] else ":"
    axes.plot([row["low"], row["high"]], [at, at], f"|{line}", color=INK, lw=1.2, ms=marker_size())


def _hover_text(row: dict, look: Look) -> str:
    name = ", ".join(filter(None, [look.name, row.get("tier")]))
    return f"{name}: {interval(row['diff'], row['low'], row['high'], 2)}"


def _paper_mark(axes: Axes, row: dict, at: float) -> None:
    if pd.notna(row.get("paper_gain")):
        axes.plot([row["paper_gain"]], [at], **PAPER_MARK, ms=marker_size(1.2))


def base_names(differences: pd.DataFrame) -> str:
    """What differences are taken to: one base, unless the rows are of several suites or do not name it."""
    if "base" not in differences:
        return "the base"
    variants = differences.get("base_variant", pd.Series("", index=differences.index)).fillna("")
    pairs = zip(differences["base"].astype(str), variants.astype(str), strict=True)
    return ", ".join(dict.fromkeys(display_name(*pair) for pair in pairs))


def _span(values: pd.Series) -> str:
    low, high = grouped(values.min()), grouped(values.max())
    return low if low == high else f"{low} to {high}"


def _legend(rows: pd.DataFrame, marker: str = "o", line: str = "-") -> list[Line2D]:
    """What filled, hollow and dotted marks mean, of those that are drawn, and the paper's mark."""
    style: dict[str, Any] = {"color": INK, "marker": marker, "linewidth": 2}
    kinds = [
        ((rows["resolved"] == "yes").any(), "resolved", INK, line),
        ((rows["resolved"] == "no").any(), "not resolved", "white", line),
        ((rows["resolved"] == WITHHELD).any(), WITHHELD, "white", line),
        (rows["low"].isna().any(), "interval over users alone, nothing claimed", "white", ":"),
    ]
    handles = [
        Line2D([], [], **style, markerfacecolor=fill, ls=dashes, label=words)  # type: ignore[arg-type]
        for is_drawn, words, fill, dashes in kinds
        if is_drawn
    ]
    if "paper_gain" in rows and rows["paper_gain"].notna().any():
        words = "the paper's difference (its own data and base)"
        handles.append(Line2D([], [], **PAPER_MARK, ms=marker_size(1.2), label=words))
    return handles
