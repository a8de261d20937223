"""Counts rows that repeat another one, as they do where files overlap (a dump of the last week, every day).

Rows that are equal have one time. So in time order only those of one time and user are compared, by a hash of
all staged columns. The count does not depend on how the order is cut into pieces.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl

MOST_OF_ONE_TIME = 1_000_000  # different rows that are held; a log of such times has many rows that are equal


class Edge(NamedTuple):
    """The hashes of a piece's rows of one time, which earlier or later pieces may have, too."""

    time: int | float
    hashes: np.ndarray


class Repeated(NamedTuple):
    """The rows of a piece that repeat one of the piece, but for those of its first and last time."""

    number: int
    edges: list[Edge]


def repeated_rows(rows: pl.DataFrame) -> Repeated:
    """What `Repeats` needs of some staged rows in time order, or in that order split by split."""
    first, last = rows["@time"][0], rows["@time"][-1]
    key = rows.select(name for name in ("@user", "@time") if name in rows.columns).hash_rows()
    compared = rows.filter(key.is_duplicated() | pl.col("@time").is_in([first, last]))
    hashes, times = compared.hash_rows().to_numpy(), compared["@time"].to_numpy()
    within = hashes[(times != first) & (times != last)]
    edges = [Edge(time, hashes[times == time]) for time in dict.fromkeys((first, last))]
    return Repeated(len(within) - len(np.unique(within)), edges)


class Repeats:
    """The number of rows that repeat an earlier one; None where too many have one time to be compared."""

    def __init__(self) -> None:
        self.number: int | None = 0
        self._latest = Edge(np.nan, np.empty(0, np.uint64))  # the different rows of the latest time

    def add(self, found: Repeated) -> None:
        """Pieces come in time order."""
        if self.number is None:
            return
        self.number += found.number
        for time, hashes in found.edges:
            known = self._latest.hashes if time == self._latest.time else np.empty(0, np.uint64)
            different = np.union1d(known, hashes)
            self.number += len(known) + len(hashes) - len(different)
            self._latest = Edge(time, different)
            if len(different) > MOST_OF_ONE_TIME:
                self.number = None
                return

    def note(self) -> dict[str, int | float | str]:
        """What a table's owner should know."""
        if not self.number:
            return {}
        what = "equal an earlier row in all columns that the schema names; drop them if files overlap"
        return {"repeated rows": f"{self.number} rows {what}"}
