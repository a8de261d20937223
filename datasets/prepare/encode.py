"""Last step of preparation: staged rows, in time order, become shards of indices and normalised numbers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from datasets.prepare.buckets import Buckets
from datasets.prepare.learn import Learned
from datasets.prepare.split import SPLITS
from datasets.prepare.vectors import as_array, present_rows, transformed
from datasets.prepare.vocabulary import Vocabulary
from datasets.schema import MISSING_INDEX, UNSEEN_INDEX, Feature, Schema

CLIP = 10.0  # standard deviations; one extreme value must not dominate a batch
ROW_GROUP_ROWS = 16_384
NO_TIER = -1  # of every row of a table without users
INDEX_LIST = pa.list_(pa.field("item", pa.int32(), nullable=False))


def encode(
    schema: Schema, learned: Learned, time_type: pl.DataType | None, staged: pl.DataFrame, first_row: int = 0
) -> pa.Table:
    """The columns of a shard for some staged rows, of which the first has this number in its split; no nulls.

    In a table without users a row is a user of its own, the number of the row, and its tier is NO_TIER.
    """
    columns: dict[str, pa.Array] = {}
    for feature in schema.features:
        values = staged[feature.name]
        if feature.is_list:
            columns[feature.name] = _encode_lists(learned.table(feature), values)
        elif feature.is_sparse:
            columns[feature.name] = pa.array(learned.table(feature).encode(values).to_numpy())
        elif feature.kind == "vector":
            constants = learned.normalization.get(feature.name)
            columns[feature.name] = as_array(normalized_vectors(feature, constants, values))
        else:
            columns[feature.name] = pa.array(
                normalized(feature, learned.normalization.get(feature.name), values)
            )
    for task in schema.tasks:
        label = staged[f"@label.{task.name}"].cast(pl.Float32).fill_null(float("nan"))
        columns[f"label_{task.name}"] = pa.array(label.to_numpy())
        if task.probability:
            columns[f"probability_{task.name}"] = pa.array(staged[f"@probability.{task.name}"].to_numpy())
    if schema.user_id is None:
        columns["user_index"] = pa.array(np.arange(first_row, first_row + staged.height))
        columns["tier"] = pa.array(np.full(staged.height, NO_TIER, np.int8))
    else:
        users = staged.select(value="@user").join(
            learned.users, on="value", how="left", maintain_order="left"
        )
        tier = staged["@tier"].cast(pl.Int8) if schema.tier else users["tier"]
        columns["user_index"] = pa.array(users["index"].to_numpy())
        columns["tier"] = pa.array(tier.to_numpy())
    if time_type is not None:
        columns["time"] = _time(staged["@time"], time_type)
    if schema.baseline:
        columns["baseline"] = pa.array(staged["@baseline"].fill_null(float("nan")).to_numpy())
    fields = [pa.field(name, array.type, nullable=False) for name, array in columns.items()]
    return pa.Table.from_arrays(list(columns.values()), schema=pa.schema(fields))


def _time(numbers: pl.Series, time_type: pl.DataType) -> pa.Array:
    physical = pl.Int32 if time_type == pl.Date else numbers.dtype
    return numbers.cast(physical).cast(time_type).rechunk().to_arrow()


def _encode_lists(vocabulary: Vocabulary | Buckets, lists: pl.Series) -> pa.ListArray:
    arrow = lists.rechunk().to_arrow()
    lengths = lists.list.len().to_numpy()
    offsets = np.zeros(len(lists) + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    values = pl.Series(arrow.flatten(), dtype=lists.dtype.inner)  # type: ignore[attr-defined]
    indices = vocabulary.encode(values).to_numpy()
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(indices), type=INDEX_LIST)


def normalized(feature: Feature, constants: dict[str, float] | None, values: pl.Series) -> np.ndarray:
    """float32 in standard deviations from the training mean, clipped to +-CLIP; missing is 0, the mean.

    Without normalisation the raw number, and 0 where it is missing.
    """
    value = transformed(feature)
    if constants is not None:
        value = ((value - constants["mean"]) / constants["std"]).clip(-CLIP, CLIP)
    return (
        values.to_frame(feature.name).select(value.fill_null(0.0).cast(pl.Float32))[feature.name].to_numpy()
    )


def normalized_vectors(feature: Feature, constants: dict | None, values: pl.Series) -> np.ndarray:
    """As :func:`normalized`, component by component: (R, length) float32; a missing vector is zeros."""
    vectors = np.zeros((len(values), feature.length or 1), dtype=np.float32)
    known = present_rows(feature, values)
    if constants is not None:
        known = ((known - np.array(constants["mean"])) / np.array(constants["std"])).clip(-CLIP, CLIP)
    vectors[values.is_not_null().to_numpy()] = known
    return vectors


class ShardWriter:
    """Cuts a split's rows, as they come, into shards of ``shard_rows`` rows."""

    def __init__(self, folder: Path, split: str, shard_rows: int) -> None:
        self.folder, self.split, self.shard_rows = folder, split, shard_rows
        self.shards: list[dict] = []  # file name and rows of each
        self.num_rows = 0
        self._waiting: list[pa.Table] = []
        self._num_waiting = 0

    def add(self, table: pa.Table) -> None:
        self._waiting.append(table)
        self.num_rows += table.num_rows
        self._num_waiting += table.num_rows
        while self._num_waiting >= self.shard_rows:
            self._write(self.shard_rows)

    def close(self) -> None:
        if self._num_waiting:
            self._write(self._num_waiting)

    def _write(self, rows: int) -> None:
        waiting = pa.concat_tables(self._waiting)
        name = f"{self.split}-{len(self.shards):05d}.parquet"
        write_shard(waiting.slice(0, rows).combine_chunks(), self.folder / name)
        self.shards.append({"file": name, "rows": rows})
        self._waiting = [waiting.slice(rows)]
        self._num_waiting -= rows


def write_shard(table: pa.Table, path: Path) -> None:
    """One parquet file, in the format with the best decoding speed for its size."""
    # Decoding 30 features on one core, million rows a second and MB a million rows: plain 2.6 and 460,
    # lz4 1.8 to 2.1 and 230, zstd 1.2 and 150, snappy 1.0 and 240; a dictionary gains no speed over
    # plain lz4 and makes writing slower. lz4 halves the disk for a tenth of a pass's time.
    pq.write_table(
        table,
        path,
        compression="lz4",
        use_dictionary=False,
        row_group_size=ROW_GROUP_ROWS,
        write_statistics=False,
    )


class Coverage:
    """Counts each feature's missing and unseen values while a split is written.

    For every feature: ``missing`` rows (no value, or an empty list), ``elements`` (rows, or the
    elements of its lists) and ``unseen`` elements, which the training split does not know (of hashed ids
    they are counted once all shards are written).
    """

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.counts = {name: {"missing": 0, "elements": 0, "unseen": 0} for name in schema.feature_names}

    def add(self, staged: pl.DataFrame, encoded: pa.Table) -> None:
        for feature in self.schema.features:
            counts = self.counts[feature.name]
            if not feature.is_sparse:  # a vector is either complete or missing
                counts["missing"] += staged[feature.name].null_count()
                counts["elements"] += staged.height
                continue
            column = encoded[feature.name].combine_chunks()
            if feature.is_list:
                counts["missing"] += int((np.diff(column.offsets.to_numpy()) == 0).sum())
                column = column.flatten()
            indices = column.to_numpy()
            if not feature.is_list:
                counts["missing"] += int((indices == MISSING_INDEX).sum())
            counts["elements"] += len(indices)
            counts["unseen"] += int((indices == UNSEEN_INDEX).sum())


def write_shards(
    schema: Schema,
    learned: Learned,
    time_type: pl.DataType | None,
    chunks: Iterable[pl.DataFrame],
    folder: Path,
    shard_rows: dict[str, int],
) -> tuple[dict[str, list[dict]], dict[str, dict]]:
    """Encode the chunks of the staged table, in order, into each split's shards.

    Returns the shards (file, rows) and the coverage counts, by split.
    """
    writers = {split: ShardWriter(folder, split, shard_rows[split]) for split in SPLITS}
    coverage = {split: Coverage(schema) for split in SPLITS}
    for chunk in chunks:
        codes = chunk.select(learned.code.alias("code"))["code"]
        for code, split in enumerate(SPLITS):
            staged = chunk.filter(codes == code)
            if staged.height:
                encoded = encode(schema, learned, time_type, staged, writers[split].num_rows)
                coverage[split].add(staged, encoded)
                writers[split].add(encoded)
    for writer in writers.values():
        writer.close()
    shards = {split: writers[split].shards for split in SPLITS}
    return shards, {split: coverage[split].counts for split in SPLITS}
