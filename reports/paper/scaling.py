"""The paper's Figure 2 as points, and the lines through them."""

from __future__ import annotations

import pandas as pd

from harness.evaluation.scaling import AXES, MIN_SIZES, line
from reports.paper.printed import Paper

PAPER_AXES = {"flops_per_sample": "flops_per_batch_512", "dense_params": "dense_params"}


def paper_points(paper: Paper) -> pd.DataFrame:
    """The digitised Figure 2: architecture, gain (points x 100) and both costs, in the paper's own units."""
    return pd.DataFrame(
        [
            {"architecture": row.architecture, "gain": row.numbers["finish_auc"]}
            | {axis: row.numbers[name] for axis, name in PAPER_AXES.items()}
            for row in paper.tables["figure2"].rows
        ]
    )


def paper_slopes(paper: Paper) -> pd.DataFrame:
    """Points x 100 a decade of each architecture with three points or more, by the same least squares.

    Columns axis, architecture, slope, intercept. No interval: the paper has one run a point.
    """
    rows = []
    for axis in AXES:
        for architecture, points in paper_points(paper).groupby("architecture", sort=False):
            if len(points) >= MIN_SIZES:
                gains = points["gain"].to_numpy(float)[None]
                [slope], [intercept] = line(points[axis].to_numpy(float), gains)
                rows.append((axis, architecture, slope, intercept))
    return pd.DataFrame(rows, columns=["axis", "architecture", "slope", "intercept"])
