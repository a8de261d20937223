"""The templates, with the style and the script that every page holds in itself."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

HERE = Path(__file__).parent


@cache
def templates() -> Environment:
    """The environment that escapes whatever a template is given."""
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (HERE / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # Ours, and so not escaped; the digest lets this script run and no other.
    environment.globals |= {
        "script": Markup(script),
        "script_digest": digest,
        "style": Markup((HERE / "style.css").read_text(encoding="utf-8")),
    }
    return environment
