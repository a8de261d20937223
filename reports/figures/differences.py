"""Differences to the base: the forest of all models, the parts of one model, and the tiers of user activity.

A mark is filled where the difference is resolved. Its line is the 95% interval over users and seeds (with
several worlds, over worlds); with one seed it is the interval over users alone, and dotted.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.evaluation.verdict import WITHHELD
from harness.records.listed import display_name
from reports.cells import POINTS, grouped, interval, model_name
from reports.figures.models import Look, Looks, drawn_name, looks_in
from reports.figures.panels import facets, legend_beside, legend_handles
from reports.figures.saving import hover
from reports.figures.style import INK, PAPER_COLOR, styled
from reports.tables.tiers import TIERS

PAPER_MARK: dict[str, Any] = {"color": PAPER_COLOR, "marker": "|", "ms": 10, "mew": 2, "ls": ""}


@styled
def forest(comparisons: pd.DataFrame, looks: Looks | None = None) -> Figure:
    """Differences to the base with their 95% intervals, a panel for each task and metric.

    Args:
        comparisons: rows of ``comparisons.csv`` for one dataset, models only; a further column
            ``paper_gain`` (points x 100) adds the paper's marks.
    """
    models, looks = looks_in(comparisons, looks)
    height = 0.9 + (0.38 if len(models) <= 10 else 0.27) * len(models)
    figure, panels = facets(_in_points(comparisons), 4.6, height, sharey=True, sharex="col")
    for axes, rows in panels:
        for row in rows.to_dict("records"):
            model = (row["architecture"], row["variant"])
            _mark(axes, row, models.index(model), looks[model])
            _paper_mark(axes, row, models.index(model) + 0.28)
        _named_rows(axes, list(map(drawn_name, models)))
    bases = base_names(comparisons)
    numbers = f"seeds: {_span(comparisons['seeds'])}, users: {_span(comparisons['users'])}"
    if "worlds" in comparisons and comparisons["worlds"].max() > 1:
        numbers = f"worlds: {_span(comparisons['worlds'])}, runs{numbers.removeprefix('seeds')}"
    figure.supxlabel(
        f"difference to {bases}, AUC points x 100, with 95% interval ({numbers})", fontsize="medium"
    )
    figure.legend(handles=_legend(comparisons), loc="outside upper center", ncols=3)
    return figure


@styled
def ablation_waterfall(comparisons: pd.DataFrame, looks: Looks | None = None) -> Figure:
    """Bars from the whole model's mean to each variant's, the largest loss at the bottom.

    Every variant changes the whole model in one way, so the bars start at the same line and do not add up.
    Each panel (a task and metric) has an order of its own.

    Args:
        comparisons: as in :func:`forest`, variants of the base alone.
    """
    models, looks = looks_in(comparisons, looks)
    base = base_names(comparisons)
    figure, panels = facets(_in_points(comparisons), 4.9, 0.8 + 0.36 * (len(models) + 1))
    for axes, rows in panels:
        names = [f"{base}, whole: {mean:.4f}" for mean in rows["base_mean"].head(1)]
        for at, row in enumerate(rows.sort_values("diff", ascending=False).to_dict("records"), 1):
            names.append(drawn_name((row["variant"] or row["architecture"], "")))
            _bar(axes, row, at, looks[row["architecture"], row["variant"]].color)
            _paper_mark(axes, row, at + 0.34)
        _named_rows(axes, names)
        axes.margins(x=0.08)
    words = f"difference to the whole model ({base}), AUC points x 100, with 95% interval; each change alone"
    figure.supxlabel(words)
    figure.legend(handles=_legend(comparisons, "s", ""), loc="outside upper center", ncols=3)
    return figure


@styled
def lift_by_tier(tiers: pd.DataFrame, looks: Looks | None = None) -> Figure:
    """Differences to the base within each tier of user activity, a panel for each task and metric.

    Args:
        tiers: rows of ``tiers.csv`` for one dataset, models only.
    """
    within = tiers[tiers["tier"].isin(TIERS) & tiers["diff"].notna()]
    models, looks = looks_in(within, looks)
    step = min(0.14, 0.7 / max(1, len(models)))
    figure, panels = facets(_in_points(within), 4.0, 2.9, sharex=True)
    for axes, rows in panels:
        axes.axhline(0, color=INK, linewidth=1)
        for row in rows.to_dict("records"):
            model = (row["architecture"], row["variant"])
            at = TIERS.index(row["tier"]) + step * (models.index(model) - (len(models) - 1) / 2)
            _mark(axes, row, at, looks[model], upright=True)
        axes.grid(axis="x", visible=False)
        axes.set_xticks(range(len(TIERS)), TIERS)
        axes.set_xlim(-0.5, len(TIERS) - 0.5)
    for axes, _ in panels[::2]:
        axes.set_ylabel("lift, AUC points x 100")
    bases = base_names(within)
    figure.supxlabel(f"user activity (lift: difference to {bases} within the tier)")
    legend_beside(figure, [*legend_handles(models, looks, "-"), *_legend(within)])
    return figure


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
        axes.plot(*ends, f"|{line}", color=color, linewidth=2, markersize=6)
    (point,) = axes.plot(*(middle[::-1] if upright else middle), look.marker, color=color, markersize=6.5)
    point.set(mfc=color if row["resolved"] == "yes" else "white", mec=color)
    point.set_label(model_name(row))
    hover(point, _hover_text(row))


def _bar(axes: Axes, row: dict, at: int, color: Any) -> None:
    fill = color if row["resolved"] == "yes" else "white"
    [bar] = axes.barh([at], [row["diff"]], 0.46, color=fill, edgecolor=color, linewidth=1.4)
    hover(bar, _hover_text(row))
    line = "-" if row["known"] else ":"
    axes.plot([row["low"], row["high"]], [at, at], f"|{line}", color=INK, linewidth=1.2, markersize=6)


def _hover_text(row: dict) -> str:
    name = ", ".join(filter(None, [model_name(row), row.get("tier")]))
    return f"{name}: {interval(row['diff'], row['low'], row['high'], 2)}"


def _paper_mark(axes: Axes, row: dict, at: float) -> None:
    if pd.notna(row.get("paper_gain")):
        axes.plot([row["paper_gain"]], [at], **PAPER_MARK)


def _named_rows(axes: Axes, names: list[str]) -> None:
    """A line at zero, and a name at each row, the first at the top."""
    axes.axvline(0, color=INK, linewidth=1)
    axes.grid(axis="y", visible=False)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def base_names(differences: pd.DataFrame) -> str:
    """What differences are taken to: one base, unless the rows are of several suites."""
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
        handles.append(Line2D([], [], **PAPER_MARK, label="the paper's difference (its own data and base)"))
    return handles
