r"""How far the order of our models agrees with that of the paper's Table 1.

Kendall's tau-b between our mean differences to the base and the paper's printed gains, over the models that
both have, task by task and metric by metric; where a suite has several sizes, size by size, each beside the
same rows of the paper. The base is not among them: both sides have it at zero by definition, so it would
agree with the paper as often as models are above it, whatever their order.

**Its p-value** is that of a permutation test: how often an order drawn at random would agree or disagree with
the paper's as much. All orders are counted for up to eight models, ``ORDERS`` drawn ones for more. It has no
interval: draws of noisy means are noisier than these, so that their tau leans towards zero.

**A pair of models is resolved** when the p-value of its own difference (``pairs.csv``) is below .05 after
Holm's correction over the tested pairs of its task, metric and size: those that the paper tells apart. It is
untested where too few seeds, worlds or users stand behind it, or a run failed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from harness.evaluation.statistics.significance import LEVEL, holm
from harness.records.contestant import Contestant, label

METRICS = ("auc", "uauc")
ORDERS = 100_000  # 8! = 40,320 are fewer
MIN_MODELS = 4  # three have so few orders that one in six agrees wholly by chance
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
        contestants: the models; ``base`` is left out.
        comparisons: rows of ``comparisons.csv`` of one dataset.
        gains: the paper's gain of a contestant in a task and metric, None where it has none.

    Returns:
        Columns task, metric, size (empty without several), name, architecture, variant, diff (a fraction) and
        paper (points x 100). Fewer than four models of a task, metric and size are left out.
    """
    rows = []
    for contestant in contestants:
        for row in [] if contestant == base else _differences(contestant, comparisons):
            gain = gains(contestant, row["task"], row["metric"])
            if gain is not None:
                name = label(contestant.architecture, contestant.variant_without_size)
                rows.append(row | {"size": contestant.size, "name": name, "paper": gain})
    names = [*GROUP, "name", "architecture", "variant", "diff", "paper"]
    both = pd.DataFrame(rows, columns=names)
    enough = both.groupby(GROUP)["name"].transform("count") >= MIN_MODELS
    return both[enough].sort_values("size", key=_millions, kind="stable").reset_index(drop=True)


def _millions(sizes: pd.Series) -> pd.Series:
    return sizes.map(lambda size: float(size.removesuffix("M") or 0))


def _differences(contestant: Contestant, comparisons: pd.DataFrame) -> list[dict]:
    """task, metric, architecture, variant and diff of a contestant."""
    rows = comparisons[comparisons["metric"].isin(METRICS) & comparisons["diff"].notna()]
    rows = rows[(rows["architecture"] == contestant.architecture) & (rows["variant"] == contestant.variant)]
    return rows[["task", "metric", "architecture", "variant", "diff"]].to_dict("records")


def ordered_pairs(both: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Every pair of models that the paper tells apart, the one with our higher mean first.

    Args:
        both: :func:`models_in_both`.
        pairs: rows of ``pairs.csv`` of the same dataset; what it lacks is untested.

    Returns:
        Columns task, metric, size, higher, lower, diff, low, high (fractions, 95%), p_holm, resolved (yes,
        no, untested), paper_diff (points x 100, of the same two) and order (agrees, differs).
    """
    known = {_key(row, row["base"], row["base_variant"]): row for row in pairs.to_dict("records")}
    found = [row for group, models in both.groupby(GROUP, sort=False) for row in _pairs(group, models, known)]
    names = [*GROUP, "higher", "lower", "diff", "low", "high", "p_holm", "resolved", "paper_diff", "order"]
    return pd.DataFrame(found, columns=names)


def _key(row: dict, other: str, other_variant: str) -> tuple:
    """Of a task and metric, a row's model and another."""
    return row["task"], row["metric"], (row["architecture"], row["variant"]), (other, other_variant)


def _pairs(group: tuple, models: pd.DataFrame, known: dict[tuple, dict]) -> list[dict]:
    """The rows of `ordered_pairs` of one task, metric and size."""
    rows = []
    for a, b in combinations(models.to_dict("records"), 2):
        measured = _measured(a, b, known)
        high, low, sign = (a, b, 1) if measured["diff"] >= 0 else (b, a, -1)
        gap = round(high["paper"] - low["paper"], 6)
        if gap != 0:
            ends = sorted(sign * measured[end] for end in ("low", "high"))
            rows.append(
                dict(zip(GROUP, group, strict=True))
                | {"higher": high["name"], "lower": low["name"], "diff": abs(measured["diff"])}
                | {"low": ends[0], "high": ends[1], "p_value": measured["p_value"]}
                | {"paper_diff": gap, "order": "agrees" if gap > 0 else "differs"}
            )
    p_holm = holm(np.array([row["p_value"] for row in rows], dtype=float))
    return [
        row | {"p_holm": float(p), "resolved": _verdict(float(p))}
        for row, p in zip(rows, p_holm, strict=True)
    ]


def _measured(a: dict, b: dict, known: dict[tuple, dict]) -> dict:
    """diff, low, high and p_value of ``a`` less ``b``; of their means alone where they were not compared."""
    if row := known.get(_key(a, b["architecture"], b["variant"])):
        return row
    if row := known.get(_key(b, a["architecture"], a["variant"])):
        return {"diff": -row["diff"], "low": -row["high"], "high": -row["low"], "p_value": row["p_value"]}
    return {"diff": a["diff"] - b["diff"]} | dict.fromkeys(("low", "high", "p_value"), math.nan)


def _verdict(p_holm: float) -> str:
    if math.isnan(p_holm):
        return "untested"
    return "yes" if p_holm < LEVEL else "no"


def agreement(both: pd.DataFrame) -> pd.DataFrame:
    """Kendall's tau-b by task, metric and size.

    Columns task, metric, size, models (how many), tau, p_value (of the permutation test).
    """
    rows = []
    for group, models in both.groupby(GROUP, sort=False):
        diff, gain = models["diff"].to_numpy(float), models["paper"].to_numpy(float)
        rows.append((*group, len(models), float(kendall_tau_b(diff, gain)), permutation_p_value(diff, gain)))
    return pd.DataFrame(rows, columns=[*GROUP, "models", "tau", "p_value"])


def permutation_p_value(ours: NDArray[np.float64], paper: NDArray[np.float64], seed: int = 0) -> float:
    """Two-sided p-value of tau-b if every order of ``ours`` (N,) were as likely; NaN where tau is.

    >>> permutation_p_value(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.1, 0.2, 0.3, 0.4])) * 24
    2.0
    """
    if math.isnan(float(kendall_tau_b(ours, paper))):
        return math.nan
    tested = stats.permutation_test(
        (ours,),
        lambda orders, axis: kendall_tau_b(np.moveaxis(orders, axis, -1), paper),
        permutation_type="pairings",
        vectorized=True,
        n_resamples=ORDERS,
        rng=np.random.default_rng(seed),
    )
    return float(tested.pvalue)
