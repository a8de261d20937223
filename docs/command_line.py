"""The site's page of the command line: ``command_line.md``, then what ``--help`` says of each command."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

ROOT = Path(__file__).resolve().parents[1]
PAGE = "docs/command_line.md"
WIDTH = 100


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """MkDocs calls this for every page."""
    return site_page(page.file.src_uri, markdown)


def site_page(name: str, markdown: str) -> str:
    """The page with a section for each command, its help as it is printed; other pages as they are."""
    if name != PAGE:
        return markdown
    sys.path.insert(0, str(ROOT))
    import run_bench

    sections = [f"## {name}\n\n```text\n{text}\n```\n" for name, text in helps(run_bench.app)]
    return "\n".join([markdown, *sections])


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
