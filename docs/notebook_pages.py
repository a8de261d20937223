"""Notebooks as pages of the site, with the outputs that are stored in them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

PNG = "image/png"


def notebook_page(path: Path) -> str:
    """The notebook at ``path`` as Markdown: its words and code, and what each cell shows."""
    pieces = [f"[This page as a notebook]({path.name})"]
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            pieces.append(source)
        else:
            pieces += [_fenced(source, "python"), *map(_shown, cell["outputs"])]
    title = next(number for number, piece in enumerate(pieces) if piece.startswith("# "))
    heading, _, words = pieces[title].partition("\n")
    pieces[title] = words
    return "\n\n".join([heading, *_filled(pieces)]) + "\n"


def _shown(output: dict) -> str:
    """One output of a cell: its picture, else its table, else its text."""
    data = {kind: "".join(content) for kind, content in output.get("data", {}).items()}
    if PNG in data:
        return f'<img alt="the figure that this cell draws" src="data:{PNG};base64,{data[PNG].strip()}">'
    if "text/html" in data:
        table = re.sub(r"<style.*?</style>\s*", "", data["text/html"], flags=re.DOTALL)
        table = table.replace('<table border="1" class="dataframe">', "<table>")  # as the site's own look
        return re.sub(r"\n\s*", "\n", table)
    return _fenced(data.get("text/plain") or "".join(output.get("text", "")), "text")


def _fenced(text: str, language: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```" if text.strip() else ""


def _filled(pieces: list[str]) -> Iterator[str]:
    return (piece.strip("\n") for piece in pieces if piece.strip())
