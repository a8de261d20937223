"""A report redrawn whole from the records in a folder: tables, figures and ``report.md``."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from reports import summary
from reports.against import against_the_paper
from reports.beside import paper_row, paper_table, printed_table
from reports.costs import cost_table
from reports.figures import forest, loss_curves, quality_against_cost, validation_curves
from reports.files import write_text
from reports.frames import loss_frame, validation_frame
from reports.markup import Table, code_block, latex_document, markdown, markdown_table, write_table
from reports.paper import Paper, load_paper
from reports.records import load_records
from reports.results import results_frame, write_results
from reports.sections import Section, load_sections
from reports.style import save_figure
from reports.tables import quality_numbers, quality_tables


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


def section_figures(section: Section, paper: Paper) -> dict[str, tuple[Figure, str]]:
    """The figures that a section has data for, by file stem, each with its caption."""
    models = [record for record in section.records if record.kind == "model"]
    results = results_frame([record for record in section.records if record.status == "finished"])
    shown = _in_suite_order(results, section)
    figures: dict[str, tuple[Figure, str]] = {}
    differences = differences_frame(section, paper)
    if not differences.empty:
        figures[f"differences-{section.name}"] = (
            forest(differences),
            "Differences to the base, 95% intervals",
        )
    if shown["flops_per_sample"].notna().any():
        caption = "Quality against forward FLOPs per sample"
        figures[f"quality-cost-{section.name}"] = (quality_against_cost(shown), caption)
    validation = _in_suite_order(validation_frame(models), section)
    if validation.groupby(["architecture", "variant"])["samples"].nunique().max() > 1:
        figures[f"validation-{section.name}"] = (
            validation_curves(validation),
            "Validation over training samples",
        )
    losses = _in_suite_order(loss_frame(models), section)
    if not losses.empty:
        figures[f"loss-{section.name}"] = (loss_curves(losses), "Training loss (running mean)")
    return figures


def differences_frame(section: Section, paper: Paper) -> pd.DataFrame:
    """The section's rows of ``comparisons.csv`` in suite order, with the paper's gain as ``paper_gain``."""
    rows = section.comparisons
    rows = _in_suite_order(rows[rows["diff"].notna() & rows["metric"].isin(summary.METRICS)], section)
    models = {(c.architecture, c.variant) for c in section.contestants}
    rows = rows[[key in models for key in zip(rows["architecture"], rows["variant"], strict=True)]]
    printed = paper_table(section, paper)
    beside = {(c.architecture, c.variant): paper_row(printed, c) for c in section.contestants}
    gains = []
    for row in rows.to_dict("records"):
        of_paper = beside.get((row["architecture"], row["variant"]))
        column = printed.column(row["task"], row["metric"]) if printed else None
        gains.append(of_paper.numbers.get(column) if of_paper and column and not of_paper.base else None)
    return rows.assign(paper_gain=pd.Series(gains, index=rows.index, dtype=float))


def _in_suite_order(frame: pd.DataFrame, section: Section) -> pd.DataFrame:
    """Rows in the order of the section's contestants, references last."""
    order = {(c.architecture, c.variant): number for number, c in enumerate(section.contestants)}
    keys = zip(frame["architecture"], frame["variant"].fillna(""), strict=True)
    position = pd.Series([order.get(key, len(order)) for key in keys], index=frame.index, dtype=int)
    return frame.loc[position.sort_values(kind="stable").index]


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
        _words("Against the paper", against_the_paper(section, numbers, paper)),
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
