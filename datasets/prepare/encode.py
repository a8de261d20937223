"""Last step of preparation: staged rows, in time order, become shards of indices and normalised numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from datasets.prepare.buckets import Buckets
from datasets.prepare.learn import Learned
from datasets.prepare.order import Order
from datasets.prepare.repeats import Repeated, Repeats, repeated_rows
from datasets.prepare.split import SPLITS
from datasets.prepare.threads import in_order, workers_for
from datasets.prepare.vectors import as_array, present_rows, transformed
from datasets.prepare.vocabulary import Vocabulary
from datasets.schema import MISSING_INDEX, UNSEEN_INDEX, Feature, Schema

CLIP = 10.0  # standard deviations; one extreme value must not dominate a batch
ROW_GROUP_ROWS = 16_384
NO_TIER = -1  # of every row of a table without users
INDEX_LIST = pa.list_(pa.field("item", pa.int32(), nullable=False))


def encode(schema: Schema, learned: Learned, time_type: pl.DataType | None, staged: pl.DataFrame) -> pa.Table:
    """The columns of a shard for some staged rows; no nulls.

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
        columns["user_index"] = pa.array(np.arange(staged.height))
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


class Cutter:
    """Cuts a split's rows, as they come, into shards of ``shard_rows`` rows.

    Where rows belong to no user, it numbers them.
    """

    def __init__(self, split: str, shard_rows: int, has_users: bool) -> None:
        self.split, self.shard_rows, self.has_users = split, shard_rows, has_users
        self.shards: list[dict] = []  # file name and rows of each
        self._waiting: list[pa.Table] = []
        self._num_rows = self._num_waiting = 0

    def add(self, table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
        """The shards that are complete with these rows, and their file names."""
        self._waiting.append(table if self.has_users else self._numbered(table))
        self._num_rows += table.num_rows
        self._num_waiting += table.num_rows
        while self._num_waiting >= self.shard_rows:
            yield self._cut(self.shard_rows)

    def rest(self) -> Iterator[tuple[str, pa.Table]]:
        if self._num_waiting:
            yield self._cut(self._num_waiting)

    def _numbered(self, table: pa.Table) -> pa.Table:
        place = table.schema.get_field_index("user_index")
        numbers = pa.array(np.arange(self._num_rows, self._num_rows + table.num_rows))
        return table.set_column(place, table.schema.field(place), numbers)

    def _cut(self, rows: int) -> tuple[str, pa.Table]:
        waiting = pa.concat_tables(self._waiting)
        name = f"{self.split}-{len(self.shards):05d}.parquet"
        self.shards.append({"file": name, "rows": rows})
        self._waiting = [waiting.slice(rows)]
        self._num_waiting -= rows
        return name, waiting.slice(0, rows)


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


def coverage(schema: Schema, staged: pl.DataFrame, encoded: pa.Table) -> dict[str, Counter]:
    """The missing and unseen values of each feature in some rows.

    For every feature: ``missing`` rows (no value, or an empty list), ``elements`` (rows, or the
    elements of its lists) and ``unseen`` elements, which the training split does not know (of hashed ids
    they are counted once all shards are written).
    """
    return {feature.name: _coverage(feature, staged, encoded) for feature in schema.features}


def _coverage(feature: Feature, staged: pl.DataFrame, encoded: pa.Table) -> Counter:
    if not feature.is_sparse:  # a vector is either complete or missing
        return Counter(missing=staged[feature.name].null_count(), elements=staged.height, unseen=0)
    column = encoded[feature.name].combine_chunks()
    missing = 0
    if feature.is_list:
        missing = int((np.diff(column.offsets.to_numpy()) == 0).sum())
        column = column.flatten()
    indices = column.to_numpy()
    if not feature.is_list:
        missing = int((indices == MISSING_INDEX).sum())
    return Counter(missing=missing, elements=len(indices), unseen=int((indices == UNSEEN_INDEX).sum()))


class Piece(NamedTuple):
    """Encoded rows of a split, and what is missing or unseen in them."""

    split: str
    rows: pa.Table
    coverage: dict[str, Counter]


class Ready(NamedTuple):
    """A table that has only to be encoded: its staged rows in order, and what was learned of them.

    ``time`` is the type of the times, ``clock`` the one that the split's bounds follow, "" where there is no
    choice.
    """

    order: Order
    learned: Learned
    time: pl.DataType | None
    clock: str


def write_shards(
    schema: Schema,
    ready: Ready,
    least_rows: int,
    folder: Path,
    shard_rows: dict[str, int],
    repeats: Repeats | None = None,
) -> tuple[dict[str, list[dict]], dict[str, dict]]:
    """Encode the staged table, ``least_rows`` rows or more at once, into each split's shards, on all cores.

    Staged files are removed once their rows are encoded. ``repeats`` is told of all rows, which then have
    a time. Returns the shards (file, rows) and the coverage
    counts, by split.
    """
    cutters = {split: Cutter(split, shard_rows[split], schema.user_id is not None) for split in SPLITS}
    counts = {
        split: {name: Counter(missing=0, elements=0, unseen=0) for name in schema.feature_names}
        for split in SPLITS
    }
    order, learned = ready.order, ready.learned
    spans, workers = order.spans(least_rows), workers_for(order.files, least_rows)

    def pieces(span: tuple[int, int]) -> tuple[list[Piece], Repeated | None]:
        chunk = order.read(span)
        again = repeated_rows(chunk) if repeats is not None else None
        return _pieces(schema, learned, ready.time, chunk), again

    def finished() -> Iterator[tuple[str, pa.Table]]:
        for span, (encoded, again) in zip(spans, in_order(pieces, spans, workers), strict=True):
            order.remove(span)
            if repeats is not None and again is not None:
                repeats.add(again)
            for piece in encoded:
                for name, found in piece.coverage.items():
                    counts[piece.split][name].update(found)
                yield from cutters[piece.split].add(piece.rows)
        for cutter in cutters.values():
            yield from cutter.rest()

    def write(shard: tuple[str, pa.Table]) -> None:
        write_shard(shard[1].combine_chunks(), folder / shard[0])

    for _ in in_order(write, finished(), workers):
        pass
    shards = {split: cutter.shards for split, cutter in cutters.items()}
    return shards, {split: {name: dict(found) for name, found in counts[split].items()} for split in SPLITS}


def _pieces(
    schema: Schema, learned: Learned, time_type: pl.DataType | None, chunk: pl.DataFrame
) -> list[Piece]:
    codes = chunk.select(learned.code.alias("code"))["code"]
    pieces = []
    for code, split in enumerate(SPLITS):
        staged = chunk.filter(codes == code)
        if staged.height:
            encoded = encode(schema, learned, time_type, staged)
            pieces.append(Piece(split, encoded, coverage(schema, staged, encoded)))
    return pieces
