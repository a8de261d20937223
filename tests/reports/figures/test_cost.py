"""Quality against cost: what is drawn is read back, and the front compared with a search of all pairs."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.records.store import read_runs
from reports.figures.cost import costs_differ, pareto_front, quality_against_cost, quality_against_latency
from reports.figures.drawing.models import contestants, looks_for
from reports.figures.drawing.saving import figure_of
from reports.results import results_frame
from tests.reports.figures.read_back import dots, lines_by_label
from tests.reports.made_up import ARCHITECTURES

PANELS = [("finish", "auc"), ("finish", "uauc"), ("skip", "auc"), ("skip", "uauc")]


FLOPS = ["flops_per_sample", "active_flops_per_sample"]


@pytest.fixture
def results(quick_out):
    """Of several budgets: RankMixer costs ten times as much as the others."""
    results = results_frame(read_runs(quick_out).records)
    results.loc[results["architecture"] == "rankmixer", FLOPS] *= 10
    return results


def test_quality_is_drawn_against_the_counted_flops(results):
    figure, looks = figure_of(quality_against_cost(results)), looks_for(contestants(results))
    for (task, metric), axes in zip(PANELS, figure.axes, strict=True):
        for name in ARCHITECTURES:
            rows = results[(results["architecture"] == name) & (results["task"] == task)]
            [point] = dots(axes, looks[name, ""].color)
            assert point[1] == pytest.approx(rows[metric].mean())
            assert point[0] == pytest.approx(rows["flops_per_sample"].iloc[0], rel=0.3)  # moved apart


def test_an_oracle_within_reach_is_a_line_and_one_beyond_is_said(results):
    beyond = figure_of(quality_against_cost(results)).axes[0]
    assert "oracle" not in lines_by_label(beyond)
    assert "oracle 0.7612, beyond this axis" in [text.get_text() for text in beyond.texts]
    near = results.copy()
    near.loc[near["architecture"] == "oracle", ["auc", "uauc"]] = 0.738
    line = lines_by_label(figure_of(quality_against_cost(near)).axes[0])["oracle"]
    assert set(line.get_ydata()) == {0.738}


def test_models_of_one_budget_have_no_picture_over_flops(results):
    assert costs_differ(results)
    results.loc[results["architecture"] == "rankmixer", FLOPS] //= 10
    assert not costs_differ(results)
    assert not costs_differ(results[results["flops_per_sample"].isna()])


def test_figures_can_be_drawn_from_the_csv_alone(quick_out):
    results = pd.read_csv(quick_out / "results.csv")
    results.loc[results["architecture"] == "dcn", FLOPS] *= 10
    looks = looks_for(contestants(results))
    axes = figure_of(quality_against_cost(results)).axes[0]
    assert all(dots(axes, looks[name, ""].color) for name in ARCHITECTURES)


def test_experts_that_are_not_active_do_not_count_as_cost(results):
    is_dcn = results["architecture"] == "dcn"
    results.loc[is_dcn, "active_flops_per_sample"] = 250_000
    figure = figure_of(quality_against_cost(results))
    [[flops, _]] = dots(figure.axes[0], looks_for(contestants(results))["dcn", ""].color)
    assert flops == pytest.approx(250_000)
    assert "active forward FLOPs" in figure.get_supxlabel()


def test_marks_of_one_cost_do_not_stand_on_each_other(results):
    results[FLOPS] = 1e6
    results.loc[results["architecture"] == "rankmixer", FLOPS] = 1e7
    looks, axes = looks_for(contestants(results)), quality_against_cost(results)[0]
    places = sorted(dots(axes, looks[name, ""].color)[0][0] for name in ARCHITECTURES)
    assert (np.diff(np.log10(places)) > 0.03).all()


COSTS_AND_QUALITIES = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=7)


@given(COSTS_AND_QUALITIES)
def test_the_front_holds_the_models_that_no_other_dominates(models):
    rows = pd.DataFrame(
        [(str(i), "", flops, auc / 10) for i, (flops, auc) in enumerate(models)],
        columns=["architecture", "variant", "flops", "auc"],
    )
    front = {
        (flops, auc)
        for flops, auc in zip(*(pareto_front(rows, "auc")[c] for c in ("flops", "auc")), strict=True)
    }
    points = {(flops, auc / 10) for flops, auc in models}
    dominated = {a for a, b in itertools.permutations(points, 2) if b[0] <= a[0] and b[1] >= a[1]}
    assert front == points - dominated


def steps(axes):
    [line] = [line for line in axes.lines if line.get_drawstyle() == "steps-post"]
    return line


def test_the_front_is_drawn_and_named(results):
    for axes in figure_of(quality_against_cost(results)).axes[:4]:
        assert "RankMixer" in [text.get_text() for text in axes.texts]  # the dearest and best
        assert len(steps(axes).get_xdata()) > 1


def latencies() -> pd.DataFrame:
    """Three models in one task and metric; the last is slower and worse than the one before it."""
    return pd.DataFrame(
        {
            "architecture": ["base", "good", "bad"],
            "variant": "",
            "base": "base",
            "task": "finish",
            "metric": "auc",
            "diff": [0.0, 0.004, 0.002],
            "low": [None, 0.001, -0.001],
            "high": [None, 0.007, 0.005],
            "resolved": ["", "yes", "no"],
            "batch_size": 512,
            "latency_ms_p99": [5.0, 10.0, 20.0],
            "latency_ms_p99_low": [4.5, 9.0, 19.0],
            "latency_ms_p99_high": [5.5, 12.0, None],
            "noisy": [False, False, True],
        }
    )


def test_differences_stand_at_the_measured_p99_with_both_intervals():
    rows = latencies()
    looks, axes = looks_for(contestants(rows)), figure_of(quality_against_latency(rows)).axes[0]
    drawn = {
        name: [
            line for line in axes.lines if line.get_color() == looks[name, ""].color and line.get_alpha() != 0
        ]
        for name in rows["architecture"]
    }
    upright, level, point = drawn["good"]
    assert list(upright.get_xdata()) == [10.0, 10.0]
    assert list(upright.get_ydata()) == pytest.approx([0.1, 0.7])
    assert list(level.get_xdata()) == [9.0, 12.0]
    assert point.get_markerfacecolor() == looks["good", ""].color
    _, level, point = drawn["bad"]
    assert list(level.get_xdata()) == [19.0, 20.0]  # the upper end is not known
    assert (point.get_markerfacecolor(), point.get_alpha()) == ("white", 0.45)


def test_the_front_leaves_out_what_is_slower_and_no_better():
    front = steps(figure_of(quality_against_latency(latencies())).axes[0])
    assert list(front.get_xdata()) == [5.0, 10.0]
    assert list(front.get_ydata()) == pytest.approx([0.0, 0.4])
