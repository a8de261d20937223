"""What every function that draws takes: axes, metrics, order, names, size and style."""

from __future__ import annotations

import importlib
import inspect

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from files.errors import InputError
from harness.records.store import read_runs
from reports.comparisons import load_inferred
from reports.figures.curves import loss_curves
from reports.figures.differences import forest
from reports.figures.drawing.models import looks_for
from reports.figures.drawing.saving import Drawing, figure_of, save_figure, write_drawing
from reports.figures.drawing.style import COLORS, use_style
from reports.frames import loss_frame

DRAWN_IN = {
    "reports.figures.active_ratio": ["quality_against_active_ratio"],
    "reports.figures.cost": ["quality_against_cost", "quality_against_latency"],
    "reports.figures.contrasts": ["contrasts_side_by_side"],
    "reports.figures.curves": [
        *("loss_curves", "validation_curves"),
        *("learning_curves", "learning_curves_by_size"),
    ],
    "reports.figures.data": ["feature_distances", "label_rates", "shares_of_new"],
    "reports.figures.differences": ["forest", "ablation_waterfall", "lift_by_tier"],
    "reports.figures.experts": ["active_over_training", "active_heat_map", "expert_histogram"],
    "reports.figures.loss_front": ["loss_against_compute"],
    "reports.figures.learning_rates": ["learning_rate_curves"],
    "reports.figures.oracle_gap": ["gap_closed"],
    "reports.figures.parts_and_experts": ["parts_and_experts"],
    "reports.figures.scaling": ["quality_against_size", "size_front", "paper_scaling"],
    "reports.speed.figures": ["roofline", "latency_against_batch", "latency_against_load"],
}


@pytest.fixture(scope="module")
def comparisons(quick_out):
    return load_inferred(quick_out, "comparisons")


def titles(panels) -> list[str]:
    return [axes.get_title("left") for axes in panels]


def row_names(axes) -> list[str]:
    return [text.get_text() for text in axes.get_yticklabels()]


@pytest.mark.parametrize("module", DRAWN_IN)
def test_every_function_takes_the_options(module):
    for name in DRAWN_IN[module]:
        parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters
        assert parameters["options"].kind == inspect.Parameter.VAR_KEYWORD, name


def test_one_metric_has_one_panel_a_task(comparisons):
    assert titles(forest(comparisons, metrics=["auc"])) == ["finish: AUC", "skip: AUC"]
    finish = comparisons[comparisons["task"] == "finish"]
    axes = forest(finish, metrics=["uauc"])
    assert isinstance(axes, Axes)
    assert axes.get_title("left") == "finish: UAUC"


def test_a_users_own_axes_are_drawn_into_and_returned(comparisons):
    figure, panels = plt.subplots(1, 2)
    drawn = forest(comparisons, metrics=["auc"], ax=panels)
    assert list(drawn) == list(panels)
    assert figure_of(drawn) is figure
    assert all(len(axes.lines) > 5 for axes in panels)
    assert figure.legends == []
    assert panels[1].get_legend() is not None
    with pytest.raises(InputError, match="ax: 2 axes were given, but the figure has 4 panels"):
        forest(comparisons, ax=panels)
    plt.close(figure)


def test_models_are_in_the_order_and_have_the_names_that_were_asked_for(comparisons):
    names = {"rankmixer": "Ours", "dcn": "Deep & Cross"}
    axes = forest(comparisons, order=["dcn", "autoint", "rankmixer"], names=names)[0]
    assert row_names(axes) == ["Deep & Cross", "AutoInt", "Ours"]


def test_a_new_figure_has_the_size_asked_for(comparisons):
    assert tuple(figure_of(forest(comparisons, size=(5, 4))).get_size_inches()) == (5, 4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"metrics": ["gauc"]}, r"metrics: \['gauc'\] can't be drawn; give a list of auc and uauc"),
        ({"metrics": "auc"}, "give a list of auc and uauc"),
        ({"metrics": []}, "give a list of auc and uauc"),
        ({"order": ["dcn", "mlp"]}, "order: mlp can't be drawn; there are deepfm, dcn"),
        ({"order": []}, "order: no model can't be drawn"),
        ({"names": {"dcn": "X", "deepfm": "X"}}, "names: X would stand for more than one model"),
        ({"style": "poster"}, "style: there is no 'poster'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(comparisons, options, words):
    with pytest.raises(InputError, match=words):
        forest(comparisons, **options)


def test_a_figure_without_a_metric_refuses_one(quick_out):
    losses = loss_frame(read_runs(quick_out).records)
    with pytest.raises(InputError, match="this figure shows no metric"):
        loss_curves(losses, metrics=["auc"])


# --- Styles ---------------------------------------------------------------------------------------------


def test_what_a_user_has_set_goes_before_the_style(comparisons):
    def size(axes) -> float:
        return axes.get_xticklabels()[0].get_fontsize()

    usual = size(forest(comparisons)[2])
    with matplotlib.rc_context({"xtick.labelsize": 17, "axes.spines.top": True}):
        set_by_user = forest(comparisons)[2]  # a spine of matplotlib's own default is not set by a user
        assert size(set_by_user) == 17 != usual
    assert matplotlib.rcParams["font.size"] == matplotlib.rcParamsDefault["font.size"]


def test_a_figure_for_a_paper_is_one_column_wide_and_has_serifs(comparisons):
    figure = figure_of(forest(comparisons, style="paper"))
    assert figure.get_figwidth() == 3.3
    assert figure.axes[0].get_xlabel() == ""
    assert figure.axes[0].title.get_fontname() == "STIXGeneral"
    talk = figure_of(forest(comparisons, style="talk"))
    assert talk.axes[2].get_xticklabels()[0].get_fontsize() > 14


@pytest.mark.parametrize("style", ["paper", "talk"])
def test_words_of_a_figure_for_a_paper_or_a_talk_are_within_it(comparisons, style):
    figure = figure_of(forest(comparisons, style=style))
    figure.draw_without_rendering()
    whole, extent = figure.bbox, figure.get_tightbbox()
    inches = [
        extent.x0,
        extent.y0,
        whole.width / figure.dpi - extent.x1,
        whole.height / figure.dpi - extent.y1,
    ]
    assert min(inches) > -0.02


def test_a_report_for_a_paper_has_its_figures_as_pdf_and_another_has_none(comparisons, tmp_path):
    drawing = Drawing(forest, comparisons, "differences")
    with use_style("paper"):
        write_drawing(drawing, tmp_path / "forest")
    assert (tmp_path / "forest.pdf").read_bytes().startswith(b"%PDF")
    with use_style("paper"):
        save_figure(drawing.draw(), tmp_path / "again")
    assert (tmp_path / "again.pdf").read_bytes() == (tmp_path / "forest.pdf").read_bytes()
    write_drawing(drawing, tmp_path / "forest")
    assert {path.name for path in tmp_path.glob("forest.*")} == {"forest.png", "forest.svg", "forest.csv"}


def test_the_neutral_colors_of_a_figure_are_those_that_pages_exchange(comparisons, tmp_path):
    rows = comparisons.assign(paper_gain=1.0)
    save_figure(figure_of(forest(rows)), tmp_path / "f")
    svg = (tmp_path / "f.svg").read_text()
    found = {word.lower() for word in pd.Series([svg]).str.findall(r"#[0-9a-fA-F]{6}\b")[0]}
    greys = {color for color in found if color[1:3] == color[3:5] == color[5:7]}
    assert greys <= {"#222222", "#ffffff", "#e4e4e4", "#8a8a8a", "#666666", "#000000"}


def test_a_drawing_gives_its_figure():
    frame = pd.DataFrame({"x": [1]})

    def draw(_: pd.DataFrame) -> Axes:
        return Figure().subplots()

    assert isinstance(Drawing(draw, frame, "c").figure, Figure)


def test_a_drawing_takes_further_options_and_keeps_its_own(comparisons):
    named = Drawing(forest, comparisons, "c", options={"metrics": ["auc"], "names": {"dcn": "Own"}})
    figure = named.with_options(order=["dcn", "autoint"], names={"dcn": "Other"}).draw()
    assert row_names(figure.axes[0]) == ["Own", "AutoInt"]
    looks = looks_for([("autoint", ""), ("dcn", "")])  # the first one is black
    axes = named.with_options(looks=looks).draw().axes[0]
    [autoint, dcn] = (
        next(line for line in axes.lines if line.get_label() == name) for name in ("AutoInt", "Own")
    )
    assert (autoint.get_color(), dcn.get_color()) == (COLORS[0], COLORS[1])


def test_a_figure_of_one_row_for_a_paper_has_room_for_its_words(comparisons, recwarn):
    one = comparisons[comparisons["architecture"] == "dcn"]
    figure = figure_of(forest(one, style="paper"))
    with use_style("paper"):
        figure.draw_without_rendering()
    assert not [str(warning.message) for warning in recwarn if "constrained_layout" in str(warning.message)]
    assert min(axes.get_window_extent().height for axes in figure.axes) > 0.25 * figure.dpi
