"""The table of a dataset that fits a column of a paper: differences, size, cost and latency of each model."""

from __future__ import annotations

from harness.records.store import StoredRuns
from reports.cells import POINTS, fixed, model_name, params, short
from reports.files import write_text
from reports.sections import Section, load_sections, shown_metrics
from reports.tables.costs import cost_numbers, used_flops
from reports.tables.markup import Table, latex_document, write_table
from reports.tables.quality import marked_difference, quality_numbers, select_metric
from reports.tables.speeds import milliseconds, shown_batch_size, shown_speeds

DAGGER = "\N{DAGGER}"


def write_compact_tables(stored: StoredRuns) -> None:
    """Write ``tables/compact-<dataset>.tex`` for each dataset, and ``tables/paper.tex``, which shows them."""
    folder = stored.out / "tables"
    tables = [compact_table(section) for section in load_sections(stored) if section.contestants]
    for table in tables:
        write_table(table, folder)
    write_text(folder / "paper.tex", latex_document(tables, of_a_paper=True))


def compact_table(section: Section) -> Table:
    """AUC and UAUC differences of each task in points x 100, parameters, FLOPs, and p99 where measured.

    The base's row holds its means.
    """
    quality = {task: quality_numbers(section, task) for task in section.tasks}
    first = next(iter(quality.values()))
    names = [model_name(row) for row in select_metric(first, "auc") if row["kind"] != "reference"]
    columns: dict[str, list[str]] = {"model": names}
    for task, numbers in quality.items():
        for metric in shown_metrics(section):
            rows = [row for row in select_metric(numbers, metric) if row["kind"] != "reference"]
            columns[f"{task} {metric.upper()}"] = [
                marked_difference(row, fixed(row["mean"], 4), DAGGER) for row in rows
            ]
    ranked = list(columns)[1:]
    costs = cost_numbers(section)
    columns["params"] = list(map(params, costs["dense_params"]))
    columns["FLOPs"] = list(map(short, used_flops(costs)))
    if speeds := shown_speeds(section):
        columns["p99"] = [milliseconds(each, "p99", with_interval=False) for each in speeds.values()]
    table = Table.from_columns(
        f"compact-{section.name}",
        f"Quality and cost on {section.dataset}.",
        costs,
        columns,
        _notes(section),
        ranked=ranked,
    )
    table.groups.extend(section.tasks)
    return table


def _notes(section: Section) -> list[str]:
    to_base = f" to {section.base.display_name}, whose row holds its means" if section.base else ""
    resolved = f"{DAGGER}: resolved after Holm's correction over the column."
    notes = [
        f"AUC and UAUC: differences{to_base}, in points x {POINTS}, means over {section.repeats}. "
        + ("No verdict: the data leak." if section.no_verdict else resolved),
        "params: dense parameters. FLOPs: forward, a sample.",
    ]
    if section.serving is not None:
        notes[1] += f" p99: milliseconds of a call with {shown_batch_size(section.serving)} rows."
    return notes
