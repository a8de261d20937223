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

from datasets.causal import EventIndex, pair_key, smoothed_rate, sum_by_row
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
    ratings = _read_ratings(ratings_file, notes)
    users = _read_users(user_file)
    movies = _read_movies(movie_file, notes)
    rows = ratings.join(users, on="user_id", how="left", maintain_order="left")
    rows = rows.join(movies, on="movie_id", how="left", maintain_order="left")
    rows = rows.with_columns(_clock_columns()).with_columns(_split_column())
    notes |= {
        "ratings": rows.height,
        "users": rows["user_id"].n_unique(),
        "movies": rows["movie_id"].n_unique(),
    }
    past = _PastRatings(rows)
    rows = rows.with_columns(past.cross() + past.sequences(chosen.history_length)).drop("rating")
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


def _read_ratings(path: Path, notes: dict) -> pl.DataFrame:
    """Ratings in time order with their labels."""
    everything = tuple(RATING_COLUMNS)
    raw = read_table(path, RATING_COLUMNS, separator="\t", has_header=False, never_empty=everything)
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


def _clock_columns() -> list[pl.Expr]:
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


# --- features of the past -----------------------------------------------------------------------


class _PastRatings:
    """Sequence and cross features of every rating, from ratings of strictly earlier seconds."""

    def __init__(self, rows: pl.DataFrame) -> None:
        self._rows = rows
        self._user, self._movie, self._time = (rows[c].to_numpy() for c in ("user_id", "movie_id", "time"))
        self._outcomes = {name: rows[name].cast(pl.Int64).to_numpy() for name in START_RATES}
        self._by_user = EventIndex(self._user, self._time)

    def sequences(self, length: int) -> list[pl.Series]:
        """The latest films and genres rated, liked and disliked, and the latest ratings; oldest first."""
        columns = [self._latest(self._rows, "rating", length).alias("rated_ratings")]
        for name, label in {"rated": None, "liked": "like", "disliked": "dislike"}.items():
            events = self._rows if label is None else self._rows.filter(pl.col(label) == 1)
            columns.append(self._latest(events, "movie_id", length).alias(f"{name}_movies"))
            columns.append(self._latest(events.explode("genres"), "genres", length).alias(f"{name}_genres"))
        return columns

    def _latest(self, events: pl.DataFrame, column: str, length: int) -> pl.Series:
        having = events.select("user_id", "time", column).drop_nulls()
        index = EventIndex(having["user_id"].to_numpy(), having["time"].to_numpy())
        return index.before(self._user, self._time).latest(having[column].to_numpy(), length)

    def cross(self) -> list[pl.Series]:
        """Counts, like and dislike rates and mean rating of user, film and user x genre; the pace.

        Each mean is smoothed towards a wider one: a film's and a user's towards everyone's until
        then, user x genre (summed over the film's genres) towards the user's.
        """
        everyone = np.zeros_like(self._user)
        anyone, user, movie = (self._totals(keys) for keys in (everyone, self._user, self._movie))
        user_genre = self._genre_totals()
        columns: _Columns = self._pace()
        for name, totals in (("user", user), ("movie", movie), ("user_genre", user_genre)):
            columns[f"{name}_ratings"] = totals["count"]
        for outcome, start in START_RATES.items():
            first = np.full(len(everyone), start)
            overall = smoothed_rate(anyone[outcome], anyone["count"], first, strength=1)
            own = smoothed_rate(user[outcome], user["count"], overall)
            columns[f"user_mean_{outcome}"] = own
            columns[f"movie_mean_{outcome}"] = smoothed_rate(movie[outcome], movie["count"], overall)
            columns[f"user_genre_mean_{outcome}"] = smoothed_rate(
                user_genre[outcome], user_genre["count"], own
            )
        return [pl.Series(name, values) for name, values in columns.items()]

    def _totals(self, keys: np.ndarray) -> dict[str, np.ndarray]:
        """Per row: how many earlier ratings share its key, and the sums of their outcomes."""
        past = EventIndex(keys, self._time).before(keys, self._time)
        sums = {name: past.sums(values) for name, values in self._outcomes.items()}
        return {"count": past.counts(), **sums}

    def _genre_totals(self) -> dict[str, np.ndarray]:
        tagged = self._rows.with_row_index("row").explode("genres").drop_nulls("genres")
        row, time = tagged["row"].to_numpy(), tagged["time"].to_numpy()
        keys = pair_key(tagged["user_id"].to_numpy(), tagged["genres"].to_numpy())
        past = EventIndex(keys, time).before(keys, time)
        height = self._rows.height
        sums = {
            name: sum_by_row(row, past.sums(values[row]), height) for name, values in self._outcomes.items()
        }
        return {"count": sum_by_row(row, past.counts(), height), **sums}

    def _pace(self) -> _Columns:
        past = self._by_user.before(self._user, self._time)
        latest = past.last(self._time, otherwise=-1)
        minutes = np.where(latest >= 0, (self._time - latest) / 60, np.nan)
        recent = {
            f"ratings_in_last_{name}": past.counts()
            - self._by_user.before(self._user, self._time - span).counts()
            for name, span in (("hour", HOUR), ("day", DAY))
        }
        return {"minutes_since_rating": pl.Series(minutes).fill_nan(None), **recent}


# --- schema -------------------------------------------------------------------------------------


def _schema(history_length: int) -> Schema:
    return Schema(
        name=NAME,
        description="MovieLens-100K, film ratings (GroupLens, 1997-1998), research use",
        features=_user() + _item() + _sequence(history_length) + _cross() + _context(),
        tasks=[Task(name="like"), Task(name="dislike")],
        user_id="user_id",
        time="time",
        split=ColumnSplit(column="split"),
    )


def _feature(**fields: object) -> Feature:
    return Feature.model_validate(fields)


def _category(name: str, group: str, dim: int) -> Feature:
    return _feature(name=name, kind="categorical", group=group, embedding_dim=dim)


def _number(name: str, group: str, dim: int = 8, normalization: str = "standard") -> Feature:
    return _feature(name=name, kind="numeric", group=group, embedding_dim=dim, normalization=normalization)


def _user() -> list[Feature]:
    """64 numbers."""
    dims = {"user_id": 16, "age_band": 8, "gender": 4, "occupation": 16, "zip_prefix": 16}
    return [*(_category(name, "user", dim) for name, dim in dims.items()), _number("age", "user", 4)]


def _item() -> list[Feature]:
    """64 numbers."""
    return [
        _category("movie_id", "item", 16),
        _feature(name="genres", kind="multi_hot", group="item", vocabulary="genre"),
        _number("year", "item"),
        _category("decade", "item", 8),
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
    clock = [_category("hour", "context", 16), _category("weekday", "context", 8)]
    return clock + [_number(name, "context", normalization="log1p") for name in paces]
