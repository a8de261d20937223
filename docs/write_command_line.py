"""Writes ``command_line.md`` from what ``--help`` says: ``python docs/write_command_line.py``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import typer

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 100
OPENING = """\
# The command line

Every command says this of itself with `--help`; this page is written from it by `docs/write_command_line.py`.
Bad input is one sentence on stderr and exit code 2, a failed run exit code 1, Ctrl-C 130. `--debug` anywhere
shows the stack trace.
"""


def page() -> str:
    """The whole page: one section a command, its help as it is printed."""
    sys.path.insert(0, str(ROOT))
    import run_bench

    sections = [f"## {name}\n\n```text\n{text}\n```\n" for name, text in helps(run_bench.app)]
    return "\n".join([OPENING, *sections])


def helps(app: typer.Typer) -> Iterator[tuple[str, str]]:
    """Name and help text of every command, the commands of a group after its name."""
    group = typer.main.get_command(app)
    yield from _helps(group, "run_bench.py", None)


def _helps(command, path: str, parent) -> Iterator[tuple[str, str]]:
    context = command.make_context(path, [], parent=parent, resilient_parsing=True)
    context.terminal_width = WIDTH
    if not hasattr(command, "commands"):
        lines = (line.rstrip() for line in command.get_help(context).splitlines())
        yield path.removeprefix("run_bench.py "), "\n".join(lines)
        return
    for name, below in command.commands.items():
        yield from _helps(below, f"{path} {name}", None)


if __name__ == "__main__":
    target = ROOT / "docs" / "command_line.md"
    target.write_text(page(), encoding="utf-8")
    print(target)
