"""Profiling in small: the figures' form, not their size."""

import os

from harness.speed.profiles.data import profile_data
from harness.speed.profiles.figures import figure


def test_both_rates_are_reported_and_the_process_gets_its_cores_back():
    before = os.sched_getaffinity(0)
    figures = profile_data(rows=2000, repeats=2, reader_rows=2000)
    assert [entry["name"] for entry in figures] == ["generator_rows_per_second", "shard_rows_per_second"]
    assert all(entry["value"] > 0 and entry["median_of"] == 2 for entry in figures)
    assert os.sched_getaffinity(0) == before


def test_a_figure_is_the_median_with_its_range():
    entry = figure("x", [3.0, 1.0, 10.0], "rows/s", "command")
    assert (entry["value"], entry["spread"], entry["median_of"]) == (3.0, 9.0, 3)
