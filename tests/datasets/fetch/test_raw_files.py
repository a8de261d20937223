"""Raw files are found, hashed and read; errors name the file and the mend."""

import hashlib

import polars as pl
import pytest

from datasets.fetch.raw_files import describe_files, find_folder, read_table, require_file
from files.errors import InputError

TYPES = {"a": pl.Int64, "b": pl.String}


def written(tmp_path, content: bytes):
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    return path


def test_files_are_found_directly_and_below_the_unpacked_archive(tmp_path):
    direct, below = tmp_path / "one" / "set", tmp_path / "two" / "set" / "Archive" / "data"
    for folder in (direct, below):
        folder.mkdir(parents=True)
        (folder / "marker").touch()
    assert find_folder("set", tmp_path / "one", "Archive/data", "marker") == direct
    assert find_folder("set", tmp_path / "two", "Archive/data", "marker") == below


def test_a_missing_file_is_named_by_full_path_with_the_mend(tmp_path):
    with pytest.raises(InputError) as error:
        find_folder("set", tmp_path, "inside", "marker")
    assert str(tmp_path / "set" / "marker") in str(error.value)
    assert "data fetch set" in str(error.value)
    assert "--data-root" in str(error.value)
    with pytest.raises(InputError, match="no such file"):
        require_file(tmp_path / "set" / "marker", "set")


def test_no_data_root_asks_for_the_flag():
    with pytest.raises(InputError, match="--data-root"):
        find_folder("set", None, "inside", "marker")


def test_files_are_described_by_name_size_and_sha256(tmp_path):
    path = written(tmp_path, b"a,b\n1,x\n")
    digest = hashlib.sha256(b"a,b\n1,x\n").hexdigest()
    assert describe_files([path]) == [{"name": "table.csv", "bytes": 8, "sha256": digest}]


def test_columns_are_found_by_name_in_any_order_and_others_are_ignored(tmp_path):
    table = read_table(written(tmp_path, b"c,b,a\n9,x,1\n9,,2\n"), TYPES)
    assert table.to_dict(as_series=False) == {"a": [1, 2], "b": ["x", None]}


def test_a_table_without_header_keeps_quotes_and_its_encoding(tmp_path):
    path = written(tmp_path, '1|Caf\xe9 "Noir\n2|B\x85\n'.encode("latin-1"))
    table = read_table(path, TYPES, separator="|", has_header=False, encoding="latin-1")
    assert table["a"].to_list() == [1, 2]
    assert table["b"].to_list() == ['Caf\xe9 "Noir', "B\x85"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,c\n1,x\n", "has no column 'b'"),
        (b"a,b\n1,x\nten,y\n", "cannot be read as a table"),
        (b"a,b\n1,x\n,y\n", "column 'a' is empty in 1 rows"),
        (b"a,b\n1,\xff\n", "is not utf-8 text"),
        (b"", "has no column 'a'"),
    ],
)
def test_a_bad_table_is_an_error_that_names_the_file(tmp_path, content, message):
    path = written(tmp_path, content)
    with pytest.raises(InputError, match=message) as error:
        read_table(path, TYPES, never_empty=("a",))
    assert str(path) in str(error.value)


def test_a_wrong_number_of_fields_is_an_error(tmp_path):
    with pytest.raises(InputError, match="has 3 fields a line, not 2"):
        read_table(written(tmp_path, b"1|x|y\n"), TYPES, separator="|", has_header=False)
