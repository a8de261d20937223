"""What one model loses when a part of it is taken out or exchanged, as in the paper's Tables 2 and 3.

As in :mod:`reports.figures`, a figure's function takes a DataFrame and returns a matplotlib figure.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from harness.records.contestant import label
from reports.cells import interval
from reports.comparisons import not_filled
from reports.figures import METRICS, PAPER_MARK, POINTS, drawn_name
from reports.style import INK, canvas, hover, look, styled


@styled
def ablation_waterfall(comparisons: pd.DataFrame) -> Figure:
    """Bars from the whole model's mean to each variant's, the largest loss at the bottom.

    Every variant changes the whole model in one way, so the bars start at the same line and do not add up.
    A panel a task and metric; each has an order of its own.

    Args:
        comparisons: rows of ``comparisons.csv`` for one dataset, variants of the base alone; a further
            column ``paper_gain`` (points x 100) adds the paper's marks.
    """
    tasks = list(dict.fromkeys(comparisons["task"]))
    num_variants = len(comparisons[["architecture", "variant"]].drop_duplicates())
    figure, panels = canvas(len(tasks), len(METRICS), 4.9, 0.8 + 0.36 * (num_variants + 1))
    for task, row in zip(tasks, panels, strict=True):
        for metric, axes in zip(METRICS, row, strict=True):
            of_panel = comparisons[(comparisons["task"] == task) & (comparisons["metric"] == metric)]
            _waterfall_panel(axes, of_panel.sort_values("diff", ascending=False))
            axes.set_title(f"{task}: {metric.upper()}", loc="left")
    base = ", ".join(dict.fromkeys(comparisons["base"].astype(str)))
    figure.supxlabel(
        f"difference to the whole model ({base}), AUC points x 100; each change is made alone",
        fontsize="medium",
    )
    figure.legend(handles=_legend(comparisons), loc="outside upper center", ncols=3)
    return figure


def _waterfall_panel(axes: Axes, rows: pd.DataFrame) -> None:
    axes.axvline(0, color=INK, linewidth=1)
    axes.grid(axis="y", visible=False)
    names = []
    if not rows.empty:
        names.append(f"{rows['base'].iloc[0]}, whole: {rows['base_mean'].iloc[0]:.4f}")
    for position, row in enumerate(rows.to_dict("records"), 1):
        names.append(drawn_name((row["variant"] or row["architecture"], "")))
        _bar(axes, row, position)
        if pd.notna(row.get("paper_gain")):
            axes.plot([row["paper_gain"]], [position + 0.34], **PAPER_MARK)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.08)


def _bar(axes: Axes, row: dict, position: int) -> None:
    color = look(row["architecture"], row["variant"]).color
    diff, resolved = POINTS * row["diff"], row["resolved"] == "yes"
    known = pd.notna(row["low"])
    low, high = (POINTS * row[end] for end in (("low", "high") if known else ("users_low", "users_high")))
    [bar] = axes.barh(
        [position], [diff], 0.46, color=color if resolved else "white", edgecolor=color, linewidth=1.4
    )
    hover(bar, f"{label(row['architecture'], row['variant'])}: {interval(diff, low, high, 2)}")
    axes.plot([low, high], [position] * 2, "|-" if known else "|:", color=INK, linewidth=1.2, markersize=6)


def _legend(comparisons: pd.DataFrame) -> list[Line2D | Patch]:
    handles: list[Line2D | Patch] = []
    if (comparisons["resolved"] == "yes").any():
        handles.append(Patch(facecolor=INK, edgecolor=INK, label="resolved"))
    if (comparisons["resolved"] != "yes").any():
        handles.append(Patch(facecolor="white", edgecolor=INK, label=not_filled(comparisons)))
    handles.append(Line2D([], [], color=INK, marker="|", linewidth=1.2, label="95% interval"))
    if "paper_gain" in comparisons and comparisons["paper_gain"].notna().any():
        handles.append(Line2D([], [], **PAPER_MARK, label="the paper's change (its own data)"))
    return handles
