r"""AUC, UAUC, GAUC, logloss, normalized entropy and calibration of binary scores: exact and vectorised.

Definitions, where users that have only one class are left out of UAUC and GAUC, and counted:

.. math::
    AUC   &= P(s^+ > s^-) + P(s^+ = s^-) / 2 \\
    UAUC  &= \frac{1}{|U|} \sum_{u \in U} AUC_u \\
    GAUC  &= \sum_{u \in U} n_u AUC_u \Big/ \sum_{u \in U} n_u

GAUC's weights are the user's rows (Zhou et al., "Deep Interest Network for Click-Through Rate
Prediction", KDD 2018, https://arxiv.org/abs/1706.06978). Normalized entropy is logloss over the entropy of
the base rate (He et al., "Practical Lessons from Predicting Clicks on Ads at Facebook", ADKDD 2014).

How it is exact and fast: user, order of the score and label are packed into one integer a row, and these
are sorted once. Users, and ties within them, are then runs of the sorted array, and all counts are
integers. Nothing depends on the dtype of the scores: float64 scores that float32 cannot tell apart stay
apart, and user ids never pass through floating point.

Undefined labels (NaN) leave their rows out. A value that does not exist, such as the AUC of one class, is
``None`` and never a number that an average could swallow.

Shapes
    labels, scores, users: (N,), one entry a row.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from files.errors import InputError

# Half the distance from 1 to the next float32 below it: a saturated float32 probability knows no better.
LOGLOSS_EPS = 2.0**-24


class NonFiniteScores(ValueError):  # noqa: N818 - it says what the scores are
    """Scores hold NaN or an infinity: the model that made them has diverged."""


@dataclass(frozen=True)
class Metrics:
    """Metrics of one task. ``None`` where the rows do not define the value.

    ``users`` are those with both classes, over which ``uauc`` and ``gauc`` are taken; ``rows`` are all rows
    with a defined label; ``one_class_users`` and ``one_class_rows`` were left out of UAUC and GAUC. All that
    is about users is ``None`` where rows belong to no user.
    ``logloss``, ``normalized_entropy`` and ``calibration`` are ``None`` for scores outside [0, 1].
    """

    auc: float | None
    uauc: float | None
    gauc: float | None
    logloss: float | None
    normalized_entropy: float | None
    calibration: float | None
    users: int | None
    rows: int
    one_class_users: int | None
    one_class_rows: int | None


def binary_metrics(labels: ArrayLike, scores: ArrayLike, users: ArrayLike | None) -> Metrics:
    """All metrics of one task.

    Args
        labels: (N,) 0, 1 or NaN (undefined: the row is left out).
        scores: (N,) any order-preserving score for the AUCs; probabilities for the rest.
        users: (N,) integer ids of any sign and size; None where rows belong to no user.

    Raises
        NonFiniteScores: a row with a defined label has a NaN or infinite score.
        InputError: labels that are not 0 or 1, ids that are not integers, unequal lengths.
    """
    y, s, u = _defined_rows(labels, scores, users)
    codes = score_codes(s)
    logloss, normalized_entropy, calibration = _probability_metrics(y, s)
    if u is None:
        return Metrics(
            auc=_global_auc(y, codes),
            uauc=None,
            gauc=None,
            logloss=logloss,
            normalized_entropy=normalized_entropy,
            calibration=calibration,
            users=None,
            rows=len(y),
            one_class_users=None,
            one_class_rows=None,
        )
    # Both parts are mostly one sort, which numpy runs outside the interpreter's lock: two cores, two thirds
    # of the time.
    with ThreadPoolExecutor(max_workers=1) as pool:
        over_all_rows = pool.submit(_global_auc, y, codes)
        groups = _per_user(y, codes, u)
    both = groups.has_both_classes
    user_auc, user_rows = groups.auc[both], groups.rows[both]
    return Metrics(
        auc=over_all_rows.result(),
        uauc=float(user_auc.mean()) if len(user_auc) else None,
        gauc=float(np.average(user_auc, weights=user_rows)) if len(user_auc) else None,
        logloss=logloss,
        normalized_entropy=normalized_entropy,
        calibration=calibration,
        users=len(user_auc),
        rows=len(y),
        one_class_users=len(both) - len(user_auc),
        one_class_rows=len(y) - int(user_rows.sum()),
    )


def reliability(labels: ArrayLike, scores: ArrayLike, bins: int = 10) -> list[dict[str, float]]:
    """How often what is scored so high happens: rows by rising score, in ``bins`` parts of equal numbers.

    Args
        labels: (N,) 0, 1 or NaN (undefined: the row is left out).
        scores: (N,) probabilities.

    Returns
        For each part its mean ``score``, the ``rate`` of positive labels and the number of ``rows``; fewer
        parts where there are fewer rows. A calibrated model has rates equal to the scores.
    """
    y, s = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    defined = ~np.isnan(y)
    y, s = y[defined], s[defined]
    order = np.argsort(s, kind="stable")
    parts = zip(np.array_split(s[order], bins), np.array_split(y[order], bins), strict=True)
    return [
        {"score": float(score.mean()), "rate": float(label.mean()), "rows": len(score)}
        for score, label in parts
        if len(score)
    ]


def per_user_auc(
    labels: ArrayLike, scores: ArrayLike, users: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """User ids (ascending), AUC and rows of every user who has both classes: three arrays (U,).

    UAUC is the mean of the second, GAUC its mean weighted by the third. Raises as ``binary_metrics``.
    """
    y, s, u = _defined_rows(labels, scores, users)
    groups = _per_user(y, score_codes(s), u)
    both = groups.has_both_classes
    return groups.ids[both], groups.auc[both], groups.rows[both]


def auc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float | None:
    """AUC over all rows, each counted ``weights`` (N,) times if given; ``None`` without both classes.

    Raises as ``binary_metrics``, and InputError for weights that are negative or not finite.
    """
    if weights is None:
        y, s, _ = _defined_rows(labels, scores, None)
        return _global_auc(y, score_codes(s))
    y, s, w = _defined_rows(labels, scores, np.asarray(weights, dtype=np.float64))
    if not (np.isfinite(w) & (w >= 0)).all():
        raise InputError("weights must be finite and not negative")
    ranked = RankedRows.of(y, s)
    value = ranked.weighted_auc(w[ranked.negatives], w[ranked.positives])
    return None if np.isnan(value) else value


@dataclass(frozen=True)
class RankedRows:
    """Rows of one task sorted once, so that AUC under many weightings costs two gathers and a running sum.

    ``negatives`` (N-,) and ``positives`` (N+,) are row numbers by ascending score; ``below`` (N+,) counts the
    negatives that score less than each positive, and ``up_to`` those that score no more.
    """

    negatives: NDArray[np.int64]
    positives: NDArray[np.int64]
    below: NDArray[np.int64]
    up_to: NDArray[np.int64]
    tied: NDArray[np.int64]

    @classmethod
    def of(cls, positive: NDArray[np.bool_], scores: NDArray) -> RankedRows:
        """``positive`` (N,) bool, ``scores`` (N,) finite."""
        negatives, positives = np.flatnonzero(~positive), np.flatnonzero(positive)
        negatives = negatives[np.argsort(scores[negatives], kind="stable")]
        positives = positives[np.argsort(scores[positives], kind="stable")]
        below = np.searchsorted(scores[negatives], scores[positives], side="left")
        up_to = np.searchsorted(scores[negatives], scores[positives], side="right")
        return cls(negatives, positives, below, up_to, np.flatnonzero(below != up_to))

    def weighted_auc(self, negative_weights: NDArray, positive_weights: NDArray) -> float:
        """AUC with weights in the order of ``negatives`` and ``positives``; NaN if a class weighs nothing.

        Integer weights give an exact count of pairs up to 2**53.
        """
        running = np.zeros(len(negative_weights) + 1, negative_weights.dtype)
        np.cumsum(negative_weights, out=running[1:])
        weights = positive_weights.astype(np.float64)
        wins = weights @ running.take(self.below).astype(np.float64)
        ties = running[self.up_to[self.tied]] - running[self.below[self.tied]]
        wins += weights[self.tied] @ ties.astype(np.float64) / 2
        pairs = weights.sum() * float(running[-1])
        return float(wins / pairs) if pairs > 0 else float("nan")


# ---------------------------------------------------------------------------------------------- checks


def _defined_rows(labels: ArrayLike, scores: ArrayLike, third: ArrayLike | None) -> tuple:
    """Labels as bool, scores as float32 or float64 and the third column, of the rows with a label."""
    y, s = np.asarray(labels), np.asarray(scores)
    if y.dtype.kind not in "biuf":
        y = y.astype(np.float64)  # None among Python numbers becomes NaN
    if s.dtype not in (np.float32, np.float64):
        s = s.astype(np.float64)
    columns = [y, s] if third is None else [y, s, np.asarray(third)]
    if any(column.shape != (len(y),) for column in columns):
        raise InputError(f"labels, scores and users must be of one length, not {[c.shape for c in columns]}")
    if y.dtype.kind == "f" and (undefined := np.isnan(y)).any():
        columns = [column[~undefined] for column in columns]
    y, s, *rest = columns
    if not np.isfinite(s).all():
        bad = np.flatnonzero(~np.isfinite(s))
        raise NonFiniteScores(f"{len(bad)} of {len(s)} scores are NaN or infinite, the first in row {bad[0]}")
    positive = y == 1
    if not (positive | (y == 0)).all():
        raise InputError(f"labels must be 0, 1 or NaN (undefined), but one is {y[~(positive | (y == 0))][0]}")
    return positive, s, rest[0] if rest else None


# ----------------------------------------------------------------------------------------- rank metrics


class _PerUser(NamedTuple):
    """One entry a user, ascending by id: (U,) each. ``wins`` counts ordered pairs, a tie one half."""

    ids: NDArray[np.int64]
    rows: NDArray[np.int64]
    positives: NDArray[np.int64]
    wins: NDArray[np.float64]

    @property
    def has_both_classes(self) -> NDArray[np.bool_]:
        return (self.positives > 0) & (self.positives < self.rows)

    @property
    def auc(self) -> NDArray[np.float64]:
        """NaN for a user of one class."""
        pairs = self.positives * (self.rows - self.positives)
        return np.divide(self.wins, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def _per_user(positive: NDArray[np.bool_], codes: NDArray, users: ArrayLike) -> _PerUser:
    if not len(codes):
        empty = np.empty(0, np.int64)
        return _PerUser(empty, empty, empty, np.empty(0))
    code_bits = int(codes.max()).bit_length()
    user_codes, ids_of = _user_codes(np.asarray(users), 63 - code_bits)
    key = user_codes << np.uint64(code_bits + 1)
    key |= codes.astype(np.uint64) << np.uint64(1)
    key |= positive
    key.sort()
    user_of_row = key >> np.uint64(code_bits + 1)
    starts = np.concatenate([[0], np.flatnonzero(user_of_row[1:] != user_of_row[:-1]) + 1])
    rows, positives, wins = _segments(key, starts)
    return _PerUser(ids_of(user_of_row[starts]), rows, positives, wins)


def _global_auc(positive: NDArray[np.bool_], codes: NDArray) -> float | None:
    positives = int(np.count_nonzero(positive))
    pairs = positives * (len(positive) - positives)
    if not pairs:
        return None
    # 32-bit keys sort in 0.6 of the time, and probabilities in float32 always fit.
    dtype = np.dtype(np.uint32 if int(codes.max()) < 2**31 else np.uint64)
    key = codes.astype(dtype) << dtype.type(1)
    key |= positive
    key.sort()
    _, _, wins = _segments(key, np.zeros(1, np.int64))
    return float(wins[0]) / pairs


def _segments(key: NDArray, starts: NDArray[np.int64]) -> tuple[NDArray, NDArray, NDArray]:
    """Rows, positives and wins (pairs ordered rightly, ties one half) of each segment of sorted keys.

    The last bit of a key is the label and the bits before it the score, so that equal scores lie together
    with the negatives first. A positive's place in its segment, less the positives before it, counts the
    negatives at or below it; half of the tied pairs are then taken back.
    """
    is_positive = (key & key.dtype.type(1)).astype(np.int64)
    rows = np.diff(starts, append=len(key))
    positives = np.add.reduceat(is_positive, starts)
    is_positive *= np.arange(len(key))
    places = np.add.reduceat(is_positive, starts) - starts * positives
    not_below = places - positives * (positives - 1) // 2

    run_starts = np.concatenate([[0], np.flatnonzero(key[1:] != key[:-1]) + 1])
    run_key = key[run_starts]
    # Neighbouring runs that differ in the label alone: negatives, then positives, of one user and score.
    mixed = np.flatnonzero((run_key[1:] ^ run_key[:-1]) == 1)
    run_rows = np.diff(run_starts, append=len(key))
    tied_pairs = run_rows[mixed] * run_rows[mixed + 1]
    segment = np.searchsorted(starts, run_starts[mixed], side="right") - 1
    return rows, positives, not_below - np.bincount(segment, tied_pairs, minlength=len(starts)) / 2


def score_codes(scores: NDArray) -> NDArray:
    """Unsigned integers from 0 that are ordered and equal exactly as the scores are.

    float32, and float64 that float32 holds exactly, by their bits (32); other float64 by their dense rank.
    """
    if not len(scores):
        return np.empty(0, np.uint32)
    with np.errstate(over="ignore"):
        narrow = scores.astype(np.float32)
    if scores.dtype == np.float32 or (narrow == scores).all():
        bits = (narrow + np.float32(0)).view(np.uint32)  # adding zero makes -0 the same as 0
        # IEEE order: a negative number's bits count downwards, a positive one's upwards.
        codes = bits ^ ((bits.view(np.int32) >> 31).view(np.uint32) | np.uint32(1 << 31))
        codes -= codes.min()
        return codes
    order = np.argsort(scores)
    ascending = scores[order]
    codes = np.empty(len(scores), np.uint64)
    codes[order] = np.concatenate([[0], np.cumsum(ascending[1:] != ascending[:-1])])
    return codes


def _user_codes(users: NDArray, bits: int) -> tuple:
    """User ids as uint64 below ``2 ** bits``, ordered as the ids, and the function that leads back.

    Offsets from the smallest id where they fit, which costs next to nothing; dense numbers otherwise.
    """
    if users.dtype.kind not in "iu":
        raise InputError(f"user ids must be integers (floats merge ids above 2**53), not {users.dtype}")
    lowest = int(users.min())
    if (int(users.max()) - lowest).bit_length() <= bits:
        offset = np.uint64(lowest % 2**64)  # arithmetic modulo 2**64 is exact for any int64
        return users.astype(np.uint64) - offset, lambda codes: (codes + offset).astype(np.int64)
    ids, dense = np.unique(users, return_inverse=True)
    return dense.astype(np.uint64), lambda codes: ids[codes.astype(np.int64)].astype(np.int64)


# ---------------------------------------------------------------------------------- probability metrics


def _probability_metrics(
    positive: NDArray[np.bool_], scores: NDArray
) -> tuple[float | None, float | None, float | None]:
    """Logloss, normalized entropy and calibration, in float64, clipped ``LOGLOSS_EPS`` off 0 and 1."""
    if not len(scores) or scores.min() < 0 or scores.max() > 1:
        return None, None, None
    probability = scores.astype(np.float64)
    rate = float(positive.mean())
    calibration = float(probability.mean()) / rate if rate else None
    np.clip(probability, LOGLOSS_EPS, 1 - LOGLOSS_EPS, out=probability)
    np.subtract(1, probability, out=probability, where=~positive)  # the probability of what happened
    logloss = -float(np.log(probability, out=probability).mean())
    if rate in (0.0, 1.0):
        return logloss, None, calibration
    entropy = -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate))
    return logloss, logloss / float(entropy), calibration
