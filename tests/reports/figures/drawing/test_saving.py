"""The files of a figure, and what its SVG says where a reader points at a mark."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from reports.comparisons import load_inferred
from reports.figures.differences import forest
from reports.figures.drawing.saving import figure_of, hover, save_figure


def test_what_a_mark_says_is_its_title_in_the_svg_and_stays_text(tmp_path):
    figure = Figure()
    axes = figure.subplots()
    texts = ["a <b> & \"c\" 'd'", "only 'one'", "two\nlines"]
    for x, text in enumerate(texts):
        (point,) = axes.plot([x], [x], "o")
        hover(point, text)
    save_figure(figure, tmp_path / "figure")
    tree = ElementTree.parse(tmp_path / "figure.svg")
    svg = "{http://www.w3.org/2000/svg}"
    titles = [
        group.findtext(f"{svg}title") for group in tree.iter(f"{svg}g") if group.get("class") == "value"
    ]
    assert titles == [" ".join(text.split()) for text in texts]


def test_the_same_rows_give_the_same_files_and_leave_nothing_in_pyplot(quick_out, tmp_path):
    comparisons = load_inferred(quick_out, "comparisons")
    open_before = plt.get_fignums()
    for name in ("one", "two"):
        save_figure(figure_of(forest(comparisons)), tmp_path / name)
    for kind in ("png", "svg"):
        assert (tmp_path / f"one.{kind}").read_bytes() == (tmp_path / f"two.{kind}").read_bytes()
    assert plt.get_fignums() == open_before
