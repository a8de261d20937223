"""MovieLens-1M: 1,000,209 ratings of films, read as `datasets.movielens` reads the 100,000.

Harper and Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015,
https://doi.org/10.1145/2827872. Licence: research use with acknowledgement; no redistribution, no
commercial use without permission (README of the data).

Labels, split and features are those of MovieLens-100K, where the reasons for them stand, but for three: the
profile has an age band and no age, genres are numbered in the order of their names, and a film is as old as
the first of January of its title's year. The features are 384 numbers wide: user 64, item 64, sequence 112,
cross 96, context 48. The ratings are held in memory; the finished table goes to parquet in the scratch
folder, piece by piece.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from datasets.fetch.raw_files import describe_files, find_folder, read_table, require_file
from datasets.movielens import (
    MovieLensOptions,
    PastRatings,
    category,
    clock_columns,
    movielens_schema,
    read_ratings,
    split_column,
)
from datasets.schema import Feature
from datasets.source import (
    Source,
    bootstrap_note,
    options_as_identity,
    parse_options,
    repeated,
    times_drawn,
)

NAME = "movielens-1m"
INSIDE = "ml-1m"  # where the official archive keeps its files
FILES = ("ratings.dat", "users.dat", "movies.dat")
SEPARATOR = "::"
PIECE_ROWS = 100_000

_Types = dict[str, type[pl.DataType]]
USER_COLUMNS: _Types = {
    "user_id": pl.Int64,
    "gender": pl.String,
    "age_band": pl.Int64,
    "occupation": pl.Int64,
    "zip_code": pl.String,
}
MOVIE_COLUMNS: _Types = {"movie_id": pl.Int64, "title": pl.String, "genres": pl.String}


def source(options: dict, data_root: Path | None, scratch: Path) -> Source:
    """The table of MovieLens-1M below ``data_root/movielens-1m``, written as parquet to ``scratch``.

    Raises InputError on an unknown option and on a missing or changed file.
    """
    chosen = parse_options(MovieLensOptions, options, NAME)
    ratings_file, user_file, movie_file = _find(data_root)
    notes: dict[str, int | float | str] = {}
    rows = read_ratings(ratings_file, SEPARATOR, notes)
    rows = rows.join(_read_users(user_file), on="user_id", how="left", maintain_order="left")
    rows = rows.join(_read_movies(movie_file, notes), on="movie_id", how="left", maintain_order="left")
    rows = rows.with_columns(clock_columns()).with_columns(split_column())
    notes |= {
        "ratings": rows.height,
        "users": rows["user_id"].n_unique(),
        "movies": rows["movie_id"].n_unique(),
    }
    past = PastRatings(rows)
    is_training = (rows["split"] == "train").to_numpy()
    times = times_drawn(is_training, chosen.bootstrap)
    if chosen.bootstrap:
        notes["bootstrap"] = bootstrap_note(is_training, times)
    for number, piece in enumerate(rows.iter_slices(PIECE_ROWS)):
        table = piece.with_columns(past.cross(piece) + past.sequences(piece, chosen.history_length))
        table = repeated(table.drop("rating"), times[number * PIECE_ROWS :][: piece.height])
        table.write_parquet(scratch / f"rows-{number:05d}.parquet")
    frame = pl.scan_parquet(sorted(scratch.glob("rows-*.parquet")), glob=False)
    description = "MovieLens-1M, film ratings (GroupLens, 2000-2003), research use"
    schema = movielens_schema(NAME, description, _user(), chosen.history_length)
    return Source(schema, frame, identity(options, data_root), notes)


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


def _read_users(path: Path) -> pl.DataFrame:
    users = read_table(path, USER_COLUMNS, separator=SEPARATOR, has_header=False, never_empty=("user_id",))
    return users.select(
        *("user_id", "gender", "age_band", "occupation"), zip_prefix=pl.col("zip_code").str.slice(0, 2)
    )


def _read_movies(path: Path, notes: dict) -> pl.DataFrame:
    """Films with genres (numbers in the order of their names), year of the title and the day it begins."""
    movies = read_table(
        path,
        MOVIE_COLUMNS,
        separator=SEPARATOR,
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


def _user() -> list[Feature]:
    """64 numbers."""
    dims = {"user_id": 16, "age_band": 8, "gender": 8, "occupation": 16, "zip_prefix": 16}
    return [category(name, "user", dim) for name, dim in dims.items()]
