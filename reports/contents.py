"""The content of a report, before any page is made: words, tables and figures by section.

``report.md`` and the web page are two ways of showing the same :class:`Contents`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.records.record import Record
from harness.records.store import StoredRuns
from harness.records.suite import SuiteRecord
from reports import summary
from reports.comparisons import FILES
from reports.figures.drawing.saving import Figures
from reports.figures.sections import front_figures, section_figures
from reports.paper.comparison import printed_table
from reports.paper.printed import load_paper
from reports.paper.words import against_the_paper
from reports.sections import Section, load_sections
from reports.tables.analyses.agreement import agreement_tables
from reports.tables.analyses.learning_curves import learning_curve_tables
from reports.tables.analyses.loss_fits import loss_fit_tables
from reports.tables.analyses.oracle_gap import oracle_gap_tables
from reports.tables.analyses.ordering import ordering_tables, ordering_words
from reports.tables.analyses.readings import contrast_tables, reading_tables
from reports.tables.analyses.scaling import scaling_tables, scaling_words
from reports.tables.analyses.tiers import by_user_activity, tier_tables
from reports.tables.analyses.token_ranks import token_rank_tables
from reports.tables.costs import cost_table
from reports.tables.main import main_table, ranked_table
from reports.tables.markup import Table
from reports.tables.published import printed_tables, published_tables, published_words
from reports.tables.quality import quality_numbers, quality_tables
from reports.tables.speeds import speed_table
from reports.tables.tuning import tuning_tables
from reports.verdict import in_short


@dataclass(frozen=True)
class Words:
    """Sentences under a title."""

    title: str
    bullets: list[str]


@dataclass(frozen=True)
class Part:
    """One dataset of one suite, or the measured speeds.

    ``in_short`` is the verdict, ``front`` and ``ranked`` the figures and the table that a page shows with
    it. ``overview`` says what was compared, what was found and what cannot be concluded; ``more`` has the
    details. Words without a bullet are left out.
    """

    name: str  # a stem for anchors and files
    title: str
    in_short: str
    overview: list[Words]
    tables: list[Table]
    more: list[Words] = field(default_factory=list)
    figures: Figures = field(default_factory=dict)
    environment: list[str] = field(default_factory=list)
    front: Figures = field(default_factory=dict)
    ranked: Table | None = None


@dataclass(frozen=True)
class Contents:
    """A whole report, of runs or of measured speeds."""

    title: str
    descriptions: list[str]
    parts: list[Part]
    data: list[str]  # the files beside the report that hold every number
    commands: list[str] = field(default_factory=list)
    printed: list[Table] = field(default_factory=list)  # papers' own tables
    page: str = "report.md"
    citation: str = ""  # of the paper whose numbers stand beside ours
    definitions: list[str] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    # The base's run of the same dataset, world and seed, by the folder of each run that has one.
    base_runs: dict[str, Record] = field(default_factory=dict)

    @property
    def printed_title(self) -> str:
        return "The paper's own table" if len(self.printed) == 1 else "The papers' own tables"

    @property
    def tables(self) -> list[Table]:
        return [*(table for part in self.parts for table in part.tables), *self.printed]


NOT_THE_PAPERS_DATA = (
    "The data here are not the paper's",
    "its logs, model sizes and training are its own, and its numbers stand beside ours as context.",
)
WHAT_TO_KEEP_IN_MIND = "What to keep in mind, and what cannot be concluded"


def gather(stored: StoredRuns) -> Contents:
    """The contents of the report on a folder of runs.

    Raises InputError where a file of comparisons is damaged; the message names it and the mend.
    """
    sections = load_sections(stored)
    paper = load_paper()
    suites = [section.suite for section in sections]
    keys = dict.fromkeys(suite.paper_table for suite in suites)
    more = ["serving.csv", *(f"{name}.csv" for name in FILES)]
    untuned = [section.suite.untuned(section.dataset) for section in sections]
    parts = [_part(section) for section in sections]
    printed = [printed_table(key, paper) for key in keys if key in paper.tables]
    published = {table.name: table for section in sections for table in printed_tables(section)}
    return Contents(
        title=f"Report: {', '.join(dict.fromkeys(suite.name for suite in suites))}",
        descriptions=list(dict.fromkeys(filter(None, [*map(_description, suites), *untuned]))),
        commands=list(dict.fromkeys(suite.command for suite in suites if suite.command)),
        parts=parts,
        printed=[*printed, *published.values()],
        data=["results.csv", "results.parquet", *(n for n in more if (stored.out / n).is_file())],
        citation=str(paper.citation) if printed or any(map(_has_papers_column, parts)) else "",
        definitions=summary.DEFINITIONS,
        records=stored.records,
        base_runs={name: run for section in sections for name, run in _base_runs(section).items()},
    )


def _base_runs(section: Section) -> dict[str, Record]:
    if section.base is None:
        return {}
    by_seed = {(run.world, run.seed): run for run in section.select_finished(section.base)}
    others = [run for run in section.records if run.kind == "model" and run.contestant != section.base]
    pairs = [(run.folder.name, by_seed.get((run.world, run.seed))) for run in others]
    return {name: base for name, base in pairs if base is not None}


def _description(suite: SuiteRecord) -> str:
    """What the suite's file says of it; nothing where a setting was changed, since it may be untrue then."""
    return "" if "--set" in suite.command.split() else suite.description


def _has_papers_column(part: Part) -> bool:
    return any(title.startswith("paper") for table in part.tables for title in table.header)


def _part(section: Section) -> Part:
    numbers = {task: quality_numbers(section, task) for task in section.tasks}
    against = [*against_the_paper(section, numbers), *ordering_words(section)]
    verdicts = [
        Words("How quality grows with size", scaling_words(section)),
        Words("Against the paper", against),
        Words("By user activity", by_user_activity(section)),
    ]
    tables = _tables(section)
    return Part(
        name=section.name,
        title=f"{section.dataset} ({section.suite.name})",
        in_short=in_short(section, numbers),
        overview=_not_empty(
            Words("What was compared", summary.compared(section)),
            Words(WHAT_TO_KEEP_IN_MIND, summary.cautions(section, numbers)),
        ),
        more=_not_empty(
            *([] if section.no_verdict else verdicts),
            Words("Beside published comparisons", published_words(section)),
            Words("Failed runs", summary.failures(section)),
        ),
        tables=tables,
        figures=section_figures(section),
        environment=summary.environments(section),
        front=front_figures(section),
        ranked=ranked_table(section, tables[0]) if section.contestants and section.tasks else None,
    )


def _not_empty(*words: Words) -> list[Words]:
    return [part for part in words if part.bullets]


def _tables(section: Section) -> list[Table]:
    tables = main_table(section)
    tables += [table for task in section.tasks for table in quality_tables(section, task)]
    tables += published_tables(section)
    tables += oracle_gap_tables(section)
    tables += reading_tables(section)
    tables += contrast_tables(section)
    tables += tier_tables(section)
    tables += [*scaling_tables(section), *ordering_tables(section)]
    tables += [*learning_curve_tables(section), *loss_fit_tables(section)]
    tables += [*agreement_tables(section), *token_rank_tables(section)]
    tables += tuning_tables(section)
    tables += [cost_table(section)] if section.contestants else []
    return tables + speed_table(section)
