"""Makes text from files harmless where it is shown: in terminals, figures, pages and spreadsheets.

Control characters can move a terminal's cursor, set its title and reverse text; they are invalid in XML
and so in SVG; and spreadsheets run a cell that begins with ``=``. Names with control characters are refused
when they are read (`plain_name`, `plain_lines`). Other text, such as a key in a message, is escaped.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from typing import Any

JOINERS = "\u200c\u200d"  # needed to write Persian, Hindi and emoji
LINES = "\n\t"
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def visible(text: str) -> str:
    """``text`` with control characters escaped, such as ``\\x1b``; line ends and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(c) if _is_control(c) and c not in LINES else c for c in text)


def one_line(error: Exception) -> str:
    """A library's error for a sentence: type and beginning of what caused it first, without colours."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    message = " ".join(_COLOURS.sub("", str(error)).split())
    return f"{type(error).__name__}: {message[:300]}"


def shortened(text: str) -> str:
    """``text``, short enough for a sentence: of a long one, its beginning and its length."""
    return text if len(text) <= 60 else f"{text[:40]}... ({len(text):,} characters)"


def say(text: object, error: bool = False) -> None:
    """Print for people: control characters are escaped."""
    print(visible(str(text)), file=sys.stderr if error else sys.stdout)


def csv_cell(value: Any) -> Any:
    """A cell's value; text that a spreadsheet would run gets a ``'`` in front."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def csv_value(cell: Any) -> Any:
    """The value from which `csv_cell` made ``cell``."""
    is_marked = isinstance(cell, str) and cell.startswith("'") and _FORMULA.match(cell)
    return cell[1:] if is_marked else cell


def csv_text(frame: Any) -> str:
    """A pandas frame as CSV without its index.

    Text that a spreadsheet would run is marked by `csv_cell`, and control characters are escaped.
    """
    marked = frame.rename(columns=_csv_text_cell)
    for name in marked.columns:
        if getattr(marked[name].dtype, "kind", "O") in "biuf":  # numbers hold no text
            continue
        cells = [_csv_text_cell(cell) for cell in marked[name]]
        if any(cell is not before for cell, before in zip(cells, marked[name], strict=True)):
            marked[name] = marked[name].astype(object).where([False] * len(cells), cells)
    return marked.to_csv(index=False)


def _csv_text_cell(value: Any) -> Any:
    return csv_cell(visible(value)) if isinstance(value, str) else value


def _is_control(character: str) -> bool:
    """Whether it is a control character, a direction mark, a lone surrogate or no character at all."""
    kind = unicodedata.category(character)
    if kind in ("Cc", "Cs", "Zl", "Zp"):
        return True
    is_none = ord(character) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(character) <= 0xFDEF
    return (kind == "Cf" and character not in JOINERS) or is_none


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def plain_lines(text: str) -> str:
    """``text`` itself; ValueError if it holds a control character other than a line end or a tab."""
    return _without_controls(text, LINES)


def plain_name(text: str) -> str:
    """``text`` itself; ValueError if it holds any control character."""
    return _without_controls(text, "")


def _without_controls(text: str, allowed: str) -> str:
    for character in text:
        if _is_control(character) and character not in allowed:
            raise ValueError(f"holds the control character {_escaped(character)}; remove it")
    return text
