"""Floats of 16 and 32 bits: what a table holds does not depend on how many bits wrote it."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datasets.raw.floats import widened
from tests.datasets.raw.conftest import TAGS, columns, read

VERSIONS = [4.1, 4.2, None, 4.1, 4.2, 4.1]
TEXTS = ["4.1", "4.2", None, "4.1", "4.2", "4.1"]
PRICES = [-999.9, 0.5, 2.0, -999.9, 1.0, 0.5]


def narrow(values: list, bits: int) -> pa.Array:
    """Floats of these bits, rounded as numpy rounds them."""
    numbers = np.array([0 if value is None else value for value in values], f"float{bits}")
    return pa.array(numbers, mask=np.array([value is None for value in values]))


@pytest.mark.parametrize(("bits", "dtype"), [(16, pl.Float16()), (32, pl.Float32())])
def test_a_narrow_float_becomes_the_number_that_numpy_prints(bits, dtype):
    drawn = np.random.default_rng(0).integers(0, 2**bits, 50_000).astype(f"uint{bits}").view(f"float{bits}")
    found = pl.DataFrame({"x": pl.Series(drawn, dtype=dtype)}).select(
        widened(pl.col("x"), dtype, is_plain=False, missing=None)
    )
    np.testing.assert_array_equal(found["x"].to_numpy(), [float(str(number)) for number in drawn])


@pytest.mark.parametrize("bits", [16, 32])
def test_categories_are_those_of_text_and_float64(tmp_path, bits):
    tags = pa.ListArray.from_arrays([0, 2, 3, 3, 4, 5, 6], narrow([4.1, 4.2, 4.1, 4.2, 4.1, 4.2], bits))
    table = pa.table(columns() | {"item": narrow(VERSIONS, bits), "tags": tags})
    pq.write_table(table, tmp_path / "t.parquet")
    found = read(tmp_path, [TAGS])[0]
    assert found["item"] == TEXTS
    assert found["tags"] == [["4.1", "4.2"], ["4.1"], [], ["4.2"], ["4.1"], ["4.2"]]


@pytest.mark.parametrize("other", [pa.float64(), pa.int64()])
def test_one_category_in_files_of_two_types_is_one(tmp_path, other):
    versions = [4.1, 5.0, 4.1] if other == pa.float64() else [5, 5, 5]
    for name, rows, items in (
        ("a", slice(0, 3), narrow([4.1, 5.0, None], 32)),
        ("b", slice(3, 6), pa.array(versions, other)),
    ):
        part = {key: values[rows] for key, values in columns().items()}
        pq.write_table(pa.table(part | {"item": items}), tmp_path / f"{name}.parquet")
    expected = ["4.1", "5", None, "4.1", "5", "4.1"] if other == pa.float64() else ["4.1", "5", None, *"555"]
    assert read(tmp_path)[0]["item"] == expected


@pytest.mark.parametrize("bits", [16, 32])
def test_an_expression_compares_the_number_that_was_written(tmp_path, bits):
    ratios = narrow([0.9, 0.8, 0.95, 0.9, 0.9, 0.2], bits)
    pq.write_table(pa.table(columns() | {"ratio": ratios}), tmp_path / "t.parquet")
    found = read(tmp_path, tasks=[{"name": "done", "expression": "ratio >= 0.9"}])[0]
    assert found["label_done"] == [1, 0, 1, 1, 1, 0]


@pytest.mark.parametrize("word", ["-999.9", "-999.9000244140625"])
def test_a_missing_word_is_found_short_and_in_full(tmp_path, word):
    vectors = pa.FixedSizeListArray.from_arrays(narrow(PRICES, 32), 1)
    table = pa.table(columns() | {"price": narrow(PRICES, 32), "v": vectors})
    pq.write_table(table, tmp_path / "t.parquet")
    vector = {"name": "v", "kind": "vector", "group": "item", "length": 1, "normalization": "none"}
    found = read(tmp_path, [vector], missing=[word])[0]
    assert found["price"] == [0, 0.5, 2.0, 0, 1.0, 0.5]
    assert found["v"] == [[0], [0.5], [2.0], [0], [1.0], [0.5]]


def test_a_missing_word_that_no_float32_is_leaves_its_neighbour(tmp_path):
    prices = narrow([16_777_216.0, 2, 3, 4, 5, 6], 32)
    pq.write_table(pa.table(columns() | {"price": prices}), tmp_path / "t.parquet")
    assert read(tmp_path, missing=["16777217"])[0]["price"][0] == 16_777_216.0
