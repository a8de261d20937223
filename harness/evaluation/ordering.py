r"""How far the order of our models agrees with that of the paper's Table 1.

Kendall's tau-b between our mean differences to the base and the paper's printed gains, over the models that
both have (the base with a difference of zero), task by task and metric by metric; where a suite has several
sizes, size by size, each beside the same rows of the paper.

**Its interval** is the middle 95% of tau over 10,000 draws of our differences from normals, since records
hold no predictions to resample. Their standard errors are the half-widths of ``comparisons.csv`` over 1.96.
All differences share the base's error: with model a's variance :math:`se_a^2`, the base is given half of the
smallest, :math:`v_0 = \min_a se_a^2 / 2`, and the model the rest. So :math:`a - base` keeps its own interval,
and between two other models the base's error, which is in both differences, cancels. A draw adds noise to
what already has it, so the interval leans towards zero. The paper's gains are taken as they are printed: it
states no error.

**A pair of models is resolved** when the 95% interval of its difference, made of the same variances, leaves
out zero; of a pair with the base, as ``comparisons.csv`` says.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.records.contestant import Contestant, label

METRICS = ("auc", "uauc")
DRAWS = 10_000
Z = 1.959964  # half-widths of a normal's 95% interval, in standard errors
MIN_MODELS = 3
GROUP = ["task", "metric", "size"]

Gains = Callable[[Contestant, str, str], float | None]


def kendall_tau_b(ours: NDArray[np.float64], paper: NDArray[np.float64]) -> NDArray[np.float64]:
    """Kendall's tau-b of each row of ``ours`` (..., N) with ``paper`` (N,); NaN where all of one are tied.

    >>> kendall_tau_b(np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]), np.array([0.1, 0.2, 0.3]))
    array([ 1., -1.])
    """
    i, j = np.triu_indices(len(paper), 1)
    our_signs, paper_signs = np.sign(ours[..., i] - ours[..., j]), np.sign(paper[i] - paper[j])
    untied = np.sqrt(np.abs(our_signs).sum(axis=-1) * np.abs(paper_signs).sum())
    with np.errstate(invalid="ignore"):
        return (our_signs @ paper_signs) / untied


def models_in_both(
    contestants: list[Contestant], base: Contestant | None, comparisons: pd.DataFrame, gains: Gains
) -> pd.DataFrame:
    """Our differences beside the paper's gains: one row a task, metric, size and model that both have.

    Args:
        comparisons: rows of ``comparisons.csv`` of one dataset.
        gains: the paper's gain of a contestant in a task and metric, None where it has none.

    Returns:
        Columns task, metric, size (empty without several), name, is_base, diff (a fraction), se and variance
        (its own part of se squared), both NaN where no interval is known, resolved (against the base), paper
        (points x 100). Fewer than three models of a task, metric and size are left out.
    """
    rows = []
    for contestant in contestants:
        for row in _differences(contestant, base, comparisons):
            gain = gains(contestant, row["task"], row["metric"])
            if gain is not None:
                name = label(contestant.architecture, contestant.variant_without_size)
                rows.append(row | {"size": contestant.size, "name": name, "paper": gain})
    names = [*GROUP, "name", "is_base", "diff", "se", "resolved", "paper"]
    both = pd.DataFrame(rows, columns=names)
    least = both.groupby(["task", "metric"])["se"].transform("min")  # of the models, the base's is NaN
    both["variance"] = np.where(both["is_base"], least**2 / 2, both["se"] ** 2 - least**2 / 2)
    enough = both.groupby(GROUP)["name"].transform("count") >= MIN_MODELS
    return both[enough].sort_values("size", key=_millions, kind="stable").reset_index(drop=True)


def _millions(sizes: pd.Series) -> pd.Series:
    return sizes.map(lambda size: float(size.removesuffix("M") or 0))


def _differences(contestant: Contestant, base: Contestant | None, comparisons: pd.DataFrame) -> list[dict]:
    """task, metric, diff, se, resolved of a contestant; the base differs by zero wherever the others do."""
    rows = comparisons[comparisons["metric"].isin(METRICS) & comparisons["diff"].notna()]
    if contestant == base:
        pairs = dict.fromkeys(zip(rows["task"], rows["metric"], strict=True))
        zero = {"diff": 0.0, "se": math.nan, "resolved": "", "is_base": True}
        return [{"task": task, "metric": metric} | zero for task, metric in pairs]
    rows = rows[(rows["architecture"] == contestant.architecture) & (rows["variant"] == contestant.variant)]
    return [
        {name: row[name] for name in ("task", "metric", "diff", "resolved")}
        | {"se": (row["high"] - row["low"]) / 2 / Z, "is_base": False}
        for row in rows.to_dict("records")
    ]


def ordered_pairs(both: pd.DataFrame) -> pd.DataFrame:
    """Every pair of models that the paper tells apart, the one with our higher mean first.

    Args:
        both: :func:`models_in_both`.

    Returns:
        Columns task, metric, size, higher, lower, diff, low, high (fractions, 95%), resolved (yes, no),
        paper_diff (points x 100, of the same two) and order (agrees, differs).
    """
    rows = []
    for group, models in both.groupby(GROUP, sort=False):
        for a, b in combinations(models.to_dict("records"), 2):
            high, low = (a, b) if a["diff"] >= b["diff"] else (b, a)
            gap = round(high["paper"] - low["paper"], 6)
            if gap == 0:
                continue
            diff = high["diff"] - low["diff"]
            half = Z * math.sqrt(high["variance"] + low["variance"])
            resolved = diff > half
            if high["is_base"] or low["is_base"]:
                resolved = (low if high["is_base"] else high)["resolved"] == "yes"
            rows.append(
                dict(zip(GROUP, group, strict=True))
                | {"higher": high["name"], "lower": low["name"], "diff": diff}
                | {"low": diff - half, "high": diff + half, "resolved": "yes" if resolved else "no"}
                | {"paper_diff": gap, "order": "agrees" if gap > 0 else "differs"}
            )
    names = [*GROUP, "higher", "lower", "diff", "low", "high", "resolved", "paper_diff", "order"]
    return pd.DataFrame(rows, columns=names)


def agreement(both: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Kendall's tau-b by task, metric and size, with its 95% interval, NaN where an error is unknown.

    Columns task, metric, size, models (how many), tau, low, high.
    """
    rows = []
    for group, models in both.groupby(GROUP, sort=False):
        diff, gain = models["diff"].to_numpy(float), models["paper"].to_numpy(float)
        draws = np.random.default_rng(seed).standard_normal((DRAWS, len(models)))
        drawn = kendall_tau_b(diff + np.sqrt(models["variance"].to_numpy(float)) * draws, gain)
        known = bool(models["variance"].notna().all())
        low, high = np.quantile(drawn, [0.025, 0.975]) if known else (math.nan, math.nan)
        rows.append((*group, len(models), float(kendall_tau_b(diff, gain)), float(low), float(high)))
    return pd.DataFrame(rows, columns=[*GROUP, "models", "tau", "low", "high"])
