"""Prepares a source's lazy raw table as a folder of shards.

Steps, by module: raw table -> typed, checked, sorted runs (``stage``) -> their merged time order (``order``)
-> splits, vocabularies, normalisation, users (``split``, ``learn``) -> shards (``encode``) -> manifest,
fsync, rename (``folder``). A staged folder (`datasets.staged`) takes the place of all before the shards.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq

from datasets.prepare.buckets import count_buckets
from datasets.prepare.encode import Ready, write_shards
from datasets.prepare.folder import one_at_a_time, partial_folder, publish, remove_abandoned
from datasets.prepare.learn import Learned, learn
from datasets.prepare.order import source_order, time_order
from datasets.prepare.repeats import Repeats
from datasets.prepare.split import SPLITS, given_bounds, split_code
from datasets.prepare.stage import stage, time_type
from datasets.prepare.store import fetched, sent
from datasets.prepared import (
    FORMAT_VERSION,
    PreparedDataset,
    dataset_fingerprint,
    manifest_text,
    open_prepared,
    schema_fingerprint,
)
from datasets.source import Source
from datasets.staged.folder import StagedTable
from datasets.staged.ready import check_encoded, ready_folder
from files.checksums import sha256_of
from files.errors import InputError

SHARD_ROWS = 65_536
# Encoding a chunk costs a pass over every table of categories, of which the largest has so many rows more.
TABLE_ROWS_A_CHUNK_ROW = 8
MIN_SHARDS = 8  # so that two, four or eight processes read whole shards even of a small split


def prepare(
    source: Source, destination: Path, shard_rows: int = SHARD_ROWS, rebuild: bool = False
) -> PreparedDataset:
    """Prepare ``source`` in the folder ``destination``, or open the folder if it is prepared already.

    A shard holds at most ``shard_rows`` rows, and fewer where a split would otherwise have less
    than eight shards. The same source gives the same bytes.

    Memory, however long the table is: for each core at work (as many as half of the free memory allows) a
    chunk of 131,072 rows, or of an eighth of the rows of the largest vocabulary; all vocabularies (about 75
    bytes a category, up to 16 more for integers; 6 a bucket of hashed ids), one row per user, and eight bytes
    for every 256th row. Disk: the typed raw table, first beside a source that was made for it, then beside
    the prepared folder; where rows are out of time order, 4 million rows of it twice for a while.

    Raises InputError on bad raw data, on a full disk, and on a destination that is half-written,
    changed, or made from another source, unless ``rebuild`` replaces it.
    """
    prepared = prepare_lazily(source.identity, lambda scratch: source, destination, shard_rows, rebuild)
    prepared = prepared.acknowledging(source.schema.leak_ok)
    if prepared.schema != source.schema:
        raise InputError(f"{destination}: was prepared with another schema; prepare it again with --rebuild")
    return prepared


def prepare_lazily(
    identity: dict,
    make_source: Callable[[Path], Source | StagedTable],
    destination: Path,
    shard_rows: int = SHARD_ROWS,
    rebuild: bool = False,
    verify: bool = False,
) -> PreparedDataset:
    """As :func:`prepare`, with a source that is made only if the folder does not exist.

    ``make_source`` gets an empty scratch folder that lives until preparation has ended. ``verify``: hash
    every file of a folder that is there, as `open_prepared` does. Where the folder around ``destination`` is
    a copy of a store's, prepared folders are fetched from there and sent to there.
    """
    destination = Path(destination)
    if shard_rows < 1:
        raise InputError(f"shard_rows is {shard_rows}; give at least 1")
    if rebuild or not destination.exists():
        with one_at_a_time(destination):
            if rebuild or not (destination.exists() or fetched(destination)):
                with partial_folder(destination) as partial:
                    scratch, result = partial / "scratch", partial / "result"
                    (scratch / "source").mkdir(parents=True)
                    result.mkdir()
                    _write(make_source(scratch / "source"), scratch, result, shard_rows)
                    publish(result, destination, replace=rebuild)
    prepared = _reuse(destination, identity, verify)
    sent(destination, replace=rebuild)
    return prepared


def _reuse(destination: Path, identity: dict, verify: bool = False) -> PreparedDataset:
    remove_abandoned(destination)
    prepared = open_prepared(destination, verify)
    if prepared.manifest["identity"] != json.loads(json.dumps(identity)):
        raise InputError(
            f"{destination}: was prepared from other data or options; prepare it again with --rebuild"
        )
    return prepared


def _ready(source: Source, scratch: Path) -> Ready:
    """Stage the source in ``scratch``, divide it and learn from it."""
    schema = source.schema
    time = time_type(schema, dict(source.frame.collect_schema()), source.text)
    bounds, clock = given_bounds(schema, time, source.text)
    runs = stage(schema, source.frame, scratch, source.text)
    source.check_unchanged()
    shutil.rmtree(scratch / "source")  # it is staged
    learned = learn(schema, runs, split_code(schema, bounds, runs))
    order = time_order(runs) if schema.time else source_order(runs)
    return Ready(order, learned, time, clock)


def _write(source: Source | StagedTable, scratch: Path, result: Path, shard_rows: int) -> None:
    """Write all files of a prepared folder into ``result``."""
    schema = source.schema
    ready = ready_folder(source, scratch) if isinstance(source, StagedTable) else _ready(source, scratch)
    learned, clock = ready.learned, ready.clock
    rows = {split: min(shard_rows, math.ceil(learned.rows[split] / MIN_SHARDS)) for split in SPLITS}
    least_rows = learned.largest_table // TABLE_ROWS_A_CHUNK_ROW
    is_own_table = isinstance(source, StagedTable) or source.text is not None
    # Others may draw rows again on purpose; rows without a time may well be equal.
    repeats = Repeats() if is_own_table and schema.time is not None else None
    shards, coverage = write_shards(schema, ready, least_rows, result, rows, repeats)
    if isinstance(source, StagedTable):
        check_encoded(source, learned, coverage["train"])
    hashing, unseen = count_buckets(schema, learned.buckets, shards, result)
    for split, counts in unseen.items():
        for feature, number in counts.items():
            coverage[split][feature]["unseen"] = number
    _save_learned(learned, result)
    (result / "schema.json").write_text(schema.model_dump_json(indent=2) + "\n", encoding="utf-8")
    manifest = {
        "format": FORMAT_VERSION,
        "fingerprint": dataset_fingerprint(source.identity, schema),
        "schema_fingerprint": schema_fingerprint(schema),
        "identity": source.identity,
        "notes": source.notes
        | ({"bounds of the split": clock} if clock else {})
        | (repeats.note() if repeats is not None else {})
        | _booleans_written_twice(learned),
        "rows": learned.rows,
        "num_users": learned.users.height,
        "vocabulary_sizes": {
            feature.table: learned.table(feature).size for feature in schema.sparse_features
        },
        **({"hashing": hashing} if hashing else {}),
        "normalization": learned.normalization,
        "labels": learned.labels,
        "coverage": coverage,
        "shards": shards,
        "files": {
            str(path.relative_to(result)): {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
            for path in sorted(result.rglob("*"))
            if path.is_file()
        },
    }
    (result / "manifest.json").write_text(manifest_text(manifest), encoding="utf-8")


def _booleans_written_twice(learned: Learned) -> dict[str, str]:
    return {
        f"booleans in {table}": f"{', '.join(words)} are different categories; write them in one way"
        for table, vocabulary in learned.vocabularies.items()
        if (words := vocabulary.booleans_written_twice())
    }


def _save_learned(learned: Learned, result: Path) -> None:
    (result / "vocabulary").mkdir()
    for table, vocabulary in learned.vocabularies.items():
        vocabulary.save(result / "vocabulary" / f"{table}.parquet")
    pq.write_table(learned.users.to_arrow(), result / "users.parquet", compression="lz4")
