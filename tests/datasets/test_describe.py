"""Descriptions against counts by hand."""

from __future__ import annotations

import pytest

from datasets.describe import describe, render
from tests.datasets.conftest import (
    example_rows,
    expected_indices,
    expected_splits,
    expected_vocabularies,
    prepare_example,
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare_example(tmp_path_factory.mktemp("describe"), example_rows(200, seed=2))


def test_labels_and_users_are_counted_by_split_and_task(prepared):
    found = {(row["split"], row["task"]): row for row in describe(prepared).labels.iter_rows(named=True)}
    for split, rows in expected_splits(example_rows(200, seed=2)).items():
        defined = [row for row in rows if row["click"] is not None]
        users = {row["user"] for row in defined}
        both = [user for user in users if len({row["click"] for row in defined if row["user"] == user}) == 2]
        row = found[split, "click"]
        assert row["rows"] == len(defined)
        assert row["undefined_rows"] == len(rows) - len(defined)
        assert row["positive_rate"] == pytest.approx(sum(row["click"] for row in defined) / len(defined))
        assert (row["users"], row["users_with_both_classes"]) == (len(users), len(both))


def test_splits_count_rows_and_users(prepared):
    expected = expected_splits(example_rows(200, seed=2))
    assert describe(prepared).splits.rows() == [
        (split, len(rows), len({row["user"] for row in rows})) for split, rows in expected.items()
    ]


def test_fields_show_the_shares_of_missing_rows_and_unseen_elements(prepared):
    splits = expected_splits(example_rows(200, seed=2))
    vocabularies = expected_vocabularies(splits["train"])
    found = {row["name"]: row for row in describe(prepared).fields.iter_rows(named=True)}
    assert list(found) == prepared.schema.feature_names
    indices = [expected_indices("history", row, vocabularies) for row in splits["test"]]
    history = found["history"]
    assert history["categories"] == len(vocabularies["item"])
    assert history["missing_test"] == pytest.approx(indices.count([]) / len(indices))
    elements = [index for row in indices for index in row]
    assert history["unseen_test"] == pytest.approx(elements.count(1) / len(elements))
    assert history["unseen_test"] > 0 == history["unseen_train"]
    assert found["price"]["categories"] is None
    assert found["price"]["missing_train"] > 0


def test_the_text_shows_every_field_task_and_note(prepared):
    text = render(describe(prepared))
    for word in (
        *prepared.schema.feature_names,
        *prepared.schema.task_names,
        "train",
        "valid",
        "test",
        "quirk",
    ):
        assert word in text
    assert max(map(len, text.splitlines())) <= 140
