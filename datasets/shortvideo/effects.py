"""Random effects of categorical fields on a utility, of any order.

An effect of order n over fields f1 .. fn with categories x1 .. xn is

.. math:: e(x_1, .., x_n) = s \\sum_{r=1}^{R} \\prod_{i} T_i[x_i, r]

with standard normal tables T_i. Each column of a table is centred on the field's own shares, so an
effect holds nothing of lower order where the fields are independent, and the whole is scaled there
to variance s**2. R = 1 and n = 1 is a main effect; higher orders are tables of rank R.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np


@dataclass(frozen=True)
class Field:
    """A categorical input of the utility.

    ``shares`` (categories,) sum to 1: how often each category is expected among rows.
    """

    name: str
    group: str
    shares: np.ndarray


@dataclass(frozen=True)
class Effect:
    """One term: ``tables`` has one (categories, R) array a field, the scale already inside."""

    fields: tuple[str, ...]
    tables: tuple[np.ndarray, ...]

    def __call__(self, codes: Mapping[str, np.ndarray]) -> np.ndarray:
        """The term for rows whose categories are ``codes[field]`` (rows,). Returns (rows,)."""
        product = self.tables[0].take(codes[self.fields[0]], axis=0)
        for name, table in zip(self.fields[1:], self.tables[1:], strict=True):
            product *= table.take(codes[name], axis=0)
        return product.sum(axis=1)


@dataclass(frozen=True)
class Common:
    """What the effects of a field have in common: ``share`` of the variance of each of its tables.

    ``tables`` has one (categories, R) array a field, standard normal and centred, as those of an effect are.
    With share 1 a field enters every effect by the same factors, as in a factorization machine; with 0 each
    has factors of its own.
    """

    share: float
    tables: Mapping[str, np.ndarray]


def draw_common(fields: Sequence[Field], share: float, rank: int, rng: np.random.Generator) -> Common:
    """What all effects of ``fields`` have in common."""
    drawn = {field.name: rng.standard_normal((len(field.shares), rank)) for field in fields}
    return Common(
        share, {field.name: drawn[field.name] - field.shares @ drawn[field.name] for field in fields}
    )


def draw_effect(
    fields: Sequence[Field],
    variance: float,
    rank: int,
    rng: np.random.Generator,
    common: Common | None = None,
) -> Effect:
    """An effect over ``fields`` with the given variance where they are independent."""
    tables, moments = [], np.ones((rank, rank))
    for field in fields:
        table = rng.standard_normal((len(field.shares), rank))
        table -= field.shares @ table
        if common is not None:
            table = np.sqrt(1 - common.share) * table + np.sqrt(common.share) * common.tables[field.name]
        moments *= table.T @ (field.shares[:, None] * table)
        tables.append(table)
    tables[0] *= np.sqrt(variance / moments.sum())
    return Effect(tuple(field.name for field in fields), tuple(tables))


def draw_interactions(
    fields: Sequence[Field],
    order: int,
    within: int,
    across: int,
    variance: float,
    rank: int,
    rng: np.random.Generator,
    common: Common | None = None,
) -> list[Effect]:
    """``within`` effects inside one group and ``across`` over several, all of one order; fewer of few fields.

    Which fields interact is uniform over all combinations of that kind. ``variance`` is the sum
    over the effects, shared out by a Dirichlet(2, .., 2) draw.
    """
    every = list(combinations(fields, order))
    inside = [chosen for chosen in every if len({field.group for field in chosen}) == 1]
    outside = [chosen for chosen in every if len({field.group for field in chosen}) > 1]
    within, across = min(within, len(inside)), min(across, len(outside))
    chosen = [inside[i] for i in rng.choice(len(inside), within, replace=False)] if inside else []
    chosen += [outside[i] for i in rng.choice(len(outside), across, replace=False)] if outside else []
    shares = rng.dirichlet(np.full(len(chosen), 2.0))
    return [
        draw_effect(some, variance * share, rank, rng, common)
        for some, share in zip(chosen, shares, strict=True)
    ]
