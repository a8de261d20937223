"""Label expressions against Python, row by row, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.catalog import prepare_dataset
from datasets.expressions.labels import Operand, label_expression
from datasets.expressions.syntax import ExpressionError, columns_of, operands_of
from files.errors import InputError

TYPES = {
    "a": pl.Int64(),
    "b": pl.Float64(),
    "c": pl.UInt64(),
    "flag": pl.Boolean(),
    "device": pl.String(),
    "kind": pl.Categorical(),
    "tags": pl.List(pl.Int64),
    "day": pl.Date(),
    "click time": pl.Int64(),
}


def labels(text: str, rows: dict) -> list[float | None]:
    frame = pl.DataFrame({name: pl.Series(values, dtype=TYPES[name]) for name, values in rows.items()})
    operands = {name: Operand(pl.col(name), dtype) for name, dtype in frame.schema.items()}
    return frame.select(label=label_expression(text, operands, "here"))["label"].to_list()


# ------------------------------------------------------------------ the same, a row at a time, in Python


def by_hand(node, row: dict):
    """The value of a nested tuple (operator, parts...), None where it is undefined."""
    kind, *parts = node
    if kind == "column":
        value = row[parts[0]]
        return None if isinstance(value, float) and not math.isfinite(value) else value
    if kind == "number":
        return parts[0]
    if kind == "missing":
        return by_hand(parts[0], row) is None
    values = [by_hand(part, row) for part in parts]
    if kind == "not":
        return None if values[0] is None else not values[0]
    if kind in ("and", "or"):
        decisive = kind == "or"
        if decisive in values:
            return decisive
        return None if None in values else not decisive
    if None in values:
        return None
    first, second = values
    if kind == "/":
        return None if second == 0 else first / second
    return {
        "+": lambda: float(first) + second, "-": lambda: float(first) - second,
        "*": lambda: float(first) * second,
        "min": lambda: float(min(values)), "max": lambda: float(max(values)),
        "<": lambda: first < second, "<=": lambda: first <= second, ">": lambda: first > second,
        ">=": lambda: first >= second, "==": lambda: first == second, "!=": lambda: first != second,
    }[kind]()  # fmt: skip


def written(node) -> str:
    kind, *parts = node
    if kind in ("column", "number"):
        return str(parts[0])
    if kind == "missing":
        return f"missing({written(parts[0])})"
    if kind == "not":
        return f"not ({written(parts[0])})"
    if kind in ("min", "max"):
        return f"{kind}({written(parts[0])}, {written(parts[1])})"
    return f"({written(parts[0])}) {kind} ({written(parts[1])})"


columns = st.sampled_from([("column", "a"), ("column", "b")])
numbers = st.recursive(
    columns | st.integers(-3, 3).map(lambda n: ("number", n)) | st.sampled_from([("number", 0.5)]),
    lambda inner: st.tuples(st.sampled_from(["+", "-", "*", "/", "min", "max"]), inner, inner),
    max_leaves=4,
)
comparisons = st.tuples(st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), numbers, numbers)
logic = st.recursive(
    comparisons | st.tuples(st.just("missing"), columns),
    lambda inner: st.tuples(st.sampled_from(["and", "or"]), inner, inner) | st.tuples(st.just("not"), inner),
    max_leaves=5,
)
ROWS = [
    {"a": a, "b": b}
    for a in (None, -2, 0, 1, 3)
    for b in (None, math.nan, math.inf, -1.5, 0.0, 0.5, 1.0, 3.0)
]


@settings(max_examples=60, deadline=None)
@given(logic)
def test_an_expression_is_what_python_computes_row_by_row(node):
    text = f"({written(node)}) and (a == a or missing(a))"  # reads a column, and changes nothing
    found = labels(text, {name: [row[name] for row in ROWS] for name in ("a", "b")})
    expected = [by_hand(node, row) for row in ROWS]
    assert found == [None if value is None else float(value) for value in expected], text


@pytest.mark.parametrize(
    ("text", "rows", "expected"),
    [
        ("a >= 3", {"a": [2, 3, None]}, [0, 1, None]),
        ("0 < a <= 3", {"a": [0, 1, 3, 4, None]}, [0, 1, 1, 0, None]),
        ("a in [1, 3]", {"a": [1, 2, 3, None]}, [1, 0, 1, None]),
        ("a in (1.0, -2)", {"a": [1, -2, 3]}, [1, 1, 0]),
        ("a not in [1, 3]", {"a": [1, 2, None]}, [0, 1, None]),
        ('device in ["ios", "android"]', {"device": ["ios", "web", "", None]}, [1, 0, None, None]),
        ('device != "ios"', {"device": ["ios", "web", None]}, [0, 1, None]),
        ('kind == "x" or missing(kind)', {"kind": ["x", "y", None]}, [1, 0, 1]),
        ("flag", {"flag": [True, False, None]}, [1, 0, None]),
        ("flag == 1", {"flag": [True, False, None]}, [1, 0, None]),
        ("flag == true and not missing(flag)", {"flag": [True, False, None]}, [1, 0, 0]),
        ("a / b > 0.5", {"a": [1, 1, 1], "b": [1.0, 0.0, 4.0]}, [1, None, 0]),
        ("b * 1e308 > 0", {"b": [1.0, 10.0]}, [1, None]),
        ('device == "5.0"', {"device": ["5", "5.0", " 5.00 ", "5.5", "05", "-0"]}, [1, 1, 1, 0, 0, 0]),
        ('device in ["-0", " x "]', {"device": ["0", "-0.0", "x", " "]}, [1, 1, 1, None]),
        ("device == kind", {"device": ["5.0", "7", "x"], "kind": ["5", "7.00", "y"]}, [1, 1, 0]),
        ("missing(tags)", {"tags": [[1], [], None]}, [0, 1, 1]),
        ("missing(device)", {"device": ["", "x"]}, [1, 0]),
        ('col("click time") > 0', {"click time": [0, 5]}, [0, 1]),
        ("a >= 3\n  and a < 5", {"a": [2, 3, 5]}, [0, 1, 0]),
        # 2^53 + 1 has no float64 of its own.
        ("a == c", {"a": [2**53, 2**53 + 1], "c": [2**53 + 1, 2**53 + 1]}, [0, 1]),
        ("c > a", {"a": [-1], "c": [2**64 - 1]}, [1]),
        ("-a < 2", {"a": [-1, -2, -3]}, [1, 0, 0]),
    ],
)
def test_a_label_is_one_zero_or_undefined(text, rows, expected):
    assert labels(text, rows) == expected


def test_columns_come_in_order_and_once():
    assert columns_of('max(b, a) > a and col("c d") == 1 and not missing(e) and true') == [
        "b",
        "a",
        "c d",
        "e",
    ]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("a >= b", {"a", "b"}),
        ("a == b", set()),
        ("a == b and b == c and c > d", {"a", "b", "c", "d"}),
        ("a == 1 or b == true or c in [2] or d == 'x'", {"a", "b", "c"}),
        ("a + 1 == b", {"a", "b"}),
        ("max(a, b) == min(c, 3) and not missing(d)", {"a", "b", "c"}),
    ],
)
def test_the_use_of_a_column_decides_whether_it_must_be_a_number(text, numbers):
    operands = operands_of(text)
    assert {column for column, held in operands.items() if held == "number"} == numbers
    assert list(operands) == columns_of(text)


def write(folder: Path, rows: list[str], expression: str, kind: str = "numeric") -> Path:
    (folder / "log.csv").write_text("\n".join(["user,t,watch_ms,duration_ms,device", *rows, ""]))
    schema = {
        "name": "log",
        "files": ["log.csv"],
        "features": [{"name": "duration_ms", "kind": kind, "group": "item"}],
        "tasks": [{"name": "finish", "expression": expression}],
        "user_id": "user",
        "time": "t",
        "split": {"by": "fraction", "valid": 0.2, "test": 0.2},
    }
    (folder / "schema.yaml").write_text(yaml.safe_dump(schema))
    return folder / "schema.yaml"


def test_a_csv_of_a_computed_label_is_prepared(tmp_path):
    rows = [
        f"{n % 3},{n},{n * 100},{'' if n % 5 == 4 else 1000.0},{'ios' if n % 4 else ' web '}"
        for n in range(40)
    ]
    text = 'watch_ms >= duration_ms and device != "web"'
    schema_file = write(tmp_path, rows, text)
    expected = [0.0 if n % 4 == 0 else None if n % 5 == 4 else float(n >= 10) for n in range(40)]
    assert prepared_labels(schema_file) == expected
    prepared = prepare_dataset(str(schema_file), {}, None, tmp_path / "cache")
    assert prepared.manifest["notes"]["label finish"] == (
        f"{text}; features read duration_ms, which must be known before the outcome"
    )


def prepared_labels(schema_file: Path) -> list[float | None]:
    prepared = prepare_dataset(str(schema_file), {}, None, schema_file.parent / "cache")
    shards = [
        pl.read_parquet(prepared.path / shard["file"]) for s in prepared.rows for shard in prepared.shards(s)
    ]
    return pl.concat(shards).sort("time")["label_finish"].fill_nan(None).to_list()


@pytest.mark.parametrize("first", [1234567890123456789, 2**64 - 99, -(10**30)])
def test_whole_numbers_of_a_csv_are_compared_exactly_where_they_must_be_numbers(tmp_path, first):
    """Next to one another, floats are equal."""
    text = "watch_ms == duration_ms and watch_ms != 0"
    rows = [f"{n % 3},{n},{first + n}{'.0' * (n == 3)},{first + n + n % 2},x" for n in range(40)]
    rows[8] = "1,8,nan,5,x"
    found = prepared_labels(write(tmp_path, rows, text, kind="categorical"))
    assert found == [None if n == 8 else float(n % 2 == 0) for n in range(40)]


def test_numbers_of_a_csv_that_are_not_all_whole_are_read_as_before(tmp_path):
    rows = [f"{n % 3},{n},{n}.5,{n + n % 2}.50,x" for n in range(40)]
    rows[5] = "1,5,1e3,1000,x"
    found = prepared_labels(write(tmp_path, rows, "watch_ms >= duration_ms"))
    assert found == [1.0 if n == 5 else float(n % 2 == 0) for n in range(40)]


def test_ids_that_are_written_as_floats_equal_integers_in_a_computed_label(tmp_path):
    """As they do in parquet, where both are numbers."""
    rows = [f"{n % 3},{n},{n}.0,{n + n % 2},x" for n in range(40)]
    found = prepared_labels(write(tmp_path, rows, "watch_ms == duration_ms", kind="categorical"))
    assert found == [float(n % 2 == 0) for n in range(40)]


@pytest.mark.parametrize(
    ("row", "expression", "words"),
    [
        (
            "1,7,long,3,ios",
            "watch_ms >= duration_ms",
            ["log.csv: line 42", "'long'", "no number", "'finish'"],
        ),
        ("1,7,1,3,NULL", "device == 'ios'", ["log.csv: line 42", "'NULL'", "missing"]),
        ("1,7,1,3,ios", "watched > 3", ["no column 'watched'", "'finish'"]),
        ("1,7,1,3,ios", "watch_ms > 1e9", ["expression 'watch_ms > 1e9' is never 1", "training"]),
    ],
)
def test_a_csv_that_does_not_fit_its_expression_is_refused(tmp_path, row, expression, words):
    rows = [f"{n % 3},{n},{n * 100},1000,ios" for n in range(40)]
    with pytest.raises(InputError) as error:
        prepare_dataset(str(write(tmp_path, [*rows, row], expression)), {}, None, tmp_path / "cache")
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["characters"]),
        ("a >=", ["cannot be read"]),
        ("a = 3", ["=="]),
        ("a > 3 & b > 1", ["character 5", "write and"]),
        ("a > 3 AND b > 1", ["small letters"]),
        ("a is None", ["missing(column)"]),
        ("a == None", ["'None' at character 6"]),
        ("__import__('os').system('x')", ["not known here"]),
        ("a.real > 1", ["'a.real' at character 1", "not known here"]),
        ("a[0] > 1", ["'a[0]'"]),
        ("(lambda: a)() > 1", ["not known here"]),
        ("[x for x in a]", ["not known here"]),
        ("a ** 999999999 > 1", ["'a ** 999999999'"]),
        ("a // 2 > 1", ["'a // 2'"]),
        ("abs(a) > 1", ["'abs(a)'"]),
        ("min(a) > 1", ["two values"]),
        ("min(a, b, key=c) > 1", ["not known here"]),
        ("missing(a + 1)", ["one column"]),
        ("a in 3", ["'3' at character 6"]),
        ("a in [b]", ["'[b]'"]),
        ("a in []", ["'[]'"]),
        ("a == [1]", ["'[1]'"]),
        ("[1] == a", ["'[1]'"]),
        ("a > 99999999999999999999", ["too large"]),
        ("a > 1e999", ["too large"]),
        ("a > 1j", ["'1j'"]),
        ("1 > 0", ["reads no column"]),
        ("\ufb01nish > 0", ["'\ufb01nish' at character 1", "col("]),  # Python would read finish
        ("é + ﬁ > 0", ["'ﬁ' at character 5"]),
        ("(" * 300 + "a" + ")" * 300, ["cannot be read"]),
        ("-" * 500 + "a > 0", ["deep"]),
        ("not " * 60 + "a > 0", ["deep"]),
        ("a > 0 " + " " * 1000 + "or b > 0", ["1000 characters"]),
        ("f'{a}' == 'x'", ["not known here"]),
        ("a if b else c", ["not known here"]),
        ("(a := 3) > 1", ["not known here"]),
    ],
)
def test_invalid_expressions_are_refused_with_the_position(text, words):
    with pytest.raises(ExpressionError) as error:
        columns_of(text)
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("device > 3", ["'device' at character 1", "is text", "'3'"]),
        ('a == "3"', ["'\"3\"' at character 6", "is text", "'a'"]),
        ('device > "a"', ["puts text in order"]),
        ("device + 1 > 2", ["'device'", "a number is needed"]),
        ('a in [1, "2"]', ["is text"]),
        ("a and b > 1", ["'a' at character 1", "neither true nor false"]),
        ("a + b", ["'a + b'", "a number, not true or false"]),
        ("device", ["text, not true or false"]),
        ("day > 3", ["'day'", "Date"]),
        ("tags == 3", ["'tags'", "List"]),
        ("a >", ["cannot be read"]),
    ],
)
def test_types_that_do_not_fit_are_bad_input(text, words):
    with pytest.raises(InputError) as error:
        label_expression(text, {c: Operand(pl.col(c), t) for c, t in TYPES.items()}, "dataset 'x': task 'y'")
    message = str(error.value)
    assert all(word in message for word in ["dataset 'x': task 'y': ", *words]), message
