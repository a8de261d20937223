"""What is drawn is what the rows say: artists are read back and compared with the frames."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from harness.records.store import read_runs
from reports.comparisons import load_comparisons
from reports.cost_figures import quality_against_cost
from reports.curve_figures import loss_curves, validation_curves
from reports.figures import forest
from reports.frames import loss_frame, validation_frame
from reports.results import results_frame
from reports.style import LOOKS, look
from tests.reports.made_up import ARCHITECTURES

PANELS = [("finish", "auc"), ("finish", "uauc"), ("skip", "auc"), ("skip", "uauc")]


@pytest.fixture(scope="module")
def records(quick_out):
    return read_runs(quick_out).records


def lines_by_label(axes):
    return {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}


def test_forest_draws_each_difference_and_its_interval(quick_out):
    comparisons = load_comparisons(quick_out)
    figure = forest(comparisons)
    assert [axes.get_title("left") for axes in figure.axes] == [f"{t}: {m.upper()}" for t, m in PANELS]
    for (task, metric), axes in zip(PANELS, figure.axes, strict=True):
        rows = comparisons[(comparisons["task"] == task) & (comparisons["metric"] == metric)]
        rows = rows.set_index("architecture")
        points = lines_by_label(axes)
        assert set(points) == set(rows.index) == set(ARCHITECTURES[1:])
        for name, point in points.items():
            assert point.get_xdata()[0] == pytest.approx(100 * rows.loc[name, "diff"])
            is_filled = point.get_markerfacecolor() != "white"
            assert is_filled == (rows.loc[name, "resolved"] == "yes")
        intervals = [line.get_xdata() for line in axes.lines if line.get_marker() == "|"]
        np.testing.assert_allclose(intervals, 100 * rows.loc[ARCHITECTURES[1:], ["low", "high"]])


def test_forest_names_the_models_at_the_height_of_their_points(quick_out):
    axes = forest(load_comparisons(quick_out)).axes[0]
    names = [text.get_text() for text in axes.get_yticklabels()]
    for name, point in lines_by_label(axes).items():
        assert names[int(point.get_ydata()[0])] == name


def test_the_papers_gains_are_drawn_only_where_they_are_given(quick_out):
    comparisons = load_comparisons(quick_out)
    is_rankmixer = comparisons["architecture"] == "rankmixer"
    with_gain = comparisons.assign(paper_gain=np.where(is_rankmixer, 1.82, np.nan))

    def marks(frame):
        return [
            line.get_xdata()[0]
            for axes in forest(frame).axes
            for line in axes.lines
            if line.get_markeredgewidth() == 2
        ]

    assert marks(with_gain) == [1.82] * 4
    assert marks(comparisons) == []


def test_one_seed_draws_the_users_interval_dotted_and_hollow(quick_out):
    comparisons = load_comparisons(quick_out).assign(low=np.nan, high=np.nan, resolved="one seed")
    axes = forest(comparisons).axes[0]
    assert {line.get_markerfacecolor() for line in lines_by_label(axes).values()} == {"white"}
    assert sum(line.get_linestyle() == ":" for line in axes.lines) == len(ARCHITECTURES) - 1


def test_quality_is_drawn_against_the_counted_flops(records):
    results = results_frame(records)
    figure = quality_against_cost(results)
    for (task, metric), axes in zip(PANELS, figure.axes, strict=True):
        points = lines_by_label(axes)
        for name in ARCHITECTURES:
            rows = results[(results["architecture"] == name) & (results["task"] == task)]
            assert points[name].get_xdata()[0] == rows["flops_per_sample"].iloc[0]
            assert points[name].get_ydata()[0] == pytest.approx(rows[metric].mean())


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
    assert set(ARCHITECTURES) <= set(lines_by_label(quality_against_cost(results).axes[0]))


def test_validation_curves_are_means_over_seeds(records):
    frame = validation_frame(records)
    axes = validation_curves(frame).axes[3]
    line = lines_by_label(axes)["dcn"]
    rows = frame[(frame["architecture"] == "dcn") & (frame["task"] == "skip") & (frame["metric"] == "uauc")]
    expected = [rows.loc[rows["samples"] == samples, "value"].mean() for samples in (1024, 2048, 3072, 4096)]
    np.testing.assert_allclose(line.get_ydata(), expected)


def test_loss_curve_is_the_running_mean_over_a_twentieth_of_the_points(records):
    frame = loss_frame(records)
    line = lines_by_label(loss_curves(frame).axes[0])["dcn"]
    rows = frame[frame["architecture"] == "dcn"]
    of_seeds = [rows.loc[rows["seed"] == seed, "value"].to_numpy() for seed in (0, 1)]
    mean = np.mean(of_seeds, axis=0)
    assert len(mean) == 40
    assert line.get_ydata()[-1] == pytest.approx((mean[-1] + mean[-2]) / 2)


def test_every_architecture_has_a_look_of_its_own():
    assert len(LOOKS) == 19
    assert len(set(LOOKS.values())) == len(LOOKS)
    quick = [look(name).color for name in ARCHITECTURES]
    assert len(set(quick)) == len(quick)


def test_an_architecture_has_the_same_color_in_every_figure(quick_out, records):
    results = results_frame(records)
    colors = [
        lines_by_label(axes)["rankmixer"].get_color()
        for axes in (
            forest(load_comparisons(quick_out)).axes[0],
            quality_against_cost(results).axes[0],
            loss_curves(loss_frame(records)).axes[0],
            validation_curves(validation_frame(records)).axes[0],
        )
    ]
    assert set(colors) == {look("rankmixer").color}


def test_a_variant_never_has_its_architectures_color():
    names = ["no-norm", "no_skip", "smoe-1/4", "own", *map(str, range(200))]
    assert all(look("rankmixer", name).color != look("rankmixer").color for name in names)
    assert look("mine:Net", "a") == look("mine:Net", "a")


def test_the_ratios_of_a_series_share_its_color_and_differ_in_marker():
    ratios = [look("rankmixer", f"dtsi-relu-{ratio}") for ratio in ("1", "1/2", "1/4", "1/8")]
    assert {known.color for known in ratios} == {look("rankmixer", "dtsi-relu").color}
    assert len({known.marker for known in ratios}) == 4


@pytest.mark.parametrize(
    "variants",
    [
        ["no-residual", "no-mixing", "no-norm", "shared-ffn"],
        ["all-concat-mlp", "all-share", "self-attention"],
        ["dense", "smoe", "smoe-balance", "dtsi-relu"],
        ["chunks-4", "chunks-8", "chunks-32", "chunks-64", "groups", "groups-16", "fields"],
    ],
)
def test_the_variants_of_one_table_differ_in_color(variants):
    colors = {look("rankmixer", name).color for name in ["", *variants]}
    assert len(colors) == 1 + len(variants)


def test_experts_that_are_not_active_do_not_count_as_cost(records):
    results = results_frame(records)
    is_dcn = results["architecture"] == "dcn"
    results.loc[is_dcn, "active_flops_per_sample"] = 250_000
    figure = quality_against_cost(results)
    assert lines_by_label(figure.axes[0])["dcn"].get_xdata()[0] == 250_000
    assert "active forward FLOPs" in figure.get_supxlabel()
