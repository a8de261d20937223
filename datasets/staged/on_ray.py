"""Makes a staged folder with Ray Data: our own staging and counting as tasks, and Ray's sort and group-by.

A task stages RUN_ROWS rows of the source, as preparation on one machine does, and writes them sorted to the
folder that all machines share. From these runs come the split's bounds, the moments (merged in the order of
the source, so to the same last bit), the counts and, by one sort over all, the rows in order.

On the machine where it is started remain: the hashes of the raw files, a look at the columns of text and at
the times of all rows, and text files, which become parquet there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import pickle
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from datasets.own_table import READING, OwnTable
from datasets.prepare.folder import one_at_a_time, partial_folder, publish
from datasets.prepare.learn import (
    MomentsByPlace,
    constants,
    learned_tables,
    merged_moments,
    moments_of_run,
)
from datasets.prepare.order import write_run
from datasets.prepare.split import SPLITS, given_bounds, split_code
from datasets.prepare.stage import RUN_ROWS, stage_run, time_type
from datasets.prepare.vocabulary import count_categories
from datasets.raw.text import TextFacts
from datasets.schema import Feature, Schema
from datasets.source import Source
from datasets.staged.folder import COUNTS, MOMENTS, Origin, write_manifest
from files.checksums import sha256_of
from files.errors import InputError, UnfinishedError

TABLE, NUMBER, TEXT = "table", "number", "text"
# The number of a vocabulary, and its category: a number, or text, which is then not empty.
CATEGORY = [TABLE, NUMBER, TEXT]
RAISED = re.compile(r"^[A-Za-z_][\w.]*: .*$", re.MULTILINE)  # a traceback's line of an error
MOST_PARTITIONS = 200  # of the group-by
CODE, RUN, PLACE = "@code", "@run", "@place"  # a row's split, run, and place in it
WRITTEN = ".written.parquet"  # ends the names of files whose place is not known yet


def stage_on_ray(
    schema_file: Path,
    out: Path,
    cluster: AbstractContextManager[None],
    report: Callable[[str], None] = lambda told: None,
) -> dict[str, int]:
    """Stage the files of a schema as the folder ``out``; returns the rows of each split.

    ``cluster`` is joined when the first task is due (`harness.workers.ray_cluster.connected`); ``out`` and
    the files lie under the same paths on all of its machines. ``report`` is told what begins. Raises
    InputError where ``out`` is there, and what staging raises; UnfinishedError where a task breaks.
    """
    table = OwnTable.find(Path(schema_file).absolute())
    out = Path(out).absolute()
    with one_at_a_time(out, "--out"):
        if out.exists():
            raise InputError(f"{out}: is there already; remove it or choose another --out")
        with partial_folder(out) as partial:
            scratch, result = partial / "scratch", partial / "result"
            (scratch / "source").mkdir(parents=True)
            result.mkdir()
            source = table.source(scratch / "source")
            with cluster, _tasks_that_break():
                rows = _write(source, scratch, result, report)
            publish(result, out, replace=False)
    return rows


@contextmanager
def _tasks_that_break() -> Iterator[None]:
    """Says in one sentence what Ray says in pages."""
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what breaks is said in one sentence
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        yield
    except ray.exceptions.RayError as error:
        first = RAISED.search(str(error))  # of the errors that a task's traceback lists, what began it
        why = first[0] if first else type(error).__name__
        raise UnfinishedError(
            f"data stage: a task broke ({why[:500]}); nothing was kept, run the same command again"
        ) from error


def _write(source: Source, scratch: Path, result: Path, report: Callable[[str], None]) -> dict[str, int]:
    """Write all files of the folder into ``result``; returns the rows of each split."""
    schema = source.schema
    time = time_type(schema, dict(source.frame.collect_schema()), source.text)
    bounds, _ = given_bounds(schema, time, source.text)
    report(f"{schema.name}: reading and checking the rows")
    runs = _staged_runs(source, scratch)
    source.check_unchanged()
    code = split_code(schema, bounds, runs)
    moments = _moments(schema, runs, code)
    constants(schema, moments)  # or preparation would refuse them
    report(f"{schema.name}: sorting them, in {len(runs)} parts")
    rows, files = _sorted_rows(schema, runs, code, result)
    report(f"{schema.name}: counting the categories of {rows['train']:,} training rows")
    files |= _counts(schema, runs, code, result)
    _write_moments(moments, result / MOMENTS)
    files[MOMENTS] = sha256_of(result / MOMENTS)
    made_with = {name: version(name) for name in ("polars", "ray")}
    origin = Origin(files=source.identity["files"], reading=READING, notes=source.notes)
    write_manifest(result, schema, time, rows, files, made_with, origin)
    return rows


def _write_moments(moments: MomentsByPlace, file: Path) -> None:
    by_feature: dict[str, list[dict]] = {}
    for (name, _), found in moments.items():
        by_feature.setdefault(name, []).append(found._asdict())
    file.write_text(json.dumps(by_feature) + "\n", encoding="utf-8")


def _staged_runs(source: Source, folder: Path) -> list[Path]:
    """The source as sorted runs in ``folder``, those of `datasets.prepare.stage.stage`."""
    stretches = [
        {"start": number * RUN_ROWS, "rows": pickle.dumps(rows)}
        for number, rows in enumerate(_stretches(source.by_file))
    ]
    staged = _items(stretches).map(
        _stage_run, fn_kwargs={"schema": source.schema, "text": source.text, "folder": str(folder)}
    )
    found = sorted(staged.take_all(), key=lambda one: one["start"])
    for one in found:
        if one["refused"]:
            raise InputError(one["refused"])
    return [Path(one["run"]) for one in found]


def _stretches(by_file: Sequence[pl.LazyFrame]) -> Iterator[pl.LazyFrame]:
    """The rows in stretches of RUN_ROWS, the rest last; each is read of no more files than hold it."""
    parts: list[pl.LazyFrame] = []
    room = RUN_ROWS
    for frame in by_file:
        rows, first = frame.select(pl.len()).collect().item(), 0
        while first < rows:
            taken = min(room, rows - first)
            parts.append(frame.slice(first, taken))
            first, room = first + taken, room - taken
            if not room:
                yield pl.concat(parts)
                parts, room = [], RUN_ROWS
    if parts:
        yield pl.concat(parts)


def _moments(schema: Schema, runs: list[Path], code: pl.Expr) -> MomentsByPlace:
    """Those of the training rows, merged in the order of the runs."""
    found = _items(_named_runs(runs)).map(_moments_of_run, fn_kwargs={"schema": schema, "code": code})
    of_runs = sorted(found.take_all(), key=lambda one: one["number"])
    return merged_moments(schema, (pickle.loads(one["moments"]) for one in of_runs))


def _counts(schema: Schema, runs: list[Path], code: pl.Expr, result: Path) -> dict[str, str]:
    """Write the counts of all vocabularies; the checksum of each file."""
    tables = learned_tables(schema)
    for name in tables:
        (result / COUNTS / name).mkdir(parents=True)
    if not tables:
        return {}  # a group-by of nothing has no columns
    of_runs = _items(_named_runs(runs)).map_batches(
        _count_run, batch_size=1, fn_kwargs={"tables": tables, "code": code}
    )
    counts = of_runs.groupby(CATEGORY, num_partitions=min(len(runs), MOST_PARTITIONS)).sum("count")
    written = counts.sort(CATEGORY).map_batches(
        _write_counts,
        batch_size=None,
        batch_format="pyarrow",
        fn_kwargs={"folders": [str(result / COUNTS / name) for name in tables]},
    )
    found = sorted(written.take_all(), key=lambda one: [one[key] for key in CATEGORY])
    files: dict[str, str] = {}
    for number, name in enumerate(tables):
        of_table = [one for one in found if one[TABLE] == number]
        files |= _in_order(result, result / COUNTS / name, of_table)
    return files


def _sorted_rows(
    schema: Schema, runs: list[Path], code: pl.Expr, result: Path
) -> tuple[dict[str, int], dict[str, str]]:
    """Write the rows in order, by split; rows of each split, and the checksum of each file."""
    for split in SPLITS:
        (result / split).mkdir()
    keys = [CODE, *(["@time"] if schema.time is not None else []), RUN, PLACE]
    keyed = _items(_named_runs(runs)).map_batches(_keyed_run, batch_size=1, fn_kwargs={"code": code})
    written = keyed.sort(keys).map_batches(
        _write_rows, batch_size=None, batch_format="pyarrow", fn_kwargs={"keys": keys, "folder": str(result)}
    )
    by_split: dict[str, list[dict]] = {split: [] for split in SPLITS}
    for one in sorted(written.take_all(), key=lambda one: [one[key] for key in keys]):
        by_split[SPLITS[one[CODE]]].append(one)
    files: dict[str, str] = {}
    for split, of_split in by_split.items():
        files |= _in_order(result, result / split, of_split)
    return {split: sum(one["rows"] for one in of_split) for split, of_split in by_split.items()}, files


def _in_order(result: Path, folder: Path, written: list[dict]) -> dict[str, str]:
    """Give files that tasks wrote to ``folder`` the names of their order; the checksum of each."""
    sums = {}
    for number, one in enumerate(written):
        file = folder / f"{number:06d}.parquet"
        (folder / one["file"]).rename(file)
        sums[str(file.relative_to(result))] = one["sha256"]
    for left in folder.glob(f"*{WRITTEN}"):  # by a task that was lost and begun again
        left.unlink()
    return sums


def _items(items: list[dict]) -> Any:
    """A dataset of these rows, each a block."""
    import ray

    return ray.data.from_items(items, override_num_blocks=len(items))


def _named_runs(runs: list[Path]) -> list[dict]:
    return [{"number": number, "run": str(run)} for number, run in enumerate(runs)]


# ------------------------------------------------------------------------------------- what tasks do


def _stage_run(item: dict, schema: Schema, text: TextFacts | None, folder: str) -> dict:
    """The run of a stretch, or the sentence that refuses it: the first in order is raised, on any cluster."""
    start = item["start"]
    try:
        run = stage_run(schema, pickle.loads(item["rows"]), text, start, Path(folder))
    except InputError as refused:
        return {"start": start, "run": "", "refused": str(refused)}
    return {"start": start, "run": str(run), "refused": ""}


def _moments_of_run(item: dict, schema: Schema, code: pl.Expr) -> dict:
    moments = moments_of_run(schema, Path(item["run"]), code)
    return {"number": item["number"], "moments": pickle.dumps(moments)}


def _count_run(batch: dict, tables: dict[str, list[Feature]], code: pl.Expr) -> pa.Table:
    """The counts of all vocabularies in a run, each category as a number or as text."""
    [run] = batch["run"]
    train = pl.scan_parquet(str(run), glob=False).filter(code == 0)
    found = []
    for number, features in enumerate(tables.values()):
        counts = count_categories(train, features)
        is_text = counts["value"].dtype == pl.String
        found.append(
            counts.select(
                pl.lit(number, pl.Int64).alias(TABLE),
                pl.lit(0, pl.Int64).alias(NUMBER) if is_text else pl.col("value").alias(NUMBER),
                pl.col("value").alias(TEXT) if is_text else pl.lit("").alias(TEXT),
                "count",
            )
        )
    return pl.concat(found).to_arrow()


def _keyed_run(batch: dict, code: pl.Expr) -> pa.Table:
    [run], [number] = batch["run"], batch["number"]
    rows = pl.read_parquet(str(run), glob=False).with_columns(
        code.cast(pl.Int8).alias(CODE), pl.lit(int(number), pl.Int64).alias(RUN)
    )
    return rows.with_row_index(PLACE).cast({PLACE: pl.Int64}).to_arrow()


def _write_rows(table: pa.Table, keys: list[str], folder: str) -> pa.Table:
    """A file for each split of a block; the keys of its first row, how many rows, and its checksum."""
    written = []
    block = pl.DataFrame(pl.from_arrow(table))
    for rows in block.partition_by(CODE, maintain_order=True):
        first = rows.select(keys).row(0, named=True)
        file = Path(folder) / SPLITS[first[CODE]] / f"{first[RUN]}-{first[PLACE]}{WRITTEN}"
        write_run(rows.drop(name for name in keys if name != "@time"), file)
        written.append(first | {"file": file.name, "rows": rows.height, "sha256": sha256_of(file)})
    return pa.Table.from_pylist(written)


def _write_counts(table: pa.Table, folders: list[str]) -> pa.Table:
    """A file for each vocabulary of a block; the key of its first category, and its checksum."""
    written = []
    block = pl.DataFrame(pl.from_arrow(table))
    for counts in block.partition_by(TABLE, maintain_order=True):
        first = counts.select(CATEGORY).row(0, named=True)
        place = hashlib.sha256(repr(first).encode()).hexdigest()
        file = Path(folders[first[TABLE]]) / f"{place}{WRITTEN}"
        value = pl.col(TEXT if first[TEXT] else NUMBER).alias("value")
        write_run(counts.select(value, pl.col("sum(count)").alias("count")), file)
        written.append(first | {"file": file.name, "sha256": sha256_of(file)})
    return pa.Table.from_pylist(written)
