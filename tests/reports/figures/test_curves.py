"""Curves over training are the means that the frames say."""

from __future__ import annotations

import numpy as np
import pytest

from harness.records.store import read_runs
from reports.figures.curves import loss_curves, validation_curves
from reports.figures.drawing.saving import figure_of
from reports.frames import loss_frame, validation_frame
from tests.reports.figures.read_back import lines_of


@pytest.fixture(scope="module")
def records(quick_out):
    return read_runs(quick_out).records


def test_validation_curves_are_means_over_seeds(records):
    frame = validation_frame(records)
    axes = figure_of(validation_curves(frame)).axes[3]
    line = lines_of(axes, frame)["dcn", ""]
    rows = frame[(frame["architecture"] == "dcn") & (frame["task"] == "skip") & (frame["metric"] == "uauc")]
    expected = [rows.loc[rows["samples"] == samples, "value"].mean() for samples in (1024, 2048, 3072, 4096)]
    np.testing.assert_allclose(line.get_ydata(), expected)


def test_loss_curve_is_the_running_mean_over_a_twentieth_of_the_points(records):
    frame = loss_frame(records)
    line = lines_of(figure_of(loss_curves(frame)).axes[0], frame)["dcn", ""]
    rows = frame[frame["architecture"] == "dcn"]
    by_seed = [rows.loc[rows["seed"] == seed, "value"].to_numpy() for seed in (0, 1)]
    mean = np.mean(by_seed, axis=0)
    assert len(mean) == 40
    assert line.get_ydata()[-1] == pytest.approx((mean[-1] + mean[-2]) / 2)
