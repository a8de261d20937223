"""Colours and markers follow from the order of the models, and are the same in every figure of a report."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from matplotlib.colors import to_hex

from harness.records.store import read_runs
from reports.contents import gather
from reports.figures.drawing.models import contestants, looks_for, select_models, with_labels
from reports.figures.drawing.style import COLORS
from tests.reports.figures.read_back import lines_by_label, lines_of
from tests.reports.made_up import ARCHITECTURES

NAMES = st.lists(st.text("abcdef-/1248M", max_size=8), min_size=1, max_size=12, unique=True)


@given(NAMES)
@example(["1M-1", ""])
def test_no_two_models_of_one_table_look_alike(variants):
    models = [("rankmixer", variant) for variant in variants]
    looks = looks_for(models)
    assert len({(look.color, look.marker) for look in (looks[model] for model in models)}) == len(models)


def test_as_many_models_as_there_are_architectures_share_no_color_with_the_same_line():
    models = [(f"m{number}", "") for number in range(19)]
    looks = [looks_for(models)[model] for model in models]
    assert len({(look.color, str(look.line)) for look in looks}) == 19


def test_as_many_models_as_there_are_colors_differ_in_color():
    models = [(f"my.module:Model{number}", "") for number in range(len(COLORS))]
    assert len({looks_for(models)[model].color for model in models}) == len(models)


def test_looks_that_are_known_are_kept_and_others_are_added():
    first = looks_for([("dcn", ""), ("rankmixer", "")])
    both = looks_for([("autoint", ""), ("rankmixer", "")], first)
    assert both["rankmixer", ""] == first["rankmixer", ""]
    assert both["autoint", ""] not in first.values()


def test_the_ratios_of_a_series_share_its_color_and_differ_in_marker():
    ratios = [("rankmixer", f"dtsi-relu-{ratio}") for ratio in ("1", "1/2", "1/4", "1/8")]
    looks = looks_for([("rankmixer", ""), *ratios])
    assert {looks[model].color for model in ratios} == {looks["rankmixer", "dtsi-relu"].color}
    assert len({looks[model].marker for model in ratios}) == 4
    assert looks["rankmixer", ""].color != looks[ratios[0]].color


def test_a_model_has_the_same_color_in_every_figure_of_a_report(quick_out):
    figures = {
        name.split("-")[0]: drawing for name, drawing in gather(read_runs(quick_out)).parts[0].figures.items()
    }
    models = pd.DataFrame([(name, "") for name in ARCHITECTURES], columns=["architecture", "variant"])
    looks = looks_for(contestants(models))
    color = to_hex(looks["rankmixer", ""].color)
    assert set(figures) == {"differences", "loss", "validation"}
    assert to_hex(lines_by_label(figures["differences"].figure.axes[0])["RankMixer"].get_color()) == color
    for name in ("loss", "validation"):
        assert ("rankmixer", "") in lines_of(figures[name].figure.axes[0], models, looks)


def test_an_absent_variant_is_the_plain_architecture():
    frame = pd.DataFrame({"architecture": ["dcn", "dcn"], "variant": [None, "deep"], "value": [1, 2]})
    assert contestants(frame) == [("dcn", ""), ("dcn", "deep")]
    assert select_models(frame, [("dcn", "")])["value"].tolist() == [1]
    assert with_labels(frame, looks_for(contestants(frame)))["model"].tolist() == ["DCN", "DCN (deep)"]


@pytest.mark.parametrize("number", [1, 19])
def test_a_look_is_ready_for_any_number_of_architectures(number):
    models = [(f"m{i}", "") for i in range(number)]
    assert list(looks_for(models)) == models
