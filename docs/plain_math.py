"""Equations of docstrings as the site shows them: LaTeX as code, since Markdown would take its stars away."""

from __future__ import annotations

import re
import textwrap

import griffe

BLOCK = re.compile(r"^( *)\.\. math::(.*(?:\n(?:\1 +\S.*|\s*$))*)", re.MULTILINE)
INLINE = re.compile(r":math:`([^`]+)`")


class PlainMath(griffe.Extension):
    """Rewrites the docstring of every object that mkdocstrings collects."""

    def on_instance(self, *, obj: griffe.Object, **_: object) -> None:
        """Called with each module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = plain(obj.docstring.value)


def plain(text: str) -> str:
    """``text`` with ``.. math::`` as fenced blocks and ``:math:`` as code.

    >>> plain(r".. math:: a^* = 1")
    '\\n```text\\na^* = 1\\n```\\n'
    """
    return INLINE.sub(r"`\1`", BLOCK.sub(_fenced, text))


def _fenced(block: re.Match[str]) -> str:
    indent, equation = block.groups()
    first, _, rest = equation.partition("\n")
    lines = [first.strip(), *textwrap.dedent(rest).splitlines()]
    body = "\n".join(line for line in lines if line.strip())
    return textwrap.indent(f"\n```text\n{body}\n```\n", indent)
