"""Features of the ratings before a rating: sequences, counts, means and the pace."""

from __future__ import annotations

import numpy as np
import polars as pl

from datasets.causal import EventIndex, Past, pair_key, smoothed_rate, sum_by_row

HOUR = 3600  # times are in seconds
DAY = 24 * HOUR
# The prior of a mean rating before the first rating of all.
START_RATES = {"like": 0.5, "dislike": 0.5, "rating": 3.0}
_Columns = dict[str, np.ndarray | pl.Series]


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
        own_ratings, movie_ratings = (
            self._totals(past)
            for past in (self._by_user.before(user, time), self._by_movie.before(movie, time))
        )
        user_genre = self._genre_totals(rows)
        columns: _Columns = self._pace(user, time)
        for name, totals in (("user", own_ratings), ("movie", movie_ratings), ("user_genre", user_genre)):
            columns[f"{name}_ratings"] = totals["count"]
        for outcome, start in START_RATES.items():
            first = np.full(rows.height, start)
            overall = smoothed_rate(anyone[outcome], anyone["count"], first, strength=1)
            own = smoothed_rate(own_ratings[outcome], own_ratings["count"], overall)
            columns[f"user_mean_{outcome}"] = own
            columns[f"movie_mean_{outcome}"] = smoothed_rate(
                movie_ratings[outcome], movie_ratings["count"], overall
            )
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
