"""YAML as people write it: what is read, and what is refused with file and line instead of guessed at."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from files.errors import InputError
from files.yaml_files import key_and_value, override, read_yaml, yaml_text

ROOT = Path(__file__).parents[2]
SHIPPED = sorted(
    path
    for folder in ("suites", "examples", "reports/paper/published")
    for path in ROOT.glob(f"{folder}/**/*.yaml")
)


def value(text: str):
    return key_and_value("--set", f"k={text}")[1]


def read(folder: Path, text: str | bytes) -> dict:
    path = folder / "file.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_yaml(path)


def refusal(folder: Path, text: str | bytes) -> str:
    with pytest.raises(InputError) as error:
        read(folder, text)
    assert "\n" not in str(error.value)
    return str(error.value)


# ---------------------------------------------------------------------------------------------- what is read


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_files_are_read_as_pyyaml_reads_them(path):
    assert read_yaml(path) == yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1e-3", 0.001), ("1.7e9", 1_700_000_000), ("1.7095968e9", 1_709_596_800), ("1_000", 1000),
        ("1_709_596_800", 1_709_596_800), ("1E3", 1000), ("+5", 5), ("-5", -5), (".5", 0.5), ("5.", 5.0),
        ("0.5", 0.5), ("-1e-3", -0.001), ("1_000.5", 1000.5), ("0x10", 16), ("0o17", 15), ("0b101", 5),
        ("0", 0), ("9223372036854775807", 2**63 - 1), ("1.0e+6", 1e6), ("!!float 5", 5.0), ("!!int '5'", 5),
        ("true", True), ("False", False), ("null", None), ("~", None), ("", None),
        ("yes", "yes"), ("no", "no"), ("On", "On"), ("OFF", "OFF"), ("y", "y"), ("12:30:00", "12:30:00"),
        ("12:30", "12:30"), ("=", "="), ("1_", "1_"), ("e5", "e5"), ("1e", "1e"), ("nan", "nan"),
        ("'1e3'", "1e3"), ('"010"', "010"), ("!!str 010", "010"), ("'yes'", "yes"), ("1.2.3", "1.2.3"),
        ("2024-03-05", datetime.date(2024, 3, 5)),
        ("2024-03-05 12:30:00", datetime.datetime(2024, 3, 5, 12, 30)),
        ("[1, {a: 2}]", [1, {"a": 2}]), ("'a #b'", "a #b"), ("a#b", "a#b"), ("|\n  a\n  b\n", "a\nb\n"),
    ],
)  # fmt: skip
def test_a_value_is_read_as_people_mean_it(text, expected):
    found = value(text)
    assert found == expected
    assert type(found) is type(expected)


@given(st.floats(min_value=-1e300, max_value=1e300, allow_nan=False, allow_subnormal=False))
def test_every_number_as_python_writes_it_is_read_as_that_number(number):
    assert value(repr(number)) == number


@given(st.integers(min_value=-(2**63) + 1, max_value=2**63 - 1))
def test_every_whole_number_stays_one(number):
    assert value(str(number)) == number
    assert value(f"{number:_}") == number
    assert value(f"'{number}'") == str(number)
    assert type(value(str(number))) is int


leaves = st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.text() | st.floats(-1e9, 1e9)
kept_text = st.text(st.characters(exclude_categories=["Cs"]))
trees = st.recursive(
    leaves, lambda t: st.lists(t, max_size=3) | st.dictionaries(kept_text, t, max_size=3), max_leaves=8
)


@given(st.dictionaries(kept_text, trees))
def test_written_yaml_is_read_back_unchanged(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("y") / "file.yaml"
    path.write_text(yaml_text(content), encoding="utf-8")
    assert read_yaml(path) == content


@pytest.mark.parametrize("text", ["1e3", "010", "yes", "2024-01-01", "12:30:00", "0o7", "null", "=", "<<"])
def test_text_that_looks_like_something_else_is_written_as_text_for_every_reader(text):
    written = yaml_text({"k": text})
    assert key_and_value("--set", "k=" + written.partition(":")[2].strip())[1] == text
    assert yaml.safe_load(written) == {"k": text}


def test_merge_keys_add_missing_fields_and_the_first_of_several_wins(tmp_path):
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {z: 3, <<: [*a, *b], w: 4}\nd: {<<: *a, x: 5}\n"
    found = read(tmp_path, text)
    assert found == yaml.safe_load(text)
    assert found["c"] == {"x": 1, "y": 1, "z": 3, "w": 4}
    assert list(found["c"]) == list(yaml.safe_load(text)["c"])


def test_an_override_changes_one_of_the_rows_that_share_an_anchor(tmp_path):
    content = read(tmp_path, "a: &same {x: {y: 1}, z: [1]}\nb: *same\nc: {<<: *same}\n")
    override(content, "--set", "a.x.y=2")
    content["a"]["z"].append(2)
    assert content == {"a": {"x": {"y": 2}, "z": [1, 2]}, "b": {"x": {"y": 1}, "z": [1]}, "c": content["b"]}


# ------------------------------------------------------------------------------------------ what is refused

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2024-13-45", ["'2024-13-45' is no date", "month", "quote it"]),
        ("2024-02-30 00:00:00", ["no date", "day"]),
        ("2024-03-05 12:00:00.1234567", ["microsecond"]),
        ("!!int foo", ["'foo' is no whole number"]),
        ("!!int 1.5", ["'1.5' is no whole number"]),
        ("!!float foo", ["'foo' is no number"]),
        ("!!bool yes", ["'yes' is no boolean", "true or false"]),
        ("!!null 3", ["'3' is not null"]),
        ("!!timestamp foo", ["'foo' is no date"]),
        ("!!binary aGk=", ["tag 'binary'", "remove it"]),
        ("!!set {a}", ["tag 'set'"]),
        ("!!seq {a: 1}", ["tag 'seq'"]),
        ("!mine 3", ["tag '!mine'"]),
        ("!!python/object/apply:os.system [ls]", ["tag 'python/object/apply:os.system'"]),
        ("010", ["'010' begins with a zero", "write 10", "quote"]),
        ("-08", ["begins with a zero"]),
        ("9" * 5000, ["5,000 characters", "too large", "2^63"]),
        ("9223372036854775808", ["too large"]),
        ("-9223372036854775808", ["too large"]),
        ("0x" + "f" * 16, ["too large"]),
        ("1e400", ["finite"]),
        (".inf", ["finite"]),
        (".nan", ["finite"]),
        ("1e-400", ["read as 0"]),
        ("[" * 3000, ["deeper than 50"]),
        ("{a: " * 3000, ["deeper than 50"]),
        ("\n  " + "- " * 3000, ["deeper than 50"]),
        ("&a [*a]", ["holds itself"]),
        ("{a: 1, b: 2, a: 3}", ["'a' is given twice"]),
        ("{1: 1, 0x1: 2}", ["is given twice"]),
        ("{[1]: 2}", ["keys are text"]),
        ("{<<: 3}", ["<< takes a mapping"]),
        ("*nowhere", ["not valid YAML", "nowhere"]),
        ("[a", ["not valid YAML", "quote"]),
        ("@a", ["not valid YAML"]),
        ('"\\ud800"', ["no character"]),
        ('"\\UFFFFFFFF"', ["not valid YAML"]),
        ("\x07", ["control character '\\x07'"]),
    ],
    ids=lambda item: item[:24] if isinstance(item, str) else "",
)
def test_invalid_values_are_refused_with_the_line_in_files_and_the_flag_on_the_command_line(
    tmp_path, text, words
):
    message = refusal(tmp_path, f"first: 1\nsecond: {text}\n")
    assert [word for word in ["file.yaml: line ", *words] if word not in message] == [], message
    with pytest.raises(InputError) as error:
        key_and_value("--set", f"k={text}")
    assert [word for word in ["--set k=", *words] if word not in str(error.value)] == [], error.value
    assert len(message) < 400
    assert len(str(error.value)) < 400


def test_a_kilobyte_that_expands_to_billions_is_refused_at_once(tmp_path):
    assert len(LAUGHS) < 1000
    assert "more than 300,000 values" in refusal(tmp_path, LAUGHS)
    merged = LAUGHS + "b: {<<: {c: *a11}}\n"
    assert "more than 300,000 values" in refusal(tmp_path, merged)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb:\n\t- 2\n", ["line 3", "tabs"]),
        ("a: 1\nb: 2\na: 3\n", ["line 3", "'a' is given twice"]),
        (b"a: 1\nb: \xff\n", ["line 2", "UTF-8", "0xff"]),
        ("a: 1\n".encode("utf-16"), ["line 1", "UTF-8"]),
        ("a: 1\n---\nb: 2\n", ["line 2", "second document"]),
        ("a: 1\nb: \x1b[31m\n", ["line 2", "control character '\\x1b'"]),
        ("", ["mapping", "nothing"]),
        ("- a", ["mapping", "list"]),
        ("#" * 10_000_001, ["10,000,001 bytes"]),
    ],
)
def test_a_file_that_is_no_valid_yaml_is_refused_with_the_line(tmp_path, text, words):
    message = refusal(tmp_path, text)
    assert [word for word in ["file.yaml", *words] if word not in message] == [], message


def test_a_byte_order_mark_and_other_line_ends_change_nothing(tmp_path):
    assert read(tmp_path, b"\xef\xbb\xbfa: 1\r\nb: [x, y]\r\n") == {"a": 1, "b": ["x", "y"]}


@pytest.mark.parametrize("text", ["a #b", "#fff", "a # b", "[1] # c"])
def test_a_comment_on_the_command_line_is_not_ignored_silently(text):
    with pytest.raises(InputError, match="comment; quote"):
        value(text)


@given(st.text(max_size=40))
def test_every_invalid_text_is_refused_with_one_sentence(text):
    try:
        key_and_value("--set", f"k={text}")
    except InputError as error:
        message = str(error)
    else:
        message = "--set k="
    assert message.startswith("--set k=")
