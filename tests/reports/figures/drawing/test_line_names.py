"""Names at the ends of lines: apart, in order, near where they belong, and never over each other."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from reports.figures.curves import loss_curves, validation_curves
from reports.figures.drawing.line_names import apart, names_fit
from reports.figures.drawing.saving import figure_of


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=5), st.floats(0.01, 0.2))
def test_names_move_as_little_as_a_quadratic_programme_lets_them(wanted, step):
    wanted = np.array(wanted)
    heights = apart(wanted, step)
    order = np.argsort(wanted, kind="stable")
    gaps = np.diff(heights[order])
    assert (gaps >= step - 1e-9).all()
    assert heights.min() >= -1e-9
    assert heights.max() <= 1 + 1e-9
    programme = minimize(
        lambda moved: ((moved - wanted[order]) ** 2).sum(),
        np.linspace(0, 1, len(wanted)),
        bounds=[(0, 1)] * len(wanted),
        constraints=[{"type": "ineq", "fun": lambda moved: np.diff(moved) - step}] if len(wanted) > 1 else [],
        method="SLSQP",
    )
    assert ((heights - wanted) ** 2).sum() == pytest.approx(programme.fun, abs=1e-4)


def test_names_that_cannot_fit_still_stand_apart_from_the_bottom_up():
    assert apart(np.full(8, 0.9), 0.25) == pytest.approx(0.25 * np.arange(8))


def losses(names, end=0.5) -> pd.DataFrame:
    """Curves of two points that all end within a thousandth of each other."""
    return pd.DataFrame(
        [
            {"architecture": name, "variant": "", "seed": 0, "samples": samples, "value": value}
            for number, name in enumerate(names)
            for samples, value in ((1000, 0.7), (9000, end + 1e-4 * number))
        ]
    )


def written(figure, names) -> dict:
    """The box in pixels of each name that stands in the figure."""
    figure.draw_without_rendering()
    texts = [text for axes in figure.axes for text in axes.texts if text.get_text() in names]
    return {text.get_text(): text.get_window_extent() for text in texts}


@pytest.mark.parametrize("number", [2, 6, 19])
def test_every_curve_is_named_once_in_the_figure_and_no_name_is_over_another(number):
    names = [f"Model{i}" for i in range(number)]
    figure = figure_of(loss_curves(losses([f"my.module:{name}" for name in names])))
    boxes = written(figure, names)
    assert sorted(boxes) == sorted(names)
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes.values(), 2))
    whole = figure.bbox
    assert all(whole.x0 <= box.x0 and box.x1 <= whole.x1 for box in boxes.values())
    by_height = sorted(boxes, key=lambda name: boxes[name].y0)
    assert by_height == names, "names stand in the order of their curves' ends"
    assert figure.legends == []


def test_a_thread_leads_from_each_name_to_the_end_of_its_curve():
    names = ["dlrm_mlp", "dcnv2", "rankmixer"]
    [axes] = figure_of(loss_curves(losses(names))).axes
    threads = sorted(text.xy for text in axes.texts if text.arrow_patch is not None)
    assert threads == [(9000.0, pytest.approx(0.5 + 1e-4 * number)) for number in range(3)]


def test_too_many_names_for_a_panel_stand_in_a_legend():
    assert not names_fit(2.0, 20)
    rows = losses([f"my.module:Model{number}" for number in range(40)])
    figure = figure_of(
        validation_curves(
            pd.concat([rows.assign(task=task, metric="auc") for task in ("finish", "skip", "like")])
        )
    )
    assert len(figure.legends) == (0 if names_fit(figure.get_size_inches()[1] / 3, 40) else 1)
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert named[0] == "Model0"  # the base
    assert named[1:] == [*(f"Model{number}" for number in range(35, 40)), "the other 34"]  # what ends best
