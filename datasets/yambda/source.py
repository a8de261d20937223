"""Yambda: ten months of listening at a music service, in three sizes, read day by day.

"Yambda-5B: A Large-Scale Multi-modal Dataset for Ranking And Retrieval", https://arxiv.org/abs/2505.22238;
Apache-2.0, https://huggingface.co/datasets/yandex/yambda. No file of it was at hand: this reader follows the
dataset's card and the constants of its benchmark.

Rows. One listen each (``flat/<size>/listens.parquet``, in the order of user and time).

Labels. ``listened`` = more than half of the track was played, as the card counts a listen; trained by
default. ``finish`` = all of it was played; ``skip`` = less than min(3 s, its length) was, as for the video
logs here. A ratio above 100 % means that parts were played again.

Split. The benchmark's, at moments of the log's own clock (seconds, in steps of 5, from an unknown origin):
the last day before 26,000,000 tests, the day before it validates, and each of the two has half an hour
before it that belongs to no split. Rows of these half hours are left out, and so are validation and test rows
of users without a training row. Both stay in the histories and rates of later rows.

Inputs. User, track, artists, albums, the track's length, whether the listen was organic or recommended, hour
and weekday of the log's clock (so the hour has a meaning, but which of them is noon is not known); the latest
tracks played, listened to and skipped at strictly earlier times; counts and rates. Rates end at the clock's
last midnight. Likes, dislikes and the audio embeddings are not read.

Memory: one day's rows (of 5b: 15 million, 2 GB), 12 bytes for each user and entry of a history, some 40 for
each user, track and artist. Disk while it runs: the listens once more, and the finished table twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from datasets.fetch.raw_files import describe_files, find_folder, require_file
from datasets.schema import Schema
from datasets.source import Source, parse_options
from datasets.streamed.blocks import BLOCK_ROWS, blocks
from datasets.yambda.features import DAY, LISTEN_TYPES, Features, Known
from datasets.yambda.schema import yambda_schema
from files.errors import InputError

INSIDE = "yambda"
ARTISTS, ALBUMS = "artist_item_mapping.parquet", "album_item_mapping.parquet"
MOST_DAYS = 366  # a file is open for each while listens are dealt
DEALT_ROWS = 1 << 20
_ARROW = pa.schema([
    *((name, pa.int64()) for name in ("uid", "item_id", "timestamp")),
    ("is_organic", pa.int8()),
    ("played_ratio_pct", pa.float64()),
    ("track_length_seconds", pa.float64()),
])  # fmt: skip


class YambdaOptions(BaseModel):
    """``history_length``: entries of each history."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    history_length: int = Field(default=50, ge=1, le=1000)


@dataclass(frozen=True)
class Yambda:
    """One size: the dataset's ``name`` and the ``size`` as its folder has it."""

    name: str
    size: str

    def source(self, options: dict, data_root: Path | None, scratch: Path) -> Source:
        """The table below ``data_root``, written as parquet to ``scratch``, piece by piece.

        Raises InputError on an unknown option, on a missing or damaged file, and where a split stays empty.
        """
        chosen = parse_options(YambdaOptions, options, self.name)
        files = self._files(data_root)
        known = Known.of(files.listens, files.artists, files.albums)
        days = _deal_by_day(files.listens, scratch)
        features = Features(known, chosen.history_length)
        pieces = 0
        for day in days:
            for table in _rows_of(day, features):
                if table.height:
                    table.write_parquet(scratch / f"rows-{pieces:06d}.parquet")
                    pieces += 1
            day.unlink()
        features.require_every_split(files.listens)
        frame = pl.scan_parquet(sorted(scratch.glob("rows-*.parquet")), glob=False)
        notes: dict[str, int | float | str] = {"users": len(known.users), "tracks": len(known.items)}
        notes |= {"days": len(days), **features.notes}
        return Source(self._schema(chosen), frame, self._identity(chosen, files), notes)

    def identity(self, options: dict, data_root: Path | None) -> dict:
        """Everything that determines the content: the options and the raw files' names, sizes, sha256."""
        return self._identity(parse_options(YambdaOptions, options, self.name), self._files(data_root))

    def raw_folder(self, data_root: Path | None) -> Path:
        """Where the raw files are; InputError where the listens are missing."""
        return find_folder(self.name, data_root, INSIDE, self._listens)

    def published_files(self, options: dict) -> tuple[list[str], list[str]]:
        """The paths that are needed, and those that the publisher may not have released (none)."""
        parse_options(YambdaOptions, options, self.name)
        return [self._listens, ARTISTS, ALBUMS], []

    @property
    def _listens(self) -> str:
        return f"flat/{self.size}/listens.parquet"

    def _files(self, data_root: Path | None) -> _Files:
        root = self.raw_folder(data_root)
        return _Files(*(require_file(root / path, self.name) for path in (self._listens, ARTISTS, ALBUMS)))

    def _identity(self, options: YambdaOptions, files: _Files) -> dict:
        described = describe_files([files.listens, files.artists, files.albums])
        return {"dataset": self.name, "options": options.model_dump(), "files": described}

    def _schema(self, options: YambdaOptions) -> Schema:
        description = f"Yambda-{self.size.upper()}, listens to music (Yandex, 2025), Apache-2.0"
        return yambda_schema(self.name, description, options.history_length)


FIFTY_M = Yambda("yambda-50m", "50m")
FIVE_HUNDRED_M = Yambda("yambda-500m", "500m")
FIVE_B = Yambda("yambda-5b", "5b")


@dataclass(frozen=True)
class _Files:
    listens: Path
    artists: Path
    albums: Path


# --- Rows -------------------------------------------------------------------------------------------------


def _deal_by_day(listens: Path, scratch: Path) -> list[Path]:
    """The listens of each day in a file of its own, in the order of days."""
    paths: dict[int, Path] = {}
    with ExitStack() as stack:
        writers: dict[int, pa.ipc.RecordBatchStreamWriter] = {}
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        for block in blocks(listens, LISTEN_TYPES, DEALT_ROWS):
            for (day,), rows in block.group_by(pl.col("timestamp") // DAY, maintain_order=True):
                if day not in writers:
                    if len(paths) == MOST_DAYS:
                        raise InputError(
                            f"{listens}: timestamps span more than {MOST_DAYS} days, not seconds of ten "
                            "months; use the official file, or fetch it again"
                        )
                    paths[day] = scratch / f"day-{len(paths):05d}.arrow"
                    writers[day] = stack.enter_context(pa.ipc.new_stream(paths[day], _ARROW, options=options))
                writers[day].write_table(rows.to_arrow().cast(_ARROW))
    return [paths[day] for day in sorted(paths)]


def _rows_of(day: Path, features: Features) -> Iterator[pl.DataFrame]:
    """A day's finished rows in the order of time, some at a time; rows of one moment are not divided."""
    with pa.ipc.open_stream(day) as stream:
        rows = pl.DataFrame(stream.read_all()).sort("timestamp", "uid", maintain_order=True)
    times = rows["timestamp"].to_numpy()
    start = 0
    while start < rows.height:
        end = min(start + BLOCK_ROWS, rows.height)
        end = int(np.searchsorted(times, times[end - 1], side="right"))
        yield features.of(rows[start:end])
        start = end
    features.settle()
