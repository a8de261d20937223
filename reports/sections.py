"""The parts of a report: what ran on one dataset for one suite, in the suite's order, base first."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from harness.evaluation.quality import QUALITIES, quality
from harness.evaluation.verdict import doubts, known_leaks, withheld
from harness.records.contestant import Contestant
from harness.records.record import Record
from harness.records.select import Selection, select, suite_from_records
from harness.records.serving import ServingPass
from harness.records.store import StoredRuns
from harness.records.suite import SuiteRecord
from reports.cells import METRICS
from reports.comparisons import FILES, load_inferred
from reports.no_verdict import acknowledged, no_verdict


@dataclass(frozen=True)
class Section(Selection):
    """One dataset of one suite: the runs that count, and what was inferred from them.

    Where ``no_verdict`` says why none is given, no row of the comparisons is called resolved or not.
    """

    name: str  # a stem for the names of files
    comparisons: pd.DataFrame
    variants: pd.DataFrame  # their differences to the plain row of their own architecture
    contrasts: pd.DataFrame  # between the pairs of rows that the suite declares
    pairs: pd.DataFrame  # of every two models of one size; empty where the suite wants no order
    tiers: pd.DataFrame  # within tiers of user activity; empty where the suite has no such comparison
    tier_metrics: pd.DataFrame
    agreement: pd.DataFrame
    oracle_gap: pd.DataFrame
    loss_fits: pd.DataFrame
    no_verdict: str
    acknowledged: list[str]
    serving: ServingPass | None  # how fast the models answer, where that was measured

    @property
    def tasks(self) -> list[str]:
        return list(dict.fromkeys(task for record in self.records for task in record.tasks))

    @property
    def metrics(self) -> tuple[str, ...]:
        """What its models are compared in: AUC alone where rows belong to no user."""
        return QUALITIES if has_users(self.records) else ("auc",)

    @property
    def base_name(self) -> str:
        return self.base.display_name if self.base else "the base"

    @property
    def num_worlds(self) -> int:
        """How many worlds of the dataset were run; 0 where none were asked for."""
        return len({record.world for record in self.records if record.world is not None})

    @property
    def repeats(self) -> str:
        """What means and their intervals are over."""
        return "worlds" if self.num_worlds > 1 else "seeds"

    @property
    def drawn_anew(self) -> str:
        """What the intervals of differences are over."""
        if self.num_worlds < 2 and "uauc" not in self.metrics:
            return "rows and seeds"
        if self.num_worlds < 2:
            return "users and seeds"
        return "worlds (and users, if all worlds have the same test rows; of one world: users and seeds)"

    @cached_property
    def quality(self) -> dict[str, pd.DataFrame]:
        """:func:`harness.evaluation.quality.quality` of each task."""
        models = {contestant: self.runs_of(contestant) for contestant in self.contestants}
        references = {reference: self.runs_of(reference) for reference in self.references}
        return {task: quality(models, references, self.base, task, self.comparisons) for task in self.tasks}

    def select_finished(self, contestant: Contestant) -> list[Record]:
        return [record for record in self.runs_of(contestant) if record.status == "finished"]


def has_users(records: list[Record]) -> bool:
    """Whether test rows belong to users; so it is said where nothing was measured."""
    measured = [metrics for record in records for metrics in record.metrics.values()]
    return not measured or any(metrics.users is not None for metrics in measured)


def shown_metrics(section: Section) -> list[str]:
    """Those of ``METRICS`` that the section has."""
    return [metric for metric in METRICS if metric in section.metrics]


def slug(text: str) -> str:
    """Letters, digits, dots, dashes and underscores of ``text``; the rest becomes underscores."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in text).lstrip(".")


def load_sections(stored: StoredRuns) -> list[Section]:
    """One section a suite and dataset, in the order in which the datasets were asked for or first run."""
    inferred = {name: load_inferred(stored.out, name) for name in FILES}
    keys = list(dict.fromkeys((record.suite, record.dataset) for record in stored.records))
    one_suite = len({suite for suite, _ in keys}) == 1
    sections = []
    for suite_name, dataset in keys:
        suite = _suite(stored, suite_name, inferred["comparisons"])
        name = slug(dataset if one_suite else f"{suite_name}-{dataset}")
        selection = select(stored.records, suite, dataset)
        measured = stored.serving.on(suite.name, dataset)
        serving = measured.of_runs(selection.records) if measured else None
        sections.append(_section(name, selection, inferred, serving))
    return sorted(sections, key=_position)


def _position(section: Section) -> int:
    """The place of its dataset in the suite; those that it does not name come last."""
    order = list(section.suite.datasets)
    return order.index(section.dataset) if section.dataset in order else len(order)


def _suite(stored: StoredRuns, name: str, comparisons: pd.DataFrame) -> SuiteRecord:
    if stored.suite is not None and stored.suite.name == name:
        return stored.suite
    bases = comparisons.loc[comparisons["suite"] == name, "base"].dropna().unique()
    return suite_from_records(name, stored.records, str(bases[0]) if len(bases) else "")


def _section(
    name: str, selection: Selection, inferred: dict[str, pd.DataFrame], serving: ServingPass | None
) -> Section:
    """The section with its verdicts, or the reason why its data allow none."""
    suite, dataset = selection.suite, selection.dataset
    tasks = list(dict.fromkeys(task for record in selection.records for task in record.tasks))
    found = doubts(selection.records, tasks, known_leaks(suite.leaks.get(dataset), selection.records))

    def select_rows(file: str, frame: pd.DataFrame) -> pd.DataFrame:
        wanted = suite.wants("tiers") or not file.startswith("tier")
        frame = frame[(frame["suite"] == suite.name) & (frame["dataset"] == dataset) & wanted]
        frame = frame.reset_index(drop=True)
        return withheld(frame) if found.withhold else frame

    parts = vars(selection) | {file: select_rows(file, frame) for file, frame in inferred.items()}
    return Section(
        **parts,
        name=name,
        no_verdict=no_verdict(found),
        acknowledged=acknowledged(found),
        serving=serving,
    )
