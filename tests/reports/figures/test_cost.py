"""Quality against cost: what is drawn is read back, and the front compared with a search of all pairs."""

from __future__ import annotations

import itertools

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.records.store import read_runs
from reports.figures.cost import pareto_front, quality_against_cost
from reports.figures.models import contestants, looks_for
from reports.results import results_frame
from tests.reports.figures.read_back import dots, lines_by_label
from tests.reports.made_up import ARCHITECTURES

PANELS = [("finish", "auc"), ("finish", "uauc"), ("skip", "auc"), ("skip", "uauc")]


@pytest.fixture(scope="module")
def records(quick_out):
    return read_runs(quick_out).records


def test_quality_is_drawn_against_the_counted_flops(records):
    results = results_frame(records)
    figure, looks = quality_against_cost(results), looks_for(contestants(results))
    for (task, metric), axes in zip(PANELS, figure.axes, strict=True):
        for name in ARCHITECTURES:
            rows = results[(results["architecture"] == name) & (results["task"] == task)]
            [point] = dots(axes, looks[name, ""].color)
            assert point == pytest.approx([rows["flops_per_sample"].iloc[0], rows[metric].mean()])


def test_an_oracle_within_reach_is_a_line_and_one_beyond_is_said(records):
    results = results_frame(records)
    beyond = quality_against_cost(results).axes[0]
    assert "oracle" not in lines_by_label(beyond)
    assert [text.get_text() for text in beyond.texts] == ["oracle 0.7612, beyond this axis"]
    near = results.copy()
    near.loc[near["architecture"] == "oracle", ["auc", "uauc"]] = 0.738
    line = lines_by_label(quality_against_cost(near).axes[0])["oracle"]
    assert set(line.get_ydata()) == {0.738}


def test_flops_are_on_a_log_axis_only_when_budgets_differ(records):
    results = results_frame(records)
    assert quality_against_cost(results).axes[0].get_xscale() == "linear"
    flops = ["flops_per_sample", "active_flops_per_sample"]
    results.loc[results["architecture"] == "dcn", flops] *= 10
    assert quality_against_cost(results).axes[0].get_xscale() == "log"


def test_figures_can_be_drawn_from_the_csv_alone(quick_out):
    results = pd.read_csv(quick_out / "results.csv")
    looks = looks_for(contestants(results))
    axes = quality_against_cost(results).axes[0]
    assert all(dots(axes, looks[name, ""].color) for name in ARCHITECTURES)


def test_experts_that_are_not_active_do_not_count_as_cost(records):
    results = results_frame(records)
    is_dcn = results["architecture"] == "dcn"
    results.loc[is_dcn, "active_flops_per_sample"] = 250_000
    figure = quality_against_cost(results)
    [[flops, _]] = dots(figure.axes[0], looks_for(contestants(results))["dcn", ""].color)
    assert flops == 250_000
    assert "active forward FLOPs" in figure.get_supxlabel()


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


def test_a_front_is_drawn_where_costs_differ_and_not_within_one_budget(quick_out):
    results = results_frame(read_runs(quick_out).records)
    assert "Pareto" not in quality_against_cost(results).get_supxlabel()
    flops = ["flops_per_sample", "active_flops_per_sample"]
    results.loc[results["architecture"] == "rankmixer", flops] *= 10
    figure = quality_against_cost(results)
    assert "Pareto front" in figure.get_supxlabel()
    for axes in figure.axes[:4]:
        named = [text.get_text() for text in axes.texts]
        assert "rankmixer" in named  # the dearest and best
