"""The user bootstrap against rows repeated by hand, and against how often its intervals hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from harness.evaluation.metrics import NonFiniteScores, RankedRows
from harness.evaluation.statistics import bootstrap
from harness.evaluation.statistics.bootstrap import METRICS, MIN_USERS, UserBootstrap, bootstrap_users
from harness.evaluation.statistics.drawn_auc import RankedUsers


def predictions(seed, users=40, rows=400, runs=3, decimals=1):
    """Labels, users and the scores of several runs, rounded so that ties abound."""
    generator = np.random.default_rng(seed)
    signal = generator.normal(size=rows)
    labels = (generator.random(rows) < 1 / (1 + np.exp(-signal))).astype(np.float32)
    noise = generator.normal(size=(runs, rows))
    return labels, generator.integers(0, users, rows) * 1000 - 5, np.round(signal + noise, decimals)


def repeated_by_hand(labels, users, scores, drawn):
    """AUC, UAUC and GAUC with each drawn user's rows written out once a draw, each draw a user of its own."""
    parts = [np.flatnonzero(users == user) for user in drawn]
    rows = np.concatenate(parts)
    by_user = [
        (roc_auc_score(labels[part], scores[part]), len(part))
        for part in parts
        if 0 < labels[part].sum() < len(part)
    ]
    values, weights = np.array(by_user).T
    return roc_auc_score(labels[rows], scores[rows]), values.mean(), np.average(values, weights=weights)


def test_every_replicate_equals_its_users_rows_repeated_by_hand():
    labels, users, scores = predictions(0)
    found = bootstrap_users(labels, users, scores, replicates=10, seed=7)
    ids = np.unique(users)
    generator = np.random.default_rng(7)
    for replicate in range(10):
        drawn = ids[generator.integers(0, len(ids), len(ids))]
        for run, run_scores in enumerate(scores):
            expected = repeated_by_hand(labels, users, run_scores, drawn)
            got = [found.draws[metric][replicate, run] for metric in METRICS]
            assert got == pytest.approx(expected, abs=1e-12)


def measured(**settings: int) -> UserBootstrap:
    labels, users, scores = predictions(3, rows=300, runs=5)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setattr(bootstrap, name, value)
        return bootstrap_users(labels, users, scores, replicates=21)


@pytest.mark.parametrize(
    "settings",
    [
        {"DRAWN_BYTES": 40 * 4 * 5},
        {"DRAWN_BYTES": 1},
        {"RANKED_BYTES": 1},
        {"RANKED_BYTES": 2 * 5 * 300, "MOST_DRAWS_A_BLOCK": 8},
    ],
)
def test_draws_are_the_same_however_many_draws_and_runs_are_measured_at_once(settings):
    """AUC to the last bit, means of users up to how a matrix product rounds."""
    expected, found = measured(), measured(**settings)
    assert len(np.unique(expected.draws["auc"])) > 50
    np.testing.assert_array_equal(found.draws["auc"], expected.draws["auc"])
    for metric in METRICS:
        np.testing.assert_allclose(found.draws[metric], expected.draws[metric], rtol=0, atol=1e-14)
        np.testing.assert_array_equal(found.point[metric], expected.point[metric])


def test_a_draws_auc_is_that_of_weighted_rows_to_the_last_bit():
    labels, users, scores = predictions(4, rows=300, runs=1)
    generator = np.random.default_rng(0)
    ranked = RankedRows.of(labels == 1, scores[0])
    expected = []
    for _ in range(7):
        drawn = np.bincount(generator.integers(0, 40, 40), minlength=40)[
            np.unique(users, return_inverse=True)[1]
        ]
        expected.append(ranked.weighted_auc(drawn[ranked.negatives], drawn[ranked.positives]))
    assert bootstrap_users(labels, users, scores, replicates=7).draws["auc"][:, 0].tolist() == expected


def test_draws_of_more_rows_than_31_bits_count_are_exact():
    labels, users, scores = predictions(5, rows=200, runs=1)
    user_of_row = np.unique(users, return_inverse=True)[1]
    drawn = np.random.default_rng(0).integers(0, 10**8, (user_of_row.max() + 1, 3))
    score, weight = scores[0], drawn[user_of_row].astype(object)  # Python's integers have no end
    expected = [
        sum(
            positive * negative * int(1 + np.sign(score[p] - score[n]))
            for p, positive in enumerate(weights)
            for n, negative in enumerate(weights)
            if labels[p] == 1 and labels[n] == 0
        )
        / 2
        for weights in weight.T
    ]
    ranked = RankedUsers.of(labels == 1, score, user_of_row)
    found = ranked.wins(drawn.astype(np.int32), int(drawn.max()))
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    assert drawn[user_of_row[labels == 0]].sum(axis=0).min() > 2**31


def test_point_values_are_those_of_the_rows_as_they_are():
    labels, users, scores = predictions(1)
    found = bootstrap_users(labels, users, scores, replicates=1)
    for run, run_scores in enumerate(scores):
        expected = repeated_by_hand(labels, users, run_scores, np.unique(users))
        assert [found.point[metric][run] for metric in METRICS] == pytest.approx(expected, abs=1e-12)


def test_rows_without_a_label_and_users_without_other_rows_are_left_out():
    labels, users, scores = predictions(2)
    padded = np.append(labels, [np.nan, np.nan]), np.append(users, [users[0], 10**12])
    one = bootstrap_users(labels, users, scores, replicates=5)
    other = bootstrap_users(*padded, np.pad(scores, ((0, 0), (0, 2)), constant_values=np.nan), replicates=5)
    assert one.users == other.users
    for metric in METRICS:
        np.testing.assert_array_equal(one.draws[metric], other.draws[metric])


def test_the_same_seed_gives_the_same_draws_and_another_seed_others():
    data = predictions(3)
    first, same, other = (bootstrap_users(*data, replicates=20, seed=seed) for seed in (1, 1, 2))
    for metric in METRICS:
        np.testing.assert_array_equal(first.draws[metric], same.draws[metric])
        assert (first.draws[metric] != other.draws[metric]).any()


def test_a_runs_draws_do_not_depend_on_the_runs_beside_it():
    labels, users, scores = predictions(4)
    together = bootstrap_users(labels, users, scores, replicates=5)
    alone = bootstrap_users(labels, users, scores[2:], replicates=5)
    for metric in METRICS:
        np.testing.assert_allclose(together.draws[metric][:, 2], alone.draws[metric][:, 0], atol=1e-15)


def test_a_model_does_not_differ_from_itself():
    labels, users, scores = predictions(5)
    found = bootstrap_users(labels, users, [*scores, *scores, scores[0]], replicates=50)
    for metric in METRICS:
        for runs, copies in (([0], [6]), ([0, 1, 2], [3, 4, 5])):
            assert found.difference(metric, copies, runs) == 0
            assert (found.drawn_differences(metric, copies, runs) == 0).all()


def test_seeds_are_averaged_within_a_replicate():
    found = bootstrap_users(*predictions(6, runs=4), replicates=200)
    draws = found.draws["uauc"]
    expected = np.quantile((draws[:, 2] + draws[:, 3]) / 2 - (draws[:, 0] + draws[:, 1]) / 2, [0.025, 0.975])
    assert found.interval("uauc", [2, 3], [0, 1]) == pytest.approx(tuple(expected))
    assert found.difference("uauc", [2, 3], [0, 1]) == pytest.approx(
        found.point["uauc"][2:].mean() - found.point["uauc"][:2].mean()
    )


def test_pairing_makes_the_interval_narrower_than_that_of_a_single_model():
    labels, users, scores = predictions(7, users=200, rows=2000)
    close = scores[0] + 0.01 * scores[1]
    found = bootstrap_users(labels, users, [scores[0], close], replicates=200)
    for metric in METRICS:
        low, high = found.interval(metric, [1], [0])
        spread = np.quantile(found.draws[metric][:, 1], 0.975) - np.quantile(found.draws[metric][:, 1], 0.025)
        assert high - low < spread / 5


def test_a_clearly_better_model_is_told_apart():
    labels, users, scores = predictions(8, users=100, rows=2000)
    better = scores[0] + 2 * labels
    found = bootstrap_users(labels, users, [scores[0], better], replicates=200)
    for metric in METRICS:
        assert found.interval(metric, [1], [0])[0] > 0


def test_intervals_hold_the_truth_about_95_times_in_100():
    """Each model is good for half of the users, by a coin: the true difference is zero.

    The coin makes rows of a user alike, so that resampling rows would give intervals far too narrow.
    """
    generator = np.random.default_rng(11)
    held = dict.fromkeys(METRICS, 0)
    simulations = 150
    for simulation in range(simulations):
        users = np.repeat(np.arange(60), generator.integers(4, 12, 60))
        labels = generator.integers(0, 2, len(users)).astype(np.float32)
        coin = generator.integers(0, 2, 60)[users]
        noise = generator.normal(size=(2, len(users)))
        scores = [labels * coin + noise[0], labels * (1 - coin) + noise[1]]
        found = bootstrap_users(labels, users, scores, replicates=200, seed=simulation)
        for metric in METRICS:
            low, high = found.interval(metric, [1], [0])
            held[metric] += low <= 0 <= high
    for metric in METRICS:
        assert 0.90 <= held[metric] / simulations <= 0.99, held


def test_too_few_users_give_no_interval():
    labels, users, scores = predictions(9, users=MIN_USERS - 1)
    found = bootstrap_users(labels, users, scores, replicates=5)
    assert all(np.isnan(found.interval(metric, [1], [0])).all() for metric in METRICS)


def test_draws_that_do_not_define_the_metric_are_left_out_of_the_interval():
    # One positive row in all: a draw without its user has no AUC.
    users = np.arange(50)
    labels = (users == 0).astype(np.float32)
    scores = np.random.default_rng(0).random((2, 50))
    found = bootstrap_users(labels, users, scores, replicates=200)
    missing = np.isnan(found.draws["auc"][:, 0]).mean()
    assert 0.2 < missing < 0.5  # about 1 / e
    assert np.isfinite(found.interval("auc", [1], [0])).all()
    assert found.users == {"auc": 50, "uauc": 0, "gauc": 0}
    assert np.isnan(found.point["uauc"]).all()


def test_without_any_label_nothing_is_defined():
    found = bootstrap_users(np.full(3, np.nan), [1, 2, 3], np.zeros((2, 3)), replicates=4)
    assert found.draws["auc"].shape == (4, 2)
    assert np.isnan(found.point["auc"]).all()


def test_scores_that_are_not_finite_are_an_error():
    labels, users, scores = predictions(10)
    scores[1, 5] = np.nan
    with pytest.raises(NonFiniteScores):
        bootstrap_users(labels, users, scores, replicates=1)
