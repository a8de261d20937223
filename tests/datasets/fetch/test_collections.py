"""Fetching datasets of many files from a local server."""

from __future__ import annotations

import dataclasses
import functools
import http.server
import shutil
import threading

import pytest

from datasets.catalog import prepare_dataset
from datasets.fetch import collections
from datasets.fetch.official import fetch
from files.errors import InputError
from tests.datasets.fetch.test_official import POLL_SECONDS, QuietHandler
from tests.datasets.vk_lsvd.files import write_folder
from tests.datasets.yambda import files as yambda_files

OPTIONS = {"weeks": 2, "embedding_length": 4}


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Serves a folder as the official address of every collection; what was asked for is listed."""
    folder = tmp_path / "served"
    folder.mkdir()
    asked = []

    class Handler(QuietHandler):
        def do_GET(self):  # noqa: N802 - the name that http.server calls
            asked.append(self.path.removeprefix("/"))
            super().do_GET()

    handler = functools.partial(Handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, args=(POLL_SECONDS,), daemon=True).start()
        address = f"http://127.0.0.1:{httpd.server_address[1]}"
        for name, collection in collections.COLLECTIONS.items():
            monkeypatch.setitem(collections.COLLECTIONS, name, dataclasses.replace(collection, url=address))
        yield folder, asked
        httpd.shutdown()


def below(folder) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_only_the_files_that_the_options_need_are_fetched_and_they_are_read(served, tmp_path):
    folder, asked = served
    made = write_folder(tmp_path / "made", 70, weeks=3)
    shutil.copytree(made, folder, dirs_exist_ok=True)
    messages = []
    found = fetch("vk-lsvd", tmp_path / "root", say=messages.append, options=OPTIONS)
    assert found == tmp_path / "root" / "vk-lsvd"
    weeks = {f"subsamples/ur0.01/{week}.parquet" for week in (
        "train/week_23", "train/week_24", "validation/week_25", "test/week_26")}  # fmt: skip
    metadata = {f"metadata/{path.name}" for path in (made / "metadata").iterdir()}
    assert below(found) == set(asked) == weeks | metadata
    assert all((found / name).read_bytes() == (made / name).read_bytes() for name in below(found))
    assert "licence: Apache-2.0" in messages[0]
    assert "md5 of its files is not stated" in messages[1]
    prepared = prepare_dataset("vk-lsvd", OPTIONS, tmp_path / "root", tmp_path / "cache")
    assert prepared.rows == {"train": 140, "valid": 70, "test": 70}


def test_a_second_fetch_adds_what_is_missing_and_a_week_that_is_not_published_is_left_out(served, tmp_path):
    folder, asked = served
    shutil.copytree(write_folder(tmp_path / "made", test=False), folder, dirs_exist_ok=True)
    messages = []
    fetch("vk-lsvd", tmp_path / "root", say=messages.append, options={"weeks": 1})
    assert any("week_26.parquet is not published; it is left out" in message for message in messages)
    del asked[:]
    fetch("vk-lsvd", tmp_path / "root", say=messages.append, options={"weeks": 2})
    assert asked == ["subsamples/ur0.01/train/week_23.parquet"]


def test_a_file_that_is_not_there_is_named_and_what_arrived_is_kept(served, tmp_path):
    folder, _ = served
    shutil.copytree(write_folder(tmp_path / "made", weeks=1), folder, dirs_exist_ok=True)
    with pytest.raises(InputError, match=r"no answer from .*train/week_23\.parquet \(404"):
        fetch("vk-lsvd", tmp_path / "root", say=lambda _: None, options=OPTIONS)
    assert "metadata/items_metadata.parquet" in below(tmp_path / "root" / "vk-lsvd")
    assert not list((tmp_path / "root" / "vk-lsvd").rglob(".*"))


def test_yambda_is_the_listens_of_one_size_and_both_mappings(served, tmp_path):
    folder, asked = served
    listens = yambda_files.made_up_listens(300, users=4, tracks=6, days=4)
    made = yambda_files.write_folder(tmp_path / "made", listens, 6, "500m")
    shutil.copytree(made, folder, dirs_exist_ok=True)
    fetch("yambda-500m", tmp_path / "root", say=lambda _: None)
    names = ["flat/500m/listens.parquet", "artist_item_mapping.parquet", "album_item_mapping.parquet"]
    assert asked == names
    assert sum(prepare_dataset("yambda-500m", {}, tmp_path / "root", tmp_path / "cache").rows.values()) > 200


def test_unknown_options_are_refused_before_any_download(served, tmp_path):
    with pytest.raises(InputError, match="no option 'week': choose from subsample, weeks"):
        fetch("vk-lsvd", tmp_path / "root", options={"week": 1})
    with pytest.raises(InputError, match="takes no option 'weeks'; its archive is one file"):
        fetch("movielens-100k", tmp_path / "root", options={"weeks": 1})
    assert not (tmp_path / "root").exists()
    assert served[1] == []
