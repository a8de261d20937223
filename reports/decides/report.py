"""The page "What decides", over those of its results that are there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from files.errors import InputError
from reports.contents import Contents, Part
from reports.decides.ceiling import front_part, gap_part
from reports.decides.crossings import crossings_part
from reports.decides.heterogeneity import heterogeneity_part
from reports.decides.parts import parts_part
from reports.decides.results import Results, read_results
from reports.decides.rows_and_size import rows_part, size_part
from reports.render import write_report

PARTS: dict[str, Callable[[Results], Part | None]] = {
    "More rows": rows_part,
    "More rows at each size": size_part,
    "Where lines cross": crossings_part,
    "More compute": front_part,
    "The ceiling": gap_part,
    "Feature groups that share little or much": heterogeneity_part,
    "Parts and experts": parts_part,
}


def render_what_decides(root: Path, out: Path) -> Path:
    """Write the report over the results in ``root`` into ``out``; its path as Markdown.

    Raises InputError where none of the results is there, or one is damaged or tells nothing.
    """
    return write_report(what_decides(read_results(root)), out)


def what_decides(results: Results) -> Contents:
    """The content of the page."""
    found = {title: make(results) for title, make in PARTS.items()}
    parts = [_with_answers_at_figures(part, results) for part in found.values() if part is not None]
    if not parts:
        raise InputError(
            f"{', '.join(results.sections)}: no run was tested on the way; set training.progress"
        )
    commands = [section.suite.command for section in results.sections.values()]
    return Contents(
        title="What decides",
        descriptions=[
            _about(results),
            *_missing(results, [title for title, part in found.items() if not part]),
        ],
        commands=list(dict.fromkeys(filter(None, commands))),
        parts=parts,
        data=sorted(
            [f"figures/{name}.csv" for part in parts for name in part.figures]
            + [f"tables/{table.name}.csv" for part in parts for table in part.tables]
        ),
    )


def _with_answers_at_figures(part: Part, results: Results) -> Part:
    """The part whose figures say in their captions what is asked and answered, with the page's looks."""
    answer, looks = part.in_short.removesuffix("."), results.looks  # pages end a caption themselves
    figures = {
        name: replace(drawing, caption=f"{drawing.caption}. {answer}").with_options(looks=looks)
        for name, drawing in part.figures.items()
    }
    return replace(part, figures=figures)


def _about(results: Results) -> str:
    return (
        "Does RankMixer win when there is more to learn? Learning curves over rows, size and worlds of the "
        f"built-in simulated log, from {', '.join(results.sections)}. Untuned: every model was trained with "
        "its defaults. Differences are in AUC points x 100."
    )


def _missing(results: Results, unanswered: list[str]) -> list[str]:
    """Which results are not there, and what the page cannot answer without them."""
    if not results.missing and not unanswered:
        return []
    absent = f"Not there: {', '.join(results.missing)}." if results.missing else ""
    without = f" Not answered for want of results: {', '.join(unanswered)}." if unanswered else ""
    return [f"{absent}{without}".strip()]
