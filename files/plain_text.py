"""Text from files, made harmless where it leaves the program: terminals, figures, pages, spreadsheets.

Control characters move a terminal's cursor, set its title, and turn text around; they make SVG no XML; and a
cell that begins with ``=`` is run by spreadsheets. Names that hold control characters are refused where they
are read (`plain_name`, `plain_lines`). What else people see, such as a key in a message, is escaped.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from typing import Any

JOINERS = "\u200c\u200d"  # they spell words in Persian and Hindi, and emoji
LINES = "\n\t"
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def visible(text: str) -> str:
    """``text`` with every control character written out, such as ``\\x1b``; ends of lines and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(c) if _is_control(c) and c not in LINES else c for c in text)


def shortened(text: str) -> str:
    """``text`` as a sentence can hold it: a long one by its beginning and its length."""
    return text if len(text) <= 60 else f"{text[:40]}... ({len(text):,} characters)"


def say(text: object, error: bool = False) -> None:
    """Print for people: control characters are written out, what the terminal lacks too."""
    print(visible(str(text)), file=sys.stderr if error else sys.stdout)


def csv_cell(value: Any) -> Any:
    """A cell's text with ``'`` before it where a spreadsheet would run it; numbers stay as they are."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def csv_value(cell: Any) -> Any:
    """What `csv_cell` made ``cell`` of."""
    is_marked = isinstance(cell, str) and cell.startswith("'") and _FORMULA.match(cell)
    return cell[1:] if is_marked else cell


def csv_text(frame: Any) -> str:
    """A pandas frame as CSV without its index.

    Text that a spreadsheet would run is marked by `csv_cell`, and control characters are written out.
    """
    marked = frame.rename(columns=_csv_text_cell)
    for name in marked.columns:
        cells = [_csv_text_cell(cell) for cell in marked[name]]
        if any(cell is not before for cell, before in zip(cells, marked[name], strict=True)):
            marked[name] = marked[name].astype(object).where([False] * len(cells), cells)
    return marked.to_csv(index=False)


def _csv_text_cell(value: Any) -> Any:
    return csv_cell(visible(value)) if isinstance(value, str) else value


def _is_control(character: str) -> bool:
    """Controls, marks that change the direction of writing, lone surrogates, what is no character."""
    kind = unicodedata.category(character)
    if kind in ("Cc", "Cs", "Zl", "Zp"):
        return True
    is_none = ord(character) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(character) <= 0xFDEF
    return (kind == "Cf" and character not in JOINERS) or is_none


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def plain_lines(text: str) -> str:
    """``text`` itself; ValueError if it holds a control character that is no end of a line and no tab."""
    return _without_controls(text, LINES)


def plain_name(text: str) -> str:
    """``text`` itself; ValueError if it holds any control character."""
    return _without_controls(text, "")


def _without_controls(text: str, allowed: str) -> str:
    for character in text:
        if _is_control(character) and character not in allowed:
            raise ValueError(f"holds the control character {_escaped(character)}; remove it")
    return text
