"""Both sides of the bootstrap's profile compute the same draws, and its figures are of the stated kind."""

from __future__ import annotations

import numpy as np

from harness.evaluation.statistics.bootstrap import bootstrap_users
from harness.speed.profiles.bootstrap import profile_bootstrap, sklearn_draws
from harness.speed.profiles.metrics import synthetic_predictions


def test_the_two_sides_compute_the_same_draws():
    labels, scores, users = synthetic_predictions(5000, 300)
    ours = bootstrap_users(labels, users, [scores], 7).draws["auc"][:, 0]
    np.testing.assert_allclose(ours, sklearn_draws(labels, scores, users, 7), rtol=0, atol=1e-12)
    assert len(set(ours)) == 7


def test_a_figure_for_each_size_and_one_speed_up():
    figures = profile_bootstrap(sizes=((2000, 100), (3000, 150)), draws=20, runs=2, repeats=3)
    assert [(figure["name"], figure["unit"]) for figure in figures] == [
        ("bootstrap_2000_rows_100_users", "ns a row, draw and run"),
        ("bootstrap_3000_rows_150_users", "ns a row, draw and run"),
        ("bootstrap_speedup_over_sklearn", "x"),
    ]
    assert all(figure["value"] > 0 and figure["median_of"] == 3 for figure in figures)
    assert {figure["command"] for figure in figures} == {"python run_bench.py profile bootstrap"}
