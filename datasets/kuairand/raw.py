"""Reads, corrects and counts the raw tables of KuaiRand-Pure.

Every reader adds what it found to ``notes``, a dict of counts and words for people to read.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from datasets.fetch.raw_files import read_table
from datasets.kuairand.schema import ENCRYPTED, STATISTICS
from files.errors import InputError

CHINA_MS = 8 * 3_600_000  # UTC+8
DAY_MS = 24 * 3_600_000
SKIP_MS = 3000
NOT_A_STREAMER = -124  # the raw code for "no or unknown"
# Around the durations at which the app's own labels change (3, 7 and 18 s), then by quantiles.
DURATION_CUTS_S = [3, 7, 10, 15, 18, 25, 35, 45, 60, 90, 120, 180, 300]

NEVER_EMPTY = ("user_id", "video_id", "time_ms", "is_like", "long_view", "play_time_ms", "duration_ms", "tab")
_Types = dict[str, type[pl.DataType]]
LOG_COLUMNS: _Types = dict.fromkeys(
    [
        *("user_id", "video_id", "date", "hourmin", "time_ms", "is_click", "is_like", "is_follow"),
        *("is_comment", "is_forward", "is_hate", "long_view", "play_time_ms", "duration_ms"),
        *("profile_stay_time", "comment_stay_time", "is_profile_enter", "is_rand", "tab"),
    ],
    pl.Int64,
)
USER_COLUMNS: _Types = {
    "user_id": pl.Int64,
    **dict.fromkeys(["is_lowactive_period", "is_live_streamer", "is_video_author"], pl.Int64),
    **dict.fromkeys(["follow_user_num", "fans_user_num", "friend_user_num", "register_days"], pl.Float64),
    **dict.fromkeys(["follow_user_num_range", "fans_user_num_range", "friend_user_num_range"], pl.String),
    **dict.fromkeys(["user_active_degree", "register_days_range"], pl.String),
    **dict.fromkeys(ENCRYPTED, pl.Float64),
}
VIDEO_COLUMNS: _Types = {
    **dict.fromkeys(["video_id", "author_id", "music_id"], pl.Int64),
    **dict.fromkeys(["visible_status", "video_duration", "music_type"], pl.Float64),
    **dict.fromkeys(["server_width", "server_height"], pl.Float64),
    **dict.fromkeys(["video_type", "upload_dt", "upload_type", "tag"], pl.String),
}


def read_logs(paths: list[Path], notes: dict) -> pl.DataFrame:
    """All logs as one table in order of time (then user, video), without exact duplicates.

    Columns: user_id, video_id, time_ms, tab, play_time_ms, duration_ms (null where it was 0),
    finish, skip, is_click, is_like, long_view, hour (0-23) and weekday (1 = Monday) in China.
    """
    return clean_log(
        pl.concat([read_table(path, LOG_COLUMNS, never_empty=NEVER_EMPTY) for path in paths]), notes
    )


def clean_log(raw: pl.DataFrame, notes: dict) -> pl.DataFrame:
    """As `read_logs`, of rows as they are written; the counts in ``notes`` are added to what is there."""
    log = raw.unique(maintain_order=True).sort("time_ms", "user_id", "video_id", maintain_order=True)
    clock = pl.from_epoch(pl.col("time_ms") + CHINA_MS, "ms")
    date = clock.dt.strftime("%Y%m%d").cast(pl.Int64)
    counts = {
        "log_rows": raw.height,
        "exact_duplicates_dropped": raw.height - log.height,
        "rows_whose_date_disagrees_with_time_ms": log.select((date != pl.col("date")).sum()).item(),
        "rows_of_duration_zero": int((log["duration_ms"] == 0).sum()),
        "rows_of_play_time_zero": int((log["play_time_ms"] == 0).sum()),
        "rows_exposed_at_random": int((log["is_rand"] == 1).sum()),
    }
    notes |= {name: notes.get(name, 0) + count for name, count in counts.items()}
    kept = ["user_id", "video_id", "time_ms", "tab", "play_time_ms", "is_click", "is_like", "long_view"]
    return log.select(
        *kept,
        *label_columns(),
        clock.dt.hour().cast(pl.Int64).alias("hour"),
        clock.dt.weekday().cast(pl.Int64).alias("weekday"),
    )


def label_columns() -> list[pl.Expr]:
    """``finish`` and ``skip`` from play_time_ms and duration_ms, and duration_ms; null at duration 0."""
    played, duration = pl.col("play_time_ms"), pl.col("duration_ms")
    finish = played >= duration
    skip = played < pl.min_horizontal(duration, pl.lit(SKIP_MS))
    columns = {"duration_ms": duration, "finish": finish.cast(pl.Int8), "skip": skip.cast(pl.Int8)}
    return [pl.when(duration > 0).then(column).alias(name) for name, column in columns.items()]


def read_users(path: Path, notes: dict) -> pl.DataFrame:
    """Profiles by user_id; the streamer code -124 becomes 0, the constant column goes."""
    users = read_table(path, USER_COLUMNS, never_empty=("user_id",)).unique("user_id", keep="first")
    streamer = pl.col("is_live_streamer")
    notes["users_of_streamer_code_minus_124"] = int((users["is_live_streamer"] == NOT_A_STREAMER).sum())
    notes["users_without_onehot_feat4"] = users["onehot_feat4"].null_count()
    notes["users_without_onehot_feat12_to_17"] = users["onehot_feat12"].null_count()
    _note_dropped(users, "is_lowactive_period", notes)
    return users.drop("is_lowactive_period").with_columns(
        pl.when(streamer == NOT_A_STREAMER).then(0).otherwise(streamer).alias("is_live_streamer"),
        pl.col(ENCRYPTED).cast(pl.Int64),
    )


def read_videos(path: Path, notes: dict) -> pl.DataFrame:
    """Videos by video_id: author, music, types, form, duration bucket, tags (list), upload_day."""
    return clean_videos(read_table(path, VIDEO_COLUMNS, never_empty=("video_id",)), notes)


def clean_videos(raw: pl.DataFrame, notes: dict) -> pl.DataFrame:
    """As `read_videos`, of rows as they are written."""
    videos = raw.unique("video_id", keep="first")
    notes["videos_without_duration"] = videos["video_duration"].null_count()
    notes["videos_without_music"] = int((videos["music_id"].fill_null(0) == 0).sum())
    notes["videos_without_tag"] = videos["tag"].null_count()
    _note_dropped(videos, "visible_status", notes)
    width, height = pl.col("server_width"), pl.col("server_height")
    seconds = pl.col("video_duration") / 1000
    bucket = pl.sum_horizontal([(seconds >= cut).cast(pl.Int64) for cut in DURATION_CUTS_S])
    return videos.select(
        *("video_id", "author_id", "video_type", "upload_type"),
        pl.when(pl.col("music_id") != 0).then(pl.col("music_id")).alias("music_id"),
        pl.col("music_type").cast(pl.Int64),
        pl.when((width > 0) & (height > 0)).then((width / height).log()).alias("log_aspect_ratio"),
        pl.when(seconds > 0).then(bucket).alias("duration_bucket"),
        pl.col("tag").str.split(",").cast(pl.List(pl.Int64), strict=False).alias("tags"),
        pl.col("upload_dt").str.to_date("%Y-%m-%d", strict=False).cast(pl.Int64).alias("upload_day"),
    )


def read_statistics(path: Path) -> pl.DataFrame:
    """The monthly averages named in STATISTICS by video_id, as ``statistic_<name>``: they leak."""
    columns: _Types = {"video_id": pl.Int64, **dict.fromkeys(STATISTICS, pl.Float64)}
    table = read_table(path, columns, never_empty=("video_id",)).unique("video_id", keep="first")
    return table.rename({name: f"statistic_{name}" for name in STATISTICS})


def read_seeds(path: Path | None, log: pl.DataFrame, notes: dict) -> pl.DataFrame:
    """Histories that end before their user's first event in the log.

    The file has user_id, history_len (exposures so far), last_time_ms, and lists of video ids,
    oldest first: watch_seq (the latest exposures), long_watch_seq, like_seq.
    """
    types: pl.Schema = pl.Schema(dict.fromkeys(["user_id", "history_len", "last_time_ms"], pl.Int64))
    types.update(dict.fromkeys(["watch_seq", "long_watch_seq", "like_seq"], pl.List(pl.Int64)))
    notes["history_seeds"] = path.name if path else "none"
    if path is None:
        return pl.DataFrame(schema=types)
    try:
        histories = pl.read_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, OSError):
        raise InputError(f"{path}: is no readable parquet file; restore or remove it") from None
    absent = [name for name in types if name not in histories.columns]
    if absent:
        raise InputError(f"{path}: has no column {absent[0]!r}; restore or remove the file")
    first = log.group_by("user_id").agg(first_event=pl.col("time_ms").min())
    histories = histories.select(*types).cast(types).join(first, on="user_id", how="inner")
    used = histories.filter(pl.col("last_time_ms") < pl.col("first_event"))
    notes["users_with_history_seed"] = used.height
    notes["history_seeds_left_out_as_not_earlier"] = histories.height - used.height
    return used.drop("first_event").sort("user_id")


def _note_dropped(table: pl.DataFrame, column: str, notes: dict) -> None:
    values = table[column].n_unique()
    notes[f"{column}_dropped"] = "constant" if values <= 1 else f"no input, though it has {values} values"
