"""The global AUC of a run by how often each user was drawn, of many draws in one pass over its rows.

The pass is compiled: NumPy would take one for each step of the arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from harness.evaluation.metrics import score_codes

NEGATIVE, POSITIVE = 0, 1
# In a group of equal scores that has both classes, whose positives come first:
FIRST_TIED_POSITIVE, TIED_POSITIVE, TIED_NEGATIVE = 2, 3, 4


@dataclass(frozen=True)
class RankedUsers:
    """Rows of one run by rising score: whose each is (N,) int32, and of which kind (N,) int8."""

    user: NDArray[np.int32]
    kind: NDArray[np.int8]

    BYTES_A_ROW = 5

    @classmethod
    def of(cls, positive: NDArray[np.bool_], scores: NDArray, user_of_row: NDArray[np.int64]) -> RankedUsers:
        """``positive`` (N,), ``scores`` (N,) finite, ``user_of_row`` (N,) from 0; fewer than 2**31 rows."""
        # Score, then class, then row in one number: sorting these is ten times as fast as finding an order.
        key = score_codes(scores).astype(np.uint64) << np.uint64(32)
        key |= (~positive).astype(np.uint64) << np.uint64(31)
        key |= np.arange(len(positive), dtype=np.uint64)
        key.sort()
        code = key >> np.uint64(32)
        order = (key & np.uint64(2**31 - 1)).astype(np.int64)
        is_positive = positive[order]
        begins = np.concatenate([[True], code[1:] != code[:-1]])
        starts = np.flatnonzero(begins)
        positives, rows = (
            np.add.reduceat(is_positive, starts, dtype=np.int64),
            np.diff(starts, append=len(code)),
        )
        tied = np.repeat((positives > 0) & (positives < rows), rows)
        kind = is_positive.astype(np.int8)
        kind[tied & ~is_positive] = TIED_NEGATIVE
        kind[tied & is_positive] = TIED_POSITIVE
        kind[tied & begins] = FIRST_TIED_POSITIVE
        return cls(user_of_row[order].astype(np.int32), kind)

    def wins(self, drawn: NDArray[np.integer], most_drawn: int) -> NDArray[np.float64]:
        """Pairs of a positive and a lower negative, ties one half: (users, B) to (B,), exact up to 2**53.

        ``drawn``: how often each user was drawn, in each of B draws, and at most ``most_drawn`` times.
        """
        # Half as wide is almost twice as fast, where no draw can have too many rows.
        counter = np.int32 if len(self.user) * most_drawn < 2**31 else np.float64
        return _wins(drawn, self.user, self.kind, np.zeros(drawn.shape[1], counter))


@njit
def _wins(drawn, user, kind, below):  # the inner loops, over draws, become vector instructions
    """``below``: zeros (B,), where negatives that score less are counted."""
    draws = len(below)
    wins = np.zeros(draws)
    tied = np.zeros_like(below)  # positives of this score
    for row in range(len(user)):
        weights = drawn[user[row]]
        if kind[row] == NEGATIVE:
            for draw in range(draws):
                below[draw] += weights[draw]
        elif kind[row] == POSITIVE:
            for draw in range(draws):
                wins[draw] += np.float64(weights[draw]) * below[draw]
        elif kind[row] == TIED_NEGATIVE:
            for draw in range(draws):
                wins[draw] += 0.5 * weights[draw] * tied[draw]
                below[draw] += weights[draw]
        else:
            if kind[row] == FIRST_TIED_POSITIVE:
                tied[:] = 0
            for draw in range(draws):
                wins[draw] += np.float64(weights[draw]) * below[draw]
                tied[draw] += weights[draw]
    return wins
