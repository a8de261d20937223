"""Quality against the active ratio: what is drawn is read back and compared with numbers set by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from scipy import stats

from harness.records.contestant import parts_of_name
from harness.records.store import read_runs
from reports.figures.active_ratio import quality_against_active_ratio
from reports.figures.drawing.models import contestants, looks_for
from reports.figures.drawing.saving import figure_of
from reports.paper.comparison import active_ratio_curves
from reports.paper.printed import load_paper
from reports.results import results_frame
from tests.reports.figures.read_back import lines_by_label, lines_of
from tests.reports.made_up import write_out
from tests.reports.routed import figure3_records


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    out = write_out(tmp_path_factory.mktemp("routed"), figure3_records(seeds=3, tokens=3))
    return results_frame(read_runs(out).records)


def values(results, variant, task="finish", column="auc"):
    return results.loc[(results["variant"] == variant) & (results["task"] == task), column].tolist()


def series_lines(axes, results):
    """The line of each series through the means, by (architecture, series)."""
    stems = ("dense", "smoe", "smoe-balance", "dtsi-relu")
    names = pd.DataFrame([("rankmixer", stem) for stem in stems], columns=["architecture", "variant"])
    return lines_of(axes, names, looks_for(contestants(results)))


def test_a_series_is_drawn_through_the_means_of_its_seeds(results):
    finish, skip = figure_of(quality_against_active_ratio(results)).axes
    for axes, task in ((finish, "finish"), (skip, "skip")):
        lines = series_lines(axes, results)
        for stem in ("smoe", "smoe-balance", "dtsi-relu"):
            means = [np.mean(values(results, f"{stem}-{r}", task)) for r in ("1", "1/2", "1/4", "1/8")]
            np.testing.assert_allclose(lines["rankmixer", stem].get_ydata(), means)
        assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "1/2", "1/4", "1/8"]


def test_the_dense_base_is_a_flat_line_and_where_the_dense_series_begins(results):
    axes = figure_of(quality_against_active_ratio(results)).axes[0]
    base = np.mean(values(results, ""))
    assert set(lines_by_label(axes)["RankMixer"].get_ydata()) == {base}
    dense = series_lines(axes, results)["rankmixer", "dense"].get_ydata()
    assert dense[0] == pytest.approx(base)
    assert len(dense) == 4


def test_bars_are_t_intervals_over_seeds(results):
    axes = figure_of(quality_against_active_ratio(results)).axes[0]
    drawn = [line.get_ydata() for line in axes.lines if len(line.get_xdata()) == 2]
    drawn = [ends for ends in drawn if len(set(ends)) == 2]  # the dense base is a flat line
    aucs = values(results, "smoe-1/4")
    expected = stats.t.interval(0.95, 2, np.mean(aucs), stats.sem(aucs))
    assert any(np.allclose(bar, expected) for bar in drawn)
    assert len(drawn) == 4 * 4


def test_with_worlds_bars_are_t_intervals_over_the_worlds_means(results):
    worlds = [results.assign(world=world, auc=results["auc"] + 0.01 * world**2) for world in range(3)]
    figure = figure_of(quality_against_active_ratio(pd.concat(worlds, ignore_index=True)))
    bars = [line.get_ydata() for line in figure.axes[0].lines if len(line.get_xdata()) == 2]
    means = [np.mean(values(of_world, "smoe-1/4")) for of_world in worlds]
    expected = stats.t.interval(0.95, 2, np.mean(means), stats.sem(means))
    assert any(np.allclose(bar, expected) for bar in bars)
    assert any("95% over worlds" in text.get_text() for text in figure.legends[0].get_texts())


def test_measured_ratios_stand_below_the_ratios_asked_for(results):
    changed = results.copy()
    changed.loc[changed["variant"] == "dtsi-relu-1/4", "active_ratio"] = 0.2613
    axes = figure_of(quality_against_active_ratio(changed)).axes[0]
    below = [(text.get_text(), text.xy[0]) for text in axes.texts]
    assert ("0.261", 2) in below
    assert sum(words.endswith(", measured") for words, _ in below) == 3


def test_the_papers_curves_are_in_a_panel_of_their_own_that_says_so(results):
    *ours, papers = figure_of(quality_against_active_ratio(results, active_ratio_curves(load_paper()))).axes
    assert papers.get_title("left") == "the paper's Figure 3"
    lines = lines_by_label(papers)
    assert lines["Vanilla SMoE"].get_ydata().tolist() == [0.8645, 0.8634, 0.8619, 0.8615]
    assert lines["Vanilla SMoE"].get_color() == to_hex(
        series_lines(ours[0], results)["rankmixer", "smoe"].get_color()
    )
    flat = [line.get_ydata()[0] for line in papers.lines if line.get_linestyle() == "--"]
    assert flat == [0.8645, 0.8614]
    assert all(np.nanmax(line.get_ydata()) < 0.8 for axes in ours for line in axes.lines)


@pytest.mark.parametrize(
    ("variant", "stem", "ratio"),
    [
        ("smoe-1/4", "smoe", 0.25),
        ("smoe-balance-1", "smoe-balance", 1.0),
        ("dtsi-relu-1/8", "dtsi-relu", 0.125),
        ("shared-ffn", "shared-ffn", None),
        ("chunks-16", "chunks-16", None),
        ("groups-1/0", "groups-1/0", None),
        ("", "", None),
        ("1/4", "1/4", None),
    ],
)
def test_a_ratio_is_read_only_from_a_name_that_ends_in_one(variant, stem, ratio):
    series, size, found = parts_of_name(variant)
    assert (series, size) == (stem, "")
    assert (None if found is None else float(found)) == ratio
