"""``leaderboard.html``: the kept results in one page, by log, task, budget and metric."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from harness.records.listed import display_name
from harness.records.store import read_runs
from reports.cells import is_missing, size_words
from reports.files import write_text
from reports.page.templating import templates
from reports.sections import Section, load_sections, shown_metrics, slug

COSTS = ("dense_params", "flops", "latency_ms_p99")  # the FLOPs of the experts that a sample uses


def write_leaderboard(results: Iterable[Path], page: Path) -> Path:
    """Write the page from drawn reports, each in a folder beside it; its path.

    Raises InputError where a folder's records are damaged.
    """
    entries = [entry for out in results for entry in leaderboard_entries(out)]
    text = json.dumps(entries, separators=(",", ":"), allow_nan=False)
    data = Markup(text.replace("<", "\\u003c"))  # no element of the page can be closed from within
    write_text(page, templates().get_template("leaderboard.html").render(data=data, number=len(entries)))
    return page


def leaderboard_entries(out: Path) -> Iterator[dict[str, Any]]:
    """One table for each dataset, budget, task and metric of a drawn report, its best model first.

    Each has ``suite``, ``log``, ``budget``, ``task``, ``metric``, ``base``, ``page``, ``picture`` (empty
    without one) and ``rows``: model, mean, difference with its interval (fractions, None where unknown),
    resolved, and the costs.
    """
    for section in load_sections(read_runs(out)):
        if not section.contestants:
            continue
        main = pd.read_csv(out / "tables" / f"main-{section.name}.csv", keep_default_na=False, na_values=[""])
        models = main[main["kind"] == "model"].fillna({"variant": ""}).to_dict("records")
        for task in section.tasks:
            picture = f"figures/front-differences-{section.name}-{slug(task)}.svg"
            shared = {
                "suite": section.suite.name,
                "log": section.dataset,
                "task": task,
                "base": section.base_name,
                "page": f"{out.name}/report/index.html#part-{section.name}",
                "runs": f"{out.name}/report/index.html#all-runs",
                "picture": f"{out.name}/{picture}" if (out / picture).is_file() else "",
            }
            for budget, rows in _by_budget(section, models).items():
                for metric in shown_metrics(section):
                    found = [_row(row, f"{task}_{metric}") for row in rows]
                    found.sort(key=lambda row: -row[1] if row[1] is not None else 1)
                    yield shared | {"budget": budget, "metric": metric.upper(), "rows": found}


def _by_budget(section: Section, models: list[dict]) -> dict[str, list[dict]]:
    """The rows of the main table by the budget that they were matched to."""
    targets = {c.key: section.runs_of(c)[0].budget for c in section.contestants}
    found: dict[str, list[dict]] = {}
    for row in models:
        budget = targets.get((row["architecture"], row["variant"]))
        found.setdefault(size_words(budget.kind, budget.target) if budget else "none", []).append(row)
    return found


def _row(row: dict, quality: str) -> list[Any]:
    numbers = [row[f"{quality}_{name}"] for name in ("mean", "diff", "diff_low", "diff_high")]
    active = row["active_flops_per_sample"]
    row = row | {"flops": row["flops_per_sample"] if is_missing(active) else active}
    costs = [row.get(name) for name in COSTS]
    known = [None if is_missing(value) else float(value) for value in (*numbers, *costs)]
    resolved = row[f"{quality}_resolved"] == "yes"
    return [display_name(row["architecture"], row["variant"]), *known[:4], resolved, *known[4:]]
