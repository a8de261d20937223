"""Differences to the base: artists are read back and compared with the frames."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from reports.comparisons import load_inferred
from reports.figures.differences import ablation_waterfall, forest
from reports.figures.drawing.saving import figure_of
from reports.figures.sections import is_ablation_of_one_model, section_figures
from tests.reports.figures.read_back import lines_by_label
from tests.reports.made_up import ARCHITECTURES, NAMES, quick_records, write_out
from tests.reports.routed import write_figure3
from tests.reports.test_ablations import TABLE2, ablation, compared_row, section_of

PANELS = [("finish", "auc"), ("finish", "uauc"), ("skip", "auc"), ("skip", "uauc")]


def test_forest_draws_each_difference_and_its_interval(quick_out):
    comparisons = load_inferred(quick_out, "comparisons")
    figure = figure_of(forest(comparisons))
    assert [axes.get_title("left") for axes in figure.axes] == [f"{t}: {m.upper()}" for t, m in PANELS]
    for (task, metric), axes in zip(PANELS, figure.axes, strict=True):
        rows = comparisons[(comparisons["task"] == task) & (comparisons["metric"] == metric)]
        rows = rows.set_index("architecture")
        points = lines_by_label(axes)
        assert set(points) == {NAMES[name] for name in ARCHITECTURES[1:]}
        for name in rows.index:
            point = points[NAMES[name]]
            assert point.get_xdata()[0] == pytest.approx(100 * rows.loc[name, "diff"])
            is_filled = point.get_markerfacecolor() != "white"
            assert is_filled == (rows.loc[name, "resolved"] == "yes")
        intervals = [line.get_xdata() for line in axes.lines if line.get_marker() == "|"]
        np.testing.assert_allclose(intervals, 100 * rows.loc[ARCHITECTURES[1:], ["low", "high"]])


def test_forest_names_the_models_at_the_height_of_their_points(quick_out):
    axes = figure_of(forest(load_inferred(quick_out, "comparisons"))).axes[0]
    names = [text.get_text() for text in axes.get_yticklabels()]
    for name, point in lines_by_label(axes).items():
        assert names[int(point.get_ydata()[0])] == name


def test_a_forest_falls_from_the_best_in_its_first_panel_unless_an_order_is_asked_for(quick_out):
    comparisons = load_inferred(quick_out, "comparisons")
    first = comparisons[(comparisons["task"] == "finish") & (comparisons["metric"] == "auc")]
    expected = [NAMES[name] for name in first.sort_values("diff", ascending=False)["architecture"]]
    for axes in forest(comparisons)[::2]:  # the second of a row has no names
        assert [text.get_text() for text in axes.get_yticklabels()] == expected
    asked = forest(comparisons, order=["rankmixer", "dcn"])[0]
    assert [text.get_text() for text in asked.get_yticklabels()] == ["RankMixer", "DCN"]


def test_the_papers_gains_are_drawn_only_where_they_are_given(quick_out):
    comparisons = load_inferred(quick_out, "comparisons")
    is_rankmixer = comparisons["architecture"] == "rankmixer"
    with_gain = comparisons.assign(paper_gain=np.where(is_rankmixer, 1.82, np.nan))

    def marks(frame):
        return [
            (line.get_xdata()[0], axes.get_yticklabels()[int(line.get_ydata()[0])].get_text())
            for axes in forest(frame)[::2]
            for line in axes.lines
            if line.get_marker() == "d"
        ]

    assert marks(with_gain) == [(1.82, "RankMixer")] * 2  # on the row of the model
    assert marks(comparisons) == []


def test_one_seed_draws_the_users_interval_dotted_and_hollow(quick_out):
    comparisons = load_inferred(quick_out, "comparisons").assign(low=np.nan, high=np.nan, resolved="one seed")
    axes = figure_of(forest(comparisons)).axes[0]
    assert {line.get_markerfacecolor() for line in lines_by_label(axes).values()} == {"white"}
    assert sum(line.get_linestyle() == ":" for line in axes.lines) == len(ARCHITECTURES) - 1


# --- The parts of one model ---------------------------------------------------------------------------------

DIFFS = {"no-residual": -0.005, "no-mixing": -0.0005, "no-norm": 0.002, "shared-ffn": -0.003}


def rows_of_table2():
    rows = []
    for metric in ("auc", "uauc"):
        for variant, diff in DIFFS.items():
            row = compared_row(variant, diff, diff - 0.001, diff + 0.001, "no", metric=metric)
            row |= {"base_mean": 0.7312, "resolved": "yes" if abs(diff) > 0.001 else "no"}
            rows.append(row)
    return rows


def test_each_bar_is_a_variants_difference_and_they_fall_from_gain_to_loss():
    figure = figure_of(ablation_waterfall(pd.DataFrame(rows_of_table2())))
    axes = figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([0.2, -0.05, -0.3, -0.5])
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names == ["RankMixer, whole: 0.7312", "no-norm", "no-mixing", "shared-ffn", "no-residual"]
    hollow = [bar.get_facecolor() == (1, 1, 1, 1) for bar in axes.patches]
    assert hollow == [False, True, False, False]
    ends = [line.get_xdata() for line in axes.lines if line.get_marker() == "|"]
    np.testing.assert_allclose(ends[0], [0.1, 0.3])


def test_the_figure_is_of_suites_that_take_one_model_apart(tmp_path):
    apart = ablation(tmp_path / "apart", TABLE2, rows_of_table2())
    assert is_ablation_of_one_model(apart)
    assert "ablations-shortvideo" in section_figures(apart)
    others = write_out(tmp_path / "others", quick_records())
    assert not is_ablation_of_one_model(section_of(others))
    ratios = write_figure3(tmp_path / "ratios", seeds=1, tokens=2, ratios=("1", "1/2"))
    assert not is_ablation_of_one_model(section_of(ratios))
