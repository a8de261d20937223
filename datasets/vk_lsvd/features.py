"""Labels and features of VK-LSVD's rows, block by block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from datasets.streamed.blocks import Types, check_columns, distinct, places
from datasets.streamed.past import NO_KEY, RecentEvents, SettledRates
from datasets.vk_lsvd.embeddings import Embeddings
from datasets.vk_lsvd.schema import OUTCOMES, REACTIONS, STREAMS
from files.errors import InputError

SKIP_SECONDS, MOST_SECONDS = 3, 255

ROW_TYPES: Types = {
    "user_id": pl.Int64,
    "item_id": pl.Int64,
    "place": pl.Int64,
    "platform": pl.Int64,
    "agent": pl.Int64,
    "timespent": pl.Int64,
    **dict.fromkeys(REACTIONS, pl.Int8),
}
USER_TYPES: Types = dict.fromkeys(["user_id", "age", "gender", "geo"], pl.Int64)
ITEM_TYPES: Types = dict.fromkeys(["item_id", "author_id", "duration"], pl.Int64)


@dataclass(frozen=True)
class Known:
    """The users and videos that occur, in ascending order, with what the metadata say of them.

    Shapes
        users (U,), items (I,): ids. profile: U rows. author (I,): a number from 0, NO_KEY where unknown.
        author_id (I,), duration (I,): -1 where unknown.
    """

    users: np.ndarray
    items: np.ndarray
    profile: pl.DataFrame
    author: np.ndarray
    author_id: np.ndarray
    duration: np.ndarray
    num_authors: int

    @classmethod
    def of(cls, weeks: Sequence[Path], user_file: Path, item_file: Path) -> Known:
        for path in weeks:
            check_columns(path, ROW_TYPES)
        users, items = (distinct(weeks, column) for column in ("user_id", "item_id"))
        profile = _metadata(user_file, USER_TYPES, "user_id", users).drop("user_id")
        videos = _metadata(item_file, ITEM_TYPES, "item_id", items)
        author_id, duration = (videos[name].fill_null(-1).to_numpy() for name in ("author_id", "duration"))
        authors = np.unique(author_id[author_id >= 0])
        return cls(users, items, profile, places(authors, author_id), author_id, duration, len(authors))


def _metadata(path: Path, types: Types, key: str, ids: np.ndarray) -> pl.DataFrame:
    """One row for each id, null where the file lacks it; InputError where it has an id twice."""
    check_columns(path, types)
    wanted = pl.DataFrame({key: ids})
    found = (
        pl.scan_parquet(path, glob=False)
        .select(pl.col(name).cast(kind) for name, kind in types.items())
        .join(wanted.lazy(), on=key, how="semi")
        .collect(engine="streaming")
    )
    if found[key].is_duplicated().any():
        raise InputError(f"{path}: has a value of {key!r} twice; use the official file, or fetch it again")
    return wanted.join(found, on=key, how="left", maintain_order="left")


class Features:
    """Makes the table of each block, and keeps what the blocks after it need of it."""

    def __init__(self, known: Known, history_length: int, embeddings: Embeddings | None) -> None:
        self._known, self._embeddings = known, embeddings
        self._streams = {name: RecentEvents(len(known.users), history_length) for name in STREAMS}
        sizes = {"user": len(known.users), "item": len(known.items), "author": known.num_authors}
        self._rates = SettledRates(sizes, OUTCOMES)
        self.notes = dict.fromkeys(("rows", "rows_with_finish_undefined", "rows_without_author"), 0)

    def of(self, rows: pl.DataFrame, settles: bool) -> pl.DataFrame:
        """The finished rows; ``settles``: a seventh of a week ends with them."""
        known = self._known
        user = places(known.users, rows["user_id"].to_numpy())
        item = places(known.items, rows["item_id"].to_numpy())
        duration = known.duration[item]
        labels = outcomes(rows["timespent"].to_numpy(), duration)
        labels["like"] = rows["like"].to_numpy().astype(np.float64)
        keys = {"user": user, "item": item, "author": known.author[item]}
        columns = self._rates.columns(keys) | self._recent(rows, user, item, labels)
        self._rates.add(keys, labels)
        if settles:
            self._rates.settle()
        self._count(labels, known.author_id[item])
        table = pl.concat([rows, known.profile[user]], how="horizontal").with_columns(
            pl.Series("author_id", known.author_id[item]).replace(-1, None),
            pl.Series("duration", duration).replace(-1, None),
            *(pl.Series(name, labels[name]).fill_nan(None) for name in ("finish", "skip")),
            *(pl.Series(name, values) for name, values in columns.items()),
        )
        if self._embeddings is not None:
            table = table.with_columns(self._embeddings.of(item).alias("embedding"))
        return table.drop("timespent")

    def _recent(
        self, rows: pl.DataFrame, user: np.ndarray, item: np.ndarray, labels: dict[str, np.ndarray]
    ) -> dict:
        """Histories of videos and authors, counts, and how much of the latest is by the row's author."""
        known, times = self._known, rows["position"].to_numpy()
        counted = {"exposed": np.ones(len(item), bool), "finished": labels["finish"] == 1}
        counted["liked"] = labels["like"] == 1
        columns: dict[str, np.ndarray | pl.Series] = {}
        for name, stream in self._streams.items():
            past = stream.step(user, times, item, counted[name])
            authors = known.author[past.numbers]
            author_ids = past.latest(known.author_id[past.numbers])
            columns[f"user_{name}"] = past.counts()
            columns[f"{name}_items"] = past.latest(known.items[past.numbers])
            columns[f"{name}_authors"] = author_ids.list.eval(pl.element().replace(-1, None))
            columns[f"author_recently_{name}"] = past.matches(authors, known.author[item])
        return columns

    def _count(self, labels: dict[str, np.ndarray], author_id: np.ndarray) -> None:
        self.notes["rows"] += len(author_id)
        self.notes["rows_with_finish_undefined"] += int(np.isnan(labels["finish"]).sum())
        self.notes["rows_without_author"] += int((author_id == NO_KEY).sum())


def outcomes(timespent: np.ndarray, duration: np.ndarray) -> dict[str, np.ndarray]:
    """``finish`` and ``skip`` of rows, (N,) each: 0, 1, or NaN where undefined. Both inputs in seconds."""
    finish = (timespent >= duration).astype(np.float64)
    skip = (timespent < np.minimum(SKIP_SECONDS, duration)).astype(np.float64)
    unknown = duration <= 0
    finish[unknown | (duration > MOST_SECONDS)] = np.nan
    skip[unknown] = np.nan
    return {"finish": finish, "skip": skip}
