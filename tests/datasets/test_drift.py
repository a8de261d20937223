"""Drift against pandas and scipy on small tables."""

from __future__ import annotations

import random

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy.stats import ks_2samp

from datasets import drift as drift_module
from datasets.describe import describe, render
from datasets.drift import find_drift, kolmogorov_smirnov, total_variation
from datasets.leaks import report
from datasets.prepare.pipeline import prepare
from datasets.schema import Schema
from datasets.source import Source

SPLITS = ("train", "valid", "test")
SCHEMA = {
    "name": "moving",
    "features": [
        {"name": "who", "kind": "categorical", "group": "user"},
        {"name": "film", "kind": "categorical", "group": "item"},
        {"name": "kind", "kind": "categorical", "group": "item"},
        {"name": "seen", "kind": "sequence", "group": "sequence", "vocabulary": "film", "max_length": 4},
        {"name": "price", "kind": "numeric", "group": "item"},
        {"name": "point", "kind": "vector", "group": "item", "length": 3},
    ],
    "tasks": [{"name": "click"}],
    "user_id": "who",
    "split": {"by": "column", "column": "part"},
}


def moving_rows(rows: int = 400) -> pd.DataFrame:
    """Later parts have other films, users, prices and clicks; some values are missing."""
    draw, table = random.Random(1), []
    for number in range(rows):
        part = 0 if number < rows // 2 else 1 if number < 3 * rows // 4 else 2
        films = [draw.randrange(5 * part, 12 + 4 * part) for _ in range(6)]
        table.append({
            "part": SPLITS[part],
            "who": draw.randrange(8 + 3 * part),
            "film": films[0] if draw.random() < 0.9 else None,
            "kind": draw.choice("aab" if part == 0 else "abc"),
            "seen": films[1 : 1 + draw.randrange(5)],
            "price": draw.gauss(10 + part, 3),
            "point": [draw.gauss(0, 1), draw.gauss(part, 1), draw.random()],
            "click": int(draw.random() < 0.3 + 0.1 * part),
        })  # fmt: skip
    return pd.DataFrame(table).astype({"film": "Int64"})


def prepared_from(rows: pd.DataFrame, folder, **changes):
    schema = Schema.model_validate(SCHEMA | changes)
    frame = pl.DataFrame(rows.to_dict("list")).lazy()
    return prepare(Source(schema, frame, {"table": "moving"}), folder / "prepared")


@pytest.fixture(scope="module")
def rows():
    return moving_rows()


@pytest.fixture(scope="module")
def prepared(rows, tmp_path_factory):
    return prepared_from(rows, tmp_path_factory.mktemp("drift"))


def shares(values: pd.Series) -> pd.Series:
    return values.astype(object).where(values.notna(), "missing").value_counts(normalize=True)


def by_pandas(rows, column, split):
    """Half the sum of the differences of the shares, in the raw categories."""
    left, right = (shares(rows.loc[rows["part"] == part, column]) for part in ("train", split))
    return left.sub(right, fill_value=0).abs().sum() / 2


def found(drift, feature, split):
    return drift.features.filter(feature=feature)[split].item()


@pytest.mark.parametrize("split", ["valid", "test"])
def test_categories_have_the_total_variation_of_their_raw_values(rows, prepared, split):
    drift = find_drift(prepared)
    for column in ("who", "film", "kind"):
        assert found(drift, column, split) == pytest.approx(by_pandas(rows, column, split))
    elements = rows[["part", "seen"]].explode("seen").dropna()
    assert found(drift, "seen", split) == pytest.approx(by_pandas(elements, "seen", split))
    assert found(drift, "film", "test") > found(drift, "kind", "test") > 0.2


@pytest.mark.parametrize("split", ["valid", "test"])
def test_numbers_have_scipy_s_kolmogorov_smirnov_and_vectors_that_of_their_farthest_component(
    rows, prepared, split
):
    parts = {name: rows[rows["part"] == name] for name in ("train", split)}
    drift = find_drift(prepared)
    expected = ks_2samp(parts["train"]["price"], parts[split]["price"]).statistic
    assert found(drift, "price", split) == pytest.approx(expected, abs=1e-9)
    vectors = [np.array(part["point"].tolist()) for part in parts.values()]
    components = [ks_2samp(vectors[0][:, i], vectors[1][:, i]).statistic for i in range(3)]
    assert found(drift, "point", split) == pytest.approx(max(components), abs=1e-9)
    assert int(np.argmax(components)) == 1


def test_distances_are_zero_of_the_same_and_one_of_what_shares_nothing():
    counts = np.array([3, 0, 5])
    assert total_variation(counts, 7 * counts) == 0
    assert total_variation(counts, np.array([0, 2, 0])) == 1
    assert total_variation(counts, np.zeros(3, int)) is None
    numbers = np.array([1.0, 2.0, 2.0, 5.0])
    assert kolmogorov_smirnov(numbers, np.repeat(numbers, 3)) == 0
    assert kolmogorov_smirnov(numbers, numbers + 10) == 1


@pytest.mark.parametrize("split", ["valid", "test"])
def test_new_users_and_items_are_those_without_a_training_row(rows, prepared, split):
    drift = find_drift(prepared)
    train, part = (rows[rows["part"] == name] for name in ("train", split))
    is_new = ~part["who"].isin(train["who"])
    new = drift.new.filter(split=split).row(0, named=True)
    assert new["new_users"] == pytest.approx(part.loc[is_new, "who"].nunique() / part["who"].nunique())
    assert new["rows_of_new_users"] == pytest.approx(is_new.mean())
    new_films = ~part["film"].isin(train["film"]) & part["film"].notna()
    assert drift.item == "film"
    assert new["rows_with_new_item"] == pytest.approx(new_films.mean())
    assert new["new_users"] > 0 < new["rows_with_new_item"]


def test_the_change_of_each_label_is_a_column(rows, prepared):
    rates = rows.groupby("part")["click"].mean()
    for row in describe(prepared).labels.iter_rows(named=True):
        assert row["change_from_train"] == pytest.approx(rates[row["split"]] - rates["train"])


def test_of_longer_splits_a_sample_is_read_and_said(prepared, monkeypatch):
    monkeypatch.setattr(report, "MOST_ROWS", 100)
    drift = find_drift(prepared)
    assert drift.sampled["train"] == 100
    assert "Distances were measured on 100 rows of train" in render(describe(prepared))


def test_every_component_is_read_of_every_nth_vector(prepared, monkeypatch):
    monkeypatch.setattr(drift_module, "VECTOR_NUMBERS", 150)
    assert found(find_drift(prepared), "point", "test") > 0.3


def test_a_table_without_users_and_items_has_neither_column(rows, tmp_path):
    features = [feature | {"group": "context"} for feature in SCHEMA["features"]]
    drift = find_drift(prepared_from(rows, tmp_path, user_id=None, features=features))
    assert drift.item is None
    assert drift.new.columns == ["split"]


def test_the_text_names_every_feature_and_both_distances(prepared):
    text = render(describe(prepared))
    after = text.partition("Distance of each feature from training")[2]
    assert all(name in after for name in [*prepared.schema.feature_names, "total variation"])
    assert "Without a training row" in after
    assert "The item is film" in after
