"""The orders in which published comparisons put their models, and how far they agree.

An order is one column of a quality of one comparison: the models that differ in the architecture alone, each
architecture by its plain row. Of rows with several sequence models, those with the same one make an order.
Two orders are compared by Kendall's tau-b over the architectures that both have, with the p-value of a
permutation test (`harness.evaluation.ordering`). A model that both take as the base of their differences is
left out: both have it at zero by definition. Two sources are not compared in different tasks where both name
one of ours, and models that were combined with a sequence model not with ours, which have none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from harness.evaluation.ordering import MIN_MODELS, ORDERS, kendall_tau_b, permutation_p_value
from reports.paper.printed import Column, Table, load_published
from reports.sections import Section

HERE = "here"
ALL = "all"
KINDS = {"auc": "AUC", "uauc": "UAUC or gAUC", "gauc": "UAUC or gAUC"}
COLUMNS = [
    *("source", "order", "other_source", "other_order", "kind", "models", "tau", "p_value", "orders"),
    *("left_out", "shared"),
]


@dataclass(frozen=True)
class Order:
    """Models by their quality in one comparison.

    ``source`` is the paper, or ``here``; ``kind`` says which metrics it may be compared with; ``scores`` are
    qualities or differences to ``base`` by architecture, which is None where nothing is zero by definition.
    ``task`` is ours, None where it is none of ours; ``sequence`` is the models' sequence model.
    """

    source: str
    name: str
    kind: str
    scores: dict[str, float]
    base: str | None = None
    task: str | None = None
    sequence: str = ""

    def may_be_compared_with(self, other: Order) -> bool:
        """Whether both are of one kind, and an agreement of them would say something of the models."""
        if self.kind != other.kind:
            return False
        if self.source == other.source:
            return True
        if HERE in (self.source, other.source) and (self.sequence or other.sequence):
            return False
        return None in (self.task, other.task) or self.task == other.task


def published_orders() -> list[Order]:
    """Every order of two models or more in the published comparisons, paper by paper."""
    return [
        order
        for paper in load_published().values()
        for _, table in paper.compared()
        for key, column in table.columns.items()
        if column.metric
        for order in _orders(paper.citation.name, table, key, column)
    ]


def _orders(source: str, table: Table, key: str, column: Column) -> Iterable[Order]:
    """The orders of a column, one a sequence model; a gain's base row is at zero."""
    base = table.base if column.gain else None
    for sequence in dict.fromkeys(row.sequence for row in table.rows):
        scores = {
            row.architecture: 0.0 if row == base else row.numbers[key]
            for row in table.rows
            if row.sequence == sequence
            and row.architecture
            and not row.variant
            and (row == base or key in row.numbers)
        }
        if len(scores) > 1:
            name = f"{column.label} with {sequence}" if sequence else column.label
            zero = base.architecture if base and base.architecture in scores else None
            yield Order(source, name, KINDS[str(column.metric)], scores, zero, column.task, sequence)


def our_orders(section: Section) -> list[Order]:
    """The orders of a section's plain rows by their mean differences; none where no verdict is given."""
    base = section.base
    if base is None or section.no_verdict:
        return []
    orders = []
    for task, numbers in section.quality.items():
        models = numbers[(numbers["kind"] == "model") & (numbers["variant"] == "")]
        for metric in ("auc", "uauc"):
            rows = models[(models["metric"] == metric) & models["diff"].notna()]
            if rows.empty:  # a log without users has no UAUC
                continue
            scores = dict(zip(rows["architecture"], rows["diff"].astype(float), strict=True))
            name = f"{section.dataset} {task} {metric.upper()}"
            zero = base.architecture
            orders.append(Order(HERE, name, KINDS[metric], scores | {zero: 0.0}, zero, task))
    return orders


def shared(one: Order, other: Order) -> tuple[list[str], str]:
    """The architectures that two orders are compared over, and the base that is left out, if any."""
    both = [name for name in one.scores if name in other.scores]
    if one.base is not None and one.base == other.base:
        return [name for name in both if name != one.base], one.base
    return both, ""


def compare_orders(orders: list[Order]) -> pd.DataFrame:
    """Every pair of orders that may be compared, with a model in both.

    Columns source, order, other_source, other_order, kind, models (how many both have), tau (NaN where all
    models of one are tied), p_value, orders (which permutations it counts), left_out (the base of both) and
    shared (the models). Fewer than four models have neither tau nor p-value.
    """
    rows = []
    for one, other in combinations(orders, 2):
        names, left_out = shared(one, other)
        if not one.may_be_compared_with(other) or not names:
            continue
        ours, theirs = (np.array([each.scores[name] for name in names]) for each in (one, other))
        pair = (one.source, one.name, other.source, other.name, one.kind, len(names))
        rows.append((*pair, *_agreement(ours, theirs), left_out, ", ".join(names)))
    return pd.DataFrame(rows, columns=COLUMNS)


def _agreement(one: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[float, float, str]:
    """tau-b, its p-value, and the orders that it counts: all, or how many were drawn."""
    if len(one) < MIN_MODELS:
        return math.nan, math.nan, ""
    tau = float(kendall_tau_b(one, other))
    if len(set(one)) == len(set(other)) == len(one):  # without ties all orders are counted by recursion
        return tau, float(stats.kendalltau(one, other, method="exact").pvalue), ALL
    drawn = math.factorial(len(one)) > ORDERS
    return tau, permutation_p_value(one, other), f"{ORDERS:,} drawn" if drawn else ALL
