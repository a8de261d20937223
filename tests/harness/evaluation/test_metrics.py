"""Metrics against scikit-learn, against pairs counted one by one, and against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from files.errors import InputError
from harness.evaluation.metrics import (
    LOGLOSS_EPS,
    NonFiniteScores,
    auc,
    binary_metrics,
    per_user_auc,
    reliability,
)

# Few users and few distinct scores make ties and one-class users common.
ROWS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 1.0]),
        st.one_of(st.sampled_from([0.0, -0.0, 0.25, 0.5, 1.0]), st.floats(-1e6, 1e6, width=32)),
        st.sampled_from([0, 1, 2, -7, 2**24, 2**24 + 1, 2**62, -(2**63), 2**63 - 1]),
    ),
    max_size=60,
)
DTYPES = st.sampled_from([np.float32, np.float64])


def columns(rows, dtype=np.float64):
    labels, scores, users = zip(*rows, strict=True) if rows else ((), (), ())
    return np.array(labels, np.float32), np.array(scores, dtype), np.array(users, np.int64)


def sklearn_by_user(labels, scores, users):
    """{user: (AUC, rows)} of users with both classes, one user after another."""
    found = {}
    for user in sorted(set(users.tolist())):
        own_rows = users == user
        if len(set(labels[own_rows].tolist())) == 2:
            found[user] = (roc_auc_score(labels[own_rows], scores[own_rows]), int(own_rows.sum()))
    return found


def pairs_counted(labels, scores):
    """AUC from every pair of Python floats, which knows no rounding of scores."""
    positives = [float(s) for y, s in zip(labels, scores, strict=True) if y == 1]
    negatives = [float(s) for y, s in zip(labels, scores, strict=True) if y == 0]
    wins = sum((p > n) + (p == n) / 2 for p in positives for n in negatives)
    return wins / (len(positives) * len(negatives))


@settings(max_examples=300, deadline=None)
@given(ROWS, DTYPES)
def test_auc_uauc_and_gauc_equal_scikit_learn(rows, dtype):
    labels, scores, users = columns(rows, dtype)
    expected = sklearn_by_user(labels, scores, users)
    got = binary_metrics(labels, scores, users)
    if len(set(labels.tolist())) == 2:
        assert got.auc == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    else:
        assert got.auc is None
    if expected:
        values, weights = np.array(list(expected.values())).T
        assert got.uauc == pytest.approx(values.mean(), abs=1e-12)
        assert got.gauc == pytest.approx(np.average(values, weights=weights), abs=1e-12)
    else:
        assert got.uauc is None
        assert got.gauc is None
    kept_rows = sum(n for _, n in expected.values())
    assert (got.users, got.rows) == (len(expected), len(labels))
    assert got.one_class_users == len(set(users.tolist())) - len(expected)
    assert got.one_class_rows == len(labels) - kept_rows


@settings(max_examples=200, deadline=None)
@given(ROWS, DTYPES)
def test_per_user_auc_gives_each_user_its_own_value_in_order(rows, dtype):
    labels, scores, users = columns(rows, dtype)
    ids, values, counts = per_user_auc(labels, scores, users)
    expected = sklearn_by_user(labels, scores, users)
    assert ids.tolist() == list(expected)
    assert list(zip(values, counts, strict=True)) == [
        pytest.approx(pair, abs=1e-12) for pair in expected.values()
    ]


@settings(max_examples=100, deadline=None)
@given(ROWS, st.randoms())
def test_the_order_of_rows_does_not_matter(rows, random):
    shuffled = rows.copy()
    random.shuffle(shuffled)
    one, other = binary_metrics(*columns(rows)), binary_metrics(*columns(shuffled))
    assert (one.auc, one.users, one.one_class_rows) == (other.auc, other.users, other.one_class_rows)
    assert one.uauc == pytest.approx(other.uauc, abs=1e-12)
    assert one.gauc == pytest.approx(other.gauc, abs=1e-12)


def test_many_users_equal_scikit_learn_user_by_user():
    generator = np.random.default_rng(0)
    users = generator.zipf(1.3, 20_000) % 1500
    labels = (generator.random(20_000) < 0.3).astype(np.float32)
    scores = np.round(generator.random(20_000), 2).astype(np.float32)
    values, weights = np.array(list(sklearn_by_user(labels, scores, users).values())).T
    got = binary_metrics(labels, scores, users)
    assert got.auc == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert got.uauc == pytest.approx(values.mean(), abs=1e-12)
    assert got.gauc == pytest.approx(np.average(values, weights=weights), abs=1e-12)


@pytest.mark.parametrize("center", [0.5, 1.0, -3.0, 1e-30, 1e300])
def test_float64_scores_that_float32_cannot_tell_apart_are_no_ties(center):
    up = np.nextafter(center, np.inf)
    assert auc([0, 1], np.array([center, up])) == 1.0
    assert auc([1, 0], np.array([center, up])) == 0.0
    assert per_user_auc([0, 1], np.array([center, up]), [5, 5])[1].tolist() == [1.0]


def test_neighbouring_float32_scores_are_no_ties_and_equal_ones_are():
    low = np.float32(0.3)
    high = np.nextafter(low, np.float32(1))
    assert auc([0, 1], np.array([low, high])) == 1.0
    assert auc([0, 1], np.array([low, low])) == 0.5
    assert auc([0, 1], np.array([0.0, -0.0], np.float32)) == 0.5
    assert auc([0, 1], np.array([-0.0, 0.0])) == 0.5


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=40))
def test_near_ties_in_float64_are_counted_pair_by_pair(rows):
    labels = np.array([y for y, _ in rows])
    scores = 0.7 + np.array([k for _, k in rows]) * 2.0**-53
    if labels.any() and not labels.all():
        assert auc(labels, scores) == pytest.approx(pairs_counted(labels, scores), abs=1e-12)


@pytest.mark.parametrize("shift", [0, 2**24, 2**53, -(2**63), 2**63 - 10])
def test_ids_that_a_float_would_merge_stay_apart(shift):
    # As one user these rows have an AUC of 1/2; apart, each has an AUC of 1.
    users = np.array([0, 0, 1, 1, 2, 2], np.int64) + shift
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    got = binary_metrics([0, 1, 0, 1, 0, 1], scores, users)
    assert (got.uauc, got.users) == (1.0, 3)


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint32, np.int64])
def test_any_integer_type_of_id_works(dtype):
    ids, _, _ = per_user_auc([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4], np.array([1, 1, 127, 127], dtype))
    assert ids.tolist() == [1, 127]


# ------------------------------------------------------------------ what sets UAUC, GAUC and AUC apart


@pytest.fixture
def two_users():
    """User 1: AUC 1 on 2 rows. User 2: AUC 1/4 on 4 rows. User 3: one class."""
    labels = np.array([0, 1, 1, 0, 1, 0, 1], np.float32)
    scores = np.array([0.1, 0.9, 0.1, 0.2, 0.3, 0.6, 0.5])
    return labels, scores, np.array([1, 1, 2, 2, 2, 2, 3])


def test_uauc_is_the_plain_mean_and_gauc_the_mean_weighted_by_rows(two_users):
    got = binary_metrics(*two_users)
    assert got.uauc == pytest.approx((1 + 1 / 4) / 2)
    assert got.gauc == pytest.approx((2 * 1 + 4 * 1 / 4) / 6)
    assert (got.users, got.one_class_users, got.one_class_rows) == (2, 1, 1)


def test_for_a_single_user_the_three_are_equal(two_users):
    labels, scores, _ = two_users
    got = binary_metrics(labels, scores, np.zeros(len(labels), int))
    assert got.auc == got.uauc == got.gauc == pytest.approx(roc_auc_score(labels, scores))


def test_doubling_one_users_rows_moves_gauc_and_not_uauc(two_users):
    twice = [np.concatenate([c, c[two_users[2] == 2]]) for c in two_users]
    before, after = binary_metrics(*two_users), binary_metrics(*twice)
    assert after.uauc == pytest.approx(before.uauc, abs=1e-15)
    assert after.gauc == pytest.approx((2 * 1 + 8 * 1 / 4) / 10)


def test_a_constant_added_per_user_moves_auc_alone(two_users):
    labels, scores, users = two_users
    before, after = binary_metrics(*two_users), binary_metrics(labels, scores + 10.0 * users, users)
    assert (after.uauc, after.gauc) == (before.uauc, before.gauc)
    assert after.auc != before.auc


def test_users_of_one_class_move_auc_alone(two_users):
    labels, scores, users = two_users
    more = np.append(labels, [0, 0]), np.append(scores, [0.99, 0.98]), np.append(users, [9, 9])
    before, after = binary_metrics(*two_users), binary_metrics(*more)
    assert (after.uauc, after.gauc) == (before.uauc, before.gauc)
    assert after.auc < before.auc


def test_a_user_with_equal_scores_counts_one_half_and_is_kept():
    got = binary_metrics([0, 1, 0, 1], [0.5, 0.5, 0.1, 0.9], [1, 1, 2, 2])
    assert (got.uauc, got.users) == (0.75, 2)


# ----------------------------------------------------------------------------- what is not there, and bad


def test_no_rows_have_no_metrics():
    got = binary_metrics([], [], np.empty(0, int))
    assert [got.auc, got.uauc, got.gauc, got.logloss, got.normalized_entropy, got.calibration] == [None] * 6
    assert (got.users, got.rows, got.one_class_users, got.one_class_rows) == (0, 0, 0, 0)


def test_one_row_has_a_logloss_and_no_auc():
    got = binary_metrics([1], [0.25], [3])
    assert (got.auc, got.uauc, got.gauc, got.normalized_entropy) == (None,) * 4
    assert got.logloss == pytest.approx(math.log(4))
    assert (got.rows, got.users, got.one_class_users, got.one_class_rows) == (1, 0, 1, 1)


def test_calibration_is_undefined_without_positives():
    assert binary_metrics([0, 0], [0.1, 0.2], [1, 1]).calibration is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_score_that_is_not_finite_is_an_error_that_counts_them(bad, dtype):
    with pytest.raises(NonFiniteScores, match="1 of 3 scores"):
        binary_metrics([0, 1, 0], np.array([0.1, bad, 0.2], dtype), [1, 1, 1])
    assert issubclass(NonFiniteScores, ValueError)


def test_undefined_labels_leave_their_rows_out_whatever_their_score(two_users):
    padded = [
        np.append(two_users[0], [np.nan, np.nan]),
        np.append(two_users[1], [0.5, np.nan]),
        np.append(two_users[2], [1, 77]),
    ]
    assert binary_metrics(*padded) == binary_metrics(*two_users)


@pytest.mark.parametrize("label", [2, 0.5, -1, np.inf])
def test_labels_other_than_0_and_1_are_refused(label):
    with pytest.raises(InputError, match=r"0, 1 or NaN"):
        binary_metrics([0, 1, label], [0.1, 0.2, 0.3], [1, 1, 1])


def test_float_user_ids_are_refused():
    with pytest.raises(InputError, match="integers"):
        binary_metrics([0, 1], [0.1, 0.2], [1.0, 1.0])


def test_unequal_lengths_are_refused():
    with pytest.raises(InputError, match="one length"):
        binary_metrics([0, 1], [0.1, 0.2, 0.3], [1, 1])


# ------------------------------------------------------------------------------- probabilities, weights


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.floats(0.001, 0.999)), min_size=1, max_size=50))
def test_logloss_and_calibration_equal_scikit_learn_and_the_ratio_of_means(rows):
    labels, scores = np.array([y for y, _ in rows], float), np.array([p for _, p in rows])
    got = binary_metrics(labels, scores, np.zeros(len(rows), int))
    assert got.logloss == pytest.approx(log_loss(labels, scores, labels=[0, 1]), rel=1e-12)
    if labels.any():
        assert got.calibration == pytest.approx(scores.mean() / labels.mean(), rel=1e-12)


def test_a_sure_and_wrong_probability_costs_the_stated_bound():
    got = binary_metrics([1, 0], np.array([0, 1], np.float32), [1, 1])
    assert got.logloss == pytest.approx(-math.log(LOGLOSS_EPS))


@pytest.mark.parametrize("positives", [1, 30, 99])
def test_the_base_rate_as_a_constant_has_normalized_entropy_one(positives):
    labels = np.arange(100) < positives
    got = binary_metrics(labels, np.full(100, positives / 100), np.arange(100))
    assert got.normalized_entropy == pytest.approx(1, abs=1e-12)
    assert got.calibration == pytest.approx(1, abs=1e-12)
    assert got.auc == 0.5


def test_scores_that_are_no_probabilities_have_ranks_and_no_logloss():
    got = binary_metrics([0, 1, 1], [-3.0, 0.5, 7.0], [1, 1, 1])
    assert got.auc == 1.0
    assert (got.logloss, got.normalized_entropy, got.calibration) == (None, None, None)


@settings(max_examples=150, deadline=None)
@given(ROWS, st.randoms(use_true_random=False))
def test_weighted_auc_equals_scikit_learn(rows, random):
    labels, scores, _ = columns(rows)
    weights = np.array([random.choice([0.0, 0.5, 1.0, 3.25]) for _ in rows])
    masses = {y: weights[labels == y].sum() for y in (0, 1)}
    got = auc(labels, scores, weights)
    if masses[0] > 0 and masses[1] > 0:
        assert got == pytest.approx(roc_auc_score(labels, scores, sample_weight=weights), abs=1e-9)
    else:
        assert got is None


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf])
def test_weights_that_weigh_nothing_sensible_are_refused(weight):
    with pytest.raises(InputError, match="weights"):
        auc([0, 1], [0.1, 0.2], [1.0, weight])


@pytest.mark.parametrize("number", [10, 990, 997])
def test_reliability_is_the_mean_score_and_rate_of_tenths_by_score(number):
    random = np.random.default_rng(number)
    scores = random.permutation(np.linspace(0.01, 0.99, number))
    labels = (random.random(number) < scores).astype(float)
    frame = pd.DataFrame({"score": scores, "rate": labels})
    expected = frame.groupby(pd.qcut(frame["score"].rank(method="first"), 10, labels=False)).agg(
        {"score": "mean", "rate": "mean"}
    )
    undefined = np.append(labels, [np.nan, np.nan]), np.append(scores, [0.5, 0.5])
    found = pd.DataFrame(reliability(*undefined))
    assert list(found["rows"]) == [len(part) for part in np.array_split(scores, 10)]
    if number % 10 == 0:  # qcut gives the odd rows to other parts
        assert np.allclose(found[["score", "rate"]], expected)
    assert np.average(found["rate"], weights=found["rows"]) == pytest.approx(labels.mean())
    assert np.average(found["score"], weights=found["rows"]) == pytest.approx(scores.mean())


def test_reliability_of_few_rows_has_fewer_parts():
    assert reliability([1.0, 0.0], [0.9, 0.2]) == [
        {"score": 0.2, "rate": 0.0, "rows": 1},
        {"score": 0.9, "rate": 1.0, "rows": 1},
    ]


def test_without_users_all_that_is_about_users_is_none_and_the_rest_is_unchanged():
    rng = np.random.default_rng(3)
    labels, scores = rng.integers(0, 2, 200).astype(float), rng.random(200)
    labels[:7] = np.nan
    found, of_users = (binary_metrics(labels, scores, users) for users in (None, rng.integers(0, 9, 200)))
    per_user = {"uauc", "gauc", "users", "one_class_users", "one_class_rows"}
    assert {getattr(found, name) for name in per_user} == {None}
    for name in ("auc", "logloss", "normalized_entropy", "calibration", "rows"):
        assert getattr(found, name) == getattr(of_users, name)
    assert found.rows == 193
