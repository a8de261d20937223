"""Text that only the whole table explains: numbers, ids, words for missing, and how lists are written."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.raw import facts
from datasets.raw.text import WORDS_FOR_MISSING
from datasets.raw.zeros import has_leading_zero
from tests.datasets.raw.conftest import TAGS, columns, read, text


def quoted(cells: list[str]) -> list[str]:
    return ['"' + cell.replace('"', '""') + '"' for cell in cells]


LISTS = [["a", "b"], ["b"], [], [], ["a", None], ["b", "a"]]


@pytest.mark.parametrize(
    ("cells", "separator", "expected"),
    [
        (['["a", "b"]', '["b"]', "[]", "", '["a", null]', '["b", "a"]'], None, LISTS),
        (["['a', 'b']", "['b']", "[]", "", "['a', None]", "['b', 'a']"], None, LISTS),
        (["('a', 'b')", "('b',)", "()", "", "('a', None)", "('b', 'a')"], None, LISTS),
        (["[a, b]", "[b]", "[]", "", "[a, null]", "[b, a]"], None, LISTS),
        (["{a,b}", "{b}", "{}", "", "{a,NULL}", "{b,a}"], None, LISTS),
        (["[a|b]", "[b]", "[]", "", "[a|]", "[b|a]"], "|", LISTS),
        (["['a' 'b']", "['b']", "[]", "", "['a']", "['b'\n 'a']"], None, [*LISTS[:4], ["a"], ["b", "a"]]),
        (
            ["{'b', 'a'}", "{'a'}", "", "", "{'a', 'b'}", "{'a'}"],
            None,
            [["b", "a"], ["a"], [], [], ["a", "b"], ["a"]],
        ),
        (["[1 2]", "[ 2]", "[]", "", "[1  2]", "[2.]"], None, [[1, 2], [2], [], [], [1, 2], [2]]),
        (["[1 nan]", "[ 2]", "[]", "", "[None\n 2]", "[2.]"], None, [[1, None], [2], [], [], [None, 2], [2]]),
        (
            ["[ True False]", "[]", "", "", "[True]", "[nan ]"],
            None,
            [["True", "False"], [], [], [], ["True"], [None]],
        ),
        (["[a  b]", "[ b ]", "[]", "", "[ a]", "[b\n a]"], " ", [*LISTS[:4], ["a"], ["b", "a"]]),
        (
            ["[New York]", "[Rome]", "[]", "", "[Rome ]", "[New York]"],
            ",",
            [["New York"], ["Rome"], [], [], ["Rome"], ["New York"]],
        ),
        (["[1, 2]", "[2]", "[]", "", "[1, nan]", "[2, 1,]"], None, [[1, 2], [2], [], [], [1, None], [2, 1]]),
        (["(1, 2)", "(2,)", "()", "", "(1, None)", "(2, 1)"], "|", [[1, 2], [2], [], [], [1, None], [2, 1]]),
        (
            ["007|7", "7.0", "", "", "1e5|7", "007"],
            "|",
            [["007", "7"], ["7"], [], [], ["unseen", "7"], ["007"]],
        ),
        (["a|b|", "b|", "", "", "a|", "b|a|"], "|", [["a", "b"], ["b"], [], [], ["a"], ["b", "a"]]),
        (["|a|b|", "|b|", "", "", "|a|", "|b|a|"], "|", [["a", "b"], ["b"], [], [], ["a"], ["b", "a"]]),
        (["a||b", "b", "", "", "|a", "b|a"], "|", [["a", None, "b"], ["b"], [], [], [None, "a"], ["b", "a"]]),
        (["a::b", "b", "", "", "a", "b::a"], "::", [["a", "b"], ["b"], [], [], ["a"], ["b", "a"]]),
        (["a.b", "b", "", "", "a", "b.a"], ".", [["a", "b"], ["b"], [], [], ["a"], ["b", "a"]]),
    ],
)
def test_lists_are_cut_as_they_are_written(tmp_path, cells, separator, expected):
    (tmp_path / "t.csv").write_text(text(columns(tags=quoted(cells))))
    feature = TAGS | ({"separator": separator} if separator else {})
    found, notes = read(tmp_path, [feature])
    assert found["tags"] == expected
    filled = [cell for cell in expected if cell]
    longer = sum(len(cell) > 1 for cell in filled) / len(filled)
    assert notes["share of tags with more than one element"] == pytest.approx(longer)


CUT = {"name": "tags", "group": "item", "max_length": 2}


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("kind", "note"),
    [
        ("sequence", "2 of 4; only the latest 2 are kept (max_length)"),
        ("multi_hot", "1 of 4; only the first 2 are kept (max_length)"),
    ],
)
def test_lists_that_are_cut_are_counted(tmp_path, suffix, kind, note):
    table = columns(tags=[["a", "b", "c"], ["a"], None, [], ["a", None, "b"], ["b", "a"]])
    if suffix == ".csv":
        cells = ["|".join(one or "" for one in cell or []) for cell in table["tags"]]
        (tmp_path / "t.csv").write_text(text(table | {"tags": cells}))
    elif suffix == ".jsonl":
        pl.DataFrame(table).write_ndjson(tmp_path / "t.jsonl")
    else:
        pl.DataFrame(table).write_parquet(tmp_path / "t.parquet")
    feature = CUT | {"kind": kind} | ({"separator": "|"} if suffix == ".csv" else {})
    notes = read(tmp_path, [feature])[1]
    assert notes["lists of tags with over 2 elements"] == note


def test_lists_that_are_not_cut_are_not_noted(tmp_path):
    table = columns(tags=[["a", "b"], ["a"], None, [], ["a", None], ["b", "a"]])
    pl.DataFrame(table).write_parquet(tmp_path / "t.parquet")
    assert list(read(tmp_path, [CUT | {"kind": "sequence"}])[1]) == ["files"]


@pytest.mark.parametrize(
    ("cell", "separator", "words"),
    [
        (
            "a,b",
            "|",
            "no cell of column 'tags' of feature 'tags' holds the separator '|' (this one holds 'a,b')",
        ),
        ("a,b", None, "holds 'a,b', which is no list in brackets; add 'separator:"),
        ("[1 2 ... 9]", None, "a list that was cut short when it was printed"),
        ("[[1], [2]]", None, "with brackets in brackets; write plain values"),
        ("[np.int64(1)]", None, "with brackets in brackets"),
        ('["a", ["b"]]', None, "which is no JSON or Python list; mend it"),
        ('{"a": 1}', None, "which is no JSON or Python list"),
        ("[b'a']", None, "which is no JSON or Python list"),
        ("['a' 'b', 'c']", None, "which is no JSON or Python list"),
        ("[a b]", None, "holds '[a b]', in brackets without a comma; say 'separator: \" \"' if spaces"),
        ("[1 b]", "|", "in brackets without a comma"),
        ("[a|b, c]", "|", "remove the separator '|' from the schema if a comma is meant"),
        ("a|NA", "|", "holds 'NA' (6 such rows); add missing: ['NA'] to the schema"),
        ('["NULL"]', None, "holds 'NULL' (6 such rows); add missing: ['NULL'] to the schema"),
    ],
)
def test_lists_that_could_be_cut_in_two_ways_are_refused(refusal, tmp_path, cell, separator, words):
    (tmp_path / "t.csv").write_text(text(columns(tags=quoted([cell] * 6))))
    assert words in refusal([TAGS | ({"separator": separator} if separator else {})])


def test_a_vector_in_brackets_without_commas_has_numbers_alone(refusal, tmp_path):
    vector = {"name": "tags", "kind": "vector", "group": "item", "length": 2}
    (tmp_path / "t.csv").write_text(text(columns(tags=quoted(["[1. 2.]"] * 5 + ["[x 2.]"]))))
    assert "line 7: column 'tags' holds '[x 2.]', which is no list of numbers" in refusal([vector])
    (tmp_path / "t.csv").write_text(text(columns(tags=quoted(["[1. 2.]"] * 5 + ["[nan 2.]"]))))
    assert "column 'tags' lacks a number or holds one too large in row 5" in refusal([vector])


def test_a_word_among_numbers_that_only_spaces_separate_is_refused(refusal, tmp_path):
    cells = ["[12 7 9]", "[7 9]", "[]", "[12 x 7]", "[9]", "[x]"]
    (tmp_path / "t.csv").write_text(text(columns(tags=quoted(cells))))
    assert "t.csv: line 5: column 'tags' of feature 'tags' holds '[12 x 7]', in brackets" in refusal([TAGS])
    (tmp_path / "t.csv").write_text(text(columns(tags=quoted([*cells[:3], "[12 7]", "[9]", "[x]"]))))
    assert "t.csv: line 7: column 'tags' of feature 'tags' holds '[x]', in brackets" in refusal([TAGS])


def test_lists_in_brackets_mixed_with_others_are_refused(refusal, tmp_path):
    (tmp_path / "t.csv").write_text(text(columns(tags=quoted(["[1, 2]", "3", "[4]", "[5]", "[6]", "[7]"]))))
    assert "t.csv: line 3: column 'tags' of feature 'tags' holds '3', but other cells hold" in refusal([TAGS])


@pytest.mark.parametrize(
    "value",
    [
        "1,000",
        "1 000",
        "5%",
        "$5",
        "0x10",
        "1_000",
        "yes",
        "(5)",
        "\u22125",
        "\uff11\uff12",
        "\u0661",
        "1e400",
    ],
)
def test_a_number_is_written_in_ascii_digits_and_fits(refusal, tmp_path, value):
    (tmp_path / "t.csv").write_text(
        text(columns(price=["1", f'"{value}"', "3", "4", "5", "6"])), encoding="utf-8"
    )
    assert f"t.csv: line 3: column 'price' holds {value!r}, which is no number" in refusal()


def test_numbers_and_labels_are_read_in_all_their_forms(tmp_path):
    price = ["+5", "5.", " .5", "1E+2", "TRUE", "-2e-1"]
    (tmp_path / "t.csv").write_text(
        text(columns(price=price, click=["1.0", "0.0", "TRUE", "False", "1e0", "-0"]))
    )
    found = read(tmp_path)[0]
    assert found["price"] == pytest.approx([5, 5, 0.5, 100, 1, -0.2])
    assert found["label_click"] == [1, 0, 1, 0, 1, 0]


@pytest.mark.parametrize(
    "value",
    [
        *("1.23E+15", "1.2345678901234568e+16", "9007199254740992.0", "1e+16"),
        *("1.23456789012345677E18", "1.2345678E7", "-1.2e19"),  # as Java, Spark and MySQL print floats
    ],
)
@pytest.mark.parametrize("column", ["item", "who"])
def test_ids_that_were_rounded_are_refused(refusal, tmp_path, column, value):
    (tmp_path / "t.csv").write_text(text(columns(**{column: ["1", value, "3", "4", "5", "6"]})))
    assert f"t.csv: line 3: column {column!r} of" in (message := refusal())
    assert f"holds {value!r} (1 such rows), an id whose last digits a spreadsheet or a float may" in message


@pytest.mark.parametrize(
    "value",
    [
        "1e5",
        "12E34",
        "1.5e-3",
        "1.2E3E4",
        "v1.2e5",
        "9007199254740991.0",
        "12345678901234567890.0000",
        "1.5e+3x",
    ],
)
def test_ids_that_only_look_rounded_are_read(tmp_path, value):
    (tmp_path / "t.csv").write_text(text(columns(item=[value, value, "x", "x", "x", "x"])))
    assert read(tmp_path)[0]["item"][0] == value.partition(".0")[0]


def test_a_missing_word_that_is_a_number_applies_to_each_way_of_writing_it(tmp_path):
    item, price = ["-1", "-1.0", "-01", "5", "5", "5"], ["-1.00", "-1", "3", "4", "5", "6"]
    (tmp_path / "t.csv").write_text(text(columns(item=item, price=price)))
    found = read(tmp_path, missing=["-1"])[0]
    assert found["item"] == [None, None, "-01", "5", "5", "5"]
    assert found["price"] == [0, 0, 3, 4, 5, 6]


@pytest.mark.parametrize(("missing", "word", "rows"), [(["-1"], "NaN", 2), (["-1", "NaN"], "NULL", 1)])
def test_a_word_for_missing_is_looked_for_beside_those_that_are_listed(
    refusal, tmp_path, missing, word, rows
):
    (tmp_path / "t.csv").write_text(text(columns(item=["1", "NaN", "3", "NULL", "-1", "6"])))
    assert (
        f"column 'item' of feature 'item' holds '{word}' ({rows} such rows); add '{word}' to the schema's "
        f"missing if that stands for a missing value, or not_missing: ['{word}'] if it is a category"
    ) in refusal(missing=missing)


def test_a_word_for_missing_may_be_a_category_beside_others_that_are_missing(tmp_path):
    (tmp_path / "t.csv").write_text(text(columns(item=["NA", "NULL", "3", "NA", "-1", "6"])))
    found = read(tmp_path, missing=["NULL", "-1"], not_missing=["NA"])[0]
    assert found["item"][:5] == ["NA", None, "3", "NA", None]


def test_a_word_for_missing_in_the_text_of_a_computed_label_is_refused(refusal, tmp_path):
    (tmp_path / "t.csv").write_text(text(columns() | {"seen_at": ["5", "NULL", "7", "NULL", "", "5"]}))
    tasks = [{"name": "click", "expression": "not missing(seen_at)"}]
    assert "column 'seen_at' of task 'click' holds 'NULL'" in refusal(missing=["-1"], tasks=tasks)


@pytest.mark.parametrize("words", [{}, {"missing": ["-1"]}, {"missing": []}, {"not_missing": ["NULL"]}])
def test_a_word_for_missing_is_never_a_user(refusal, tmp_path, words):
    (tmp_path / "t.csv").write_text(text(columns(who=["a", "NULL", "a", "b", "a", "NULL"])))
    assert (
        "t.csv: line 3: column 'who' of user_id holds 'NULL' (2 such rows); if that stands for a missing "
        "user, drop the rows or give each its user; else write it otherwise"
    ) in refusal(**words)


@pytest.mark.parametrize(
    ("value", "what"), [("a\u200b", "invisible"), ("\x85a", "invisible"), ("e\u0301", "decomposed")]
)
def test_invisible_differences_in_categories_are_noted(tmp_path, value, what):
    (tmp_path / "t.csv").write_text(text(columns(item=[f"x{value}x", *"abcde"])), encoding="utf-8")
    found, notes = read(tmp_path)
    assert found["item"][0] == f"x{value}x"
    assert notes[f"{what} characters in item"].startswith("1 rows")


def test_scripts_with_combining_letters_are_not_noted(tmp_path):
    (tmp_path / "t.csv").write_text(text(columns(item=["हिन्दी", "ไทย", *"abcd"])), encoding="utf-8")
    assert list(read(tmp_path)[1]) == ["files"]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1", "2", "3", "10", "2", "3"], [1, 2, 3, 10, 2, 3]),
        (["1", "2", "3.0", "-0", "2", "3"], [1, 2, 3, 0, 2, 3]),
        (["1", "2", "3", "x", "2", "3"], ["1", "2", "3", "x", "2", "3"]),
        (["1", "2", "3", "04", "2", "3"], ["1", "2", "3", "04", "2", "3"]),
        (["1", "2", "+3", "4", "2", "4"], ["1", "2", "+3", "4", "2", "4"]),
        (["x", "2", "3", "4", "2", "3"], ["x", "2", "3", "4", "2", "3"]),
    ],
)
def test_a_vocabulary_is_of_integers_only_if_all_rows_are_and_not_the_first_alone(
    tmp_path, monkeypatch, cells, expected
):
    monkeypatch.setattr(facts, "FIRST_ROWS", 2)
    (tmp_path / "t.csv").write_text(text(columns(item=cells)))
    assert read(tmp_path)[0]["item"] == expected


HISTORY = {"name": "tags", "kind": "sequence", "group": "item", "vocabulary": "item", "separator": "|"}
TWO = "which are two"


@pytest.mark.parametrize(
    ("changes", "notes"),
    [
        (
            {"item": ["007", "12", "x", "7", "012", "7.0"]},
            {"item": f"2 ids are there with and without them, as 012 and 12, {TWO} categories"},
        ),
        (
            {"item": ["007.0", "7", "8", "9", "10", "11"]},
            {"item": f"1 ids are there with and without them, as 007 and 7, {TWO} categories"},
        ),
        (
            {"item": ["-07", "0", "00", "-7", "x", "x"]},
            {"item": f"2 ids are there with and without them, as -07 and -7, {TWO} categories"},
        ),
        (
            {"who": ["01", "1", "01", "1", "01", "1"]},
            {"who": f"1 ids are there with and without them, as 01 and 1, {TWO} users"},
        ),
        (
            {"tags": ["a|01", "1", "2", "3", "4", "1"]},
            {"tags": f"1 ids are there with and without them, as 01 and 1, {TWO} categories"},
        ),
        ({"item": ["007", "012", "100", "999", "001", "000"]}, {}),
        ({"item": ["007", "7x", "07x", "x7", "0.7", "70"]}, {}),
        (
            {"item": ["01", "1", "2", "3", "01", "1"], "tags": ["1|2", "3", "1", "2", "3", "1"]},
            {"item": f"1 ids are there with and without them, as 01 and 1, {TWO} categories"},
        ),
    ],
)
def test_ids_with_and_without_leading_zeros_in_one_column_are_noted(tmp_path, changes, notes):
    """In several files, too, as one that a spreadsheet has saved beside others."""
    table = columns(**changes)
    for name, rows in (("a.csv", slice(0, 3)), ("b.csv", slice(3, 6))):
        (tmp_path / name).write_text(text({column: cells[rows] for column, cells in table.items()}))
    found = read(tmp_path, [HISTORY] if "tags" in changes else [], files=["?.csv"])[1]
    assert {key: note for key, note in found.items() if "zeros" in key} == {
        f"leading zeros in {column}": note for column, note in notes.items()
    }


@pytest.mark.parametrize("tags", [["12|7"] * 6, ["x|7.0", "12", "", "", "x", "x"]])
def test_ids_that_lack_the_leading_zeros_of_another_column_are_refused(refusal, tmp_path, tags):
    """As in parquet, where a column of integers has none."""
    (tmp_path / "t.csv").write_text(text(columns(item=["007", "100", "007", "200", "100", "200"], tags=tags)))
    assert refusal([HISTORY]) == (
        "t.csv: line 2: column 'tags' of feature 'tags' holds '7', but column 'item' of the same vocabulary "
        "holds '007', which is another category; write both in the same way"
    )


@pytest.mark.parametrize("tags", [["100|200"] * 6, ["007", "7x", "100", "100|007", "", ""]])
def test_columns_that_agree_in_leading_zeros_are_read(tmp_path, tags):
    (tmp_path / "t.csv").write_text(text(columns(item=["007", "100", "007", "200", "100", "200"], tags=tags)))
    assert read(tmp_path, [HISTORY])[0]["item"] == ["007", "100", "007", "200", "100", "200"]


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.sampled_from(WORDS_FOR_MISSING)
        | st.text(max_size=5)
        | st.from_regex(r"\A-?[0-9](\.[0-9]+)?[eE]\+?[0-9]{1,4}\Z")
        | st.from_regex(r"\A-?[0-9]{14,18}\.0\Z")
        | st.text("e\u0301\u200b \x00nNaA", max_size=4)
        | st.from_regex(r"\A-?0[0-9]{0,2}(\.0*)?\Z"),
        min_size=20,
    )
)
def test_whatever_has_one_of_the_looks_is_suspected_first(cells):
    value = pl.col("cell")
    looks = (facts._is_rounded, facts._is_invisible, facts._is_decomposed, facts._is_word_for_missing)
    found = pl.DataFrame({"cell": cells}).select(
        has_one=pl.any_horizontal(look(value) for look in looks), suspect=facts._is_suspect(value)
    )
    assert not found.filter(pl.col("has_one") & ~pl.col("suspect")).height
    first = pl.DataFrame({"cell": cells}).select(
        either=facts._is_suspect(value) | has_leading_zero(value),
        first=facts._is_suspect_or_padded(value),
    )
    assert first["either"].to_list() == first["first"].to_list()
