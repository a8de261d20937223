r"""How far the order of our models agrees with that of the paper's Table 1.

Kendall's tau-b between our mean differences to the base and the paper's printed gains, over the models that
both have, task by task and metric by metric; where a suite has several sizes, size by size, each beside the
same rows of the paper. The base is not among them: both sides have it at zero by definition, so it would
agree with the paper as often as models are above it, whatever their order.

**Its p-value** is that of a permutation test: how often an order drawn at random would agree or disagree with
the paper's as much. All orders are counted for up to eight models, ``ORDERS`` drawn ones for more.

**Its interval** is the middle 95% of tau over 10,000 draws of our differences from normals, since records
hold no predictions to resample. Their standard errors are the half-widths of ``comparisons.csv`` over 1.96.
All differences share the base's error: with model a's variance :math:`se_a^2`, the base is given half of
the smallest, :math:`v_0 = \min_a se_a^2 / 2`, and the model the rest, so that between two models the base's
error, which is in both differences, cancels. A draw adds noise to what already has it, so the interval leans
towards zero. The paper's gains are taken as they are printed: it states no error.

**A pair of models is resolved** when the p-value of its difference, of the same variances, is below .05 after
Holm's correction over the tested pairs of its task, metric and size. It is untested where no verdict is given
on one of its models' differences to the base: too few seeds, worlds or users, or a failed run.
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
DRAWS = 10_000
ORDERS = 100_000  # 8! = 40,320 are fewer
Z = 1.959964  # half-widths of a normal's 95% interval, in standard errors
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
        Columns task, metric, size (empty without several), name, diff (a fraction), se and variance (its own
        part of se squared), both NaN where no interval is known, is_tested (whether a verdict is given on the
        difference), paper (points x 100). Fewer than four models of a task, metric and size are left out.
    """
    rows = []
    for contestant in contestants:
        for row in [] if contestant == base else _differences(contestant, comparisons):
            gain = gains(contestant, row["task"], row["metric"])
            if gain is not None:
                name = label(contestant.architecture, contestant.variant_without_size)
                rows.append(row | {"size": contestant.size, "name": name, "paper": gain})
    both = pd.DataFrame(rows, columns=[*GROUP, "name", "diff", "se", "is_tested", "paper"])
    least = both.groupby(["task", "metric"])["se"].transform("min")
    both["variance"] = both["se"] ** 2 - least**2 / 2
    enough = both.groupby(GROUP)["name"].transform("count") >= MIN_MODELS
    return both[enough].sort_values("size", key=_millions, kind="stable").reset_index(drop=True)


def _millions(sizes: pd.Series) -> pd.Series:
    return sizes.map(lambda size: float(size.removesuffix("M") or 0))


def _differences(contestant: Contestant, comparisons: pd.DataFrame) -> list[dict]:
    """task, metric, diff, se and is_tested of a contestant."""
    rows = comparisons[comparisons["metric"].isin(METRICS) & comparisons["diff"].notna()]
    rows = rows[(rows["architecture"] == contestant.architecture) & (rows["variant"] == contestant.variant)]
    return [
        {name: row[name] for name in ("task", "metric", "diff")}
        | {"se": (row["high"] - row["low"]) / 2 / Z, "is_tested": row["resolved"] in ("yes", "no")}
        for row in rows.to_dict("records")
    ]


def ordered_pairs(both: pd.DataFrame) -> pd.DataFrame:
    """Every pair of models that the paper tells apart, the one with our higher mean first.

    Args:
        both: :func:`models_in_both`.

    Returns:
        Columns task, metric, size, higher, lower, diff, low, high (fractions, 95%), p_holm, resolved (yes,
        no, untested), paper_diff (points x 100, of the same two) and order (agrees, differs).
    """
    pairs = [pair for group, models in both.groupby(GROUP, sort=False) for pair in _pairs(group, models)]
    names = [*GROUP, "higher", "lower", "diff", "low", "high", "p_holm", "resolved", "paper_diff", "order"]
    return pd.DataFrame(pairs, columns=names)


def _pairs(group: tuple, models: pd.DataFrame) -> list[dict]:
    """The rows of `ordered_pairs` of one task, metric and size."""
    rows = []
    for a, b in combinations(models.to_dict("records"), 2):
        high, low = (a, b) if a["diff"] >= b["diff"] else (b, a)
        gap = round(high["paper"] - low["paper"], 6)
        if gap == 0:
            continue
        diff, se = high["diff"] - low["diff"], math.sqrt(high["variance"] + low["variance"])
        rows.append(
            dict(zip(GROUP, group, strict=True))
            | {"higher": high["name"], "lower": low["name"], "diff": diff, "se": se}
            | {"low": diff - Z * se, "high": diff + Z * se}
            | {"is_tested": high["is_tested"] and low["is_tested"] and not math.isnan(se)}
            | {"paper_diff": gap, "order": "agrees" if gap > 0 else "differs"}
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.divide([row["diff"] for row in rows], [row["se"] for row in rows])
    is_tested = np.array([row["is_tested"] for row in rows], dtype=bool)
    p_holm = holm(np.where(is_tested, 2 * stats.norm.sf(z), math.nan))
    return [
        row | {"p_holm": float(p), "resolved": _verdict(row["is_tested"], float(p))}
        for row, p in zip(rows, p_holm, strict=True)
    ]


def _verdict(is_tested: bool, p_holm: float) -> str:
    if not is_tested:
        return "untested"
    return "yes" if p_holm < LEVEL else "no"


def agreement(both: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Kendall's tau-b by task, metric and size, with its 95% interval, NaN where an error is unknown.

    Columns task, metric, size, models (how many), tau, low, high, p_value (of the permutation test).
    """
    rows = []
    for group, models in both.groupby(GROUP, sort=False):
        diff, gain = models["diff"].to_numpy(float), models["paper"].to_numpy(float)
        draws = np.random.default_rng(seed).standard_normal((DRAWS, len(models)))
        drawn = kendall_tau_b(diff + np.sqrt(models["variance"].to_numpy(float)) * draws, gain)
        known = bool(models["variance"].notna().all())
        low, high = np.quantile(drawn, [0.025, 0.975]) if known else (math.nan, math.nan)
        tau, p_value = float(kendall_tau_b(diff, gain)), permutation_p_value(diff, gain, seed)
        rows.append((*group, len(models), tau, float(low), float(high), p_value))
    return pd.DataFrame(rows, columns=[*GROUP, "models", "tau", "low", "high", "p_value"])


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
