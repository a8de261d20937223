"""Learning curves in the report: the cells of the tables, the figure's lines, and nothing without points."""

from __future__ import annotations

import pytest

from harness.records.store import read_runs
from reports.figures.curves import learning_curves
from reports.figures.drawing.saving import figure_of
from reports.figures.sections import section_figures
from reports.sections import load_sections
from reports.tables.analyses.learning_curves import learning_curve_frame, learning_curve_tables
from tests.reports.made_up import quick_records, record, write_out

AUCS = {("dlrm_mlp", 0): (0.60, 0.70), ("dlrm_mlp", 1): (0.62, 0.71)} | {
    ("rankmixer", 0): (0.61, 0.74),
    ("rankmixer", 1): (0.60, 0.73),
}


@pytest.fixture(scope="module")
def section(tmp_path_factory):
    records = []
    for (architecture, seed), (early, late) in AUCS.items():
        run = record(architecture, seed, tasks=("finish",))
        run["tested"] = [{"step": 1, "samples": 1000, "metrics": {"finish": {"auc": early}}}]
        run["ahead"] = [
            {"step": n, "samples": 1000 * n, "metrics": {"finish": {"auc": auc}}}
            for n, auc in ((1, early), (2, late))
        ]
        run["metrics"]["finish"]["auc"] = late
        run["training"]["train_samples"] = 3000
        records.append(run)
    [section] = load_sections(read_runs(write_out(tmp_path_factory.mktemp("curves"), records)))
    return section


def test_a_cell_is_the_mean_and_the_paired_difference_with_half_its_interval(section):
    on_the_way, ahead = learning_curve_tables(section)
    assert on_the_way.header == ["model", "1,000", "3,000"]
    # Differences +.01 and -.02: mean -.005, half 12.706 x .015.
    assert on_the_way.rows == [
        ["DLRM-MLP", "0.6100 (base)", "0.7050 (base)"],
        ["RankMixer", "0.6050 (\N{MINUS SIGN}0.50 ± 19.06)", "0.7350 (+3.00 ± 12.71)"],
    ]
    # Means over both windows: .65 and .665 of the base, .675 and .665.
    assert [row[0] for row in ahead.rows] == ["DLRM-MLP", "RankMixer"]
    assert ahead.rows[1][2] == "+1.25 ± 15.88"
    assert set(ahead.numbers["metric"]) == {"auc"}


def test_the_figure_has_a_line_of_each_model_but_the_base(section):
    rows = learning_curve_frame(section, "tested")
    assert set(rows["architecture"]) == {"rankmixer"}
    axes = figure_of(learning_curves(rows)).axes[0]
    [line] = [line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_alpha() is None][1:]
    assert line.get_xdata().tolist() == [1000, 3000]
    assert line.get_ydata() == pytest.approx([-0.5, 3.0])
    names = set(section_figures(section))
    assert {"learning-curve-shortvideo", "ahead-shortvideo"} <= names


def test_runs_without_points_have_neither(tmp_path):
    [section] = load_sections(read_runs(write_out(tmp_path, quick_records())))
    assert learning_curve_tables(section) == []
    assert not [name for name in section_figures(section) if name.startswith(("learning-c", "ah"))]
