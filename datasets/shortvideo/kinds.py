r"""Kinds of interaction beside products: what ``effects: mixed`` draws.

Categories x, y of fields have the fields' own shares; :math:`T` are standard normal tables and :math:`S`
splits of a field's categories into two random halves, 0 and 1. Each kind has an equal share of the variance.

============ ========================= ========================================================= =============
kind         effects                   equation, before it is centred                            orders
============ ========================= ========================================================= =============
products     3 pairs, 2 triples        :math:`\sum_{r=1}^4 \prod_i T_i[x_i, r]`                   2, 3
thresholds   2 of 3 fields, 2 of 4     :math:`T[S_1(x_1), .., S_n(x_n)]`: a tree of n splits      2 up to 3, 4
tables       3 pairs                   :math:`T[x, y]`, of full rank                             2
gated        3 pairs                   :math:`T_{S(x)}[y]`: one field chooses the other's table   2
memory       user x category,          :math:`T[u, y]` or :math:`T[i, y]`, of full rank           2
             user x author,
             item x one user field
additive     all 22 fields             :math:`T[x]`: main effects, nothing to gain by crossing    1
============ ========================= ========================================================= =============

Where fields are independent, a centred effect has no mean, no main effect and, but for thresholds, nothing
below its order; its variance is exact there. Once centred, a gated effect is a product of rank 1, and so is
the part of full order of a tree: cross networks can write these down. A table takes as many products as the
smaller field has categories, less one, and a tree of four fields takes three cross layers.

Tables may have more cells than fit in memory (users x authors). Their cells are drawn by a hash of the pair,
so that only the means of rows and columns are kept; equal seeds give equal cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import ndtri

from datasets.shortvideo.effects import Effect, Field, draw_effect, draw_interactions

KINDS = ("products", "thresholds", "tables", "gated", "memory", "additive")
PRODUCT_PAIRS, PRODUCT_TRIPLES, PRODUCT_RANK = 3, 2, 4
TREE_SIZES = (3, 3, 4, 4)
NUM_TABLES, TABLE_CATEGORIES = 3, 8  # a table's fields have at least as many categories
NUM_GATED = 3

_STEPS = 4096  # a cell's value is one of the normal distribution's quantiles
_quantiles = ndtri((np.arange(_STEPS) + 0.5) / _STEPS)
NORMAL = _quantiles / np.sqrt(np.mean(_quantiles**2))
_BLOCK_CELLS = 2**16


class Term(Protocol):
    """One term of the utility."""

    @property
    def fields(self) -> tuple[str, ...]: ...

    def __call__(self, codes: Mapping[str, np.ndarray]) -> np.ndarray:
        """The term for rows whose categories are ``codes[field]`` (rows,). Returns (rows,)."""
        ...


# ---------------------------------------------------------------------------------------------- thresholds


@dataclass(frozen=True)
class Tree:
    """``sides`` has one (categories,) array of 0 and 1 a field, ``leaves`` (2, .., 2) the values."""

    fields: tuple[str, ...]
    sides: tuple[np.ndarray, ...]
    leaves: np.ndarray

    def __call__(self, codes: Mapping[str, np.ndarray]) -> np.ndarray:
        leaf = np.zeros(len(codes[self.fields[0]]), np.intp)
        for name, side in zip(self.fields, self.sides, strict=True):
            leaf = 2 * leaf + side.take(codes[name])
        return self.leaves.ravel().take(leaf)


def draw_tree(fields: Sequence[Field], variance: float, rng: np.random.Generator) -> Tree:
    """A table over the two sides of every field, free of main effects, with the given variance."""
    sides = tuple(_halves(field, rng) for field in fields)
    weights = [np.bincount(side, field.shares, 2) for side, field in zip(sides, fields, strict=True)]
    leaves = rng.standard_normal((2,) * len(fields))
    joint = np.ones(())
    for weight in weights:
        joint = np.multiply.outer(joint, weight)
    centred = leaves - (joint * leaves).sum()
    for axis, weight in enumerate(weights):
        others = tuple(other for other in range(len(fields)) if other != axis)
        main = (joint * leaves).sum(axis=others) / weight - (joint * leaves).sum()
        centred -= main.reshape([2 if other == axis else 1 for other in range(len(fields))])
    centred *= np.sqrt(variance / (joint * centred**2).sum())
    return Tree(tuple(field.name for field in fields), sides, centred)


def _halves(field: Field, rng: np.random.Generator) -> np.ndarray:
    """A side, 0 or 1, of every category; each side has one at least."""
    return (rng.permutation(len(field.shares)) < len(field.shares) // 2).astype(np.int8)


# --------------------------------------------------------------------------------------------------- gated


@dataclass(frozen=True)
class Gated:
    """``side`` (gate's categories,) of 0 and 1 chooses a row of ``tables`` (2, categories)."""

    fields: tuple[str, str]
    side: np.ndarray
    tables: np.ndarray

    def __call__(self, codes: Mapping[str, np.ndarray]) -> np.ndarray:
        gate, switched = self.fields
        return self.tables[self.side.take(codes[gate]), codes[switched]]


def draw_gated(gate: Field, switched: Field, variance: float, rng: np.random.Generator) -> Gated:
    """Two tables of ``switched``, of which ``gate`` says which counts, less what they have in common."""
    side = _halves(gate, rng)
    weight = np.bincount(side, gate.shares, 2)
    tables = rng.standard_normal((2, len(switched.shares)))
    tables -= (tables @ switched.shares)[:, None]
    tables -= weight @ tables
    tables *= np.sqrt(variance / (weight @ tables**2 @ switched.shares))
    return Gated((gate.name, switched.name), side, tables)


# -------------------------------------------------------------------------------------------------- tables


@dataclass(frozen=True)
class Table:
    """Hashed cells, less ``rows`` and ``columns`` (categories,), times ``scale``."""

    fields: tuple[str, str]
    key: int
    rows: np.ndarray
    columns: np.ndarray
    scale: float

    def __call__(self, codes: Mapping[str, np.ndarray]) -> np.ndarray:
        row, column = (codes[name] for name in self.fields)
        cells = hashed_normals(self.key, row, column)
        return self.scale * (cells - self.rows.take(row) - self.columns.take(column))


def draw_table(first: Field, second: Field, variance: float, rng: np.random.Generator) -> Table:
    """A table with a number of its own for every pair of categories, free of lower orders.

    All cells are looked at once, a block at a time, for the means of rows and columns.
    """
    key = int(rng.integers(2**63))
    rows, columns, square = np.empty(len(first.shares)), np.zeros(len(second.shares)), 0.0
    for block, cells in _blocks(key, len(first.shares), len(second.shares)):
        shares = first.shares[block]
        rows[block] = cells @ second.shares
        columns += shares @ cells
        square += shares @ (cells**2 @ second.shares)
    mean = first.shares @ rows
    left = square - first.shares @ rows**2 - second.shares @ columns**2 + mean**2
    scale = float(np.sqrt(variance / left))
    return Table((first.name, second.name), key, rows - mean, columns, scale)


def _blocks(key: int, rows: int, columns: int) -> Iterator[tuple[slice, np.ndarray]]:
    """All cells of a table, some rows at a time."""
    height = max(_BLOCK_CELLS // columns, 1)
    for start in range(0, rows, height):
        block = slice(start, min(start + height, rows))
        yield block, hashed_normals(key, np.arange(block.start, block.stop)[:, None], np.arange(columns))


def hashed_normals(key: int, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """A standard normal number of each pair, always the same one: splitmix64's finaliser, then a quantile."""
    mixed = row.astype(np.uint64) << np.uint64(32)
    mixed = (mixed | column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key)
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed >>= np.uint64(52)
    return NORMAL.take(mixed.astype(np.intp))


# ------------------------------------------------------------------------------------------------- mixture


def draw_mixture(
    fields: Sequence[Field], user: Field, item: Field, variance: float, rng: np.random.Generator
) -> tuple[list[Effect], dict[str, list[Term]]]:
    """Effects of every kind: the additive ones, and the others by kind.

    ``variance`` is the sum over all, shared equally by the kinds and within a kind by Dirichlet(2, .., 2).
    ``user`` and ``item`` are the ids, which the kind ``memory`` alone uses.
    """
    each = variance / len(KINDS)
    share_of_pairs = PRODUCT_PAIRS / (PRODUCT_PAIRS + PRODUCT_TRIPLES)
    pairs = draw_interactions(fields, 2, 0, PRODUCT_PAIRS, each * share_of_pairs, PRODUCT_RANK, rng)
    triples = draw_interactions(fields, 3, 0, PRODUCT_TRIPLES, each * (1 - share_of_pairs), PRODUCT_RANK, rng)
    large = [field for field in fields if len(field.shares) >= TABLE_CATEGORIES]
    remembered = remembered_pairs(fields, user, item, rng)
    kinds: dict[str, list[Term]] = {"products": [*pairs, *triples]}
    kinds["thresholds"] = [
        draw_tree(_some(fields, size, rng), part, rng)
        for size, part in zip(TREE_SIZES, _parts(each, len(TREE_SIZES), rng), strict=True)
    ]
    kinds["tables"] = [draw_table(*_pair(large, rng), part, rng) for part in _parts(each, NUM_TABLES, rng)]
    kinds["gated"] = [draw_gated(*_pair(fields, rng), part, rng) for part in _parts(each, NUM_GATED, rng)]
    kinds["memory"] = draw_memory(remembered, each, rng)
    additive = [
        draw_effect([field], part, 1, rng)
        for field, part in zip(fields, _parts(each, len(fields), rng), strict=True)
    ]
    return additive, kinds


def remembered_pairs(
    fields: Sequence[Field], user: Field, item: Field, rng: np.random.Generator
) -> list[tuple[Field, Field]]:
    """An id and a field each, which `draw_memory` makes tables of."""
    by_name = {field.name: field for field in fields}
    user_fields = [field for field in fields if field.group == "user"]
    return [
        (user, by_name["category"]),
        (user, by_name["author"]),
        (item, user_fields[rng.integers(len(user_fields))]),
    ]


def draw_memory(
    pairs: Sequence[tuple[Field, Field]], variance: float, rng: np.random.Generator
) -> list[Term]:
    """A table for each pair."""
    parts = _parts(variance, len(pairs), rng)
    return [draw_table(*pair, part, rng) for pair, part in zip(pairs, parts, strict=True)]


def _some(fields: Sequence[Field], number: int, rng: np.random.Generator) -> list[Field]:
    return [fields[place] for place in rng.choice(len(fields), number, replace=False)]


def _pair(fields: Sequence[Field], rng: np.random.Generator) -> tuple[Field, Field]:
    first, second = _some(fields, 2, rng)
    return first, second


def _parts(variance: float, number: int, rng: np.random.Generator) -> np.ndarray:
    return variance * rng.dirichlet(np.full(number, 2.0))
