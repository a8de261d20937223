"""The runs of a folder, read once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from files.errors import InputError
from harness.records.record import PREDICTIONS_FILE, RECORD_FILE, Record, read_record
from harness.records.select import Selection, select
from harness.records.serving import Serving, read_serving
from harness.records.suite import SUITE_FILE, SuiteRecord, read_suite


@dataclass(frozen=True)
class StoredRuns:
    """``out``'s records, oldest first, its ``suite.json``, None where there is none, and its speeds.

    Where several ran at once, which of them ended or began first is chance: their order is the suite's.
    """

    out: Path
    records: list[Record]
    suite: SuiteRecord | None
    serving: Serving = field(default_factory=Serving)

    @property
    def lacks_predictions(self) -> bool:
        """Whether no run has its predictions beside it, as in results that were kept without them."""
        return not any((record.folder / PREDICTIONS_FILE).is_file() for record in self.records)

    def selections(self) -> Iterator[Selection]:
        """The runs that count for the suite of ``suite.json``, a selection a dataset.

        The datasets are in the suite's order; then come those that it names otherwise, such as a schema file
        by its path. Raises InputError without a ``suite.json``.
        """
        suite = self.suite or read_suite(self.out)
        datasets = {record.dataset for record in self.records if record.suite == suite.name}
        order = suite.datasets
        for dataset in sorted(datasets, key=lambda d: (order.index(d) if d in order else len(order), d)):
            yield select(self.records, suite, dataset)


def read_runs(out: Path) -> StoredRuns:
    """Every record of ``out`` and its suite.

    A folder without ``record.json`` is a run that has not ended, and is passed over.

    Raises InputError where there is no record at all, or a file is damaged or foreign.
    """
    suite = read_suite(out) if (out / SUITE_FILE).is_file() else None
    paths = sorted((out / "runs").glob(f"*/{RECORD_FILE}"))
    records = [read_record(path.parent) for path in paths if not path.parent.name.endswith(".partial")]
    if not records:
        raise InputError(
            f"{out / 'runs'}: holds no finished run; give the folder a suite was run into with --out"
        )
    records.sort(
        key=lambda record: (record.started_at, record.contestant.label, record.world or 0, record.seed)
    )
    if suite and any(record.training and record.training.runs_at_once for record in records):
        place = {spec_hash: number for number, spec_hash in enumerate(suite.spec_hashes)}
        records.sort(key=lambda record: place.get(record.spec_hash, len(place)))
    return StoredRuns(out, records, suite, read_serving(out))
