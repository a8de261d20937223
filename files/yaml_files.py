"""Reads the YAML that users write: schemas, suites, tuned settings, ``--set`` and ``--option``.

It follows YAML 1.2's core schema, since the older rules of PyYAML are surprising:

- only ``true`` and ``false`` are booleans; ``yes``, ``no``, ``on`` and ``off`` are text;
- ``1e-3``, ``1.7e9`` and ``1_000`` are numbers; ``12:30:00`` is text, not a number of seconds;
- values that YAML readers disagree on (``010``) and invalid ones (2024-13-45, ``!!int foo``) are refused.

Dates stay dates, and ``<<`` merges mappings. An alias is a copy: changing one of the rows that share an
anchor does not change the others. Nothing in a file is executed: tags that name Python types are refused,
and so is a file with too many levels or, with its aliases expanded, too many values.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from files.errors import InputError
from files.plain_text import shortened

MAX_BYTES = 10_000_000
MAX_DEPTH = 50
MAX_VALUES = 300_000  # with every alias expanded
INTEGER_LIMIT = 2**63  # tables, seeds and sizes are 64-bit integers

_TAG = "tag:yaml.org,2002:"
_DIGITS = r"[0-9](?:_?[0-9])*"
_INT = rf"[-+]?(?:0b[01](?:_?[01])*|0o[0-7](?:_?[0-7])*|0x[0-9a-fA-F](?:_?[0-9a-fA-F])*|{_DIGITS})"
_FLOAT = (
    rf"[-+]?(?:(?:{_DIGITS}\.(?:{_DIGITS})?|\.{_DIGITS})(?:[eE][-+]?[0-9]+)?|{_DIGITS}[eE][-+]?[0-9]+"
    r"|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)"
)
_DATE = (
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]*)?"
    r"(?:[ \t]*(?:Z|[-+][0-9]{1,2}(?::?[0-9]{2})?))?"
)
_PLAIN = {  # the patterns of unquoted scalars; anything else is text
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (_INT, list("-+0123456789")),
    "float": (_FLOAT, list("-+.0123456789")),
    "timestamp": (_DATE, list("0123456789")),
    "merge": (r"<<", ["<"]),
}


class _RefusedError(Exception):
    """A value that is refused, with its line (from 1) and the mend."""

    def __init__(self, node: Any, sentence: str) -> None:
        super().__init__(sentence)
        self.line = node.start_mark.line + 1


class _Loader(yaml.SafeLoader):
    """PyYAML's parser with the scalars above; it builds the values itself so that no two share an object."""

    yaml_implicit_resolvers: dict = {}  # noqa: RUF012  PyYAML's own interface; filled in below
    depth = 0
    values = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _RefusedError(self.peek_event(), f"nests deeper than {MAX_DEPTH} levels; write it flatter")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def value(self, node: yaml.Node, within: tuple[yaml.Node, ...] = ()) -> Any:
        """A new value for ``node``; ``within`` are the nodes that contain it."""
        self.values += 1
        if self.values > MAX_VALUES:
            raise _RefusedError(
                node, f"is more than {MAX_VALUES:,} values with its anchors expanded; shorten it"
            )
        if any(node is outer for outer in within):
            raise _RefusedError(node, "holds itself by an anchor; write it out")
        kind = node.tag.removeprefix(_TAG)
        inside = (*within, node)
        if isinstance(node, yaml.MappingNode) and kind == "map":
            return self._mapping(node, inside)
        if isinstance(node, yaml.SequenceNode) and kind == "seq":
            return [self.value(item, inside) for item in node.value]
        if isinstance(node, yaml.ScalarNode) and kind in _SCALARS:
            return self._scalar(node, kind)
        raise _RefusedError(node, f"has the tag {shortened(kind)!r}, which is not read here; remove it")

    def _mapping(self, node: yaml.MappingNode, inside: tuple[yaml.Node, ...]) -> dict[Any, Any]:
        merged: dict[Any, Any] = {}
        own: dict[Any, Any] = {}
        seen = set()
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _RefusedError(key_node, "has a list or a mapping for a key; keys are text")
            merges = key_node.tag == _TAG + "merge"
            key = "<<" if merges else self.value(key_node, inside)
            if (merges, key) in seen:
                raise _RefusedError(key_node, f"{shortened(key_node.value)!r} is given twice; remove one")
            seen.add((merges, key))
            if merges:
                merged = self._merged(value_node, inside)
            else:
                own[key] = self.value(value_node, inside)
        return merged | own

    def _merged(self, node: yaml.Node, inside: tuple[yaml.Node, ...]) -> dict[Any, Any]:
        """The fields that ``<<`` adds, from one mapping or several; the first that has a key counts."""
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[Any, Any] = {}
        for source in reversed(sources):
            if not isinstance(source, yaml.MappingNode):
                raise _RefusedError(source, "<< takes a mapping or a list of mappings")
            merged |= self.value(source, inside)
        return merged

    def _scalar(self, node: yaml.ScalarNode, kind: str) -> Any:
        text = node.value
        if lone := re.search("[\ud800-\udfff]", text):
            raise _RefusedError(
                node, f"{shortened(text)!r} holds {lone[0]!a}, which is no character; remove it"
            )
        try:
            if kind == "timestamp":
                return self._date(node)
            return _SCALARS[kind](text)
        except ValueError as error:
            raise _RefusedError(node, f"{shortened(text)!r} {error}") from None

    def _date(self, node: yaml.ScalarNode) -> datetime.date:
        if not re.fullmatch(_DATE, node.value):
            raise ValueError("is no date; write it as 2024-03-05 or 2024-03-05 12:30:00")
        if re.search(r"\.[0-9]{7,}", node.value):
            raise ValueError("is finer than a microsecond; write at most six digits after the point")
        try:
            return self.construct_yaml_timestamp(node)
        except ValueError as error:
            raise ValueError(f"is no date ({error}); mend it, or quote it if it is text") from None


for _kind, (_pattern, _first) in _PLAIN.items():
    _Loader.add_implicit_resolver(_TAG + _kind, re.compile(rf"^(?:{_pattern})\Z"), _first)


class _Dumper(yaml.SafeDumper):
    """Quotes text that the loader would not read as text."""

    # PyYAML's own rules are kept as well, so that other readers also see text.
    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [*_Loader.yaml_implicit_resolvers.get(first, []), *rules]
        for first, rules in yaml.SafeDumper.yaml_implicit_resolvers.items()
    }

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(text: str) -> str:
    return text


def _null(text: str) -> None:
    if not re.fullmatch(_PLAIN["null"][0], text):
        raise ValueError("is not null; write null")


def _bool(text: str) -> bool:
    if not re.fullmatch(_PLAIN["bool"][0], text):
        raise ValueError("is no boolean; write true or false")
    return text.lower() == "true"


def _int(text: str) -> int:
    if not re.fullmatch(_INT, text):
        raise ValueError("is no whole number; mend it")
    if re.match(r"[-+]?0[0-9_]", text):
        bare = text.lstrip("+-0_") or "0"
        raise ValueError(f"begins with a zero; write {shortened(bare)}, or quote it if it is text")
    digits = text.replace("_", "")
    if len(digits.lstrip("+-")) > 66 or abs(number := int(digits, 0)) >= INTEGER_LIMIT:
        raise ValueError("is too large; whole numbers end below 2^63")
    return number


def _float(text: str) -> float | int:
    """A real number; a whole number written as 1e6 or 2.5e5 becomes an int."""
    if not re.fullmatch(rf"{_FLOAT}|[-+]?{_DIGITS}", text):
        raise ValueError("is no number; mend it")
    digits = text.replace("_", "").lower()
    if digits.lstrip("+-") in (".inf", ".nan"):
        raise ValueError("is no finite number; write a number")
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("is no finite number here, it is too large; the largest is 1.7e308")
    if number == 0 and re.search("[1-9]", digits.partition("e")[0]):
        raise ValueError("is too small and would be read as 0; the smallest is 1e-307")
    is_older_form = "e" not in digits or re.search(r"\..*e[-+]", digits)  # a float for PyYAML, too
    is_whole = number.is_integer() and abs(number) < INTEGER_LIMIT
    return int(number) if is_whole and not is_older_form else number


_SCALARS: dict[str, Callable[[str], Any]] = {
    "str": _text,
    "null": _null,
    "bool": _bool,
    "int": _int,
    "float": _float,
    "timestamp": _text,  # read from the node, not from its text
    "merge": _text,  # a value "<<" is text
}


def read_yaml(path: Path) -> dict:
    """A YAML mapping from ``path``; InputError with file and line if it is missing, invalid or no mapping."""
    if not path.is_file():
        where = "" if path.is_absolute() else f" in {Path.cwd()}"
        raise InputError(f"{path}: no such file{where}; give the path of a YAML file")
    if (size := path.stat().st_size) > MAX_BYTES:
        raise InputError(f"{path}: has {size:,} bytes, which is no schema and no suite; give a YAML file")
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}: line {line} is not UTF-8 (byte 0x{raw[error.start]:02x}); save the file as UTF-8"
        ) from None
    content = _read(text, lambda line: f"{path}: line {line}:")[0]
    if not isinstance(content, dict):
        found = "nothing" if content is None else type(content).__name__
        raise InputError(f"{path}: must be a mapping of fields to values, not {found}")
    return content


def key_and_value(flag: str, text: str) -> tuple[str, Any]:
    """``key=value`` as given to ``flag``, the value read as YAML; InputError if it is not written so."""
    key, equals, written = text.partition("=")
    if not equals or not key:
        raise InputError(f"{flag} {text}: write it as {flag} key=value")
    value, end = _read(written, lambda line: f"{flag} {shortened(text)}:")
    if rest := written[end:].strip():
        raise InputError(f"{flag} {text}: {rest!r} would be left out as a comment; quote the value")
    return key, value


def override(content: dict[str, Any], flag: str, text: str) -> None:
    """Set ``key.subkey=value``, as given to ``flag``, in ``content``; InputError if ``key`` has no fields."""
    key, value = key_and_value(flag, text)
    *parents, last = key.split(".")
    for parent in parents:
        content = content.setdefault(parent, {})
        if not isinstance(content, dict):
            raise InputError(f"{flag} {text}: {parent!r} has no fields inside; set it whole")
    content[last] = value


def yaml_text(content: dict[str, Any]) -> str:
    """``content`` as YAML that `read_yaml` reads back unchanged, with its keys in order."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=110)


def _read(text: str, where: Callable[[int], str]) -> tuple[Any, int]:
    """The one value in a text, and where it ends; ``where`` names a line in an InputError."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return (None, 0) if node is None else (loader.value(node), node.end_mark.index)
    except _RefusedError as error:
        raise InputError(f"{where(error.line)} {error}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        character = (
            ascii(chr(error.character)) if isinstance(error.character, int) else ascii(error.character)
        )
        raise InputError(f"{where(line)} holds the control character {character}; remove it") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = " ".join(str(error.problem).split())
        if problem == "but found another document":
            problem = "a second document begins with ---"
        raise InputError(
            f"{where(mark.line + 1 if mark else 1)} is not valid YAML ({problem}); mend it{_hint(problem)}"
        ) from None
    except (ValueError, OverflowError) as error:  # an escape beyond the last character, "\UFFFFFFFF"
        raise InputError(f"{where(1)} is not valid YAML ({error}); mend it or quote it") from None


def _hint(problem: str) -> str:
    if r"'\t'" in problem:
        return " by writing spaces where there are tabs"
    return " or quote it"
