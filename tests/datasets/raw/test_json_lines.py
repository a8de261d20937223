"""JSON lines: what a line may be, and that numbers stay as they are written."""

from __future__ import annotations

import json

import pytest

from datasets.raw import blocks
from tests.datasets.raw.conftest import TAGS, columns, read

ROWS = [dict(zip(columns(), row, strict=True)) for row in zip(*columns().values(), strict=True)]


def lines(**changes: list) -> str:
    rows = [row | {name: values[n] for name, values in changes.items()} for n, row in enumerate(ROWS)]
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("size", [1, 7, 1 << 24])
def test_values_are_read_as_written_for_every_block_size(tmp_path, monkeypatch, size):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", size)
    (tmp_path / "t.jsonl").write_text("\ufeff" + lines(item=[7, 7.0, "7", None, "é\u2028", 2**70]), "utf-8")
    assert read(tmp_path)[0]["item"] == ["7", "7", "7", None, "unseen", "unseen"]


def test_a_field_that_a_line_lacks_is_missing_and_lists_may_hold_null(tmp_path):
    text = lines(tags=[["a", None], [], None, ["007", 7, 7.0, True], ["b"], ["a"]])
    (tmp_path / "t.jsonl").write_text(text.replace(', "price": "2"', "") + "\n\n")
    found = read(tmp_path, [TAGS])[0]
    assert found["price"] == [1, 0, 3, 4, 5, 6]
    assert found["tags"] == [["a", None], [], [], ["007", "7", "7", "true"], ["unseen"], ["a"]]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"item": "2"', '"item": "2", "item": "3"', "t.jsonl: line 2: gives 'item' twice; remove one"),
        ('"item": "2"', '"item": {"a": 1}', "line 2: 'item' holds objects or lists of lists; flatten it"),
        ('"item": "2"', '"item": [1]', "line 2: 'item' is a list, unlike in lines before"),
        ('"item": "2"', '"item": "\\ud800"', "line 2: holds half of a pair of surrogates"),
        ('"item": "2"', '"item": NaN', "line 2: column 'item' of feature 'item' holds 'NaN'"),
        ('"item": "2"', '"item": 1.2345678901234568e+16', "whose last digits a spreadsheet or a float may"),
        ('"price": "2"', '"price": 1e400', "line 2: column 'price' holds '1e400', which is no number"),
        ("\n", " ", "t.jsonl: line 1: is no JSON object (Extra data"),
        ("{", "[{", "t.jsonl: line 1: is no JSON object"),
        ('"item"', '"Item"', "t.jsonl: has no column 'item', which feature 'item' needs"),
        ('{"who": "b"', 'null\n{"who": "b"', "t.jsonl: line 2: is no JSON object; write one object a line"),
    ],
)
def test_a_line_that_is_not_one_object_of_plain_values_is_refused(refusal, tmp_path, old, new, words):
    (tmp_path / "t.jsonl").write_text(lines().replace(old, new))
    assert words in refusal()


def test_a_table_without_lines_is_refused_and_an_empty_file_is_noted(refusal, tmp_path):
    (tmp_path / "a.jsonl").write_text("")
    assert "files: no file has any rows (a.jsonl); fill them" in refusal()
    (tmp_path / "b.jsonl").write_text(lines())
    assert read(tmp_path)[1]["files without rows"] == "a.jsonl"
