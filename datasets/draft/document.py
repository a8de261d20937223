"""Writes the draft as YAML with the reasons as comments, which PyYAML cannot write."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from datasets.draft.kinds import GROUPS

WIDTH = 108
NO_WORDS = ("y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf", "infinity")


@dataclass(frozen=True)
class Line:
    """One feature or task: its fields, the reason, and whether it is only suggested."""

    fields: Mapping[str, object]
    reason: str
    is_comment: bool = False


@dataclass(frozen=True)
class Document:
    """The draft's content, in the order in which it is written.

    ``check`` are the decisions that a person should look at; ``left_out`` are columns that are no features
    and why.
    """

    title: str
    check: list[tuple[str, str]]
    head: Mapping[str, object]
    features: list[Line]
    left_out: Mapping[str, str]
    tasks: list[Line]
    tail: Mapping[str, object]
    tail_reasons: Mapping[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """The schema as YAML."""
        lines = [f"# {plain(self.title)}", "# Check by eye, most important first:"]
        for what, why in self.check:
            lines += _comment(f"{what}: {why}", first="#   ", rest="#     ")
        lines += ["# datasets/README.md explains every field.", ""]
        lines += [f"{name}: {value(content)}" for name, content in self.head.items()]
        lines += ["", "features:"]
        for group in GROUPS:
            own = [line for line in self.features if line.fields["group"] == group]
            lines += [f"  # {group}"] * bool(own) + [_item(line) for line in own]
        if self.left_out:
            lines += ["", "# Columns that are no features:"]
            for name, why in self.left_out.items():
                lines += _comment(f"{name}: {why}", first="#   ", rest="#     ")
        lines += ["", "tasks:", *(_item(line) for line in self.tasks), ""]
        for name, content in self.tail.items():
            reason = self.tail_reasons.get(name)
            lines.append(f"{name}: {value(content)}" + (f"  # {plain(reason)}" if reason else ""))
        return "\n".join(lines) + "\n"


def _item(line: Line) -> str:
    return f"  {'# ' if line.is_comment else ''}- {value(line.fields)}  # {plain(line.reason)}"


def _comment(text: str, first: str, rest: str) -> Iterable[str]:
    """A comment of several lines."""
    lines, current = [], first
    for word in plain(text).split(" "):
        if len(current) + len(word) > WIDTH and current.strip() not in ("#", ""):
            lines.append(current.rstrip())
            current = rest
        current += word + " "
    return [*lines, current.rstrip()]


def plain(text: str) -> str:
    """Text that cannot end a comment: unprintable characters are escaped."""
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def value(content: object) -> str:
    """A value in YAML's flow style; text is quoted unless it can only be read as that text."""
    if isinstance(content, Mapping):
        return "{" + ", ".join(f"{name}: {value(part)}" for name, part in content.items()) + "}"
    if isinstance(content, list):
        return "[" + ", ".join(map(value, content)) + "]"
    if not isinstance(content, str):
        return json.dumps(content)
    is_word = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_./-]*", content) and content.lower() not in NO_WORDS
    return content if is_word else json.dumps(content, ensure_ascii=False)
