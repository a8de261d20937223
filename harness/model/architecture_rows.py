"""The table of architectures in baselines/README.md, from what the architectures' files declare.

    python -m harness.model.architecture_rows

writes it again.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path
from typing import Any

from baselines.contract import Knob
from harness.model.architectures import ARCHITECTURES, architecture_class
from harness.records.listed import LISTED

README = Path(__file__).resolve().parents[2] / "baselines" / "README.md"
HEADER = (
    "| architecture | class | paper | year | knobs (step) | tuned (values) | FLOPs a sample |\n"
    "|---|---|---|---|---|---|---|\n"
)
TABLE = re.compile(rf"{re.escape(HEADER)}(?:\|.*\n)*")


def table() -> str:
    """The Markdown table: a row for each architecture, in their order."""
    return HEADER + "".join(_row(name, path) for name, path in ARCHITECTURES.items())


def _row(name: str, path: str) -> str:
    cls = architecture_class(name)
    about = sys.modules[cls.__module__].ABOUT
    papers = "; ".join(f"[{label}]({link})" for label, link in about.papers.items())
    cells = [
        LISTED[name].name,
        f"`{path}`",
        papers,
        str(about.year),
        _knobs(cls),
        _tuned(cls.Config),
        about.flops,
    ]
    return f"| {' | '.join(cells)} |\n"


def _knobs(cls: Any) -> str:
    """Fields and steps, the steps by what they follow from where it is not 1."""
    knobs, others = cls.knobs(16, 8), cls.knobs(12, 8)
    pairs = [(knobs.coarse, others.coarse), (knobs.fine, others.fine)]
    return ", ".join(f"`{knob.field}` ({_step(knob, other)})" for knob, other in pairs if knob and other)


def _step(knob: Knob, with_fewer_tokens: Knob) -> str:
    if knob.step != with_fewer_tokens.step:
        return "T"
    return str(knob.step)


def _tuned(config: Any) -> str:
    fields = [field for field in dataclasses.fields(config) if "choices" in field.metadata]
    values = [f"`{f.name}` ({', '.join(str(v) for v in f.metadata['choices'])})" for f in fields]
    return ", ".join(values)


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    README.write_text(TABLE.sub(lambda _: table(), text), encoding="utf-8")
    print(README)
