"""Users and seeds drawn together: against scipy where a part is absent, draws one by one, simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.evaluation.statistics.joint import JointDraws

USERS = np.random.default_rng(3).normal(0.002, 0.001, 400)  # differences on draws of users


def test_without_a_users_part_it_is_the_paired_t_test():
    ours, base = np.array([0.71, 0.74, 0.72, 0.735]), np.array([0.70, 0.715, 0.72, 0.71])
    gap = ours - base
    expected = stats.ttest_rel(ours, base)
    joint = JointDraws(np.full(1000, gap.mean()), gap.std(ddof=1) / 2, 3)
    assert joint.p_value() == pytest.approx(expected.pvalue, rel=1e-9)
    assert joint.interval(0.95) == pytest.approx(expected.confidence_interval(0.95), rel=1e-9)


def test_without_a_seeds_part_it_is_the_percentile_interval_and_draws_are_counted():
    joint = JointDraws(USERS, 0.0, 4)
    assert joint.interval(0.95) == pytest.approx(np.quantile(USERS, [0.025, 0.975]))
    assert joint.p_value() == pytest.approx(2 * np.mean(USERS < 0))


def test_it_is_what_draws_of_both_one_by_one_come_to():
    generator = np.random.default_rng(0)
    drawn = generator.choice(USERS, 1_000_000) + 0.0008 * generator.standard_t(5, 1_000_000)
    joint = JointDraws(USERS, 0.0008, 5)
    assert joint.interval(0.95) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=2e-5)
    assert joint.p_value() == pytest.approx(2 * np.mean(drawn < 0), rel=0.02)


@given(
    st.lists(st.floats(-1e-2, 1e-2), min_size=1, max_size=30),
    st.one_of(st.just(0.0), st.floats(1e-7, 1e-2)),
    st.integers(1, 60),
)
def test_the_p_value_is_below_a_level_exactly_where_that_interval_leaves_out_zero(users, seeds_sd, df):
    joint = JointDraws(np.array(users), seeds_sd, df)
    level = 0.9  # at which even one draw of users may be told from zero
    low, high = joint.interval(level)
    assert low <= high
    if min(abs(low), abs(high)) > 1e-9 and seeds_sd > 0 and len(users) > 10:
        assert (joint.p_value() < 1 - level) == (low > 0 or high < 0)


@given(
    st.lists(st.sampled_from([-2e-17, -1e-18, 0.0, 1e-17]), min_size=1, max_size=1000),
    st.sampled_from([1e-18, 1e-9, 1e-3, 0.05]),
    st.integers(1, 20),
)
def test_draws_of_users_that_differ_by_rounding_alone_leave_the_seeds_interval(users, seeds_sd, df):
    expected = seeds_sd * stats.t.ppf([0.025, 0.975], df)
    joint = JointDraws(np.array(users), seeds_sd, df)
    assert joint.interval(0.95) == pytest.approx(expected, rel=1e-9, abs=2e-12)


@given(st.floats(1e-6, 1e-2), st.integers(1, 60))
def test_both_parts_are_wider_than_either(seeds_sd, df):
    def width(joint):
        low, high = joint.interval(0.95)
        return high - low

    both = width(JointDraws(USERS, seeds_sd, df))
    assert both > width(JointDraws(USERS[:1], seeds_sd, df))
    assert both > width(JointDraws(USERS, 0.0, df)) * 0.999


def test_what_is_not_known_claims_nothing():
    for joint in (
        JointDraws(np.empty(0), 0.01, 3),
        JointDraws(USERS, math.nan, 3),
        JointDraws(USERS, 0.01, 0),
    ):
        assert math.isnan(joint.p_value())
        assert np.isnan(joint.interval(0.95)).all()


def test_a_certain_difference_is_as_rare_as_draws_can_tell_and_no_difference_is_none():
    assert JointDraws(np.full(999, 0.3), 0.0, 4).p_value() == 1 / 1000
    assert JointDraws(np.full(999, 0.3), 1e-5, 4).p_value() == 1 / 1000
    assert JointDraws(np.zeros(999), 0.0, 4).p_value() == 1.0
    assert JointDraws(np.zeros(999), 0.0, 4).interval(0.95) == (0.0, 0.0)


@pytest.mark.parametrize(("interplay", "lowest", "highest"), [(0.0, 0.935, 0.965), (3.0, 0.95, 0.999)])
def test_it_holds_the_truth_95_times_in_100_and_oftener_where_runs_suit_some_users_by_luck(
    interplay, lowest, highest
):
    """Two equal models on users and seeds drawn from endless ones, U users and n seeds of each model."""
    generator = np.random.default_rng(1)
    n, users, draws, held = 4, 60, 200, []
    for _ in range(600):
        taste = generator.normal(size=(2, 1, users))  # how a model suits a user, whatever its seed
        luck = interplay * generator.normal(size=(2, n, users))
        by_user = taste + luck + 0.15 * generator.normal(size=(2, n, 1))
        drawn = generator.multinomial(users, np.full(users, 1 / users), size=draws) / users
        difference = by_user[1].mean(axis=0) - by_user[0].mean(axis=0)
        by_seed = (by_user[1] - by_user[0]).mean(axis=1)
        low, high = JointDraws(drawn @ difference, by_seed.std(ddof=1) / math.sqrt(n), n - 1).interval(0.95)
        held.append(low <= 0 <= high)
    assert lowest <= np.mean(held) <= highest
