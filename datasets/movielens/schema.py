"""The inputs of a MovieLens log: 384 numbers, of which the log itself names those of the user's profile."""

from __future__ import annotations

from datasets.movielens.past import START_RATES
from datasets.schema import ColumnSplit, Feature, Schema, Task


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


def number(name: str, group: str, dim: int = 8, normalization: str = "standard") -> Feature:
    return _feature(name=name, kind="numeric", group=group, embedding_dim=dim, normalization=normalization)


def _item() -> list[Feature]:
    """64 numbers."""
    return [
        category("movie_id", "item", 16),
        _feature(name="genres", kind="multi_hot", group="item", vocabulary="genre"),
        number("year", "item"),
        category("decade", "item", 8),
        number("years_since_release", "item", normalization="log1p"),
        number("num_genres", "item"),
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
    counts = [number(f"{key}_ratings", "cross", normalization="log1p") for key in keys]
    return counts + [number(f"{key}_mean_{outcome}", "cross") for key in keys for outcome in START_RATES]


def _context() -> list[Feature]:
    """48 numbers: the clock and the user's pace."""
    paces = ("minutes_since_rating", "ratings_in_last_hour", "ratings_in_last_day")
    clock = [category("hour", "context", 16), category("weekday", "context", 8)]
    return clock + [number(name, "context", normalization="log1p") for name in paces]
