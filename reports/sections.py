"""The parts of a report: what ran on one dataset for one suite, in the suite's order, base first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from reports.comparisons import load_comparisons, load_tier_metrics, load_tiers, load_variants
from reports.no_verdict import acknowledged, known_leaks, no_verdict, withheld
from reports.records import Contestant, Record, Suite, load_suite

REFERENCES = ("oracle", "duration_only", "constant")  # their order in tables; others follow


@dataclass(frozen=True)
class Section:
    """One dataset of one suite.

    ``records`` have one setting a contestant; ``superseded`` are runs of other settings that the same
    folder holds, which no mean or comparison may mix in. ``contestants`` are in the suite's order, the base
    first; ``base`` is None where the base did not run. Where ``no_verdict`` says why none is given, no row of
    the comparisons is called resolved or not.
    """

    name: str  # a stem for the names of files
    suite: Suite
    dataset: str
    records: list[Record]
    superseded: list[Record]
    comparisons: pd.DataFrame
    contestants: list[Contestant]
    base: Contestant | None
    references: list[Contestant]
    # Variants' differences to the plain row of their own architecture.
    variants: pd.DataFrame = field(default_factory=pd.DataFrame)
    # Within tiers of user activity; empty where the suite has no such comparison.
    tiers: pd.DataFrame = field(default_factory=pd.DataFrame)
    tier_metrics: pd.DataFrame = field(default_factory=pd.DataFrame)
    no_verdict: str = ""
    acknowledged: list[str] = field(default_factory=list)

    @property
    def tasks(self) -> list[str]:
        return list(dict.fromkeys(task for record in self.records for task in record.tasks))

    def runs_of(self, contestant: Contestant) -> list[Record]:
        return [record for record in self.records if record.contestant == contestant]

    def finished(self, contestant: Contestant) -> list[Record]:
        return [record for record in self.runs_of(contestant) if record.status == "finished"]


def slug(text: str) -> str:
    """Letters, digits, dots, dashes and underscores of ``text``; the rest becomes underscores."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in text).lstrip(".")


def load_sections(records: list[Record], out: Path) -> list[Section]:
    """One section a suite and dataset, in the order in which the datasets were asked for or first run."""
    comparisons = load_comparisons(out)
    variants, tiers, tier_metrics = load_variants(out), load_tiers(out), load_tier_metrics(out)
    keys = list(dict.fromkeys((record.suite, record.dataset) for record in records))
    sections = []
    for suite_name, dataset in keys:
        mine = [record for record in records if (record.suite, record.dataset) == (suite_name, dataset)]
        mine_compared = _of_section(comparisons, suite_name, dataset)
        suite = load_suite(out, suite_name) or _suite_from_records(suite_name, mine, mine_compared)
        one_suite = all(name == suite_name for name, _ in keys)
        name = slug(dataset if one_suite else f"{suite_name}-{dataset}")
        section = _section(name, suite, dataset, mine, mine_compared)
        sections.append(
            _judged(
                replace(
                    section,
                    variants=_of_section(variants, suite_name, dataset),
                    tiers=_of_section(tiers, suite_name, dataset),
                    tier_metrics=_of_section(tier_metrics, suite_name, dataset),
                )
            )
        )
    return sorted(sections, key=lambda section: _position(section.dataset, section.suite.datasets))


def _judged(section: Section) -> Section:
    """The section with what its data allow to be said: verdicts, or why there are none."""
    leaks = known_leaks(section.suite.leaks.get(section.dataset), section.records)
    section = replace(
        section,
        no_verdict=no_verdict(section.records, section.tasks, leaks),
        acknowledged=acknowledged(section.records, section.tasks, leaks),
    )
    if not section.no_verdict:
        return section
    return replace(
        section,
        comparisons=withheld(section.comparisons),
        variants=withheld(section.variants),
        tiers=withheld(section.tiers),
    )


def _of_section(rows: pd.DataFrame, suite: str, dataset: str) -> pd.DataFrame:
    return rows[(rows["suite"] == suite) & (rows["dataset"] == dataset)].reset_index(drop=True)


def _section(
    name: str, suite: Suite, dataset: str, records: list[Record], comparisons: pd.DataFrame
) -> Section:
    asked_for_last = sorted(
        records, key=lambda record: (record.spec_hash in suite.spec_hashes, record.started_at)
    )
    current = {(record.kind, record.contestant): record.settings for record in asked_for_last}
    not_asked_for = _not_asked_for(suite, records)
    kept = [
        record
        for record in records
        if current[record.kind, record.contestant] == record.settings
        and not (record.kind == "model" and record.contestant in not_asked_for)
    ]
    contestants = _in_order(suite, _distinct(kept, "model"))
    base = Contestant(architecture=suite.base) if suite.base else None
    return Section(
        name=name,
        suite=suite,
        dataset=dataset,
        records=kept,
        superseded=[record for record in records if record not in kept],
        comparisons=comparisons,
        contestants=sorted(contestants, key=lambda contestant: contestant != base),
        base=base if base in contestants else None,
        references=sorted(_distinct(kept, "reference"), key=lambda r: _position(r.architecture, REFERENCES)),
    )


def _not_asked_for(suite: Suite, records: list[Record]) -> set[Contestant]:
    """Models without a run as the suite last asked, where others have one: no table may hold both.

    They have yet to run so, or the suite no longer has them.
    """
    models = set(_distinct(records, "model"))
    as_asked = {record.contestant for record in records if record.spec_hash in suite.spec_hashes} & models
    return models - as_asked if as_asked else set()


def _distinct(records: list[Record], kind: str) -> list[Contestant]:
    return list(dict.fromkeys(record.contestant for record in records if record.kind == kind))


def _in_order(suite: Suite, contestants: list[Contestant]) -> list[Contestant]:
    return sorted(contestants, key=lambda contestant: _position(contestant, suite.architectures))


def _position(item: object, order: Iterable[object]) -> int:
    known = list(order)
    return known.index(item) if item in known else len(known)


def _suite_from_records(name: str, records: list[Record], comparisons: pd.DataFrame) -> Suite:
    """What can be said of a suite whose description is not in the folder."""
    contestants = _distinct(records, "model")
    bases = comparisons["base"].dropna().unique()
    base = str(bases[0]) if len(bases) else (contestants[0].architecture if contestants else "")
    return Suite(name=name, base=base, architectures=contestants)
