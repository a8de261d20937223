"""MovieLens-100K: 100,000 ratings of films, with labels ``like`` and ``dislike``.

Harper and Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015,
https://doi.org/10.1145/2827872. Licence: research use with acknowledgement; no redistribution, no
commercial use without permission (README of the data).

Rows. One rating each. Films that were never rated are absent, so this is ranking among films that
a user chose to rate, not among films that were shown.

Labels. ``like`` = rating >= 4, ``dislike`` = rating <= 2; a 3 is neither. Always defined.

Split. In time order within each user: the first 80 % of the ratings train, the next 10 % validate,
the rest tests; ratings of one second stay together, on the later side. One split time for all
would test on unknown users: users rate in a burst at sign-up, and with a training split that ends at
the 80 % quantile of time, 86 % of the last tenth of the ratings are by users without a training row.
The price is that parameters are trained on some users' ratings that are later than another user's test
ratings. Inputs never use later ratings, of any user.

Inputs. Profile, film, hour and weekday (UTC), and the ratings of strictly earlier seconds
(``datasets.causal``): many ratings share a second, and those do not see one another. No rating of
the row itself is an input.

``bootstrap: n`` (n > 0, a suite's world) draws as many training rows as there are, with replacement, as
in ``datasets.kuairand.source``.

The features are 384 numbers wide: user 64, item 64, sequence 112, cross 96, context 48. All is held
in memory.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from datasets.causal import EventIndex, Past, pair_key, smoothed_rate, sum_by_row
from datasets.fetch.raw_files import describe_files, find_folder, read_table, require_file
from datasets.schema import ColumnSplit, Feature, Schema, Task
from datasets.source import (
    Source,
    bootstrap_note,
    options_as_identity,
    parse_options,
    repeated,
    times_drawn,
)

NAME = "movielens-100k"
INSIDE = "ml-100k"  # where the official archive keeps its files
FILES = ("u.data", "u.user", "u.item")
NUM_GENRES = 19
HOUR = 3600  # times are in seconds
DAY = 24 * HOUR
YEAR_DAYS = 365.25

_Types = dict[str, type[pl.DataType]]
RATING_COLUMNS: _Types = dict.fromkeys(["user_id", "movie_id", "rating", "time"], pl.Int64)
USER_COLUMNS: _Types = {
    "user_id": pl.Int64,
    "age": pl.Int64,
    "gender": pl.String,
    "occupation": pl.String,
    "zip_code": pl.String,
}
MOVIE_COLUMNS: _Types = {
    "movie_id": pl.Int64,
    "title": pl.String,
    "release_date": pl.String,
    "video_release_date": pl.String,
    "url": pl.String,
    **{f"genre_{i}": pl.Int8 for i in range(NUM_GENRES)},
}
# The age bands of MovieLens-1M's users file.
AGE_BANDS = [18, 25, 35, 45, 50, 56]
# The prior of a mean rating before the first rating of all.
START_RATES = {"like": 0.5, "dislike": 0.5, "rating": 3.0}
_Columns = dict[str, np.ndarray | pl.Series]


class MovieLensOptions(BaseModel):
    """``history_length``: entries of each history; ``bootstrap``: a draw of the training rows, 0 for none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    history_length: int = Field(default=50, ge=1, le=1000)
    bootstrap: int = Field(default=0, ge=0)


def source(options: dict, data_root: Path | None, scratch: Path) -> Source:
    """The table of MovieLens-100K below ``data_root/movielens-100k``; ``scratch`` stays empty.

    Raises InputError on an unknown option and on a missing or changed file.
    """
    chosen = parse_options(MovieLensOptions, options, NAME)
    ratings_file, user_file, movie_file = _find(data_root)
    notes: dict[str, int | float | str] = {}
    ratings = read_ratings(ratings_file, "\t", notes)
    users = _read_users(user_file)
    movies = _read_movies(movie_file, notes)
    rows = ratings.join(users, on="user_id", how="left", maintain_order="left")
    rows = rows.join(movies, on="movie_id", how="left", maintain_order="left")
    rows = rows.with_columns(clock_columns()).with_columns(split_column())
    notes |= {
        "ratings": rows.height,
        "users": rows["user_id"].n_unique(),
        "movies": rows["movie_id"].n_unique(),
    }
    past = PastRatings(rows)
    rows = rows.with_columns(past.cross(rows) + past.sequences(rows, chosen.history_length)).drop("rating")
    is_training = (rows["split"] == "train").to_numpy()
    times = times_drawn(is_training, chosen.bootstrap)
    if chosen.bootstrap:
        notes["bootstrap"] = bootstrap_note(is_training, times)
    rows = repeated(rows, times)
    return Source(_schema(chosen.history_length), rows.lazy(), identity(options, data_root), notes)


def identity(options: dict, data_root: Path | None) -> dict:
    """Everything that determines the content: the options and the raw files' names, sizes, sha256."""
    chosen = parse_options(MovieLensOptions, options, NAME)
    files = describe_files(_find(data_root))
    return {"dataset": NAME, "options": options_as_identity(chosen), "files": files}


def raw_folder(data_root: Path | None) -> Path:
    """Where the raw files are; InputError where one is missing."""
    return _find(data_root)[0].parent


def _find(data_root: Path | None) -> list[Path]:
    folder = find_folder(NAME, data_root, INSIDE, FILES[0])
    return [require_file(folder / name, NAME) for name in FILES]


# --- raw tables ---------------------------------------------------------------------------------


def read_ratings(path: Path, separator: str, notes: dict) -> pl.DataFrame:
    """Ratings in time order with their labels."""
    everything = tuple(RATING_COLUMNS)
    raw = read_table(path, RATING_COLUMNS, separator=separator, has_header=False, never_empty=everything)
    ratings = raw.unique(maintain_order=True).sort("time", "user_id", "movie_id")
    notes["exact_duplicates_dropped"] = raw.height - ratings.height
    same_second = pl.len().over("user_id", "time") > 1
    notes["ratings_that_share_a_second_with_another_of_the_user"] = ratings.select(same_second.sum()).item()
    return ratings.with_columns(
        (pl.col("rating") >= 4).cast(pl.Int8).alias("like"),
        (pl.col("rating") <= 2).cast(pl.Int8).alias("dislike"),
    )


def _read_users(path: Path) -> pl.DataFrame:
    users = read_table(path, USER_COLUMNS, separator="|", has_header=False, never_empty=("user_id",))
    band = pl.sum_horizontal([(pl.col("age") >= start).cast(pl.Int64) for start in AGE_BANDS])
    return users.select(
        *("user_id", "age", "gender", "occupation"),
        pl.when(pl.col("age").is_not_null()).then(band).alias("age_band"),
        pl.col("zip_code").str.slice(0, 2).alias("zip_prefix"),
    )


def _read_movies(path: Path, notes: dict) -> pl.DataFrame:
    """Films with genres (numbers of u.genre), year of the title and day of release (since 1970)."""
    movies = read_table(
        path, MOVIE_COLUMNS, separator="|", has_header=False, encoding="latin-1", never_empty=("movie_id",)
    )
    flags = [pl.when(pl.col(f"genre_{i}") == 1).then(i) for i in range(NUM_GENRES)]
    movies = movies.select(
        "movie_id",
        pl.concat_list(flags).list.drop_nulls().cast(pl.List(pl.Int64)).alias("genres"),
        pl.col("title").str.extract(r"\((\d{4})\)\s*$").cast(pl.Int64).alias("year"),
        pl.col("release_date").str.to_date("%d-%b-%Y", strict=False).cast(pl.Int64).alias("release_day"),
    )
    notes["movies_without_year"] = movies["year"].null_count()
    notes["movies_without_release_date"] = movies["release_day"].null_count()
    return movies.with_columns((pl.col("year") // 10 * 10).alias("decade"))


def clock_columns() -> list[pl.Expr]:
    """Hour and weekday of a rating, the film's age then, and how many genres it has."""
    clock = pl.from_epoch("time", "s")
    age = (pl.col("time") / DAY - pl.col("release_day")) / YEAR_DAYS
    return [
        clock.dt.hour().cast(pl.Int64).alias("hour"),
        clock.dt.weekday().cast(pl.Int64).alias("weekday"),
        age.clip(0).alias("years_since_release"),
        pl.col("genres").list.len().cast(pl.Int64).alias("num_genres"),
    ]


def split_column() -> pl.Expr:
    """Each user's ratings 80/10/10 in time order; ratings of the second at a bound go to the later side."""
    time = pl.col("time")
    valid_from, test_from = (
        time.sort().get((pl.len() * share).floor().cast(pl.Int64)) for share in (0.8, 0.9)
    )
    part = pl.when(time < valid_from).then(pl.lit("train")).when(time < test_from).then(pl.lit("valid"))
    return part.otherwise(pl.lit("test")).over("user_id").alias("split")


# --- features of the past -----------------------------------------------------------------------


class PastRatings:
    """Sequence and cross features of ratings, from ratings of strictly earlier seconds.

    ``events`` are all ratings in time order; ``rows`` below are those whose past is asked for.
    """

    def __init__(self, events: pl.DataFrame) -> None:
        self._outcomes = {name: _numbers(events, name) for name in START_RATES}
        user, movie, time = (_numbers(events, name) for name in ("user_id", "movie_id", "time"))
        self._times = time
        self._by_anyone = EventIndex(np.zeros_like(user), time)
        self._by_user, self._by_movie = EventIndex(user, time), EventIndex(movie, time)
        tagged = events.with_row_index("row").explode("genres").drop_nulls("genres")
        self._tagged_rating = tagged["row"].to_numpy()
        self._by_user_genre = EventIndex(_user_genre(tagged), _numbers(tagged, "time"))
        self._latest = {"rated_ratings": _Latest(events, "rating")}
        for name, label in {"rated": None, "liked": "like", "disliked": "dislike"}.items():
            kept = events if label is None else events.filter(pl.col(label) == 1)
            self._latest[f"{name}_movies"] = _Latest(kept, "movie_id")
            self._latest[f"{name}_genres"] = _Latest(kept.explode("genres"), "genres")

    def sequences(self, rows: pl.DataFrame, length: int) -> list[pl.Series]:
        """The latest films and genres rated, liked and disliked, and the latest ratings; oldest first."""
        user, time = _numbers(rows, "user_id"), _numbers(rows, "time")
        return [latest.before(user, time, length).alias(name) for name, latest in self._latest.items()]

    def cross(self, rows: pl.DataFrame) -> list[pl.Series]:
        """Counts, like and dislike rates and mean rating of user, film and user x genre; the pace.

        Each mean is smoothed towards a wider one: a film's and a user's towards everyone's until
        then, user x genre (summed over the film's genres) towards the user's.
        """
        user, movie, time = (_numbers(rows, name) for name in ("user_id", "movie_id", "time"))
        anyone = self._totals(self._by_anyone.before(np.zeros_like(user), time))
        own_ratings, of_movie = (
            self._totals(past)
            for past in (self._by_user.before(user, time), self._by_movie.before(movie, time))
        )
        user_genre = self._genre_totals(rows)
        columns: _Columns = self._pace(user, time)
        for name, totals in (("user", own_ratings), ("movie", of_movie), ("user_genre", user_genre)):
            columns[f"{name}_ratings"] = totals["count"]
        for outcome, start in START_RATES.items():
            first = np.full(rows.height, start)
            overall = smoothed_rate(anyone[outcome], anyone["count"], first, strength=1)
            own = smoothed_rate(own_ratings[outcome], own_ratings["count"], overall)
            columns[f"user_mean_{outcome}"] = own
            columns[f"movie_mean_{outcome}"] = smoothed_rate(of_movie[outcome], of_movie["count"], overall)
            columns[f"user_genre_mean_{outcome}"] = smoothed_rate(
                user_genre[outcome], user_genre["count"], own
            )
        return [pl.Series(name, values) for name, values in columns.items()]

    def _totals(self, past: Past) -> dict[str, np.ndarray]:
        """Per row: how many earlier ratings share its key, and the sums of their outcomes."""
        sums = {name: past.sums(values) for name, values in self._outcomes.items()}
        return {"count": past.counts(), **sums}

    def _genre_totals(self, rows: pl.DataFrame) -> dict[str, np.ndarray]:
        asked = rows.with_row_index("row").explode("genres").drop_nulls("genres")
        row = asked["row"].to_numpy()
        past = self._by_user_genre.before(_user_genre(asked), _numbers(asked, "time"))
        sums = {
            name: sum_by_row(row, past.sums(values[self._tagged_rating]), rows.height)
            for name, values in self._outcomes.items()
        }
        return {"count": sum_by_row(row, past.counts(), rows.height), **sums}

    def _pace(self, user: np.ndarray, time: np.ndarray) -> _Columns:
        past = self._by_user.before(user, time)
        latest = past.last(self._times, otherwise=-1)
        minutes = np.where(latest >= 0, (time - latest) / 60, np.nan)
        recent = {
            f"ratings_in_last_{name}": past.counts() - self._by_user.before(user, time - span).counts()
            for name, span in (("hour", HOUR), ("day", DAY))
        }
        return {"minutes_since_rating": pl.Series(minutes).fill_nan(None), **recent}


class _Latest:
    """The latest values of one column of a user's events."""

    def __init__(self, events: pl.DataFrame, column: str) -> None:
        having = events.select("user_id", "time", column).drop_nulls()
        self._index = EventIndex(having["user_id"].to_numpy(), having["time"].to_numpy())
        self._values = having[column].to_numpy()

    def before(self, user: np.ndarray, time: np.ndarray, length: int) -> pl.Series:
        return self._index.before(user, time).latest(self._values, length)


def _numbers(frame: pl.DataFrame, column: str) -> np.ndarray:
    return frame[column].cast(pl.Int64).to_numpy()


def _user_genre(tagged: pl.DataFrame) -> np.ndarray:
    return pair_key(tagged["user_id"].to_numpy(), tagged["genres"].to_numpy())


# --- schema -------------------------------------------------------------------------------------


def _schema(history_length: int) -> Schema:
    description = "MovieLens-100K, film ratings (GroupLens, 1997-1998), research use"
    return movielens_schema(NAME, description, _user(), history_length)


def movielens_schema(name: str, description: str, user: list[Feature], history_length: int) -> Schema:
    """The schema of a MovieLens log; ``user`` are 64 numbers of the profile."""
    return Schema(
        name=name,
        description=description,
        features=user + _item() + _sequence(history_length) + _cross() + _context(),
        tasks=[Task(name="like"), Task(name="dislike")],
        user_id="user_id",
        time="time",
        split=ColumnSplit(column="split"),
    )


def _feature(**fields: object) -> Feature:
    return Feature.model_validate(fields)


def category(name: str, group: str, dim: int) -> Feature:
    return _feature(name=name, kind="categorical", group=group, embedding_dim=dim)


def _number(name: str, group: str, dim: int = 8, normalization: str = "standard") -> Feature:
    return _feature(name=name, kind="numeric", group=group, embedding_dim=dim, normalization=normalization)


def _user() -> list[Feature]:
    """64 numbers."""
    dims = {"user_id": 16, "age_band": 8, "gender": 4, "occupation": 16, "zip_prefix": 16}
    return [*(category(name, "user", dim) for name, dim in dims.items()), _number("age", "user", 4)]


def _item() -> list[Feature]:
    """64 numbers."""
    return [
        category("movie_id", "item", 16),
        _feature(name="genres", kind="multi_hot", group="item", vocabulary="genre"),
        _number("year", "item"),
        category("decade", "item", 8),
        _number("years_since_release", "item", normalization="log1p"),
        _number("num_genres", "item"),
    ]


def _sequence(length: int) -> list[Feature]:
    """112 numbers: films and genres rated, liked and disliked, and the ratings given."""
    vocabularies = {"movies": "movie_id", "genres": "genre"}
    names = [
        (f"{kind}_{what}", vocabularies[what])
        for kind in ("rated", "liked", "disliked")
        for what in vocabularies
    ]
    return [
        _feature(name=name, kind="sequence", group="sequence", vocabulary=vocabulary, max_length=length)
        for name, vocabulary in [*names, ("rated_ratings", "rating")]
    ]


def _cross() -> list[Feature]:
    """96 numbers: a count and three means of user, film and user x genre."""
    keys = ("user", "movie", "user_genre")
    counts = [_number(f"{key}_ratings", "cross", normalization="log1p") for key in keys]
    return counts + [_number(f"{key}_mean_{outcome}", "cross") for key in keys for outcome in START_RATES]


def _context() -> list[Feature]:
    """48 numbers: the clock and the user's pace."""
    paces = ("minutes_since_rating", "ratings_in_last_hour", "ratings_in_last_day")
    clock = [category("hour", "context", 16), category("weekday", "context", 8)]
    return clock + [_number(name, "context", normalization="log1p") for name in paces]
