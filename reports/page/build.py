"""``OUT/report/``: ``index.html``, and ``runs/<folder of the run>.html`` for each run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from harness.records.record import Record
from reports.cells import METRICS, fixed, grouped
from reports.contents import NOT_THE_PAPERS_DATA, Contents
from reports.files import write_text
from reports.page.figures import figure_views
from reports.page.run_pages import page_name, run_view
from reports.page.tables import TableView, page_table, table_view
from reports.page.templating import templates
from reports.sections import has_users


def write_pages(contents: Contents, out: Path) -> Path:
    """Write the index and a page a run into ``out/report``, from figures saved before. The index's path.

    Pages of runs that are no longer in ``out/runs`` are removed.
    """
    report = out / "report"
    run_template = templates().get_template("run.html")
    for record in contents.records:
        view = run_view(record, contents.base_runs.get(record.folder.name))
        write_text(report / "runs" / page_name(record), run_template.render(run=view))
    kept = {page_name(record) for record in contents.records}
    for page in list(report.glob("runs/*.html")):
        if page.name not in kept:
            page.unlink()
    write_text(report / "index.html", index_page(contents, out / "figures"))
    return report / "index.html"


def index_page(contents: Contents, figures: Path) -> str:
    """The HTML of the report; ``figures`` holds the saved SVGs."""
    template = templates().get_template("index.html")
    return template.render(
        contents=contents,
        not_the_papers_data=NOT_THE_PAPERS_DATA,
        tables=[list(map(table_view, part.tables)) for part in contents.parts],
        figures=[figure_views(part.figures, figures) for part in contents.parts],
        front=[figure_views(part.front, figures) for part in contents.parts],
        ranked=[
            # without files: it repeats a part of another table, whose files hold it
            replace(table_view(part.ranked), stem="") if part.ranked else None
            for part in contents.parts
        ],
        printed=[table_view(table) for table in contents.printed],
        runs=runs_table(contents.records) if contents.records else None,
    )


# --- The table of runs ------------------------------------------------------------------------------------


def runs_table(records: list[Record]) -> TableView:
    """One row for each run, linked to its page: status, test metrics of each task, seconds, when it began."""
    tasks = list(dict.fromkeys(task for record in records for task in record.metrics))
    shown = [metric for metric in METRICS if metric == "auc" or has_users(records)]
    header = ["run", "status", "dataset", "seed"]
    header += [f"{task}: {metric.upper()}" for task in tasks for metric in shown]
    header += ["training s", "began"]
    rows = [_run_row(record, tasks, shown) for record in records]
    view = page_table("runs", f"All {len(records)} runs, each with its own page", header, rows)
    links = [f"runs/{quote(page_name(record))}" for record in records]
    linked = [[replace(row[0], href=link), *row[1:]] for row, link in zip(view.rows, links, strict=True)]
    return replace(view, rows=linked)


def _run_row(record: Record, tasks: list[str], metrics: list[str]) -> list[str]:
    measured = [
        fixed(getattr(record.metrics[task], metric) if task in record.metrics else None, 4)
        for task in tasks
        for metric in metrics
    ]
    seconds = fixed(record.training.train_seconds if record.training else None, 1)
    named = [record.contestant.display_name, record.status, record.dataset, grouped(record.seed)]
    return [*named, *measured, seconds, record.started_at]
