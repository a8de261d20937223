"""VK-LSVD from a made-up folder, against plain loops over its rows."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from datasets.catalog import find_dataset, how_read, prepare_dataset, raw_folder
from datasets.vk_lsvd import source
from files.errors import InputError
from tests.datasets.vk_lsvd.files import write_folder

LENGTH = 7


def read(root, **options):
    scratch = root / f"scratch-{len(list(root.iterdir()))}"
    scratch.mkdir()
    made = source.source({"weeks": 3, "history_length": LENGTH, **options}, root, scratch)
    return made, made.frame.collect()


def raw_rows(root, folder="subsamples/ur0.01"):
    """All rows in the order of time, with the metadata and the number of the last seventh of a week."""
    paths = sorted((root / folder / "train").iterdir())
    paths += [path for name in ("validation", "test") for path in sorted((root / folder / name).glob("*"))]
    videos = {
        row["item_id"]: row for row in pl.read_parquet(root / "metadata/items_metadata.parquet").to_dicts()
    }
    rows, seventh = [], 0
    for path in paths:
        table = pl.read_parquet(path).to_dicts()
        ends = [len(table) * part // 7 for part in range(1, 8)]
        for place, row in enumerate(table):
            video = videos.get(row["item_id"], {})
            row |= {"author": video.get("author_id"), "duration": video.get("duration")}
            row |= {"settled": seventh + sum(end <= place for end in ends), "file": path.stem}
            rows.append(row)
        seventh += 7
    return rows


def finish(row):
    known = row["duration"] is not None and 0 < row["duration"] <= 255
    return int(row["timespent"] >= row["duration"]) if known else None


def skip(row):
    return int(row["timespent"] < min(3, row["duration"])) if row["duration"] else None


def expected(row, before):
    """The features of a row, where ``before`` are all rows before it."""
    own_rows = [r for r in before if r["user_id"] == row["user_id"]]
    streams = {
        "exposed": own_rows,
        "finished": [r for r in own_rows if finish(r) == 1],
        "liked": [r for r in own_rows if r["like"]],
    }
    found = {"finish": finish(row), "skip": skip(row), "author_id": row["author"]}
    for name, events in streams.items():
        found[f"{name}_items"] = [r["item_id"] for r in events][-LENGTH:]
        found[f"{name}_authors"] = [r["author"] for r in events][-LENGTH:]
        found[f"user_{name}"] = len(events)
        same = [r for r in events[-LENGTH:] if row["author"] is not None and r["author"] == row["author"]]
        found[f"author_recently_{name}"] = len(same)
    settled = [r for r in before if r["settled"] < row["settled"] and finish(r) is not None]
    outcome = {"finish": finish, "skip": skip, "like": lambda r: int(r["like"])}
    for kind, column in (("user", "user_id"), ("item", "item_id"), ("author", "author")):
        own = [r for r in settled if row[column] is not None and r[column] == row[column]]
        if kind != "user":
            found[f"{kind}_trials"] = len(own)
        for name, of in outcome.items():
            everyone = (sum(map(of, settled)) + 0.5) / (len(settled) + 1)
            found[f"{kind}_{name}_rate"] = (sum(map(of, own)) + 10 * everyone) / (len(own) + 10)
    return found


@pytest.mark.parametrize("block_rows", [13, 1000])
def test_labels_and_the_past_are_what_plain_loops_find_whatever_the_blocks(tmp_path, monkeypatch, block_rows):
    monkeypatch.setattr(source, "BLOCK_ROWS", block_rows)
    root = write_folder(tmp_path)
    _, frame = read(tmp_path)
    rows = raw_rows(root)
    assert frame.height == len(rows) == 5 * 60
    assert frame["position"].to_list() == list(range(len(rows)))
    for place, found in enumerate(frame.iter_rows(named=True)):
        for name, value in expected(rows[place], rows[:place]).items():
            assert found[name] == pytest.approx(value), (place, name)
        for name in ("user_id", "item_id", "place", "platform", "agent", "share", "open_comments"):
            assert found[name] == rows[place][name]
    assert frame["finish"].null_count() > frame["skip"].null_count() > 0  # over 255 s, and at 0 s


def test_the_split_is_by_weeks_and_week_25_is_divided_where_26_is_not_there(tmp_path):
    root = write_folder(tmp_path)
    _, frame = read(tmp_path)
    assert frame["split"].to_list() == ["train"] * 180 + ["valid"] * 60 + ["test"] * 60
    (root / "subsamples/ur0.01/test/week_26.parquet").unlink()
    made, divided = read(tmp_path)
    assert divided["split"].to_list() == ["train"] * 180 + ["valid"] * 30 + ["test"] * 30
    assert "week 26 is not there" in made.notes["test"]
    assert divided.drop("split").equals(frame[:240].drop("split"))


def test_a_week_26_that_has_half_arrived_is_an_error(tmp_path):
    week = write_folder(tmp_path) / "subsamples/ur0.01/test/week_26.parquet"
    part = week.rename(week.with_name(".week_26.parquet.part"))
    with pytest.raises(
        InputError, match=r"week_26\.parquet: its download is unfinished; .*data fetch vk-lsvd"
    ):
        source.identity({"weeks": 3}, tmp_path)
    part.rename(week)
    assert read(tmp_path)[1]["split"].to_list().count("test") == 60


def test_fewer_weeks_are_the_last_ones_and_begin_without_a_past(tmp_path):
    root = write_folder(tmp_path)
    _, frame = read(tmp_path, weeks=1)
    rows = raw_rows(root)[120:]
    assert frame["item_id"].to_list() == [row["item_id"] for row in rows]
    assert frame["user_exposed"][0] == 0


def test_embeddings_are_the_first_numbers_of_the_archive_and_missing_ones_are_null(tmp_path):
    root = write_folder(tmp_path)
    made, frame = read(tmp_path, embedding_length=5)
    with np.load(root / "metadata/item_embeddings.npz") as archive:
        vectors = dict(zip(archive["item_id"].tolist(), archive["embedding"].astype(np.float32), strict=True))
    for row in frame.iter_rows(named=True):
        vector = vectors.get(row["item_id"])
        assert row["embedding"] == (None if vector is None else vector[:5].tolist())
    assert made.notes["videos_without_embedding"] == 1
    assert made.schema.feature("embedding").length == 5
    made, frame = read(tmp_path, embedding_length=0)
    assert "embedding" not in [*frame.columns, *made.schema.feature_names]


def test_it_is_prepared_by_name_in_the_order_of_its_rows(tmp_path):
    root = write_folder(tmp_path, rows_a_week=80)
    prepared = prepare_dataset("vk-lsvd", {"weeks": 3}, tmp_path, tmp_path / "cache")
    assert prepared.rows == {"train": 240, "valid": 80, "test": 80}
    assert prepared.columns("train", ["time"])["time"].tolist() == list(range(240))
    assert raw_folder("vk-lsvd", tmp_path) == root
    assert find_dataset("vk-lsvd", {"weeks": 3}, tmp_path)[1] == prepared.manifest["identity"]
    assert how_read("vk-lsvd") == "read on generated files only"
    width = dict.fromkeys(prepared.schema.groups, 0)
    for feature in prepared.schema.features:
        width[feature.group] += feature.embedding_dim
    assert width == {"user": 64, "item": 64, "sequence": 96, "cross": 104, "context": 32}


def test_other_subsamples_and_the_whole_are_folders_of_their_own(tmp_path):
    write_folder(tmp_path, folder="subsamples/up0.001_ip0.001")
    write_folder(tmp_path, 30, folder="interactions")
    assert read(tmp_path, subsample="up0.001_ip0.001")[1].height == 300
    assert read(tmp_path, subsample="all")[1].height == 150
    with pytest.raises(InputError, match=r"ur0\.01/train/week_22\.parquet: no such file; .*fetch vk-lsvd"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("timespent", None, "has no column 'timespent'"),
        ("timespent", pl.Series([1.5] * 60), "column 'timespent' holds Float64, not Int64"),
        ("item_id", pl.Series([None] * 60, dtype=pl.UInt32), "column 'item_id' is empty in 60"),
    ],
)  # fmt: skip
def test_a_week_of_another_layout_is_named(tmp_path, column, values, message):
    root = write_folder(tmp_path)
    path = root / "subsamples/ur0.01/train/week_23.parquet"
    table = pl.read_parquet(path)
    changed = table.drop(column) if values is None else table.with_columns(values.alias(column))
    changed.write_parquet(path)
    with pytest.raises(InputError, match=rf"week_23\.parquet: {message}"):
        read(tmp_path)


def test_damaged_embeddings_are_an_error(tmp_path):
    path = write_folder(tmp_path) / "metadata/item_embeddings.npz"
    content = bytearray(path.read_bytes())
    content[61:91] = b"\xff" * 30  # where the first member's compressed bytes begin
    path.write_bytes(content)
    with pytest.raises(
        InputError, match=r"item_embeddings\.npz: cannot be read .*remove the file and fetch it"
    ):
        read(tmp_path)


def test_damaged_files_and_wrong_options_are_errors(tmp_path):
    root = write_folder(tmp_path)
    np.savez(root / "metadata/item_embeddings.npz", item_id=np.arange(3), embedding=np.zeros((3, 8)))
    with pytest.raises(InputError, match=r"item_embeddings\.npz: cannot be read .*embedding_length=0"):
        read(tmp_path)
    videos = pl.read_parquet(root / "metadata/items_metadata.parquet")
    pl.concat([videos, videos[:1]]).write_parquet(root / "metadata/items_metadata.parquet")
    with pytest.raises(InputError, match=r"items_metadata\.parquet: has a value of 'item_id' twice"):
        read(tmp_path, embedding_length=0)
    (root / "subsamples/ur0.01/train/week_22.parquet").write_bytes(b"PAR1")
    with pytest.raises(
        InputError, match=r"week_22\.parquet: cannot be read as parquet .*remove the file and"
    ):
        read(tmp_path, embedding_length=0)
    with pytest.raises(InputError, match="no option 'week': choose from subsample, weeks"):
        source.identity({"week": 1}, tmp_path)
    with pytest.raises(InputError, match="subsample"):
        source.identity({"subsample": "../train"}, tmp_path)
