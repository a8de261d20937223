"""The past of a row, against plain Python loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.causal import EventIndex, pair_key, smoothed_rate, sum_by_row

moments = st.tuples(st.integers(-3, 3), st.integers(0, 6))  # few keys and times: many ties
events = st.lists(st.tuples(moments, st.integers(0, 9)), max_size=25)
questions = st.lists(moments, max_size=12)


def arrays(logged, asked):
    keys, times = (np.array([moment[i] for moment, _ in logged], dtype=np.int64) for i in (0, 1))
    values = np.array([value for _, value in logged], dtype=np.int64)
    ask_keys, ask_times = (np.array([moment[i] for moment in asked], dtype=np.int64) for i in (0, 1))
    return EventIndex(keys, times).before(ask_keys, ask_times), values


def past_of(logged, asked):
    """For each question the values of strictly earlier events of its key, in time order."""
    ordered = sorted(logged, key=lambda event: event[0][1])  # stable: ties stay as given
    return [[v for (key, time), v in ordered if key == k and time < t] for k, t in asked]


@settings(deadline=None)
@given(events, questions)
def test_counts_and_sums_use_exactly_the_strictly_earlier_events_of_the_key(logged, asked):
    past, values = arrays(logged, asked)
    expected = past_of(logged, asked)
    assert past.counts().tolist() == [len(values) for values in expected]
    assert past.sums(values).tolist() == [sum(values) for values in expected]
    assert past.last(values, otherwise=-1).tolist() == [[-1, *values][-1] for values in expected]


@settings(deadline=None)
@given(events, questions, st.integers(1, 6))
def test_lists_hold_the_latest_earlier_values_oldest_first(logged, asked, length):
    past, values = arrays(logged, asked)
    assert past.latest(values, length).to_list() == [v[-length:] for v in past_of(logged, asked)]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1)), min_size=1))
def test_equal_keys_mean_equal_pairs(pairs):
    left, right = (np.array(side) for side in zip(*pairs, strict=True))
    assert len(set(pair_key(left, right).tolist())) == len(set(pairs))


@pytest.mark.parametrize("bad", [-1, 2**31])
def test_ids_that_would_collide_are_refused(bad):
    with pytest.raises(ValueError, match="must lie in"):
        pair_key(np.array([1]), np.array([bad]))


def test_a_row_without_tags_sums_to_zero():
    assert sum_by_row(np.array([0, 0, 2]), np.array([1, 2, 5]), 4).tolist() == [3, 0, 5, 0]


def test_a_rate_is_its_prior_without_trials_and_approaches_the_mean_with_many():
    rates = smoothed_rate(np.array([0, 30_000]), np.array([0, 100_000]), np.array([0.7, 0.7]))
    assert rates[0] == 0.7
    assert rates[1] == pytest.approx(0.3, abs=1e-4)
