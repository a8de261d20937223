"""A dataset's drift: distances of features from training, label rates by split, what training lacks."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.cells import percent
from reports.figures.drawing.saving import hover_point
from reports.figures.drawing.style import COLORS, styled

MOST_FEATURES = 40  # shown, those that are farthest
WIDTH, ROW = 6.4, 0.22  # inches
NAMES = {"train": "training", "valid": "validation", "test": "test"}


@styled
def feature_distances(rows: pd.DataFrame) -> Axes:
    """The distance from training to validation and to test, a line for each feature; the farthest first.

    Args:
        rows: feature, valid, test; missing where a split has no values of it.

    Returns the axes.
    """
    return _points(rows.head(MOST_FEATURES), "feature", ("valid", "test"), "distance from training, 0 to 1")


@styled
def label_rates(rows: pd.DataFrame) -> Axes:
    """The share of positives in each split, a line for each label.

    Args:
        rows: task, split, positive_rate.

    Returns the axes.
    """
    wide = rows.pivot_table(index="task", columns="split", values="positive_rate", sort=False).reset_index()
    return _points(wide, "task", tuple(NAMES), "share of positives among the defined rows")


@styled
def shares_of_new(rows: pd.DataFrame, names: Mapping[str, str]) -> Axes:
    """What validation and test have without a training row, a line for each kind of share.

    Args:
        rows: split, and a column for each share.
        names: how each of those columns is called.

    Returns the axes.
    """
    wide = rows.set_index("split")[list(names)].T.rename(index=names).rename_axis("what").reset_index()
    return _points(wide, "what", ("valid", "test"), "share without a training row")


def _points(rows: pd.DataFrame, name: str, splits: tuple[str, ...], label: str) -> Axes:
    """Marks of several splits on a line for each row, from 0 on."""
    shown = [split for split in splits if split in rows]
    figure = Figure(figsize=(WIDTH, 0.9 + ROW * max(len(rows), 2)), layout="constrained")
    axes = figure.subplots()
    long = rows.melt(name, shown, "split", "value").dropna(subset="value").replace({"split": NAMES})
    colors = dict(zip(NAMES.values(), COLORS, strict=False))
    sns.stripplot(
        long,
        x="value",
        y=name,
        hue="split",
        order=list(rows[name]),
        hue_order=[NAMES[split] for split in shown],
        palette=colors,
        jitter=False,
        ax=axes,
    )
    for row in long.to_dict("records"):
        text = f"{row[name]}, {row['split']}: {percent(row['value'], 1)}"
        hover_point(axes, row["value"], list(rows[name]).index(row[name]), text)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set(xlabel=label, ylabel="", xlim=(-0.01, max([0.05, *(1.08 * long["value"])])))
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), title="")
    return axes
