"""Yambda from a made-up folder, against plain loops over its listens."""

from __future__ import annotations

import polars as pl
import pytest

from datasets.catalog import find_dataset, how_read, prepare_dataset, raw_folder
from datasets.yambda import source
from datasets.yambda.features import TEST_FROM, TRAIN_UNTIL, VALID_FROM, VALID_UNTIL
from files.errors import InputError
from tests.datasets.yambda.files import made_up_listens, write_folder

LENGTH, TRACKS = 5, 9
DAY = 86_400


@pytest.fixture
def listens() -> pl.DataFrame:
    return made_up_listens(350, users=5, tracks=TRACKS, days=4)


def read(root, **options):
    scratch = root / f"scratch-{len(list(root.iterdir()))}"
    scratch.mkdir()
    made = source.FIFTY_M.source({"history_length": LENGTH, **options}, root, scratch)
    return made, made.frame.collect()


def artists_of(root):
    pairs = pl.read_parquet(root / "artist_item_mapping.parquet").to_dicts()
    found = {}
    for pair in pairs:
        found.setdefault(pair["item_id"], []).append(pair["artist_id"])
    return {track: sorted(each) for track, each in found.items()}


def skip(row):
    length = row["track_length_seconds"]
    return int(row["played_ratio_pct"] / 100 * length < min(3, length)) if length else None


def expected(row, rows, artists):
    """The features of a row by loops over all listens in the order of time."""
    first = {track: each[0] for track, each in artists.items()}
    artist, before = first.get(row["item_id"]), [r for r in rows if r["timestamp"] < row["timestamp"]]
    own_rows = [r for r in before if r["uid"] == row["uid"]]
    streams = {
        "played": own_rows,
        "listened": [r for r in own_rows if r["played_ratio_pct"] > 50],
        "skipped": [r for r in own_rows if skip(r) == 1],
    }
    found = {
        "listened": int(row["played_ratio_pct"] > 50),
        "finish": int(row["played_ratio_pct"] >= 100),
        "skip": skip(row),
        "artists": artists.get(row["item_id"]),
        "hour": row["timestamp"] % DAY // 3600,
        "minutes_since_listen": (row["timestamp"] - own_rows[-1]["timestamp"]) / 60 if own_rows else None,
    }
    for name, events in streams.items():
        latest = events[-LENGTH:]
        found[f"user_{name}"] = len(events)
        found[f"{name}_items"] = [r["item_id"] for r in latest]
        found[f"{name}_artists"] = [first.get(r["item_id"]) for r in latest]
        found[f"item_recently_{name}"] = sum(r["item_id"] == row["item_id"] for r in latest)
        same = [r for r in latest if artist is not None and first.get(r["item_id"]) == artist]
        found[f"artist_recently_{name}"] = len(same)
    today = row["timestamp"] // DAY * DAY
    settled = [r for r in before if r["timestamp"] < today and skip(r) is not None]
    same_artist = [r for r in settled if artist is not None and first.get(r["item_id"]) == artist]
    for kind, own in (
        ("user", [r for r in settled if r["uid"] == row["uid"]]),
        ("item", [r for r in settled if r["item_id"] == row["item_id"]]),
        ("artist", same_artist),
    ):
        for name, outcome in (("listened", lambda r: int(r["played_ratio_pct"] > 50)), ("skip", skip)):
            everyone = (sum(map(outcome, settled)) + 0.5) / (len(settled) + 1)
            found[f"{kind}_{name}_rate"] = (sum(map(outcome, own)) + 10 * everyone) / (len(own) + 10)
    return found


@pytest.mark.parametrize("block_rows", [17, 1000])
def test_labels_and_the_past_are_what_plain_loops_find_whatever_the_blocks(
    tmp_path, monkeypatch, listens, block_rows
):
    monkeypatch.setattr(source, "BLOCK_ROWS", block_rows)
    monkeypatch.setattr(source, "DEALT_ROWS", 40)
    artists = artists_of(write_folder(tmp_path, listens, TRACKS))
    _, frame = read(tmp_path)
    rows = listens.sort("timestamp", "uid", maintain_order=True).to_dicts()
    assert frame["timestamp"].is_sorted()
    places = listens.sort("timestamp", "uid", maintain_order=True).with_row_index()
    kept = places.filter(split_of(pl.col("timestamp")).is_not_null())["index"].to_list()
    assert frame.height == len(kept) > 300
    for place, found in zip(kept, frame.iter_rows(named=True), strict=True):
        for name, value in expected(rows[place], rows, artists).items():
            assert found[name] == pytest.approx(value), (place, name)


def split_of(time: pl.Expr) -> pl.Expr:
    """The benchmark's split in its own numbers."""
    return (
        pl.when(time < 25_823_600)
        .then(pl.lit("train"))
        .when(time.is_between(25_825_400, 25_911_800, closed="left"))
        .then(pl.lit("valid"))
        .when(time >= 25_913_600)
        .then(pl.lit("test"))
    )


def test_the_split_is_the_benchmark_s_with_its_gaps_and_without_new_users(tmp_path, listens):
    late = listens.head(6).with_columns(
        uid=pl.lit(7, pl.UInt32),
        timestamp=pl.Series(
            [VALID_FROM - 5, VALID_FROM, VALID_UNTIL, TEST_FROM, TEST_FROM + 5, 25_999_995], dtype=pl.UInt32
        ),
    )
    edges = listens.head(6).with_columns(
        timestamp=pl.Series(
            [TRAIN_UNTIL - 5, TRAIN_UNTIL, VALID_FROM, VALID_UNTIL - 5, VALID_UNTIL, TEST_FROM],
            dtype=pl.UInt32,
        )
    )
    write_folder(tmp_path, pl.concat([listens, edges, late]).sort("uid", "timestamp"), TRACKS)
    made, frame = read(tmp_path)
    by_hand = frame.select(split_of(pl.col("timestamp")))["literal"]
    assert frame["split"].to_list() == by_hand.to_list()
    assert set(frame["split"]) == {"train", "valid", "test"}
    assert 7 not in frame["uid"]
    assert made.notes["rows_of_users_without_training"] == 4
    between = pl.concat([listens, edges, late]).filter(split_of(pl.col("timestamp")).is_null())
    assert made.notes["rows_between_splits"] == between.height >= 4


def test_each_size_is_prepared_by_name(tmp_path, listens):
    for size in ("50m", "500m", "5b"):
        name = f"yambda-{size}"
        root = write_folder(tmp_path, listens, TRACKS, size)
        assert raw_folder(name, tmp_path) == root
        assert find_dataset(name, {}, tmp_path)[1]["dataset"] == name
        assert how_read(name) == "read on generated files only"
    prepared = prepare_dataset("yambda-500m", {}, tmp_path, tmp_path / "cache")
    time = prepared.columns("train", ["time"])["time"]
    assert (time[1:] >= time[:-1]).all()
    assert prepared.schema.chosen_tasks() == ["listened"]
    width = dict.fromkeys(prepared.schema.groups, 0)
    for feature in prepared.schema.features:
        width[feature.group] += feature.embedding_dim
    assert width == {"user": 32, "item": 64, "sequence": 96, "cross": 116, "context": 48}


def test_what_does_not_fit_the_layout_is_named(tmp_path, listens, monkeypatch):
    root = write_folder(tmp_path, listens, TRACKS)
    path = root / "flat/50m/listens.parquet"
    listens.filter(pl.col("timestamp") < TEST_FROM).write_parquet(path)
    with pytest.raises(InputError, match=r"listens\.parquet: has no rows for test by the benchmark's split"):
        read(tmp_path)
    listens.drop("is_organic").write_parquet(path)
    with pytest.raises(InputError, match=r"listens\.parquet: has no column 'is_organic'"):
        read(tmp_path)
    listens.write_parquet(path)
    monkeypatch.setattr(source, "MOST_DAYS", 2)
    with pytest.raises(InputError, match=r"listens\.parquet: timestamps span more than 2 days"):
        read(tmp_path)
    (root / "album_item_mapping.parquet").unlink()
    with pytest.raises(InputError, match=r"album_item_mapping\.parquet: no such file; .*fetch yambda-50m"):
        read(tmp_path)
    with pytest.raises(InputError, match="no option 'size': choose from history_length"):
        source.FIFTY_M.identity({"size": "5b"}, tmp_path)
