"""Draws a report from the records in a folder: tables, figures, ``report.md`` and the web page."""

from __future__ import annotations

from pathlib import Path

from harness.records.store import StoredRuns, read_runs
from reports.contents import NOT_THE_PAPERS_DATA, Contents, Part, Words, gather
from reports.figures.drawing.saving import markdown_drawing, write_drawing, write_front
from reports.files import write_csv, write_text
from reports.page.build import write_pages
from reports.results import results_frame, write_results
from reports.tables.markup import (
    bullet_list,
    code_block,
    latex_document,
    markdown,
    markdown_table,
    write_table,
)
from reports.tables.speeds import serving_frame


def render(out: Path, stored: StoredRuns | None = None) -> Path:
    """Write ``results.csv`` and ``.parquet``, ``serving.csv``, ``tables/``, ``figures/``, ``report.md`` and
    ``report/``.

    Everything is drawn from ``out/runs/*/record.json``, ``suite.json``, ``serving.json`` and
    ``comparisons.csv``; the same records give the same files. ``stored`` are the records where they were
    read before. Returns the path of ``report.md``.

    Raises:
        InputError: there are no records, or a file is damaged; the message names it and the mend.
    """
    stored = stored or read_runs(out)
    write_results(results_frame(stored.records, stored.serving), out)
    if stored.serving.passes:
        write_csv(out / "serving.csv", serving_frame(stored.serving))
    contents = gather(stored)
    return write_report(contents, out)


def write_report(contents: Contents, out: Path) -> Path:
    """Write ``tables/``, ``figures/``, the report as Markdown and ``report/``; the Markdown file's path."""
    for part in contents.parts:
        for name, drawing in part.front.items():
            write_front(drawing, out / "figures" / name)
        for name, drawing in part.figures.items():
            write_drawing(drawing, out / "figures" / name)
    for table in contents.tables:
        write_table(table, out / "tables")
    write_text(out / "tables" / "tables.tex", latex_document(contents.tables))
    write_text(out / contents.page, markdown_page(contents))
    write_pages(contents, out)
    return out / contents.page


# --- Markdown ---------------------------------------------------------------------------------------------


def markdown_page(contents: Contents) -> str:
    """The whole report as Markdown."""
    parts = [f"# {markdown(contents.title)}", *map(markdown, filter(None, contents.descriptions))]
    if contents.citation:
        bold, rest = map(markdown, NOT_THE_PAPERS_DATA)
        source = f"The paper's numbers on this page are from {markdown(contents.citation)}."
        parts.append(f"{source} **{bold}**: {rest}")
    parts.append("## In short\n\n" + bullet_list([part.in_short for part in contents.parts]))
    parts += map(_section_page, contents.parts)
    if contents.printed:
        parts += [f"## {contents.printed_title}", *map(markdown_table, contents.printed)]
    if contents.definitions:
        parts.append("## How the numbers are defined\n\n" + bullet_list(contents.definitions))
    if contents.commands:
        commands = "\n\n".join(map(code_block, contents.commands))
        parts.append(f"## The command that made this\n\n{commands}")
    data = ", ".join(f"[{name}]({name})" for name in contents.data)
    folders = "`tables/`, `figures/`, `runs/`" if contents.records else "`tables/`, `figures/`"
    parts.append(
        f"Every number: {data}, {folders}. "
        "All tables as one LaTeX document: `tables/tables.tex`. "
        "As a web page: [report/index.html](report/index.html)."
    )
    return "\n\n".join(parts) + "\n"


def _section_page(part: Part) -> str:
    parts = [
        f"## {markdown(part.title)}",
        *map(_words, [*part.overview, *part.more]),
        *map(markdown_table, part.tables),
        *(markdown_drawing(name, drawing) for name, drawing in part.figures.items()),
        *([_words(Words("Environment", part.environment))] if part.environment else []),
    ]
    return "\n\n".join(text.strip() for text in parts)


def _words(words: Words) -> str:
    return f"### {words.title}\n\n{bullet_list(words.bullets)}"
