"""A dataset's drift: distances of features from training, label rates by split, what training lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Unpack

import pandas as pd
import seaborn as sns
from matplotlib.lines import Line2D

from reports.cells import percent
from reports.figures.drawing.models import Look
from reports.figures.drawing.panels import Options, Panels, Plot, marker_size
from reports.figures.drawing.saving import hover_point
from reports.figures.drawing.style import COLORS, INK, styled

MOST_FEATURES = 40  # shown, those that are farthest
WIDTH, ROW = 6.4, 0.22  # inches
NAMES = {"train": "training", "valid": "validation", "test": "test"}


@styled
def feature_distances(rows: pd.DataFrame, **options: Unpack[Options]) -> Panels:
    """The distance from training to validation and to test, a line for each feature; the farthest first.

    Args:
        rows: feature, valid, test; missing where a split has no values of it.
        options: their models are the features.
    """
    shown = rows if options.get("order") else rows.head(MOST_FEATURES)
    lines = {name: name for name in shown["feature"]}
    return _points(
        shown.set_index("feature"), lines, ("valid", "test"), "distance from training, 0 to 1", options
    )


@styled
def label_rates(rows: pd.DataFrame, **options: Unpack[Options]) -> Panels:
    """The share of positives in each split, a line for each label.

    Args:
        rows: task, split, positive_rate.
        options: their models are the labels.
    """
    wide = rows.pivot_table(index="task", columns="split", values="positive_rate", sort=False)
    lines = {name: name for name in wide.index}
    return _points(wide, lines, tuple(NAMES), "share of positives among the defined rows", options)


@styled
def shares_of_new(rows: pd.DataFrame, shares: Mapping[str, str], **options: Unpack[Options]) -> Panels:
    """What validation and test have without a training row, a line for each kind of share.

    Args:
        rows: split, and a column for each share.
        shares: how each of those columns is called.
        options: their models are those columns.
    """
    wide = rows.set_index("split")[list(shares)].T
    return _points(wide, shares, ("valid", "test"), "share without a training row", options)


def _points(
    wide: pd.DataFrame, lines: Mapping[str, str], splits: Sequence[str], label: str, options: Options
) -> Panels:
    """Marks of several splits on a line for each row, from 0 on.

    Args:
        wide: a row for each of ``lines``, by its key, and a column for each split.
        lines: how each row is called.
    """
    looks = {(key, ""): Look(INK, "o", name=name) for key, name in lines.items()}
    plot = Plot(
        wide.rename_axis("architecture").reset_index().assign(variant=""), {**options, "looks": looks}
    )
    shown = [split for split in splits if split in plot.rows]
    keys = list(plot.rows["architecture"])
    (axes,) = plot.grid(1, 1, WIDTH, 0.9 + ROW * max(len(keys), 2))
    long = (
        plot.rows.melt("architecture", shown, "split", "value")
        .dropna(subset="value")
        .replace({"split": NAMES})
    )
    colors = dict(zip(NAMES.values(), COLORS, strict=False))
    sns.stripplot(
        long,
        x="value",
        y="architecture",
        hue="split",
        order=keys,
        palette=colors,
        jitter=False,
        size=marker_size(0.85),
        legend=False,
        ax=axes,
    )
    for row in long.to_dict("records"):
        name = plot.looks[row["architecture"], ""].name
        text = f"{name}, {row['split']}: {percent(row['value'], 1)}"
        hover_point(axes, row["value"], keys.index(row["architecture"]), text)
    axes.set_yticks(range(len(keys)), [plot.looks[key, ""].shown for key in keys])
    axes.set_ylim(len(keys) - 0.5, -0.5)
    axes.set(xlabel="", ylabel="", xlim=(-0.01, max([0.05, *(1.08 * long["value"])])))
    axes.locator_params(axis="x", nbins=5)
    plot.xlabel(label)
    handles = [Line2D([], [], color=colors[NAMES[s]], marker="o", ls="", label=NAMES[s]) for s in shown]
    plot.legend(handles, beside=True)
    return plot.result
