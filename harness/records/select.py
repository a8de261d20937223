"""Which runs of a folder count: the one answer for comparisons, tables and figures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from harness.records.contestant import Contestant
from harness.records.record import Record
from harness.records.suite import SuiteRecord

FITTED_REFERENCES = ("gbdt", "gbdt_unordered", "logistic")  # trained on every feature, as the models are
ON_REQUEST = ("gbdt_unordered",)  # references that a suite has only if it names them
# Their order in tables; others follow.
REFERENCES = ("oracle", *FITTED_REFERENCES, "duration_only", "constant")


@dataclass(frozen=True)
class Selection:
    """The runs of one suite on one dataset that count.

    ``records`` have one setting a contestant, failed runs among them; ``superseded`` are the other runs of
    the same folder, which no mean or comparison may mix in. ``contestants`` are the models in the suite's
    order, the base first; ``base`` is None where the base did not run.
    """

    suite: SuiteRecord
    dataset: str
    records: list[Record]
    superseded: list[Record]
    contestants: list[Contestant]
    base: Contestant | None
    references: list[Contestant]

    def runs_of(self, contestant: Contestant) -> list[Record]:
        return [record for record in self.records if record.contestant == contestant]

    def finished(self) -> list[Record]:
        """Finished runs: models in the suite's order, references by name; worlds, then seeds ascending."""
        order = self.suite.architectures
        return sorted(
            (record for record in self.records if record.status == "finished"),
            key=lambda record: (
                _place(record.contestant, order),
                record.contestant.key,
                -1 if record.world is None else record.world,
                record.seed,
            ),
        )


def select(records: list[Record], suite: SuiteRecord, dataset: str) -> Selection:
    """The runs on ``dataset`` that count for ``suite``, among the records of its folder.

    Models that the suite has no row for do not count. Where a contestant was run under several settings,
    those that the suite last asked for count, and without such, those of the run that began last; every seed
    and world of these settings counts. Once a model has run as the suite last asked, a model of the same
    dataset that has not does not count: what it was before may have been trained in another way.
    """
    here = [record for record in records if (record.suite, record.dataset) == (suite.name, dataset)]
    by_age = sorted(here, key=lambda record: (record.spec_hash in suite.spec_hashes, record.started_at))
    settings = {(record.kind, record.contestant): record.settings for record in by_age}
    models = _models_that_count(here, suite)
    counted = [
        record
        for record in here
        if record.settings == settings[record.kind, record.contestant]
        and (record.is_reference or record.contestant in models)
    ]
    numbers = {id(record) for record in counted}
    base = Contestant(suite.base) if suite.base else None
    contestants = _in_order(_distinct(counted, "model"), suite.architectures)
    return Selection(
        suite=suite,
        dataset=dataset,
        records=counted,
        superseded=[record for record in here if id(record) not in numbers],
        contestants=sorted(contestants, key=lambda contestant: contestant != base),
        base=next((contestant for contestant in contestants if contestant == base), None),
        references=sorted(
            _distinct(counted, "reference"), key=lambda who: _place(who.architecture, REFERENCES)
        ),
    )


def _models_that_count(records: list[Record], suite: SuiteRecord) -> set[Contestant]:
    models = set(_distinct(records, "model")) & set(suite.architectures)
    as_asked = {record.contestant for record in records if record.spec_hash in suite.spec_hashes} & models
    return as_asked or models


def suite_from_records(name: str, records: list[Record], base: str = "") -> SuiteRecord:
    """A suite whose description is not in the folder, as far as its records show it."""
    contestants = _distinct([record for record in records if record.suite == name], "model")
    base = base or (contestants[0].architecture if contestants else "")
    return SuiteRecord(
        name=name,
        analyses=["tiers", "scaling", "active_ratio", "ablations"],
        base=base,
        architectures=contestants,
    )


def _distinct(records: list[Record], kind: str) -> list[Contestant]:
    return list(dict.fromkeys(record.contestant for record in records if record.kind == kind))


def _in_order(contestants: list[Contestant], order: list[Contestant]) -> list[Contestant]:
    return sorted(contestants, key=lambda contestant: _place(contestant, order))


def _place(item: Any, order: Iterable[Any]) -> int:
    known = list(order)
    return known.index(item) if item in known else len(known)
