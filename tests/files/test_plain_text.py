"""Text made harmless at the edge: what is shown, what is marked in CSV, and what is refused as a name."""

from __future__ import annotations

import csv
import io
import unicodedata
import xml.etree.ElementTree as ElementTree

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from files.plain_text import csv_cell, csv_text, csv_value, plain_lines, plain_name, shortened, visible

HARMLESS = [
    "plain",
    "Größe, Žižek, 东京 😀",
    "می\u200cرسم",  # Persian, spelt with a joiner
    "👩\u200d🔬",
    "[/x] :smile: $a$ %s {}",
    "no\u00a0break",
]
HARMFUL = [
    "\x00",
    "\x07",
    "\x1b",
    "\x7f",
    "\x85",
    "\x9b",
    "\u2028",
    "\u202e",
    "\u2066",
    "\ufeff",
    "\ud800",
    "\uffff",
]


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless_text_is_a_name_and_is_shown_as_it_is(text):
    assert visible(text) == plain_name(text) == text


@pytest.mark.parametrize("character", HARMFUL)
def test_a_control_character_is_refused_in_names_and_shown_escaped(character):
    escape = character.encode("unicode_escape").decode()
    assert visible(f"a{character}b") == f"a{escape}b"
    for check in (plain_name, plain_lines):
        with pytest.raises(ValueError, match="control character") as error:
            check(f"a{character}b")
        assert escape in str(error.value)
        assert character not in str(error.value)


def test_line_ends_are_allowed_in_text_but_not_in_names():
    assert visible("a\n\tb") == plain_lines("a\n\tb") == "a\n\tb"
    with pytest.raises(ValueError, match="control character"):
        plain_name("a\nb")


@given(st.text())
def test_shown_text_moves_no_cursor_reverses_no_text_and_is_valid_xml(text):
    shown = visible(text)
    assert all(unicodedata.category(c) not in ("Cc", "Cs") or c in "\n\t" for c in shown)
    assert not any(unicodedata.bidirectional(c) in ("RLO", "LRO", "RLE", "LRE", "RLI", "LRI") for c in shown)
    escaped = shown.replace("&", "&amp;").replace("<", "&lt;")
    assert ElementTree.fromstring(f"<a>{escaped}</a>").text in (shown, shown or None)


formulas = st.text(st.sampled_from("=+-@'\t\r1a,\n\""), max_size=6)


@given(st.lists(st.one_of(st.text(), formulas), min_size=1, max_size=5))
def test_no_cell_is_run_by_a_spreadsheet_and_every_cell_is_read_back(texts):
    for text in texts:
        assert not csv_cell(text).startswith(("=", "+", "-", "@", "\t", "\r"))
        assert csv_value(csv_cell(text)) == text
    plain = [visible(text).replace("\r", "") for text in texts]
    read = list(csv.reader(io.StringIO(csv_text(pd.DataFrame({"name": plain})), newline="")))
    assert [csv_value(row[0]) if row else "" for row in read[1:]] == plain


def test_numbers_and_harmless_frames_are_written_as_pandas_does():
    frame = pd.DataFrame(
        {
            "number": [-1.5, None],
            "count": pd.array([-1, None], "Int64"),
            "mixed": pd.Series([-1, "a"], dtype=object),
            "text": pd.array(["a", None], "string"),
        }
    )
    assert csv_text(frame) == frame.to_csv(index=False)
    frame["text"] = pd.array(["=1+1", None], "string")
    assert csv_text(frame) == frame.to_csv(index=False).replace("=1+1", "'=1+1")


def test_a_long_text_is_shown_by_its_beginning():
    assert shortened("short") == "short"
    assert shortened("x" * 5000) == "x" * 40 + "... (5,000 characters)"
