"""Rows that are drawn again: how often each occurs, in which order."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from datasets.source import repeated, times_drawn


def test_every_draw_has_as_many_training_rows_and_each_row_occurs_once_on_average():
    is_training = np.random.default_rng(0).random(400) < 0.7
    draws = np.stack([times_drawn(is_training, number) for number in range(1, 301)])
    assert (draws[:, ~is_training] == 1).all()
    assert (draws[:, is_training].sum(axis=1) == is_training.sum()).all()
    assert len(np.unique(draws, axis=0)) == 300
    assert np.abs(draws[:, is_training].mean(axis=0) - 1).max() < 5 / np.sqrt(300)
    assert (draws[:, is_training] == 0).mean() == pytest.approx(np.exp(-1), abs=0.01)
    assert np.array_equal(times_drawn(is_training, 7), draws[6])


def test_without_a_draw_every_row_occurs_once():
    assert (times_drawn(np.array([True, True, False]), 0) == 1).all()


def test_rows_are_repeated_beside_themselves_in_their_order():
    rows = pl.DataFrame({"a": [1, 2, 3, 4], "list": [[1], [], [2, 3], None]})
    again = repeated(rows, np.array([0, 2, 1, 1]))
    assert again.rows() == [(2, []), (2, []), (3, [2, 3]), (4, None)]
    assert repeated(rows, np.ones(4, int)) is rows
