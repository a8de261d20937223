"""What interactions the simulation has: their kind, order, rank, and which fields meet in them.

The default is the world of 14 pairs and 8 triples of rank 4. Every other choice keeps the sum of variances,
the users and the items, and draws its interactions anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from datasets.shortvideo.effects import Field, draw_common, draw_interactions
from datasets.shortvideo.kinds import Term, draw_memory, remembered_pairs

PAIR_VARIANCE, TRIPLE_VARIANCE = 0.40, 0.25
VARIANCE = PAIR_VARIANCE + TRIPLE_VARIANCE
NAMES = {2: "pairs", 3: "triples", 4: "quadruples"}
NUM_FIELDS = 22
# By order: how many effects there are within groups and across them.
NUMBERS = {2: (4, 10), 3: (2, 6), 4: (0, 6)}
# By the highest order: the variance of each order.
VARIANCES = {
    2: {2: VARIANCE},
    3: {2: PAIR_VARIANCE, 3: TRIPLE_VARIANCE},
    4: {2: VARIANCE / 3, 3: VARIANCE / 3, 4: VARIANCE / 3},
}


@dataclass(frozen=True)
class Structure:
    """``effects`` is ``products`` or ``mixed``; the others shape products and stay as they are where mixed.

    ``fields``: how many fields take part, drawn at random. ``order``: of the highest interactions. ``rank``:
    of each. ``memory``: the share of the variance in tables of id and category, which must be remembered pair
    by pair. ``shared``: how much a field's factors are the same in all its interactions
    (`datasets.shortvideo.effects.Common`).
    """

    effects: str = "products"
    fields: int = NUM_FIELDS
    order: int = 3
    rank: int = 4
    memory: float = 0.0
    shared: float = 0.0

    @property
    def changes(self) -> dict[str, object]:
        """What differs from the default, but for ``effects``."""
        names = ("fields", "order", "rank", "memory", "shared")
        return {name: getattr(self, name) for name in names if getattr(self, name) != getattr(DEFAULT, name)}


DEFAULT = Structure()


def draw_kinds(
    structure: Structure, fields: Sequence[Field], user: Field, item: Field, rng: np.random.Generator
) -> dict[str, list[Term]]:
    """The products of each order, by name, and the tables of ``memory``, whose variances sum to VARIANCE.

    ``user`` and ``item`` are the ids.
    """
    chosen = fields
    if structure.fields < len(fields):
        places = np.sort(rng.choice(len(fields), structure.fields, replace=False))
        chosen = [fields[place] for place in places]
    common = draw_common(chosen, structure.shared, structure.rank, rng) if structure.shared else None
    kinds: dict[str, list[Term]] = {}
    for order, variance in VARIANCES[structure.order].items():
        within, across = NUMBERS[order]
        left = variance * (1 - structure.memory)
        if left:
            effects = draw_interactions(chosen, order, within, across, left, structure.rank, rng, common)
            kinds[NAMES[order]] = list(effects)
    if structure.memory:
        pairs = remembered_pairs(fields, user, item, rng)
        kinds["memory"] = draw_memory(pairs, VARIANCE * structure.memory, rng)
    return kinds
