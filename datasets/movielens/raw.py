"""The files of both MovieLens logs as tables: ratings, users and films."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from datasets.fetch.raw_files import read_table

NUM_GENRES = 19
_Types = dict[str, type[pl.DataType]]
RATING_COLUMNS: _Types = dict.fromkeys(["user_id", "movie_id", "rating", "time"], pl.Int64)
USER_COLUMNS_100K: _Types = {
    "user_id": pl.Int64,
    "age": pl.Int64,
    "gender": pl.String,
    "occupation": pl.String,
    "zip_code": pl.String,
}
MOVIE_COLUMNS_100K: _Types = {
    "movie_id": pl.Int64,
    "title": pl.String,
    "release_date": pl.String,
    "video_release_date": pl.String,
    "url": pl.String,
    **{f"genre_{i}": pl.Int8 for i in range(NUM_GENRES)},
}
USER_COLUMNS_1M: _Types = {
    "user_id": pl.Int64,
    "gender": pl.String,
    "age_band": pl.Int64,
    "occupation": pl.Int64,
    "zip_code": pl.String,
}
MOVIE_COLUMNS_1M: _Types = {"movie_id": pl.Int64, "title": pl.String, "genres": pl.String}
# The age bands of MovieLens-1M's users file.
AGE_BANDS = [18, 25, 35, 45, 50, 56]


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


def read_users_100k(path: Path) -> pl.DataFrame:
    users = read_table(path, USER_COLUMNS_100K, separator="|", has_header=False, never_empty=("user_id",))
    band = pl.sum_horizontal([(pl.col("age") >= start).cast(pl.Int64) for start in AGE_BANDS])
    return users.select(
        *("user_id", "age", "gender", "occupation"),
        pl.when(pl.col("age").is_not_null()).then(band).alias("age_band"),
        pl.col("zip_code").str.slice(0, 2).alias("zip_prefix"),
    )


def read_movies_100k(path: Path, notes: dict) -> pl.DataFrame:
    """Films with genres (numbers of u.genre), year of the title and day of release (since 1970)."""
    movies = read_table(
        path,
        MOVIE_COLUMNS_100K,
        separator="|",
        has_header=False,
        encoding="latin-1",
        never_empty=("movie_id",),
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


def read_users_1m(path: Path) -> pl.DataFrame:
    users = read_table(path, USER_COLUMNS_1M, separator="::", has_header=False, never_empty=("user_id",))
    return users.select(
        *("user_id", "gender", "age_band", "occupation"), zip_prefix=pl.col("zip_code").str.slice(0, 2)
    )


def read_movies_1m(path: Path, notes: dict) -> pl.DataFrame:
    """Films with genres (numbers in the order of their names), year of the title and the day it begins."""
    movies = read_table(
        path,
        MOVIE_COLUMNS_1M,
        separator="::",
        has_header=False,
        encoding="latin-1",
        never_empty=("movie_id",),
    ).with_columns(pl.col("genres").str.strip_chars().str.split("|"))
    names = movies["genres"].explode().drop_nulls().unique().sort()
    notes["genres"] = ", ".join(f"{number} {name}" for number, name in enumerate(names))
    notes["movies_without_year"] = movies["title"].str.contains(r"\(\d{4}\)\s*$").not_().sum()
    return movies.select(
        "movie_id",
        pl.col("genres").list.eval(
            pl.element().replace_strict(names, range(len(names)), return_dtype=pl.Int64)
        ),
        pl.col("title").str.extract(r"\((\d{4})\)\s*$").cast(pl.Int64).alias("year"),
    ).with_columns(
        pl.date(pl.col("year"), 1, 1).cast(pl.Int64).alias("release_day"),
        (pl.col("year") // 10 * 10).alias("decade"),
    )
