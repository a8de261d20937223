"""A report redrawn whole from the records in a folder: tables, figures and ``report.md``."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from reports import summary
from reports.against import against_the_paper
from reports.beside import printed_table
from reports.costs import cost_table
from reports.files import write_text
from reports.markup import Table, code_block, latex_document, markdown, markdown_table, write_table
from reports.ordering import ordering_tables, ordering_words
from reports.paper import Paper, load_paper
from reports.readings import reading_tables
from reports.records import load_records
from reports.results import results_frame, write_results
from reports.scaling_page import scaling_tables, scaling_words
from reports.section_figures import section_figures
from reports.sections import Section, load_sections
from reports.style import save_figure
from reports.tables import quality_numbers, quality_tables
from reports.tiers import by_user_activity, tier_tables
from reports.tuning import tuning_tables


def render(out: Path) -> Path:
    """Write ``results.csv``, ``results.parquet``, ``tables/``, ``figures/`` and ``report.md`` into ``out``.

    Everything is drawn from ``out/runs/*/record.json``, ``suite.json`` and ``comparisons.csv``; the same
    records give the same files. Returns the path of ``report.md``.

    Raises:
        RecordError: there are no records, or a file is damaged; the message names it and the mend.
    """
    records = load_records(out)
    sections = load_sections(records, out)
    paper = load_paper()
    write_results(results_frame(records), out)
    shorts: list[str] = []
    pages: list[str] = []
    tables: list[Table] = []
    for section in sections:
        numbers = {task: quality_numbers(section, task, paper) for task in section.tasks}
        of_section = [table for task in section.tasks for table in quality_tables(section, task, paper)]
        of_section += reading_tables(section)
        of_section += tier_tables(section, paper)
        of_section += [*scaling_tables(section, paper), *ordering_tables(section, paper)]
        of_section += tuning_tables(section)
        of_section += [cost_table(section, paper)] if section.contestants else []
        figures = section_figures(section, paper)
        for name, (figure, _) in figures.items():
            save_figure(figure, out / "figures" / name)
        shorts.append(summary.in_short(section, numbers))
        captions = {name: caption for name, (_, caption) in figures.items()}
        pages.append(_section_page(section, numbers, of_section, captions, paper))
        tables += of_section
    keys = dict.fromkeys(section.suite.paper_table for section in sections)
    printed = [printed_table(key, paper) for key in keys if key in paper.tables]
    tables += printed
    for table in tables:
        write_table(table, out / "tables")
    write_text(out / "tables" / "tables.tex", latex_document(tables))
    report = out / "report.md"
    write_text(report, _page(sections, shorts, pages, printed, paper))
    return report


# --- The page ---------------------------------------------------------------------------------------------


def _page(
    sections: list[Section], shorts: list[str], pages: list[str], printed: list[Table], paper: Paper
) -> str:
    suites = ", ".join(dict.fromkeys(section.suite.name for section in sections))
    described = dict.fromkeys(section.suite.description for section in sections if section.suite.description)
    commands = dict.fromkeys(section.suite.command for section in sections if section.suite.command)
    parts = [f"# Report: {markdown(suites)}"]
    parts += [markdown(text) for text in described]
    parts.append(
        f"The paper's numbers on this page are from {markdown(str(paper.citation))}. "
        "**The data here are not the paper's**: its logs, model sizes and training are its own, and its "
        "numbers stand beside ours as context."
    )
    parts.append("## In short\n\n" + summary.bullet_list(shorts))
    parts += pages
    parts += ["## The paper's own table", *map(markdown_table, printed)] if printed else []
    parts.append("## How the numbers are defined\n\n" + summary.bullet_list(summary.DEFINITIONS))
    if commands:
        parts.append("## The command that made this\n\n" + "\n\n".join(map(code_block, commands)))
    parts.append(
        "Rows behind everything: [results.csv](results.csv), [results.parquet](results.parquet), `tables/`, "
        "`comparisons.csv`, `runs/`. LaTeX: `tables/tables.tex` shows them all."
    )
    return "\n\n".join(parts) + "\n"


def _section_page(
    section: Section,
    numbers: dict[str, pd.DataFrame],
    tables: list[Table],
    figures: dict[str, str],
    paper: Paper,
) -> str:
    parts = [
        f"## {markdown(section.dataset)} ({markdown(section.suite.name)})",
        _words("What was compared", summary.compared(section)),
        _words("What was found", summary.found(section, numbers)),
        _words("What to keep in mind, and what cannot be concluded", summary.cautions(section, numbers)),
        _words("How quality grows with size", scaling_words(section, paper)),
        _words(
            "Against the paper",
            [*against_the_paper(section, numbers, paper), *ordering_words(section, paper)],
        ),
        _words("By user activity", by_user_activity(section, paper)),
        _words("Failed runs", summary.failures(section)),
        *map(markdown_table, tables),
        *(
            f"![{caption}](figures/{name}.png)\n\n*{caption}* ([vector](figures/{name}.svg))"
            for name, caption in figures.items()
        ),
        _words("Environment", summary.environments(section)),
    ]
    return "\n\n".join(part.strip() for part in parts if part)


def _words(title: str, bullets: list[str]) -> str:
    return f"### {title}\n\n{summary.bullet_list(bullets)}" if bullets else ""
