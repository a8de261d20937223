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
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.cells import Shown, grouped, interval, is_missing
from reports.markup import Table
from reports.paper import Paper
from reports.records import Contestant, label
from reports.sections import Section
from reports.summary import METRICS
from reports.variants import is_plain, sized

TABLES = ("table1", "figure2")  # suites that put architectures beside each other, as Table 1 does
DRAWS = 10_000
Z = 1.959964  # half-widths of a normal's 95% interval, in standard errors
MIN_MODELS = 3
GROUP = ["task", "metric", "size"]


def kendall_tau_b(ours: NDArray[np.float64], paper: NDArray[np.float64]) -> NDArray[np.float64]:
    """Kendall's tau-b of each row of ``ours`` (..., N) with ``paper`` (N,); NaN where all of one are tied.

    >>> kendall_tau_b(np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]), np.array([0.1, 0.2, 0.3]))
    array([ 1., -1.])
    """
    i, j = np.triu_indices(len(paper), 1)
    mine, theirs = np.sign(ours[..., i] - ours[..., j]), np.sign(paper[i] - paper[j])
    untied = np.sqrt(np.abs(mine).sum(axis=-1) * np.abs(theirs).sum())
    with np.errstate(invalid="ignore"):
        return (mine @ theirs) / untied


def models_in_both(section: Section, paper: Paper) -> pd.DataFrame:
    """Our differences beside the paper's gains: one row a task, metric, size and model that both have.

    Columns task, metric, size (empty without several), name, is_base, diff (a fraction), se and variance
    (its own part of se squared), both NaN where no interval is known, resolved (against the base), paper
    (points x 100). Fewer than three models of a task, metric and size are left out; without a verdict, all.
    """
    printed = paper.tables["table1"]
    rows = []
    compares = section.suite.paper_table in TABLES and not section.no_verdict
    for contestant in section.contestants if compares else []:
        stem, size = sized(contestant.variant)
        plain = is_plain(contestant.architecture, stem)
        beside = printed.row(contestant.architecture, "" if plain else stem)
        if beside is None:
            continue
        for row in _differences(section, contestant):
            column = printed.column(row["task"], row["metric"])
            gain = 0.0 if beside.base else beside.numbers.get(column or "")
            if column and gain is not None:
                rows.append(row | {"size": size, "name": label(contestant.architecture, stem), "paper": gain})
    names = [*GROUP, "name", "is_base", "diff", "se", "resolved", "paper"]
    both = pd.DataFrame(rows, columns=names)
    least = both.groupby(["task", "metric"])["se"].transform("min")  # of the models, the base's is NaN
    both["variance"] = np.where(both["is_base"], least**2 / 2, both["se"] ** 2 - least**2 / 2)
    enough = both.groupby(GROUP)["name"].transform("count") >= MIN_MODELS
    return both[enough].sort_values("size", key=_millions, kind="stable").reset_index(drop=True)


def _millions(sizes: pd.Series) -> pd.Series:
    return sizes.map(lambda size: float(size.removesuffix("M") or 0))


def _differences(section: Section, contestant: Contestant) -> list[dict]:
    """task, metric, diff, se, resolved of a contestant; the base differs by zero wherever the others do."""
    rows = section.comparisons
    rows = rows[rows["metric"].isin(METRICS) & rows["diff"].notna()]
    if contestant == section.base:
        pairs = dict.fromkeys(zip(rows["task"], rows["metric"], strict=True))
        zero = {"diff": 0.0, "se": math.nan, "resolved": "", "is_base": True}
        return [{"task": task, "metric": metric} | zero for task, metric in pairs]
    mine = rows[(rows["architecture"] == contestant.architecture) & (rows["variant"] == contestant.variant)]
    return [
        {name: row[name] for name in ("task", "metric", "diff", "resolved")}
        | {"se": (row["high"] - row["low"]) / 2 / Z, "is_base": False}
        for row in mine.to_dict("records")
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


# --- On the page ----------------------------------------------------------------------------------------


def ordering_tables(section: Section, paper: Paper) -> list[Table]:
    """Kendall's tau-b with what is resolved, as one table; its CSV holds every pair."""
    both = models_in_both(section, paper)
    if both.empty:
        return []
    pairs = ordered_pairs(both)
    rows = []
    for row in agreement(both).to_dict("records"):
        mine = _of(pairs, row)
        counts = [_resolved(mine, order) for order in ("agrees", "differs")]
        size = Shown(row["size"], float(row["size"].removesuffix("M"))) if row["size"] else "one"
        shown = [row["task"], row["metric"].upper(), size, grouped(row["models"])]
        shown += [_tau(row), grouped(len(mine)), *(grouped(len(names)) for names in counts)]
        rows.append([*shown, grouped(len(mine) - sum(map(len, counts)))])
    header = ["task", "metric", "size", "models", "Kendall's tau-b (95%)", "pairs"]
    notes = [
        f"Against {paper.tables['table1'].label}, models in both; pairs that it ties are not counted. "
        "Interval: 10,000 draws of our differences from normals with the standard errors of "
        "comparisons.csv, half of the smallest variance being the base's; the paper's gains are taken "
        "without error. It leans towards zero.",
        "Resolved: the 95% interval of the pair's difference, of the same variances, leaves out zero; of "
        "pairs with the base, as in the table of differences. The CSV lists every pair.",
    ]
    return [
        Table(
            name=f"ordering-{section.name}",
            caption=f"Order of the models on {section.dataset} against the paper's",
            numbers=pairs,
            header=[*header, "agree, resolved", "differ, resolved", "not resolved"],
            rows=rows,
            notes=notes,
        )
    ]


def ordering_words(section: Section, paper: Paper) -> list[str]:
    """For each task, metric and size: tau-b, and the resolved pairs that go the paper's way or the other."""
    both = models_in_both(section, paper)
    if both.empty:
        return []
    pairs = ordered_pairs(both)
    said = []
    for row in agreement(both).to_dict("records"):
        mine = _of(pairs, row)
        at = f" at {row['size']}" if row["size"] else ""
        agree, differ = (_resolved(mine, order) for order in ("agrees", "differs"))
        said.append(
            f"{row['task']}, {row['metric'].upper()}{at}: Kendall's tau-b with the paper's Table 1 is "
            f"{_tau(row)} over {row['models']} models. Orderings resolved here that agree: "
            f"{', '.join(agree) or 'none'}; that do not: {', '.join(differ) or 'none'}; "
            f"{len(mine) - len(agree) - len(differ)} of {len(mine)} pairs are not resolved."
        )
    return [
        *said,
        "An order that agrees says that the same models are better here, not by as much; one that does "
        "not may come from the data, the sizes (the paper's rows differ in cost, ours are matched) or the "
        "training.",
    ]


def _of(pairs: pd.DataFrame, group: dict) -> pd.DataFrame:
    return pairs[np.logical_and.reduce([pairs[name] == group[name] for name in GROUP])]


def _resolved(pairs: pd.DataFrame, order: str) -> list[str]:
    mine = pairs[(pairs["resolved"] == "yes") & (pairs["order"] == order)]
    return [f"{a} over {b}" for a, b in zip(mine["higher"], mine["lower"], strict=True)]


def _tau(row: dict) -> Shown:
    unknown = "(no interval: seeds or users too few)" if is_missing(row["low"]) else ""
    return interval(row["tau"], row["low"], row["high"], 2, unknown)
