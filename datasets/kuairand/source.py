"""KuaiRand-Pure: logs of a short-video app, with labels ``finish`` and ``skip``.

Gao et al., "KuaiRand: An Unbiased Sequential Recommendation Dataset with Randomly Exposed Videos",
CIKM 2022, https://doi.org/10.1145/3511808.3557624. Licence CC BY-SA 4.0.

Rows. One exposure each. By default those of the single-column feed (``tab`` 1): in the two-column
tabs a play time of zero means "not clicked", so ``skip`` would be a different behaviour there;
``tabs: all`` keeps every tab. Exposures in other tabs still count as past events in histories and
counters. One or several of the official logs are enough; the log of randomly exposed videos is only
read with ``random_log: true``, and its rows are split by the same times, so that no training row is
later than a test row.

Labels. ``finish`` = play_time_ms >= duration_ms; ``skip`` = play_time_ms < min(3000, duration_ms);
both undefined (null) where duration_ms is 0. Further labels are the log's is_click, is_like and long_view.

Split. By ``time_ms``: train to 1 May 2022, validation 2-4 May, test from 5 May, days of China time.
The log's own ``date`` column is a day ahead of ``time_ms`` in 0.9 % of rows, within the last two
hours before midnight; ``time_ms`` decides, so that no training row is later than a test row.
(A split by ``date`` moves 142 rows of the part from 25 April out of training: 84,438 for 84,580.)

Inputs. Known before the exposure: profiles, the video, and earlier events (``datasets.kuairand.past``). No
outcome of the row is an input. Two limits: profiles are snapshots of unknown date;
Pure keeps 7,583 videos, so histories have gaps. The monthly ``video_features_statistic`` covers the
test days: ``include_statistics: true`` adds it, with a warning, as a declared leak.

``bootstrap: n`` (n > 0; a suite's world n - 1) draws as many training rows as there are, with replacement, which
keep their time, their order and the features that the whole log gives them, and one that is drawn twice is
trained on twice. Validation and test rows stay as they are. It shows how much hangs on which rows were
logged, given these users and days.

``days_earlier: n`` moves the split n days back, and leaves out what comes after its four test days. With
``worlds_of: splits`` a suite's worlds are such splits, world n being n days earlier, in place of draws.

The logs (at most 2.6 million rows) are held in memory; the finished table goes to parquet in the
scratch folder, piece by piece.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from datasets.fetch.raw_files import describe_files, find_folder, require_file
from datasets.kuairand.past import PastFeatures
from datasets.kuairand.raw import read_logs, read_seeds, read_statistics, read_users, read_videos
from datasets.kuairand.schema import DAY, LOG_ENDS, NAME, TEST_FROM, VALID_FROM, kuairand_schema
from datasets.source import (
    Source,
    bootstrap_note,
    options_as_identity,
    parse_options,
    repeated,
    times_drawn,
)
from files.errors import InputError

INSIDE = "KuaiRand-Pure/data"  # where the official archive keeps its files
STANDARD_LOGS = ("log_standard_4_08_to_4_21_pure.csv", "log_standard_4_22_to_5_08_pure.csv")
RANDOM_LOG = "log_random_4_22_to_5_08_pure.csv"
USER_FILE = "user_features_pure.csv"
VIDEO_FILE = "video_features_basic_pure.csv"
STATISTIC_FILE = "video_features_statistic_pure.csv"
HISTORY_FILES = "user_history_upto_*.parquet"

SINGLE_FEED_TAB = 1
PIECE_ROWS = 100_000


class KuaiRandOptions(BaseModel):
    """The user's options; this module's docstring explains each."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tabs: Literal["single", "all"] = "single"
    history_length: int = Field(default=50, ge=1, le=1000)
    random_log: bool = False
    include_statistics: bool = False
    bootstrap: int = Field(default=0, ge=0)
    days_earlier: int = Field(default=0, ge=0)
    worlds_of: Literal["draws", "splits"] = "draws"


def source(options: dict, data_root: Path | None, scratch: Path) -> Source:
    """The table of KuaiRand-Pure below ``data_root/kuairand-pure``, written as parquet to ``scratch``.

    Raises InputError on an unknown option, a missing or changed file, or logs that leave one of
    training, validation and test empty.
    """
    chosen = parse_options(KuaiRandOptions, options, NAME)
    files = _Files.find(chosen, data_root)
    notes: dict[str, int | float | str] = {"logs": ", ".join(path.name for path in files.logs)}
    log = read_logs(files.logs, notes)
    users = read_users(files.users, notes)
    videos = read_videos(files.videos, notes)
    seeds = read_seeds(files.history, log, notes)
    if files.statistics is not None:
        videos = videos.join(_leaking_statistics(files.statistics, notes), on="video_id", how="left")
    events = log.join(videos, on="video_id", how="left", maintain_order="left")
    rows = events.filter(pl.col("tab") == SINGLE_FEED_TAB) if chosen.tabs == "single" else events
    earlier = chosen.days_earlier * DAY
    rows = rows.filter(pl.col("time_ms") < LOG_ENDS - earlier) if earlier else rows
    _note_rows(rows, events, users, videos, chosen, notes)
    _require_every_split(rows, files.logs, chosen.days_earlier)
    past = PastFeatures(events, seeds, videos)
    is_training = (rows["time_ms"] < VALID_FROM - earlier).to_numpy()
    times = times_drawn(is_training, chosen.bootstrap)
    if chosen.bootstrap:
        notes["bootstrap"] = bootstrap_note(is_training, times)
    for number, piece in enumerate(rows.iter_slices(PIECE_ROWS)):
        table = piece.join(users, on="user_id", how="left", maintain_order="left")
        table = table.with_columns(past.cross(piece) + past.sequences(piece, chosen.history_length))
        table = repeated(table, times[number * PIECE_ROWS :][: piece.height])
        table.drop("play_time_ms").write_parquet(scratch / f"rows-{number:05d}.parquet")
    frame = pl.scan_parquet(sorted(scratch.glob("rows-*.parquet")), glob=False)
    schema = kuairand_schema(
        chosen.tabs == "all", chosen.history_length, chosen.include_statistics, chosen.days_earlier
    )
    return Source(schema, frame, files.identity(chosen), notes)


def identity(options: dict, data_root: Path | None) -> dict:
    """Everything that determines the content: the options and the raw files' names, sizes, sha256."""
    chosen = parse_options(KuaiRandOptions, options, NAME)
    return _Files.find(chosen, data_root).identity(chosen)


def raw_folder(data_root: Path | None) -> Path:
    """Where the raw files are; InputError where one is missing."""
    return _Files.find(KuaiRandOptions(), data_root).users.parent


@dataclass(frozen=True)
class _Files:
    """The raw files that the options need; InputError where one is missing."""

    logs: list[Path]
    users: Path
    videos: Path
    statistics: Path | None
    history: Path | None

    @classmethod
    def find(cls, options: KuaiRandOptions, data_root: Path | None) -> _Files:
        folder = find_folder(NAME, data_root, INSIDE, USER_FILE)
        logs = [folder / name for name in STANDARD_LOGS if (folder / name).is_file()]
        if options.random_log:
            logs.append(require_file(folder / RANDOM_LOG, NAME))
        if not logs:
            require_file(folder / STANDARD_LOGS[1], NAME)
        histories = sorted(folder.glob(HISTORY_FILES))
        if len(histories) > 1:
            raise InputError(f"{folder}: holds {len(histories)} files {HISTORY_FILES}; keep one of them")
        return cls(
            logs=logs,
            users=require_file(folder / USER_FILE, NAME),
            videos=require_file(folder / VIDEO_FILE, NAME),
            statistics=require_file(folder / STATISTIC_FILE, NAME) if options.include_statistics else None,
            history=histories[0] if histories else None,
        )

    def identity(self, options: KuaiRandOptions) -> dict:
        used = [*self.logs, self.users, self.videos, self.statistics, self.history]
        files = describe_files([path for path in used if path is not None])
        return {"dataset": NAME, "options": options_as_identity(options), "files": files}


def _leaking_statistics(path: Path, notes: dict) -> pl.DataFrame:
    notes["leak"] = f"{path.name} averages over the whole month, test days included"
    warnings.warn(
        f"{notes['leak']}: a score with it says nothing about ranking; drop include_statistics",
        stacklevel=3,
    )
    return read_statistics(path)


def _note_rows(
    rows: pl.DataFrame,
    events: pl.DataFrame,
    users: pl.DataFrame,
    videos: pl.DataFrame,
    options: KuaiRandOptions,
    notes: dict,
) -> None:
    notes["tabs"] = f"tab {SINGLE_FEED_TAB} alone" if options.tabs == "single" else "all"
    notes["rows"] = rows.height
    notes["rows_of_other_tabs_that_feed_histories_alone"] = events.height - rows.height
    notes["rows_with_finish_and_skip_undefined"] = rows["finish"].null_count()
    notes["rows_of_unknown_users"] = rows.join(users, on="user_id", how="anti").height
    notes["rows_of_unknown_videos"] = rows.join(videos, on="video_id", how="anti").height


def _require_every_split(rows: pl.DataFrame, logs: list[Path], days_earlier: int) -> None:
    time = rows["time_ms"] + days_earlier * DAY
    counts = {
        "training (to 1 May)": (time < VALID_FROM).sum(),
        "validation (2-4 May)": ((time >= VALID_FROM) & (time < TEST_FROM)).sum(),
        "test (from 5 May)": (time >= TEST_FROM).sum(),
    }
    for part, count in counts.items():
        if count == 0:
            names = ", ".join(path.name for path in logs)
            moved = f", {days_earlier} days earlier" if days_earlier else ""
            mend = (
                "make days_earlier smaller or add the other log"
                if days_earlier
                else f"add {STANDARD_LOGS[1]}"
            )
            raise InputError(
                f"{logs[0].parent}: {names} leave no rows for {part}{moved}; {mend} or take all tabs"
            )
