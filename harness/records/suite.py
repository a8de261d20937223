"""``OUT/suite.json``: what was asked for when the suite was last run into a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from files.errors import InputError
from harness.records.contestant import Contestant
from harness.records.record import Leaks, Number, Part, read_json

SUITE_FILE = "suite.json"
MEND = "run the suite again into this folder with --out"

# Inferences and views that not every suite is meant for.
Analysis = Literal["tiers", "scaling", "ordering", "active_ratio", "ablations", "agreement", "loss_fits"]
# The papers whose published numbers are kept as data: files of reports/paper/published.
PublishedName = Literal[
    "rankmixer",
    "rankelastor",
    "unimixer",
    "tokenmixer_large",
    "onetrans",
    "hyformer",
    "mixformer",
    "interformer",
    "unirank",
    "bars",
]
_BY_PAPER_TABLE: dict[str, set[Analysis]] = {
    "table1": {"ordering"},
    "figure2": {"ordering"},
    "table4": {"tiers"},
}
_WHERE_DATA_ALLOW: set[Analysis] = {"scaling", "active_ratio", "ablations"}


class LearningRate(Part):
    """The chosen settings at another learning rate; without a ``score`` training diverged."""

    factor: float
    dense_lr: float
    score: Number = None


class TunedContestant(Part):
    """What tuning found for one row on one dataset; all scores are of the validation split.

    ``default`` and ``best`` are the search's, from one seed; ``gain`` is the mean paired difference of the
    chosen settings to the defaults over further seeds, with its standard error. What an earlier version did
    not know is absent, and its ``pruned`` trials hold those that ``diverged``.
    """

    dataset: str
    architecture: str
    variant: str = ""
    metric: str
    trained: int
    pruned: int
    default: Number = None
    best: float
    training: dict[str, Any]
    config: dict[str, Any]
    tokens: dict[str, Any] = Field(default_factory=dict)
    diverged: int | None = None
    out_of_reach: int | None = None
    defaults_kept: bool | None = None
    gain: Number = None
    standard_error: Number = None
    lr_curve: list[LearningRate] = Field(default_factory=list)


class SuiteRecord(Part):
    """A suite as it was last run.

    ``base`` names the architecture that the others are compared with (empty: none), ``contrasts`` are pairs
    of rows that it compares directly, ``spec_hashes`` the runs that it asked for, ``leaks`` what it found in
    each dataset, and what is acknowledged there. ``worlds`` are those of each dataset that was run in
    several, ``partial`` says what an architecture's defaults leave out of its paper's model. ``analyses``
    None: those that ``paper_table`` implies, and others where the data allow them. ``published`` are the
    papers whose comparisons stand beside its own.
    """

    name: str
    description: str = ""
    paper_table: str | None = None
    published: list[PublishedName] = Field(default_factory=list)
    analyses: list[Analysis] | None = None
    base: str
    architectures: list[Contestant]
    contrasts: list[tuple[Contestant, Contestant]] = Field(default_factory=list)
    datasets: list[str] = Field(default_factory=list)
    partial: dict[str, str] = Field(default_factory=dict)
    worlds: dict[str, list[int]] = Field(default_factory=dict)
    seeds: int | None = None
    tasks: list[str] | None = None
    budget: dict[str, Any] | None = None
    sizes: list[dict[str, Any]] = Field(default_factory=list)
    tuned: list[TunedContestant] = Field(default_factory=list)
    spec_hashes: list[str] = Field(default_factory=list)
    leaks: dict[str, Leaks] = Field(default_factory=dict)
    command: str = ""

    @field_validator("architectures", mode="before")
    @classmethod
    def _rows_without_fields(cls, rows: Any) -> Any:
        """Rows of an earlier version have a name alone."""
        return [_row(row) for row in rows] if isinstance(rows, list) else rows

    def wants(self, analysis: Analysis) -> bool:
        """Whether the suite declares an analysis or, where it declares none, is known for it."""
        if self.analyses is not None:
            return analysis in self.analyses
        return analysis in _WHERE_DATA_ALLOW | _BY_PAPER_TABLE.get(self.paper_table or "", set())

    def untuned(self, dataset: str) -> str:
        """What a page says beside its title where no row was tuned on the dataset; empty where one was."""
        if any(row.dataset == dataset for row in self.tuned):
            return ""
        return (
            f"Untuned on {dataset}: every model was trained with its defaults, which may suit some better "
            "than others; tuned, a difference may have another size or sign."
        )

    def as_json(self) -> dict[str, Any]:
        """The fields that it was built with, as plain JSON."""
        return self.model_dump(mode="json", exclude_unset=True)


def _row(row: Any) -> Any:
    if isinstance(row, dict) and isinstance(row.get("architecture"), str) and "series" not in row:
        variant = row.get("variant") or ""
        return Contestant.from_name(row["architecture"], variant) if isinstance(variant, str) else row
    return row


def read_suite(out: Path) -> SuiteRecord:
    """``out/suite.json``; InputError if it is not there, damaged, or lacks a field."""
    path = out / SUITE_FILE
    if not path.is_file():
        raise InputError(f"{path} is not there: {MEND}")
    return read_json(path, SuiteRecord, "suite description", MEND)
