"""MovieLens-1M: a made-up folder in the official layout. The features of the past are MovieLens-100K's."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from datasets.catalog import prepare_dataset
from datasets.movielens import source as movielens
from files.errors import InputError
from tests.datasets.movielens.test_100k import expected_row

START = int(datetime(2000, 12, 31, 12, tzinfo=UTC).timestamp())
GENRES = {1: [1, 3], 2: [3], 3: [0, 2], 4: [1]}
NAMES = ["Action", "Children's", "Drama", "Film-Noir"]


def write_folder(root: Path, ratings: list[tuple[int, int, int, int]]) -> Path:
    folder = root / "movielens-1m" / "ml-1m"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ratings.dat").write_text("".join("::".join(map(str, row)) + "\n" for row in ratings))
    users = [f"{i}::{'MF'[i % 2]}::{[1, 18, 25, 56][i]}::{i}::9{i}043-1234\n" for i in range(4)]
    (folder / "users.dat").write_text("".join(users))
    movies = [
        f'{movie}::Caf\xe9 "{movie}: Part II (199{movie})::{"|".join(NAMES[i] for i in genres)}\n'
        for movie, genres in GENRES.items()
    ]
    (folder / "movies.dat").write_bytes("".join(movies).encode("latin-1"))
    return folder


def random_ratings(rows: int = 160) -> list[tuple[int, int, int, int]]:
    draw = random.Random(4)
    found = {
        (draw.randrange(4), draw.randrange(1, 5), START + 900 * draw.randrange(40)): draw.randrange(1, 6)
        for _ in range(rows)
    }
    return [(user, movie, stars, time) for (user, movie, time), stars in found.items()]


def read(root: Path, **options):
    scratch = root / "scratch"
    scratch.mkdir(exist_ok=True)
    source = movielens.ONE_M.source(options, root, scratch)
    return source, source.frame.collect()


def test_profile_film_and_labels_are_read_unchanged(tmp_path):
    write_folder(tmp_path, [(2, 1, stars, START + stars) for stars in range(1, 6)])
    source, frame = read(tmp_path)
    row = frame.row(0, named=True)
    assert (row["gender"], row["age_band"], row["occupation"], row["zip_prefix"]) == ("M", 25, 2, "92")
    assert (row["genres"], row["num_genres"], row["year"], row["decade"]) == ([1, 3], 2, 1991, 1990)
    assert row["years_since_release"] == pytest.approx(10, abs=0.01)
    assert (row["hour"], row["weekday"]) == (12, 7)
    assert frame["like"].to_list() == [0, 0, 0, 1, 1]
    assert frame["dislike"].to_list() == [1, 1, 0, 0, 0]
    assert source.notes["genres"] == "0 Action, 1 Children's, 2 Drama, 3 Film-Noir"
    assert "rating" not in frame.columns


def test_the_past_is_what_plain_loops_find_in_every_piece(tmp_path, monkeypatch):
    monkeypatch.setattr(movielens, "PIECE_ROWS", 37)
    monkeypatch.setattr("tests.datasets.movielens.test_100k.GENRES", GENRES)
    ratings = random_ratings()
    write_folder(tmp_path, ratings)
    _, frame = read(tmp_path, history_length=7)
    assert frame.height == len(ratings) > 3 * 37
    ordered = sorted(ratings, key=lambda r: (r[3], r[0], r[1]))
    for row in frame.iter_rows(named=True):
        for name, value in expected_row(row, ordered, length=7).items():
            assert row[name] == pytest.approx(value), name


def test_a_bootstrap_in_pieces_leaves_the_held_out_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(movielens, "PIECE_ROWS", 37)
    write_folder(tmp_path, random_ratings())
    plain, drawn = read(tmp_path)[1], read(tmp_path, bootstrap=2)[1]
    held_out = pl.col("split") != "train"
    assert drawn.filter(held_out).equals(plain.filter(held_out))
    assert drawn.height == plain.height
    assert drawn.unique().height < plain.height


def test_it_is_prepared_by_name(tmp_path):
    folder = write_folder(tmp_path, random_ratings())
    prepared = prepare_dataset("movielens-1m", {}, tmp_path, tmp_path / "cache")
    assert prepared.schema.name == "movielens-1m"
    width = dict.fromkeys(prepared.schema.groups, 0)
    for feature in prepared.schema.features:
        width[feature.group] += feature.embedding_dim
    assert width == {"user": 64, "item": 64, "sequence": 112, "cross": 96, "context": 48}
    (folder / "movies.dat").unlink()
    with pytest.raises(
        InputError, match=r"movies\.dat: no such file; `run_bench.py data fetch movielens-1m`"
    ):
        prepare_dataset("movielens-1m", {}, tmp_path, tmp_path / "cache")


def test_a_file_of_another_layout_is_refused(tmp_path):
    folder = write_folder(tmp_path, random_ratings())
    (folder / "users.dat").write_text("1|M|25|3|94043\n")
    with pytest.raises(InputError, match=r"users\.dat: has 1 fields a line, not 5"):
        read(tmp_path)
