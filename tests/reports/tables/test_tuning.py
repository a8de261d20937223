"""What the report says of tuning, from made-up results of both ways to decide."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pandas as pd
import pytest

from harness.records.store import read_runs
from reports.cells import MISSING
from reports.figures.drawing.saving import figure_of
from reports.figures.learning_rates import learning_rate_curves
from reports.sections import load_sections
from reports.tables.quality import quality_tables
from reports.tables.tuning import learning_rate_frame, tuning_tables
from tests.reports.made_up import quick_records, write_out
from tests.reports.reading import contents_of, report_text

EARLIER = {
    **{"dataset": "shortvideo", "variant": "", "metric": "auc", "trained": 10, "pruned": 3},
    **{"default": 0.75, "best": 0.76, "training": {"dense_lr": 0.002}, "config": {"num_layers": 2}},
}
RATES = [(1 / 9, 0.70), (1 / 3, 0.74), (1.0, 0.755), (3.0, 0.73), (9.0, None)]
NOW = EARLIER | {
    **{"trained": 30, "pruned": 7, "diverged": 2, "out_of_reach": 4, "tokens": {"tokenizer": "groups"}},
    "lr_curve": [{"factor": f, "dense_lr": 0.002 * f, "score": score} for f, score in RATES],
}
TUNED = [
    EARLIER | {"architecture": "dlrm_mlp"},
    NOW | {"architecture": "dcn", "defaults_kept": True},
    NOW | {"architecture": "autoint", "defaults_kept": False},
    NOW | {"architecture": "rankmixer", "defaults_kept": False, "gain": 0.0012, "standard_error": 0.00051},
]


@pytest.fixture
def out(tmp_path):
    return write_out(tmp_path, quick_records(), tuned=TUNED)


@pytest.fixture
def section(out):
    [section] = load_sections(read_runs(out))
    return section


def test_the_decision_and_what_became_of_the_trials_are_shown_apart(section):
    rows = {row[0]: row[1:] for row in tuning_tables(section)[0].rows}
    assert rows["RankMixer"] == [
        *("30", "7", "2", "4", "0.7500", "0.7600", "+0.12 ± 0.05"),
        "tokenizer groups, num_layers 2, dense_lr 0.002",
    ]
    assert rows["DCN"][6] == "defaults kept"
    assert rows["AutoInt"][6] == "the defaults diverged"
    assert rows["DLRM-MLP"][:4] + rows["DLRM-MLP"][6:7] == ["10", "3", *[MISSING] * 3]


def test_rows_of_an_earlier_version_are_said_to_be(out, section):
    notes = " ".join(tuning_tables(section)[0].notes)
    assert "exceeds its standard error" in notes
    assert "tuned by an earlier version: the best trial was taken" in notes
    assert "tuned by an earlier version" in report_text(out)


def test_learning_rate_curves_are_a_table_a_file_and_a_figure_with_what_diverged_marked(section):
    table = tuning_tables(section)[1]
    assert table.header[2:] == ["/ 9", "/ 3", "x 1", "x 3", "x 9"]
    assert table.rows[0] == ["DCN", "0.00200", "0.7000", "0.7400", "0.7550", "0.7300", "diverged"]
    frame = learning_rate_frame(section)
    assert len(frame) == 15
    pd.testing.assert_frame_equal(frame, table.numbers)
    panels = {
        axes.get_title("left") or axes.get_title(): axes
        for axes in figure_of(learning_rate_curves(frame)).axes
    }
    assert set(panels) == {"DCN", "AutoInt", "RankMixer"}
    lines = [line for line in panels["DCN"].lines if line.get_alpha() != 0]
    [curve] = [line for line in lines if len(line.get_xdata()) == 4]
    np.testing.assert_allclose(curve.get_xdata(), [0.002 / 9, 0.002 / 3, 0.002, 0.006])
    np.testing.assert_allclose(curve.get_ydata(), [0.70, 0.74, 0.755, 0.73])
    [crosses] = [line for line in lines if line.get_marker() == "x"]
    np.testing.assert_allclose(crosses.get_xdata(), [0.018])


@pytest.mark.parametrize("style", ["", "paper", "talk"])
def test_rates_are_plain_numbers_below_the_lowest_panel_of_every_column(section, style):
    frame = learning_rate_frame(section)
    names = [f"model {number}" for number in range(5)]  # two rows of panels, the lower one not full
    one = frame[frame["architecture"] == "dcn"]
    figure = figure_of(
        learning_rate_curves(pd.concat([one.assign(architecture=name) for name in names]), style=style)
    )
    figure.draw_without_rendering()
    lowest = {round(axes.get_position().x0, 2): axes for axes in figure.axes}  # the last one of each column
    for axes in lowest.values():
        shown = [label.get_text() for label in axes.get_xticklabels() if label.get_visible()]
        low, high = axes.get_xlim()
        rates = [float(text) for text in shown if text]
        assert [rate for rate in rates if low <= rate <= high]
        assert all(np.log10(rate).round(9).is_integer() for rate in rates)


def test_panels_keep_their_room_where_one_training_diverged_and_another_did_not(section):
    frame = learning_rate_frame(section)
    frame.loc[frame["architecture"] != "dcn", "score"] = 0.7
    figure = figure_of(learning_rate_curves(frame))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        figure.savefig(io.BytesIO())
    assert [str(warning.message) for warning in said] == []  # matplotlib's, where panels have no room
    rooms = [axes.get_position() for axes in figure.axes]
    assert len(rooms) == 3
    assert all(room.width > 0.2 and room.height > 0.5 for room in rooms), rooms


def test_a_suite_without_tuning_says_so_beside_its_title_and_in_its_tables_captions(tmp_path):
    out = write_out(tmp_path, quick_records())
    [section] = load_sections(read_runs(out))
    assert tuning_tables(section) == []
    assert learning_rate_frame(section).empty
    words = "Untuned on shortvideo: every model was trained with its defaults"
    assert words in report_text(out).split("## In short")[0]
    assert any(text.startswith(words) for text in contents_of(out).descriptions)  # the web page's, too
    captions = [table.caption for table in quality_tables(section, "finish")]
    assert captions[0] == "Quality on shortvideo, task finish, test split, untuned"


def test_a_tuned_suite_does_not_say_so_of_what_was_tuned(out, section):
    assert "untuned" not in report_text(out).lower()
    assert section.suite.untuned("another").startswith("Untuned on another: every")
