"""The profile's figures have the public form, and both sides of its comparison compute the same number."""

from __future__ import annotations

import numpy as np
import pytest

from harness.speed.profiles.metrics import profile_metrics, sklearn_uauc, synthetic_predictions, uauc


@pytest.fixture(scope="module")
def figures():
    return {figure["name"]: figure for figure in profile_metrics(rows=4000, users=200, repeats=3)}


def test_names_that_others_rely_on_are_there_with_positive_values(figures):
    assert figures["uauc_rows_per_second"]["unit"] == "rows/s"
    assert figures["uauc_speedup_over_sklearn"]["unit"] == "x"
    for figure in figures.values():
        assert set(figure) == {"name", "value", "unit", "median_of", "spread", "command"}
        assert figure["value"] > 0
        assert figure["spread"] >= 0


def test_rates_are_medians_of_the_repeats_asked_for(figures):
    assert figures["uauc_rows_per_second"]["median_of"] == 3
    assert figures["metrics_rows"]["value"] == 4000
    assert 0 < figures["sklearn_sample_rows"]["value"] <= 4000


def test_the_two_sides_compute_the_same_uauc():
    labels, scores, users = synthetic_predictions(5000, 300)
    assert uauc(labels, scores, users) == pytest.approx(sklearn_uauc(labels, scores, users), abs=1e-12)


def test_the_synthetic_rows_are_probabilities_of_the_stated_kind():
    labels, scores, users = synthetic_predictions(50_000, 2000)
    assert (scores.dtype, scores.shape) == (np.float32, (50_000,))
    assert 0 < scores.min() < scores.max() < 1
    assert 0.25 < labels.mean() < 0.35
    assert 0 <= users.min() < users.max() < 2000
    assert (np.diff(users) < 0).any()  # grouping by user is left to whoever measures
