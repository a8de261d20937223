"""The page on a dataset: what its figures show and what its tables say."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from files.errors import InputError
from reports.figures.data import MOST_FEATURES, feature_distances, label_rates, shares_of_new
from reports.figures.drawing.saving import figure_of
from reports.page.data import NEW, DataPage, write_data_page

DISTANCES = pd.DataFrame({
    "feature": ["film", "<b>price</b>", "empty"], "distance": ["total variation"] * 3,
    "valid": [0.25, 0.5, np.nan], "test": [0.75, 0.125, np.nan],
})  # fmt: skip
LABELS = pd.DataFrame({
    "split": ["train", "valid", "test"] * 2, "task": ["like"] * 3 + ["click"] * 3,
    "positive_rate": [0.5, 0.25, 0.125, 0.75, np.nan, 0.625],
})  # fmt: skip
NEW_ROWS = pd.DataFrame({
    "split": ["valid", "test"], "new_users": [0.0, 0.5],
    "rows_of_new_users": [0.0, 0.25], "rows_with_new_item": [0.125, 0.375],
})  # fmt: skip


def marks(axes) -> set[tuple[float, float]]:
    """The places of all marks that are seen."""
    points = np.concatenate([marks.get_offsets() for marks in axes.collections if len(marks.get_offsets())])
    return {(round(float(x), 6), round(float(y), 6)) for x, y in points}


def names(axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def test_each_feature_has_a_mark_at_each_distance_and_a_missing_one_has_none():
    axes = feature_distances(DISTANCES)
    assert names(axes) == list(DISTANCES["feature"])
    assert marks(axes) == {(0.25, 0), (0.75, 0), (0.5, 1), (0.125, 1)}
    many = pd.DataFrame({"feature": [f"f{i}" for i in range(60)], "valid": 0.1, "test": 0.2})
    assert names(feature_distances(many)) == [f"f{i}" for i in range(MOST_FEATURES)]


def test_each_label_has_a_mark_in_each_split_that_has_rows():
    axes = label_rates(LABELS)
    assert names(axes) == ["like", "click"]
    assert marks(axes) == {(0.5, 0), (0.25, 0), (0.125, 0), (0.75, 1), (0.625, 1)}


def test_what_training_has_not_seen_has_a_mark_a_split():
    axes = shares_of_new(NEW_ROWS, NEW)
    assert names(axes) == list(NEW.values())
    assert marks(axes) == {(0, 0), (0.5, 0), (0, 1), (0.25, 1), (0.125, 2), (0.375, 2)}


def page_of(tmp_path, **changes) -> str:
    made = {"name": "moving", "description": "a <i>table</i>", "words": ["Leaks: none & nothing."]}
    made |= {"labels": LABELS, "distances": DISTANCES, "new": NEW_ROWS}
    made |= {"tables": {"Distances": DISTANCES, "Rows": pd.DataFrame({"rows_of": ["train"], "n": [1200]})}}
    page = write_data_page(DataPage(**(made | changes)), tmp_path / "deep" / "page.html")
    return page.read_text(encoding="utf-8")


def test_the_page_holds_figures_words_and_tables_and_needs_no_other_file(tmp_path):
    text = page_of(tmp_path)
    assert re.findall(r'<figure id="figure-(\w+)">', text) == ["distances", "labels", "new"]
    assert "Leaks: none &amp; nothing." in text
    assert 'data-order="0.75">0.7500<' in text
    assert 'data-order="1200.0">1,200<' in text
    assert "film, test: 75.0%" in text
    assert not re.search(r'(src|href)="(?!#|data:)', text)


def test_names_cannot_become_markup(tmp_path):
    text = page_of(tmp_path)
    assert "<b>price" not in text
    assert "<i>table" not in text


def test_a_table_without_users_and_items_has_no_figure_of_them(tmp_path):
    assert "figure-new" not in page_of(tmp_path, new=NEW_ROWS[["split"]])


def test_lines_are_chosen_ordered_and_named_as_in_every_figure():
    many = pd.DataFrame({"feature": [f"f{i}" for i in range(60)], "valid": 0.1, "test": 0.2})
    axes = feature_distances(many, order=["f50", "f3"], names={"f3": "price"})
    assert names(axes) == ["f50", "price"]
    assert names(shares_of_new(NEW_ROWS, NEW, order=["rows_with_new_item"])) == ["rows with such an item"]
    figure = figure_of(label_rates(LABELS, style="paper", size=(3, 2)))
    assert tuple(figure.get_size_inches()) == (3, 2)
    with pytest.raises(InputError, match="order: none can't be drawn; there are like, click"):
        label_rates(LABELS, order=["none"])


def test_features_with_names_that_are_cut_alike_keep_a_line_each():
    long = [f"{'a' * 50}{i}" for i in range(2)]
    axes = feature_distances(pd.DataFrame({"feature": long, "valid": [0.1, 0.2], "test": [0.3, 0.4]}))
    assert marks(axes) == {(0.1, 0), (0.3, 0), (0.2, 1), (0.4, 1)}
