"""The bars of the ablation figure and the Pareto front, read back from what is drawn."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.records.store import read_runs
from reports.ablation_figures import ablation_waterfall
from reports.cost_figures import pareto_front, quality_against_cost
from reports.expert_figures import _even_blues, readable_on
from reports.paper import load_paper
from reports.results import results_frame
from reports.section_figures import section_figures, takes_one_model_apart
from reports.style import canvas, hover, save_figure
from tests.reports.made_up import quick_records, write_out
from tests.reports.routed import write_figure3
from tests.reports.test_ablations import TABLE2, ablation, compared_row, section_of

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
    figure = ablation_waterfall(pd.DataFrame(rows_of_table2()))
    axes = figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([0.2, -0.05, -0.3, -0.5])
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names == ["rankmixer, whole: 0.7312", "no-norm", "no-mixing", "shared-ffn", "no-residual"]
    hollow = [bar.get_facecolor() == (1, 1, 1, 1) for bar in axes.patches]
    assert hollow == [False, True, False, False]
    ends = [line.get_xdata() for line in axes.lines if line.get_marker() == "|"]
    np.testing.assert_allclose(ends[0], [0.1, 0.3])


def test_the_figure_is_of_suites_that_take_one_model_apart(tmp_path):
    apart = ablation(tmp_path / "apart", TABLE2, rows_of_table2())
    assert takes_one_model_apart(apart)
    assert "ablations-shortvideo" in section_figures(apart, load_paper())
    others = write_out(tmp_path / "others", quick_records())
    assert not takes_one_model_apart(section_of(others))
    ratios = write_figure3(tmp_path / "ratios", seeds=1, tokens=2, ratios=("1", "1/2"))
    assert not takes_one_model_apart(section_of(ratios))


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


def test_the_numbers_of_a_heat_map_can_be_read_on_every_shade():
    def luminance(rgb):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    blues = _even_blues()
    for share in np.linspace(0, 1, 101):
        shade, ink = luminance(blues(share)[:3]), {"black": 0.0, "white": 1.0}[readable_on(blues(share))]
        assert (max(shade, ink) + 0.05) / (min(shade, ink) + 0.05) >= 4.5


def test_what_a_mark_says_is_its_title_in_the_svg_and_stays_text(tmp_path):
    figure, [[axes]] = canvas(1, 1, 3, 2)
    said = ["a <b> & \"c\" 'd'", "only 'one'", "two\nlines"]
    for x, text in enumerate(said):
        (point,) = axes.plot([x], [x], "o")
        hover(point, text)
    save_figure(figure, tmp_path / "figure")
    tree = ElementTree.parse(tmp_path / "figure.svg")
    svg = "{http://www.w3.org/2000/svg}"
    titles = [
        group.findtext(f"{svg}title") for group in tree.iter(f"{svg}g") if group.get("class") == "value"
    ]
    assert titles == [" ".join(text.split()) for text in said]
