"""KuaiRand-1K and KuaiRand-27K: what `datasets.kuairand.source` makes of Pure, of logs larger than memory.

Labels, split, features and their reasons are those of KuaiRand-Pure. What is different is the way:

1. Each log is read in blocks, and its rows are dealt to files by user. Exact duplicates share a user, and so
   do all events that a row's histories and pair counts need.
2. File by file, rows are cleaned as Pure's are, and counted by video and day: the rates of videos and of
   everyone are of earlier days, so these counts are all that they need of other users.
3. File by file again, the features are computed by Pure's own code. Preparation then sorts by time.

Memory: one file's rows with their features (`FILE_BYTES` of log: about 3 GB), then what preparation holds
(all vocabularies; at most 2.9 GB for the 32 million videos of 27K). Disk while it runs: the logs as parquet,
and the finished table twice.

There are no draws of training rows and no monthly statistics, and no histories from before the log.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from datasets.fetch.raw_files import describe_files, find_folder, require_file
from datasets.kuairand.past import OUTCOMES, PastFeatures, daily_outcomes
from datasets.kuairand.raw import (
    LOG_COLUMNS,
    NEVER_EMPTY,
    VIDEO_COLUMNS,
    clean_log,
    clean_videos,
    read_seeds,
    read_users,
)
from datasets.kuairand.schema import TEST_FROM, VALID_FROM, kuairand_schema
from datasets.kuairand.source import PIECE_ROWS, SINGLE_FEED_TAB
from datasets.schema import Schema
from datasets.source import Source, parse_options
from files.errors import InputError

PERIODS = ("4_08_to_4_21", "4_22_to_5_08")
FILE_BYTES = 128 << 20  # of the logs' text, for one file of users
BLOCK_BYTES = 32 << 20
_ARROW = {pl.Int64: pa.int64(), pl.Float64: pa.float64(), pl.String: pa.string()}


class LargeOptions(BaseModel):
    """As for Pure, in ``datasets.kuairand.source``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tabs: str = Field(default="single", pattern="^(single|all)$")
    history_length: int = Field(default=50, ge=1, le=1000)
    random_log: bool = False


@dataclass(frozen=True)
class LargeKuaiRand:
    """One version: its ``name``, its archive's folder, its files' ending, and in how many parts a log is."""

    name: str
    title: str
    inside: str
    ending: str
    parts: int

    def source(self, options: dict, data_root: Path | None, scratch: Path) -> Source:
        """The table below ``data_root``, written as parquet to ``scratch``.

        Raises InputError on an unknown option, a missing or damaged file, and logs that leave one of
        training, validation and test empty.
        """
        chosen = parse_options(LargeOptions, options, self.name)
        files = self._files(chosen, data_root)
        notes: dict[str, int | float | str] = {"logs": ", ".join(path.name for path in files.logs)}
        users = read_users(files.users, notes)
        videos = scratch / "videos.parquet"
        _videos_to_parquet(files.videos, videos)
        dealt = _deal_by_user(files.logs, scratch)
        for path in dealt:
            _clean(path, notes)
        daily = _sum_by_day(dealt, scratch)
        everyone = _all_videos_by_day(daily)
        counted = _Counted()
        for number, path in enumerate(dealt):
            for piece, table in enumerate(_featured(path, daily, everyone, videos, users, chosen, counted)):
                table.write_parquet(scratch / f"rows-{number:05d}-{piece:05d}.parquet")
            path.unlink()
        counted.require_every_split(files.logs)
        notes |= counted.notes(chosen)
        frame = pl.scan_parquet(sorted(scratch.glob("rows-*.parquet")), glob=False)
        return Source(self._schema(chosen), frame, self._identity(chosen, files), notes)

    def identity(self, options: dict, data_root: Path | None) -> dict:
        """Everything that determines the content: the options and the raw files' names, sizes, sha256."""
        chosen = parse_options(LargeOptions, options, self.name)
        return self._identity(chosen, self._files(chosen, data_root))

    def raw_folder(self, data_root: Path | None) -> Path:
        """Where the raw files are; InputError where one is missing."""
        return self._files(LargeOptions(), data_root).users.parent

    def _schema(self, options: LargeOptions) -> Schema:
        schema = kuairand_schema(options.tabs == "all", options.history_length, statistics=False)
        description = f"{self.title}, exposures of short videos (Kuaishou, 2022), CC BY-SA 4.0"
        return schema.model_copy(update={"name": self.name, "description": description})

    def _identity(self, options: LargeOptions, files: _Files) -> dict:
        described = describe_files([*files.logs, files.users, files.videos])
        return {"dataset": self.name, "options": options.model_dump(), "files": described}

    def _files(self, options: LargeOptions, data_root: Path | None) -> _Files:
        """A log counts as there if its first part is; then all its parts must be."""
        user_file = f"user_features_{self.ending}.csv"
        folder = find_folder(self.name, data_root, self.inside, user_file)
        logs = [self._log_names(period) for period in PERIODS]
        found = [names for names in logs if (folder / names[0]).is_file()] or logs[1:]
        names = [name for log in found for name in log]
        if options.random_log:
            names.append(f"log_random_{PERIODS[1]}_{self.ending}.csv")
        return _Files(
            [require_file(folder / name, self.name) for name in names],
            folder / user_file,
            require_file(folder / f"video_features_basic_{self.ending}.csv", self.name),
        )

    def _log_names(self, period: str) -> list[str]:
        stem = f"log_standard_{period}_{self.ending}"
        return (
            [f"{stem}.csv"] if self.parts == 1 else [f"{stem}_part{n}.csv" for n in range(1, self.parts + 1)]
        )


ONE_K = LargeKuaiRand("kuairand-1k", "KuaiRand-1K", "KuaiRand-1K/data", "1k", 1)
ALL_27K = LargeKuaiRand("kuairand-27k", "KuaiRand-27K", "KuaiRand-27K/data", "27k", 2)


@dataclass(frozen=True)
class _Files:
    logs: list[Path]
    users: Path
    videos: Path


class _Counted:
    """What is known of the rows when all have been seen."""

    def __init__(self) -> None:
        self.events = self.rows = self.undefined = self.no_user = self.no_video = 0
        self.splits = np.zeros(3, np.int64)

    def add(
        self, events: pl.DataFrame, rows: pl.DataFrame, users: pl.DataFrame, videos: pl.DataFrame
    ) -> None:
        self.events += events.height
        self.rows += rows.height
        self.undefined += rows["finish"].null_count()
        self.no_user += rows.join(users, on="user_id", how="anti").height
        self.no_video += rows.join(videos, on="video_id", how="anti").height
        place = np.searchsorted([VALID_FROM, TEST_FROM], rows["time_ms"].to_numpy(), side="right")
        self.splits += np.bincount(place, minlength=3)

    def require_every_split(self, logs: Sequence[Path]) -> None:
        for count, part in zip(
            self.splits, ("training (to 1 May)", "validation (2-4 May)", "test (from 5 May)"), strict=True
        ):
            if not count:
                names = ", ".join(path.name for path in logs)
                raise InputError(
                    f"{logs[0].parent}: {names} leave no rows for {part}; add the other log or take all tabs"
                )

    def notes(self, options: LargeOptions) -> dict[str, int | float | str]:
        return {
            "tabs": f"tab {SINGLE_FEED_TAB} alone" if options.tabs == "single" else "all",
            "rows": self.rows,
            "rows_of_other_tabs_that_feed_histories_alone": self.events - self.rows,
            "rows_with_finish_and_skip_undefined": self.undefined,
            "rows_of_unknown_users": self.no_user,
            "rows_of_unknown_videos": self.no_video,
        }


# --- Raw text, block by block -----------------------------------------------------------------------------


def _blocks(
    path: Path, columns: dict[str, type[pl.DataType]], never_empty: Sequence[str]
) -> Iterator[pa.Table]:
    """The named columns of a CSV file, typed, some megabytes at a time; InputError on what is no number."""
    convert = pa_csv.ConvertOptions(
        column_types={name: _ARROW[kind] for name, kind in columns.items()},
        include_columns=list(columns),
        strings_can_be_null=True,
        null_values=[""],
    )
    try:
        with pa_csv.open_csv(path, pa_csv.ReadOptions(block_size=BLOCK_BYTES), None, convert) as reader:
            for batch in reader:
                table = pa.Table.from_batches([batch])
                for name in never_empty:
                    if empty := table[name].null_count:
                        raise InputError(
                            f"{path}: column {name!r} is empty in {empty} rows; fetch the file again"
                        )
                yield table
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: cannot be read as a table ({reason}); fetch the file again") from None


def _videos_to_parquet(path: Path, target: Path) -> None:
    schema = pa.schema([(name, _ARROW[kind]) for name, kind in VIDEO_COLUMNS.items()])
    with pq.ParquetWriter(target, schema, compression="lz4") as writer:
        for block in _blocks(path, VIDEO_COLUMNS, ("video_id",)):
            writer.write_table(block.cast(schema))


def _deal_by_user(logs: Sequence[Path], scratch: Path) -> list[Path]:
    """All rows of the logs, in their order, in files of some users each."""
    number = max(1, -(-sum(path.stat().st_size for path in logs) // FILE_BYTES))
    schema = pa.schema([(name, _ARROW[kind]) for name, kind in LOG_COLUMNS.items()])
    paths = [scratch / f"users-{place:05d}.parquet" for place in range(number)]
    with ExitStack() as stack:
        writers = [stack.enter_context(pq.ParquetWriter(path, schema, compression="lz4")) for path in paths]
        for log in logs:
            for block in _blocks(log, LOG_COLUMNS, NEVER_EMPTY):
                place = block["user_id"].to_numpy() % number
                order = np.argsort(place, kind="stable")
                ordered = block.take(pa.array(order))
                ends = np.searchsorted(place[order], np.arange(number + 1))
                for writer, start, end in zip(writers, ends, ends[1:], strict=False):
                    if end > start:
                        writer.write_table(ordered.slice(start, end - start))
    return paths


# --- File by file -----------------------------------------------------------------------------------------


def _clean(path: Path, notes: dict) -> None:
    """Replace a file's rows by events in time order, and write their daily counts beside it."""
    events = clean_log(pl.read_parquet(path, glob=False), notes)
    events.write_parquet(path)
    daily_outcomes(events).write_parquet(_daily_of(path))


def _daily_of(path: Path) -> Path:
    return path.with_name(f"daily-{path.name}")


def _sum_by_day(dealt: Sequence[Path], scratch: Path) -> list[Path]:
    """The daily counts of all users, in files of some videos each."""
    parts = [_daily_of(path) for path in dealt]
    sums = [scratch / f"days-{place:05d}.parquet" for place in range(len(parts))]
    for place, target in enumerate(sums):
        some_videos = pl.scan_parquet(parts, glob=False).filter(pl.col("video_id") % len(sums) == place)
        some_videos.group_by("video_id", "time_ms").agg(pl.col("trials", *OUTCOMES).sum()).collect(
            engine="streaming"
        ).write_parquet(target)
    for part in parts:
        part.unlink()
    return sums


def _all_videos_by_day(daily: Sequence[Path]) -> pl.DataFrame:
    by_day = (
        pl.scan_parquet(list(daily), glob=False).group_by("time_ms").agg(pl.col("trials", *OUTCOMES).sum())
    )
    return by_day.collect(engine="streaming").with_columns(video_id=pl.lit(None, pl.Int64))


def _featured(
    path: Path,
    daily: Sequence[Path],
    everyone: pl.DataFrame,
    videos: Path,
    users: pl.DataFrame,
    options: LargeOptions,
    counted: _Counted,
) -> Iterator[pl.DataFrame]:
    """The finished rows of one file of users, piece by piece."""
    log = pl.read_parquet(path, glob=False)
    if log.is_empty():
        return
    shown = log.select("video_id").unique()
    known = clean_videos(
        pl.scan_parquet(videos, glob=False)
        .join(shown.lazy(), on="video_id", how="semi", maintain_order="left")
        .collect(engine="streaming"),
        {},
    )
    shown_days = pl.scan_parquet(list(daily), glob=False).join(shown.lazy(), on="video_id", how="semi")
    days = shown_days.collect(engine="streaming")
    events = log.join(known, on="video_id", how="left", maintain_order="left")
    rows = events.filter(pl.col("tab") == SINGLE_FEED_TAB) if options.tabs == "single" else events
    counted.add(events, rows, users, known)
    past = PastFeatures(
        events, read_seeds(None, log, {}), known, pl.concat([days, everyone.select(days.columns)])
    )
    for piece in rows.iter_slices(PIECE_ROWS):
        table = piece.join(users, on="user_id", how="left", maintain_order="left")
        table = table.with_columns(past.cross(piece) + past.sequences(piece, options.history_length))
        yield table.drop("play_time_ms")
