"""Labels, split and features of Yambda's listens, block by block."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from datasets.streamed.blocks import Types, check_columns, distinct, places
from datasets.streamed.past import RecentEvents, SettledRates
from datasets.yambda.schema import MOST_ARTISTS, OUTCOMES, STREAMS
from files.errors import InputError

MINUTE, HOUR, DAY = 60, 3600, 86_400
# The benchmark's bounds. A split ends half an hour before the next one begins.
GAP = HOUR // 2
TEST_FROM = 26_000_000 - DAY
VALID_UNTIL = TEST_FROM - GAP
VALID_FROM = VALID_UNTIL - DAY
TRAIN_UNTIL = VALID_FROM - GAP
LISTENED_PERCENT, FINISHED_PERCENT, SKIP_SECONDS = 50, 100, 3

LISTEN_TYPES: Types = {
    "uid": pl.Int64,
    "item_id": pl.Int64,
    "timestamp": pl.Int64,
    "is_organic": pl.Int8,
    "played_ratio_pct": pl.Float64,
    "track_length_seconds": pl.Float64,
}


@dataclass(frozen=True)
class Known:
    """The users and tracks that occur, in ascending order.

    Shapes
        users (U,), items (I,): ids. tracks: I rows of ``artists`` and ``albums``, lists of ids. artist (I,):
        a number from 0 for the first artist, NO_KEY where none is known; artist_id (I,): its id, or -1.
    """

    users: np.ndarray
    items: np.ndarray
    tracks: pl.DataFrame
    artist: np.ndarray
    artist_id: np.ndarray
    num_artists: int

    @classmethod
    def of(cls, listens: Path, artist_file: Path, album_file: Path) -> Known:
        check_columns(listens, LISTEN_TYPES)
        users, items = (distinct([listens], column) for column in ("uid", "item_id"))
        tracks = pl.DataFrame([
            _of_track(artist_file, "artist_id", items).alias("artists"),
            _of_track(album_file, "album_id", items).alias("albums"),
        ])  # fmt: skip
        artist_id = tracks["artists"].list.first().fill_null(-1).to_numpy()
        artists = np.unique(artist_id[artist_id >= 0])
        return cls(users, items, tracks, places(artists, artist_id), artist_id, len(artists))


def _of_track(path: Path, column: str, items: np.ndarray) -> pl.Series:
    """The ids that a mapping gives each track, ascending, at most MOST_ARTISTS; null where it has none."""
    types: Types = {"item_id": pl.Int64, column: pl.Int64}
    check_columns(path, types)
    wanted = pl.DataFrame({"item_id": items})
    found = (
        pl.scan_parquet(path, glob=False)
        .select(pl.col(name).cast(kind) for name, kind in types.items())
        .join(wanted.lazy(), on="item_id", how="semi")
        .group_by("item_id")
        .agg(pl.col(column).unique().sort().head(MOST_ARTISTS))
        .collect(engine="streaming")
    )
    return wanted.join(found, on="item_id", how="left", maintain_order="left")[column]


class Features:
    """Makes the table of each block, and keeps what the blocks after it need of it."""

    def __init__(self, known: Known, history_length: int) -> None:
        self._known = known
        self._streams = {name: RecentEvents(len(known.users), history_length) for name in STREAMS}
        sizes = {"user": len(known.users), "item": len(known.items), "artist": known.num_artists}
        self._rates = SettledRates(sizes, OUTCOMES)
        self._last = np.full(len(known.users), -1, np.int64)  # when each user played something
        self._has_trained = np.zeros(len(known.users), bool)
        self.notes = dict.fromkeys(("rows_between_splits", "rows_of_users_without_training"), 0)
        self._rows = dict.fromkeys(("train", "valid", "test"), 0)

    def settle(self) -> None:
        """A day is over."""
        self._rates.settle()

    def of(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The finished rows of a block, without those that belong to no split."""
        known = self._known
        user = places(known.users, rows["uid"].to_numpy())
        item = places(known.items, rows["item_id"].to_numpy())
        times = rows["timestamp"].to_numpy()
        labels = outcomes(rows["played_ratio_pct"].to_numpy(), rows["track_length_seconds"].to_numpy())
        keys = {"user": user, "item": item, "artist": known.artist[item]}
        columns = self._rates.columns(keys) | self._recent(user, item, times, labels)
        self._rates.add(keys, labels)
        table = pl.concat([rows.drop("played_ratio_pct"), known.tracks[item]], how="horizontal").with_columns(
            hour=pl.col("timestamp") // HOUR % 24, weekday=pl.col("timestamp") // DAY % 7
        )
        table = table.with_columns(
            *(pl.Series(name, values).fill_nan(None) for name, values in labels.items()),
            *(pl.Series(name, values) for name, values in columns.items()),
        )
        return table.with_columns(pl.Series("split", self._split(user, times))).drop_nulls("split")

    def _recent(
        self, user: np.ndarray, item: np.ndarray, times: np.ndarray, labels: dict[str, np.ndarray]
    ) -> dict:
        """Histories of tracks and artists, counts, repeats of the row's track and artist, and the pace."""
        known = self._known
        counted = {
            "played": np.ones(len(item), bool),
            "listened": labels["listened"] == 1,
            "skipped": labels["skip"] == 1,
        }
        columns: dict[str, np.ndarray | pl.Series] = {}
        for name, stream in self._streams.items():
            past = stream.step(user, times, item, counted[name])
            artist_ids = past.latest(known.artist_id[past.numbers])
            columns[f"user_{name}"] = past.counts()
            columns[f"{name}_items"] = past.latest(known.items[past.numbers])
            columns[f"{name}_artists"] = artist_ids.list.eval(pl.element().replace(-1, None))
            columns[f"item_recently_{name}"] = past.matches(past.numbers, item)
            columns[f"artist_recently_{name}"] = past.matches(known.artist[past.numbers], known.artist[item])
        return columns | {"minutes_since_listen": self._pace(user, times)}

    def _pace(self, user: np.ndarray, times: np.ndarray) -> pl.Series:
        """Minutes since the user's last earlier moment with a listen."""
        order = np.lexsort((times, user))
        users, moments = user[order], times[order]
        is_first = np.append(True, (users[1:] != users[:-1]) | (moments[1:] != moments[:-1]))
        firsts = np.flatnonzero(is_first)
        moment = np.cumsum(is_first) - 1  # the number of each row's user and time
        before = np.where(moment > 0, moments[firsts[moment - 1]], -1)
        same_user = (moment > 0) & (users[firsts[moment - 1]] == users)
        last = np.empty(len(user), np.int64)
        last[order] = np.where(same_user, before, self._last[users])
        self._last[users] = moments  # ascending, so the latest stays
        return pl.Series(np.where(last >= 0, (times - last) / MINUTE, np.nan)).fill_nan(None)

    def _split(self, user: np.ndarray, times: np.ndarray) -> list[str | None]:
        is_train = times < TRAIN_UNTIL
        self._has_trained[user[is_train]] = True
        is_valid = (times >= VALID_FROM) & (times < VALID_UNTIL)
        is_test = times >= TEST_FROM
        is_new = (is_valid | is_test) & ~self._has_trained[user]
        self.notes["rows_between_splits"] += int((~(is_train | is_valid | is_test)).sum())
        self.notes["rows_of_users_without_training"] += int(is_new.sum())
        chosen = {"train": is_train, "valid": is_valid & ~is_new, "test": is_test & ~is_new}
        for name, rows in chosen.items():
            self._rows[name] += int(rows.sum())
        split = np.full(len(user), None, object)
        for name, rows in chosen.items():
            split[rows] = name
        return split.tolist()

    def require_every_split(self, listens: Path) -> None:
        """InputError where the listens leave a split empty."""
        if empty := [name for name, rows in self._rows.items() if not rows]:
            raise InputError(
                f"{listens}: has no rows for {' and '.join(empty)} by the benchmark's split (training until "
                f"{TRAIN_UNTIL:,}, validation from {VALID_FROM:,}, test from {TEST_FROM:,}); fetch it again"
            )


def outcomes(percent: np.ndarray, length: np.ndarray) -> dict[str, np.ndarray]:
    """``listened``, ``finish`` and ``skip`` of rows, (N,) each: 0, 1, or NaN where undefined.

    percent: how much of the track was played. length: of the track in seconds; at 0, ``skip`` is undefined.
    """
    played = percent / 100 * length
    skip = (played < np.minimum(SKIP_SECONDS, length)).astype(np.float64)
    skip[length <= 0] = np.nan
    return {
        "listened": (percent > LISTENED_PERCENT).astype(np.float64),
        "finish": (percent >= FINISHED_PERCENT).astype(np.float64),
        "skip": skip,
    }
