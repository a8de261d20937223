"""MovieLens-100K and MovieLens-1M: ratings of films, with labels ``like`` and ``dislike``.

Harper and Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015,
https://doi.org/10.1145/2827872. Licence: research use with acknowledgement; no redistribution, no
commercial use without permission (README of the data).

Rows. One rating each. Films that were never rated are absent, so this is ranking among films that
a user chose to rate, not among films that were shown.

Labels. ``like`` = rating >= 4, ``dislike`` = rating <= 2; a 3 is neither. Always defined.

Split. In time order within each user: the first 80 % of the ratings train, the next 10 % validate,
the rest tests; ratings of one second stay together, on the later side. One split time for all
would test on unknown users: users rate in a burst at sign-up, and with a training split that ends at
the 80 % quantile of time, 86 % of the last tenth of the ratings of MovieLens-100K are by users without a
training row. The price is that parameters are trained on some users' ratings that are later than another
user's test ratings. Inputs never use later ratings, of any user.

Inputs. Profile, film, hour and weekday (UTC), and the ratings of strictly earlier seconds
(``datasets.causal``): many ratings share a second, and those do not see one another. No rating of
the row itself is an input. MovieLens-1M has an age band and no age, its genres are numbered in the order of
their names, and a film is as old as the first of January of its title's year.

``bootstrap: n`` (n > 0; a suite's world n - 1) draws as many training rows as there are, with replacement, as
in ``datasets.kuairand.source``.

The features are 384 numbers wide: user 64, item 64, sequence 112, cross 96, context 48. The ratings are held
in memory; the finished table goes to parquet in the scratch folder, piece by piece.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from datasets.fetch.raw_files import describe_files, find_folder, require_file
from datasets.movielens.past import DAY, PastRatings
from datasets.movielens.raw import (
    read_movies_1m,
    read_movies_100k,
    read_ratings,
    read_users_1m,
    read_users_100k,
)
from datasets.movielens.schema import category, movielens_schema, number
from datasets.schema import Feature, Schema
from datasets.source import (
    Source,
    bootstrap_note,
    options_as_identity,
    parse_options,
    repeated,
    times_drawn,
)

YEAR_DAYS = 365.25
PIECE_ROWS = 100_000


class MovieLensOptions(BaseModel):
    """``history_length``: entries of each history; ``bootstrap``: a draw of the training rows, 0 for none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    history_length: int = Field(default=50, ge=1, le=1000)
    bootstrap: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class MovieLens:
    """One log: its ``name``, its archive's folder ``inside``, its files (ratings, users, films) and readers.

    ``user`` are the 64 numbers of its profile.
    """

    name: str
    description: str
    inside: str
    files: tuple[str, str, str]
    separator: str
    read_users: Callable[[Path], pl.DataFrame]
    read_movies: Callable[[Path, dict], pl.DataFrame]
    user: tuple[Feature, ...]

    def source(self, options: dict, data_root: Path | None, scratch: Path) -> Source:
        """The table below ``data_root``, written as parquet to ``scratch``.

        Raises InputError on an unknown option and on a missing or changed file.
        """
        chosen = parse_options(MovieLensOptions, options, self.name)
        notes: dict[str, int | float | str] = {}
        rows = self._rows(data_root, notes)
        past = PastRatings(rows)
        is_training = (rows["split"] == "train").to_numpy()
        times = times_drawn(is_training, chosen.bootstrap)
        if chosen.bootstrap:
            notes["bootstrap"] = bootstrap_note(is_training, times)
        for place, piece in enumerate(rows.iter_slices(PIECE_ROWS)):
            table = piece.with_columns(past.cross(piece) + past.sequences(piece, chosen.history_length))
            table = repeated(table.drop("rating"), times[place * PIECE_ROWS :][: piece.height])
            table.write_parquet(scratch / f"rows-{place:05d}.parquet")
        frame = pl.scan_parquet(sorted(scratch.glob("rows-*.parquet")), glob=False)
        return Source(self._schema(chosen.history_length), frame, self.identity(options, data_root), notes)

    def identity(self, options: dict, data_root: Path | None) -> dict:
        """Everything that determines the content: the options and the raw files' names, sizes, sha256."""
        chosen = parse_options(MovieLensOptions, options, self.name)
        files = describe_files(self._paths(data_root))
        return {"dataset": self.name, "options": options_as_identity(chosen), "files": files}

    def raw_folder(self, data_root: Path | None) -> Path:
        """Where the raw files are; InputError where one is missing."""
        return self._paths(data_root)[0].parent

    def _paths(self, data_root: Path | None) -> list[Path]:
        folder = find_folder(self.name, data_root, self.inside, self.files[0])
        return [require_file(folder / name, self.name) for name in self.files]

    def _rows(self, data_root: Path | None, notes: dict) -> pl.DataFrame:
        """All ratings in time order with their users, films, clock and split."""
        ratings_file, user_file, movie_file = self._paths(data_root)
        ratings = read_ratings(ratings_file, self.separator, notes)
        users, movies = self.read_users(user_file), self.read_movies(movie_file, notes)
        rows = ratings.join(users, on="user_id", how="left", maintain_order="left")
        rows = rows.join(movies, on="movie_id", how="left", maintain_order="left")
        notes |= {
            "ratings": rows.height,
            "users": rows["user_id"].n_unique(),
            "movies": rows["movie_id"].n_unique(),
        }
        return rows.with_columns(_clock_columns()).with_columns(_split_column())

    def _schema(self, history_length: int) -> Schema:
        return movielens_schema(self.name, self.description, list(self.user), history_length)


def _clock_columns() -> list[pl.Expr]:
    """Hour and weekday of a rating, the film's age then, and how many genres it has."""
    clock = pl.from_epoch("time", "s")
    age = (pl.col("time") / DAY - pl.col("release_day")) / YEAR_DAYS
    return [
        clock.dt.hour().cast(pl.Int64).alias("hour"),
        clock.dt.weekday().cast(pl.Int64).alias("weekday"),
        age.clip(0).alias("years_since_release"),
        pl.col("genres").list.len().cast(pl.Int64).alias("num_genres"),
    ]


def _split_column() -> pl.Expr:
    """Each user's ratings 80/10/10 in time order; ratings of the second at a bound go to the later side."""
    time = pl.col("time")
    valid_from, test_from = (
        time.sort().get((pl.len() * share).floor().cast(pl.Int64)) for share in (0.8, 0.9)
    )
    part = pl.when(time < valid_from).then(pl.lit("train")).when(time < test_from).then(pl.lit("valid"))
    return part.otherwise(pl.lit("test")).over("user_id").alias("split")


HUNDRED_K = MovieLens(
    name="movielens-100k",
    description="MovieLens-100K, film ratings (GroupLens, 1997-1998), research use",
    inside="ml-100k",
    files=("u.data", "u.user", "u.item"),
    separator="\t",
    read_users=read_users_100k,
    read_movies=read_movies_100k,
    user=(
        category("user_id", "user", 16),
        category("age_band", "user", 8),
        category("gender", "user", 4),
        category("occupation", "user", 16),
        category("zip_prefix", "user", 16),
        number("age", "user", 4),
    ),
)
ONE_M = MovieLens(
    name="movielens-1m",
    description="MovieLens-1M, film ratings (GroupLens, 2000-2003), research use",
    inside="ml-1m",
    files=("ratings.dat", "users.dat", "movies.dat"),
    separator="::",
    read_users=read_users_1m,
    read_movies=read_movies_1m,
    user=(
        category("user_id", "user", 16),
        category("age_band", "user", 8),
        category("gender", "user", 8),
        category("occupation", "user", 16),
        category("zip_prefix", "user", 16),
    ),
)
