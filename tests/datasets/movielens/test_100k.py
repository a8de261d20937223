"""MovieLens-100K: a made-up folder in the official layout, and the real ratings."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from datasets.movielens.source import HUNDRED_K
from files.errors import InputError

NOON = 875_620_800  # 1997-09-30, 12:00 UTC, a Tuesday
GENRES = {1: [0, 2], 2: [2], 3: [5, 18], 4: [0], 5: [2, 5]}


def write_folder(root: Path, ratings: list[tuple[int, int, int, int]], inside: str = "") -> Path:
    folder = root / "movielens-100k" / inside
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "u.data").write_text("".join("\t".join(map(str, row)) + "\n" for row in ratings))
    users = [f"{i}|{20 + 10 * i}|M|writer|9{i}043" for i in range(1, 5)]
    (folder / "u.user").write_text("\n".join(users) + "\n")
    movies = []
    for movie, genres in GENRES.items():
        flags = "|".join("1" if i in genres else "0" for i in range(19))
        title = "unknown" if movie == 5 else f'Caf\xe9 "{movie} (199{movie})'
        released = "" if movie == 5 else f"01-Jan-199{movie}"
        movies.append(f"{movie}|{title}|{released}||http://example.org/|{flags}")
    (folder / "u.item").write_bytes(("\n".join(movies) + "\n").encode("latin-1"))
    return folder


def read(root: Path, **options):
    scratch = root / "scratch"
    scratch.mkdir(exist_ok=True)
    source = HUNDRED_K.source(options, root, scratch)
    return source, source.frame.collect()


def test_labels_profile_and_film_are_read_unchanged(tmp_path):
    write_folder(tmp_path, [(1, 1, rating, NOON + rating) for rating in range(1, 6)] + [(2, 5, 3, NOON)])
    source, frame = read(tmp_path)
    assert [task.name for task in source.schema.tasks] == ["like", "dislike"]
    assert frame.filter(user_id=1)["like"].to_list() == [0, 0, 0, 1, 1]
    assert frame.filter(user_id=1)["dislike"].to_list() == [1, 1, 0, 0, 0]
    assert "rating" not in frame.columns
    row = frame.filter(user_id=1).row(0, named=True)
    assert (row["age"], row["age_band"], row["zip_prefix"], row["occupation"]) == (30, 2, "91", "writer")
    assert (row["genres"], row["num_genres"], row["year"], row["decade"]) == ([0, 2], 2, 1991, 1990)
    assert (row["hour"], row["weekday"]) == (12, 2)
    assert row["years_since_release"] == pytest.approx(6.75, abs=0.01)
    unknown = frame.filter(movie_id=5).row(0, named=True)
    assert unknown["year"] is unknown["years_since_release"] is None
    assert source.notes["movies_without_year"] == source.notes["movies_without_release_date"] == 1


def test_the_unpacked_archive_is_found_below_the_folder(tmp_path):
    write_folder(tmp_path, [(1, 1, 5, NOON)], inside="ml-100k")
    assert read(tmp_path)[1].height == 1


def test_the_identity_equals_the_sources_and_follows_the_files(tmp_path):
    write_folder(tmp_path, [(1, 1, 5, NOON)])
    before = HUNDRED_K.identity({}, tmp_path)
    assert read(tmp_path)[0].identity == before
    write_folder(tmp_path, [(1, 1, 4, NOON)])
    assert HUNDRED_K.identity({}, tmp_path) != before


def test_each_user_is_split_in_time_and_ratings_of_one_second_stay_together(tmp_path):
    steady = [(1, 1 + i % 5, 3, NOON + 10 * i) for i in range(10)]
    burst = [(2, 1 + i % 5, 1 + i // 5, NOON + (5 if i >= 6 else i)) for i in range(10)]
    write_folder(tmp_path, steady + burst)
    _, frame = read(tmp_path)
    assert frame.filter(user_id=1)["split"].to_list() == ["train"] * 8 + ["valid"] + ["test"]
    # The bounds at places 8 and 9 fall into one second, and so all of it is test.
    assert frame.filter(user_id=2)["split"].to_list() == ["train"] * 5 + ["test"] * 5


def test_a_bootstrap_repeats_training_rows_as_they_are_and_leaves_the_others(tmp_path):
    write_folder(tmp_path, [(1 + i % 2, 1 + i % 5, 1 + i % 5, NOON + 10 * i) for i in range(60)])
    source, plain = read(tmp_path)
    drawn_source, drawn = read(tmp_path, bootstrap=3)
    assert source.identity == HUNDRED_K.identity({"bootstrap": 0}, tmp_path)
    assert "bootstrap" not in source.identity["options"]
    assert drawn_source.identity["options"]["bootstrap"] == 3
    held_out, training = (pl.col("split") != "train"), (pl.col("split") == "train")
    assert drawn.filter(held_out).equals(plain.filter(held_out))
    assert drawn.filter(training).height == plain.filter(training).height
    assert drawn["time"].is_sorted()
    assert drawn.filter(training).unique().height < drawn.filter(training).height
    assert drawn.filter(training).join(plain, on=plain.columns, how="anti", nulls_equal=True).is_empty()


def test_the_features_are_384_numbers_wide_and_have_their_columns(tmp_path):
    write_folder(tmp_path, [(1, 1, 5, NOON)])
    source, frame = read(tmp_path)
    width = dict.fromkeys(source.schema.groups, 0)
    for feature in source.schema.features:
        width[feature.group] += feature.embedding_dim
        assert feature.source_column in frame.columns
    assert width == {"user": 64, "item": 64, "sequence": 112, "cross": 96, "context": 48}


@pytest.mark.parametrize("name", ["u.data", "u.user", "u.item"])
def test_a_missing_file_is_named_with_the_mend(tmp_path, name):
    folder = write_folder(tmp_path, [(1, 1, 5, NOON)])
    (folder / name).unlink()
    with pytest.raises(InputError, match="data fetch movielens-100k") as error:
        HUNDRED_K.identity({}, tmp_path)
    assert str(folder / name) in str(error.value)


def test_wrong_options_and_wrong_fields_are_errors(tmp_path):
    folder = write_folder(tmp_path, [(1, 1, 5, NOON)])
    with pytest.raises(InputError, match="no option 'tabs': choose from history_length"):
        HUNDRED_K.identity({"tabs": "all"}, tmp_path)
    (folder / "u.user").write_text("1|30|M|writer\n")
    with pytest.raises(InputError, match=r"u\.user: has 4 fields a line, not 5"):
        read(tmp_path)


# --- the past -----------------------------------------------------------------------------------


def random_ratings(seed: int, rows: int = 150) -> list[tuple[int, int, int, int]]:
    draw = np.random.default_rng(seed)
    users, movies, stars = draw.integers(1, 4, rows), draw.integers(1, 6, rows), draw.integers(1, 6, rows)
    times = NOON + draw.integers(0, 30, rows) * 900
    unique = {(u, m, t): r for u, m, r, t in zip(users, movies, stars, times, strict=True)}
    return [(int(u), int(m), int(r), int(t)) for (u, m, t), r in unique.items()]


def smoothed(values, prior, strength=10):
    return (sum(values) + strength * prior) / (len(values) + strength)


def expected_row(row, ratings, length):
    """All past features of one row, by plain loops over all ratings (user, movie, rating, time)."""
    now, user, movie = row["time"], row["user_id"], row["movie_id"]
    past = [r for r in ratings if r[3] < now]
    by_user = [r for r in past if r[0] == user]
    result = {"rated_ratings": [r[2] for r in by_user][-length:]}
    chosen = {
        "rated": by_user,
        "liked": [r for r in by_user if r[2] >= 4],
        "disliked": [r for r in by_user if r[2] <= 2],
    }
    for name, events in chosen.items():
        result[f"{name}_movies"] = [r[1] for r in events][-length:]
        result[f"{name}_genres"] = [genre for r in events for genre in GENRES[r[1]]][-length:]
    for_movie = [r for r in past if r[1] == movie]
    for_genres = [r for genre in GENRES[movie] for r in by_user if genre in GENRES[r[1]]]
    outcomes = {
        "like": (lambda r: r[2] >= 4, 0.5),
        "dislike": (lambda r: r[2] <= 2, 0.5),
        "rating": (lambda r: r[2], 3),
    }
    for name, events in (("user", by_user), ("movie", for_movie), ("user_genre", for_genres)):
        result[f"{name}_ratings"] = len(events)
        for outcome, (value, start) in outcomes.items():
            everyone = smoothed([value(r) for r in past], start, strength=1)
            own = smoothed([value(r) for r in by_user], everyone)
            prior = own if name == "user_genre" else everyone
            result[f"{name}_mean_{outcome}"] = smoothed([value(r) for r in events], prior)
    result["ratings_in_last_hour"] = sum(r[3] >= now - 3600 for r in by_user)
    result["ratings_in_last_day"] = sum(r[3] >= now - 86_400 for r in by_user)
    result["minutes_since_rating"] = (now - by_user[-1][3]) / 60 if by_user else None
    return result


@pytest.mark.parametrize("seed", range(3))
def test_the_past_is_what_plain_loops_over_the_ratings_find(tmp_path, seed):
    ratings = random_ratings(seed)
    write_folder(tmp_path, ratings)
    _, frame = read(tmp_path, history_length=7)
    ordered = sorted(ratings, key=lambda r: (r[3], r[0], r[1]))
    for row in frame.iter_rows(named=True):
        for name, value in expected_row(row, ordered, length=7).items():
            assert row[name] == pytest.approx(value), name


@pytest.mark.parametrize("seed", range(3))
def test_neither_own_rating_nor_later_ratings_change_a_rows_inputs(tmp_path, seed):
    ratings = sorted(random_ratings(seed), key=lambda r: r[3])
    moment = ratings[len(ratings) // 2][3]
    changed = [(u, m, r if t < moment else 6 - r, t if t <= moment else t + 77) for u, m, r, t in ratings]
    frames = []
    for name, rows in (("before", ratings), ("after", changed)):
        write_folder(tmp_path / name, rows)
        source, frame = read(tmp_path / name)
        frames.append(frame.filter(frame["time"] <= moment))
    inputs = {feature.source_column for feature in source.schema.features}
    assert frames[0].select(sorted(inputs)).equals(frames[1].select(sorted(inputs)))
    assert frames[0].height > 50


# --- the real ratings ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    root = os.environ.get("BENCH_DATA_ROOT")
    if not root or not (Path(root) / "movielens-100k").is_dir():
        pytest.skip("SKIPPED, REAL DATA UNTESTED: set BENCH_DATA_ROOT to a folder that holds movielens-100k/")
    source = HUNDRED_K.source({}, Path(root), tmp_path_factory.mktemp("scratch"))
    return source, source.frame.collect()


def test_real_numbers_of_ratings_users_and_films_are_the_published_ones(real):
    source, frame = real
    assert (source.notes["ratings"], source.notes["users"], source.notes["movies"]) == (100_000, 943, 1_682)
    assert frame["like"].mean() == pytest.approx(0.55375)
    assert frame["dislike"].mean() == pytest.approx(0.1748)
    assert frame["occupation"].n_unique() == 21


def test_real_split_keeps_every_user_in_training_and_test_and_in_order(real):
    _, frame = real
    edges = frame.group_by("user_id").agg(
        trained=pl.col("time").filter(split="train").max(), tested=pl.col("time").filter(split="test").min()
    )
    assert edges.null_count().row(0) == (0, 0, 0)
    assert (edges["trained"] < edges["tested"]).all()
    shares = frame["split"].value_counts(normalize=True)
    assert dict(shares.iter_rows())["train"] == pytest.approx(0.8, abs=0.02)
