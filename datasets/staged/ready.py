"""A staged folder, checked as strictly as raw files are, and brought to where encoding begins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from datasets.prepare.encode import Ready
from datasets.prepare.learn import Counted, Learned, learn, learned_tables
from datasets.prepare.order import CHUNK_ROWS, Order, Part, Run
from datasets.prepare.split import SPLITS, given_bounds, split_code
from datasets.prepare.threads import in_order, usable_cores, workers_for
from datasets.raw.text import POLARS_ERRORS, first_line
from datasets.staged.counted import checked_moments, checked_vocabulary, counted_elements
from datasets.staged.folder import COUNTS, MANIFEST, STAGE_AGAIN, StagedTable
from datasets.staged.rows import Facts, check_times, check_types, checked_rows, together
from files.checksums import sha256_of
from files.errors import InputError


class RowFile(NamedTuple):
    """A file of staged rows, and the number of its split."""

    path: Path
    split: int


def ready_folder(table: StagedTable, scratch: Path) -> Ready:
    """The folder's rows in order, and what they were counted to hold; ``scratch`` gets links to its files.

    Raises InputError, which names the file, where anything is not as `datasets.staged.folder` says. Memory:
    for each core at work a chunk of rows; the times of a file; the categories that are kept.
    """
    schema = table.schema
    _check_sums(table)
    files = _row_files(table)
    try:
        types = check_types(schema, table.time_type, [file.path for file in files])
        if table.time_type is not None:
            for number in range(len(SPLITS)):
                check_times([file.path for file in files if file.split == number], table.time_type)
        links = _links(files, scratch)
        order = _in_order_of_names(links)
        bounds, clock = given_bounds(schema, table.time_type)
        code = split_code(schema, bounds, links)
        facts = _checked(table, files, order, code)
        counted = Counted(
            {
                name: checked_vocabulary(table, name, features, types[name], facts.elements[name])
                for name, features in learned_tables(schema).items()
            },
            checked_moments(table, facts.moments),
        )
        learned = learn(schema, links, code, counted)
    except POLARS_ERRORS as error:
        raise InputError(f"{table.path}: cannot be read ({first_line(error)}); {STAGE_AGAIN}") from error
    return Ready(order, learned, table.time_type, clock)


def check_encoded(table: StagedTable, learned: Learned, coverage: dict[str, dict[str, int]]) -> None:
    """InputError where the folder changed meanwhile, or a count is not that of the training rows.

    Unseen elements of training rows, whose ``coverage`` this is, are just those of the categories that were
    counted and that min_count or max_size left out.
    """
    table.check_unchanged()
    for name, features in learned_tables(table.schema).items():
        left_out = counted_elements(table, name) - int(learned.vocabularies[name].table["count"].sum())
        unseen = sum(coverage[feature.name]["unseen"] for feature in features)
        if unseen != left_out:
            raise InputError(
                f"{table.path / COUNTS / name}: some category's count is not that of the training rows, of "
                f"which {unseen:,} values have no category, and by the counts {left_out:,}; count them again"
            )


def _check_sums(table: StagedTable) -> None:
    names = list(table.manifest.files)

    def sha256(name: str) -> str:
        return sha256_of(table.path / name)

    for name, found in zip(names, in_order(sha256, names, usable_cores()), strict=True):
        if found != table.manifest.files[name]:
            raise InputError(
                f"{table.path / name}: is not the file that {MANIFEST} describes (sha256 differs); "
                f"{STAGE_AGAIN}"
            )


def _row_files(table: StagedTable) -> list[RowFile]:
    """The files that have rows, split by split; InputError where there are not as many as stated."""
    found = []
    for number, split in enumerate(SPLITS):
        total = 0
        for file in table.rows_of(split):
            try:
                rows = pq.read_metadata(file).num_rows
            except (pa.ArrowException, OSError) as error:
                raise InputError(f"{file}: is no parquet file ({first_line(error)}); {STAGE_AGAIN}") from None
            total += rows
            if rows:
                found.append(RowFile(file, number))
        if total != (stated := table.manifest.rows[split]):
            raise InputError(
                f"{table.path / split}: has {total:,} rows, and {MANIFEST} says {stated:,}; {STAGE_AGAIN}"
            )
    if not found:
        raise InputError(f"{table.path}: no split has any rows; {STAGE_AGAIN}")
    return found


def _links(files: list[RowFile], scratch: Path) -> list[Path]:
    """Links to the files, which encoding removes one after the other."""
    links = [scratch / f"{number:06d}.parquet" for number in range(len(files))]
    for link, file in zip(links, files, strict=True):
        link.symlink_to(file.path.absolute())
    return links


def _in_order_of_names(links: list[Path]) -> Order:
    runs = [Run.of([link]) for link in links]
    chunks = [
        [Part(number, start, min(start + CHUNK_ROWS, run.ends[-1]))]
        for number, run in enumerate(runs)
        for start in range(0, run.ends[-1], CHUNK_ROWS)
    ]
    return Order(runs, chunks, timed=False)


def _checked(table: StagedTable, files: list[RowFile], order: Order, code: pl.Expr) -> Facts:
    """All rows, chunk by chunk; what the training rows hold."""
    numbers = range(len(order.chunks))

    def of_chunk(number: int) -> Facts:
        [part] = order.chunks[number]
        file = files[part.run]
        rows = order.read((number, number + 1))
        return checked_rows(table.schema, rows, code, file.split, file.path, part.first)

    found: Iterator[Facts] = in_order(of_chunk, numbers, workers_for(order.files))
    return together(table.schema, found)
