"""The templates, with the style and the script that every page holds in itself."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Script:
    """The text of a page's script; its digest lets this script run and no other."""

    text: Markup
    digest: str


@cache
def templates() -> Environment:
    """The environment, which escapes everything that a template is given."""
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # The library of tables is a hundred times longer than a run's page, whose one table has a row a task.
    scripts = {
        "sorted": _script("vendor/dataTables.min.js", "tables.js", "page.js"),
        "plain": _script("page.js"),
        "leaderboard": _script("leaderboard.js"),
    }
    environment.globals |= {"scripts": scripts, "style": Markup(_text("style.css"))}
    environment.filters["breakable"] = breakable
    return environment


def breakable(name: str) -> Markup:
    """A setting's name, escaped: a narrow line breaks it after a dot or an underscore, not inside a word."""
    return Markup(re.sub(r"([._])", r"\1<wbr>", str(escape(name))))


def _script(*names: str) -> Script:
    text = "\n".join(map(_text, names))
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Script(Markup(text), digest)


def _text(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")
