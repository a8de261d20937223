"""Which files a table is made of: names taken literally, links followed once, and what is refused."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datasets.own_table import OwnTable
from files.errors import InputError
from tests.datasets.raw.conftest import columns, read, text, write_schema

LINES = text(columns())
OTHER = text(columns(item=["z"] * 6))


@pytest.mark.parametrize(
    ("name", "decoy"),
    [("run[2]/t.csv", "run2/t.csv"), ("a*.csv", "ab.csv"), ("a?.csv", "ab.csv"), ("[ab].csv", "a.csv")],
)
@pytest.mark.parametrize("is_parquet", [False, True])
def test_a_pattern_that_is_the_exact_name_of_a_file_means_that_file(tmp_path, name, decoy, is_parquet):
    for place, table in ((name, columns()), (decoy, columns(item=["z"] * 6))):
        path = tmp_path / (place.replace(".csv", ".parquet") if is_parquet else place)
        path.parent.mkdir(exist_ok=True)
        if is_parquet:
            pq.write_table(pa.table(table), path)
        else:
            path.write_text(text(table))
    named = name.replace(".csv", ".parquet") if is_parquet else name
    assert read(tmp_path, files=[named])[0]["item"] == [1, 2, 3, 1, 2, 3]


def test_a_pattern_matches_wildcards_if_no_file_has_exactly_its_name(tmp_path):
    (tmp_path / "run2").mkdir()
    (tmp_path / "run2" / "t.csv").write_text(LINES)
    assert read(tmp_path, files=["run[2]/t.csv"])[0]["item"] == [1, 2, 3, 1, 2, 3]


def test_links_to_folders_are_followed_and_cycles_end(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "t.csv").write_text(LINES)
    (elsewhere / "up").symlink_to("..")
    (elsewhere / "self").symlink_to(".")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link").symlink_to(elsewhere)
    found = OwnTable.find(write_schema(tmp_path, files=["data/**/*.csv"]))
    assert [file.name for file in found.files] == ["data/link/t.csv"]


def test_hidden_files_and_other_endings_are_not_read(tmp_path):
    for name in (".part-0.csv.crc", "._t.csv", ".hidden.csv", "_SUCCESS", "t.csv~", "t.csv.bak"):
        (tmp_path / name).write_text("anything")
    (tmp_path / "T.CSV").write_text(LINES)
    assert [file.name for file in OwnTable.find(write_schema(tmp_path)).files] == ["T.CSV"]


def make_link_twice(path: Path) -> None:
    path.symlink_to("t.csv")


def make_hard_link(path: Path) -> None:
    os.link(path.parent / "t.csv", path)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (os.mkfifo, "x.csv: is no regular file; copy what it holds to one"),
        (Path.mkdir, "x.csv: is a folder; name its files in 'files:'"),
        (lambda path: path.symlink_to("nowhere"), "x.csv: is a link to a file that is not there"),
        (lambda path: path.symlink_to("x.csv"), "x.csv: is a link to a file that is not there"),
        (make_link_twice, "files: t.csv and x.csv are one file under two names"),
        (make_hard_link, "files: t.csv and x.csv are one file under two names"),
    ],
)
def test_folders_and_other_non_files_are_refused(refusal, tmp_path, make, words):
    (tmp_path / "t.csv").write_text(LINES)
    make(tmp_path / "x.csv")
    assert words in refusal()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused(refusal, tmp_path):
    (tmp_path / "t.csv").write_text(LINES)
    (tmp_path / "t.csv").chmod(0)
    assert "t.csv: may not be read by this user" in refusal()


def test_one_file_named_in_several_ways_is_read_once(tmp_path):
    (tmp_path / "t.csv").write_text(LINES)
    (tmp_path / "d").mkdir()
    table, _ = read(tmp_path, files=["t.csv", "*.csv", "d/../t.csv", str(tmp_path / "t.csv")])
    assert table["item"] == [1, 2, 3, 1, 2, 3]


def test_copies_under_other_names_are_noted(tmp_path):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(LINES)
    assert read(tmp_path)[1]["files with the same content"] == "a.csv, b.csv"


@pytest.mark.parametrize("when", ["before it is read", "while it is staged"])
def test_a_file_that_changes_while_it_is_prepared_is_refused(tmp_path, when):
    (tmp_path / "t.csv").write_text(LINES)
    table = OwnTable.find(write_schema(tmp_path))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    if when == "before it is read":
        (tmp_path / "t.csv").write_text(OTHER)
        with pytest.raises(InputError, match=r"t\.csv: was changed while it was read; run the same command"):
            table.source(scratch)
    else:
        found = table.source(scratch)
        (tmp_path / "t.csv").write_text(OTHER)
        with pytest.raises(InputError, match=r"t\.csv: was changed while it was read"):
            found.check_unchanged()


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".zst"])
def test_compressed_text_is_read_completely_and_refused_if_cut_short(refusal, tmp_path, ending):
    path = tmp_path / f"t.csv{ending}"
    codec = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}[ending]
    packed = b""
    for part in (LINES[:40], LINES[40:]):
        with pa.output_stream(str(path), compression=codec) as stream:
            stream.write(part.encode())
        packed += path.read_bytes()
    path.write_bytes(packed)
    assert read(tmp_path)[0]["item"] == [1, 2, 3, 1, 2, 3]
    path.write_bytes(packed[:-6])
    assert f"t.csv{ending}: cannot be unpacked by {codec}" in refusal()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (gzip.compress(LINES.encode(), mtime=0), "t.csv: is packed by gzip; rename it to end in .gz"),
        (b"PK\x03\x04...", "t.csv: is a zip archive or a spreadsheet"),
        (b"PAR1...", "t.csv: is a parquet file; rename it to .parquet"),
        (LINES.encode("utf-16"), 't.csv: is UTF-16 text; save it as UTF-8, or say csv: {encoding: "utf-16"}'),
        (LINES.replace("b,2,", "b,北,").encode("gbk"), "t.csv: line 3: is not utf-8 text"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(refusal, tmp_path, content, words):
    (tmp_path / "t.csv").write_bytes(content)
    assert words in refusal()


def test_encodings_that_are_named_are_read(tmp_path):
    for encoding in ("utf-16", "gbk", "utf-8-sig"):
        (tmp_path / "t.csv").write_bytes(LINES.replace("b,2,", "b,北,").encode(encoding))
        assert read(tmp_path, csv={"encoding": encoding})[0]["item"][1] == "北"
        (tmp_path / "prepared").rename(tmp_path / encoding)


SHOP = [{"name": "shop", "kind": "categorical", "group": "item"}]


def put(folder: Path, name: str, content: str = LINES) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content)


def test_folders_named_key_value_are_text_columns_with_percent_escapes(tmp_path):
    for shop in ("a%2Fb%3D%25", "007", "__HIVE_DEFAULT_PARTITION__"):
        put(tmp_path, f"d/shop={shop}/t.csv")
    found = read(tmp_path, SHOP, files=["d/**/*.csv"])[0]["shop"]
    assert {value: found.count(value) for value in set(found)} == {"a/b=%": 6, "007": 6, None: 6}


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["d/shop=7/t.csv", "d/t.csv"], "d/t.csv: has no column 'shop', which feature 'shop' needs"),
        (["d/shop=7/shop=8/t.csv"], "two of its folders give 'shop' a value; rename one"),
        (["d/shop=7/item=8/t.csv"], "column 'item' is in the file and in its folder's name"),
        (["d/shop=null/t.csv"], "column 'shop' of feature 'shop' holds 'null'"),
    ],
)
def test_folders_that_give_a_column_partly_or_twice_are_refused(refusal, tmp_path, names, words):
    for name in names:
        put(tmp_path, name)
    assert words in refusal(SHOP, files=["d/**/*.csv"])


@pytest.mark.parametrize("ending", [".gz", ".zst", ".bz2"])
def test_a_file_beside_its_packed_copy_is_refused(refusal, tmp_path, ending):
    with pa.output_stream(str(tmp_path / f"t.csv{ending}")) as stream:
        stream.write(LINES.encode())
    assert read(tmp_path)[0]["item"] == [1, 2, 3, 1, 2, 3]  # alone it is read
    put(tmp_path, "t.csv")
    assert f"files: t.csv and t.csv{ending} are one table, packed and unpacked by their names" in refusal()


def test_two_packed_copies_are_refused_but_not_equal_names_in_two_folders(refusal, tmp_path):
    put(tmp_path, "d/t.csv")
    (tmp_path / "e").mkdir()
    for ending, codec in ((".gz", "gzip"), (".zst", "zstd")):
        with pa.output_stream(str(tmp_path / "e" / f"t.csv{ending}"), compression=codec) as stream:
            stream.write(OTHER.encode())
    assert len(read(tmp_path, files=["d/t.csv", "e/t.csv.gz"])[0]["item"]) == 12
    assert "e/t.csv.gz and e/t.csv.zst are one table" in refusal(files=["d/t.csv", "e/*"])


@pytest.mark.parametrize(
    ("log", "kind"),
    [
        ("_delta_log/00000000000000000000.json", "Delta Lake"),
        (".hoodie/hoodie.properties", "Hudi"),
        ("metadata/v2.metadata.json", "Iceberg"),
        ("metadata/00002-0a1b2c3d-e4f5.gz.metadata.json", "Iceberg"),
    ],
)
@pytest.mark.parametrize("part", ["part-0.parquet", "data/dt=1/part-0.parquet"])
def test_folders_that_keep_files_of_earlier_versions_are_refused(refusal, tmp_path, log, kind, part):
    put(tmp_path, f"lake/{log}", "{}")
    path = tmp_path / "lake" / part
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns()), path)
    message = refusal(files=["lake/**/*.parquet"])
    assert f"lake: is a {kind} table" in message
    assert "export the current version to another folder" in message


def test_other_metadata_beside_a_table_raises_no_alarm(tmp_path):
    put(tmp_path, "metadata/columns.metadata.json", "{}")
    pq.write_table(pa.table(columns()), tmp_path / "t.parquet")
    assert read(tmp_path)[0]["item"] == [1, 2, 3, 1, 2, 3]


def test_wildcards_skip_what_jobs_write_for_themselves_and_say_so(tmp_path):
    put(tmp_path, "d/part-0.csv")
    put(tmp_path, "d/_temporary/0/task/part-1.csv", OTHER)
    put(tmp_path, "d/_SUCCESS", "")
    table, notes = read(tmp_path, files=["d/**/*.csv"])
    assert table["item"] == [1, 2, 3, 1, 2, 3]
    skipped = "d/_temporary/0/task/part-1.csv; name them in full to read them"
    assert notes["skipped for a leading underscore"] == skipped


def test_partitions_and_files_that_are_named_may_begin_with_an_underscore(tmp_path):
    put(tmp_path, "d/_shop=7/t.csv")
    put(tmp_path, "d/_more.csv", OTHER)
    more = [{"name": "shop", "column": "_shop", "kind": "categorical", "group": "item"}]
    table, notes = read(tmp_path, more, files=["d/**/*.csv"])
    assert table["shop"] == [7] * 6
    assert notes["skipped for a leading underscore"].startswith("d/_more.csv;")
    for number, named in enumerate((["d/_more.csv"], ["d/_*.csv"], ["d/**/*.csv", "d/_more.csv"])):
        (tmp_path / "prepared").rename(tmp_path / f"prepared-{number}")
        table, notes = read(tmp_path, files=named)
        assert "z" in table["item"]
        assert "skipped for a leading underscore" not in notes


def test_a_pattern_whose_only_matches_are_skipped_says_so(refusal, tmp_path):
    put(tmp_path, "_t.csv")
    for patterns in ([], ["*.csv"]):
        assert "wildcards skip names with a leading _; name _t.csv in full to read it" in refusal(
            files=patterns
        )
