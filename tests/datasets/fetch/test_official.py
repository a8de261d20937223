"""Fetching from a local server with small archives."""

import dataclasses
import errno
import functools
import hashlib
import http.server
import io
import re
import tarfile
import threading
import zipfile

import pytest

from datasets.catalog import raw_folder
from datasets.fetch import official as module
from datasets.fetch.official import fetch
from files.errors import InputError
from tests.datasets.published.files import LAYOUTS, write_files

NAME = "movielens-100k"
POLL_SECONDS = 0.01  # a server notices within this time that it is shut down


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def send_header(self, keyword, value):
        if keyword == "Content-Length" and self.path == "/short.zip":
            value = str(int(value) + 1000)
        super().send_header(keyword, value)


@pytest.fixture
def server(tmp_path):
    """A folder that is served, and its address."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(QuietHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, args=(POLL_SECONDS,), daemon=True).start()
        yield folder, f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def publish(server, monkeypatch):
    """Serve ``content`` under ``filename`` as the official archive; returns its address."""
    folder, address = server

    def publish(filename: str, content: bytes, md5: str | None = None) -> str:
        (folder / filename).write_bytes(content)
        digest = md5 or hashlib.md5(content).hexdigest()
        url = f"{address}/{filename}"
        archive = dataclasses.replace(module.ARCHIVES[NAME], url=url, md5=digest)
        monkeypatch.setitem(module.ARCHIVES, NAME, archive)
        return url

    return publish


def is_empty(data_root) -> bool:
    return not data_root.exists() or contents(data_root) == set()


def contents(data_root) -> set[str]:
    """The names of everything in the folder except the lock file, which stays."""
    return {path.name for path in data_root.iterdir()} - {f".{NAME}.lock"}


@pytest.mark.parametrize(("filename", "pack"), [("set.zip", zipped), ("set.tar.gz", tarred)])
def test_an_archive_arrives_whole_with_licence_first_and_progress_to_the_end(
    publish, tmp_path, filename, pack
):
    content = pack({"ml-100k/u.data": b"1\t2\t3\t4\n", "ml-100k/deep/file": b"x" * 3_000_000})
    publish(filename, content)
    messages, seen = [], []
    folder = fetch(NAME, tmp_path / "root", progress=lambda *step: seen.append(step), say=messages.append)
    assert folder == tmp_path / "root" / NAME
    assert (folder / "ml-100k" / "u.data").read_bytes() == b"1\t2\t3\t4\n"
    assert (folder / "ml-100k" / "deep" / "file").stat().st_size == 3_000_000
    assert "licence" in messages[0]
    assert "no redistribution" in messages[0]
    assert "\n" not in messages[0]
    assert str(folder) in messages[-1]
    assert seen[-1] == (len(content), len(content))
    assert contents(tmp_path / "root") == {NAME}


def test_the_licence_is_shown_even_when_the_download_then_fails(publish, tmp_path):
    publish("set.zip", zipped({"a": b"1"}), md5="0" * 32)
    messages = []
    with pytest.raises(InputError):
        fetch(NAME, tmp_path / "root", say=messages.append)
    assert len(messages) == 1


def test_a_wrong_md5_is_refused_and_leaves_nothing(publish, tmp_path):
    publish("set.zip", zipped({"a": b"1"}), md5="0" * 32)
    with pytest.raises(InputError, match=r"md5 is .* not the published 0000"):
        fetch(NAME, tmp_path / "root", say=lambda _: None)
    assert is_empty(tmp_path / "root")


def test_an_existing_folder_is_refused_before_any_download(publish, tmp_path):
    publish("set.zip", zipped({"a": b"1"}))
    (tmp_path / "root" / NAME).mkdir(parents=True)
    with pytest.raises(InputError, match="exists already"):
        fetch(NAME, tmp_path / "root", progress=lambda *_: pytest.fail("downloaded"), say=lambda _: None)


def test_a_server_that_does_not_answer_is_named(tmp_path):
    url = "http://127.0.0.1:9/set.zip"  # the discard port: nobody listens
    with pytest.raises(InputError, match=f"no answer from {url}.*check the network"):
        fetch(NAME, tmp_path / "root", urls=[url], say=lambda _: None)
    assert is_empty(tmp_path / "root")


def test_mirrors_are_tried_in_turn(publish, tmp_path):
    good = publish("set.zip", zipped({"a": b"1"}))
    folder = fetch(NAME, tmp_path, urls=[good.replace("set", "absent"), good], say=lambda _: None)
    assert (folder / "a").read_bytes() == b"1"


def test_a_connection_cut_short_is_an_error(publish, tmp_path):
    publish("short.zip", zipped({"a": b"1"}))
    with pytest.raises(InputError, match=r"connection .* are kept, and fetching again resumes there"):
        fetch(NAME, tmp_path / "root", say=lambda _: None)
    assert contents(tmp_path / "root") == {f".{NAME}.part", f".{NAME}.part.json"}


@pytest.mark.parametrize(
    ("pack", "member"),
    [
        (zipped, "../outside"),
        (zipped, "a/../../outside"),
        (zipped, "a\\..\\..\\outside"),
        (zipped, "/outside"),
        (tarred, "../outside"),
        (tarred, "a/../../outside"),
    ],
)
def test_archive_members_outside_the_folder_are_refused_and_not_written(publish, tmp_path, pack, member):
    publish("set", pack({"fine": b"1", member: b"2"}))
    with pytest.raises(InputError, match="cannot be unpacked safely"):
        fetch(NAME, tmp_path / "root", say=lambda _: None)
    assert is_empty(tmp_path / "root")  # not the archive either: it would be refused again
    assert {path.name for path in tmp_path.iterdir()} == {"served", "root"}


def test_an_absolute_tar_member_stays_inside(publish, tmp_path):
    publish("set", tarred({str(tmp_path / "outside"): b"2"}))
    folder = fetch(NAME, tmp_path / "root", say=lambda _: None)
    assert not (tmp_path / "outside").exists()
    assert [path.name for path in folder.rglob("outside")] == ["outside"]


@pytest.mark.parametrize(
    "content", [b"no archive at all", tarred({"a": b"1" * 9999})[:60]], ids=["text", "cut short"]
)
def test_a_file_that_is_no_archive_is_an_error(publish, tmp_path, content):
    publish("set.tar.gz", content)
    with pytest.raises(InputError, match="cannot be unpacked"):
        fetch(NAME, tmp_path / "root", say=lambda _: None)
    assert is_empty(tmp_path / "root")


def test_an_unknown_name_lists_what_can_be_fetched(tmp_path):
    with pytest.raises(InputError, match=r"kuairand-pure, .*movielens-100k"):
        fetch("kuairand", tmp_path)


def test_a_data_root_that_cannot_be_made_is_an_error(publish, tmp_path):
    publish("set.zip", zipped({"a": b"1"}))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="--data-root"):
        fetch(NAME, tmp_path / "file" / "root", say=lambda _: None)


def test_the_published_checksums_are_md5_of_official_addresses():
    archives = module.ARCHIVES
    assert archives["kuairand-pure"].md5 == "0820331067a3784d9691136f772b35a7"
    assert archives["movielens-1m"].md5 == "c4d9eecfca2ab87c1945afe126590906"
    assert archives["movielens-100k"].md5 == "0e33842e24a9c977be4e0107933c0723"
    assert all(archive.url.startswith("https://") for archive in archives.values())
    sums = [md5 for archive in archives.values() for md5 in (archive.md5, *archive.files.values()) if md5]
    assert all(re.fullmatch("[0-9a-f]{32}", md5) for md5 in sums)
    assert len(set(sums)) == len(sums)
    assert all(archive.md5 or archive.files for archive in archives.values())


@pytest.mark.parametrize("name", [*LAYOUTS, "taobao-ad-x1-clean"])
def test_an_archive_without_a_stated_md5_is_checked_file_by_file(server, monkeypatch, tmp_path, name):
    folder, address = server
    archive = name.removesuffix("-clean")
    inside = LAYOUTS[archive][0]
    files = {path.name: path.read_bytes() for path in write_files(tmp_path / "made", archive).iterdir()}
    (folder / "set.zip").write_bytes(zipped({f"{inside}/{file}": text for file, text in files.items()}))
    official = module.ARCHIVES[archive]
    assert set(official.files) == set(files)
    served = dataclasses.replace(official, url=f"{address}/set.zip")
    monkeypatch.setitem(module.ARCHIVES, archive, served)
    messages = []
    with pytest.raises(InputError, match=r"the md5 of t\w+\.csv is .*, not the published"):
        fetch(name, tmp_path / "root", say=messages.append)
    assert {path.name for path in (tmp_path / "root").iterdir()} == {f".{archive}.lock"}
    assert "md5 of the archive is not stated" in messages[1]
    sums = {file: hashlib.md5(text).hexdigest() for file, text in files.items()}
    monkeypatch.setitem(module.ARCHIVES, archive, dataclasses.replace(served, files=sums))
    assert fetch(name, tmp_path / "root", say=messages.append) == tmp_path / "root" / archive
    assert raw_folder(name, tmp_path / "root") == tmp_path / "root" / archive / inside


def test_a_file_that_the_archive_lacks_is_named(server, monkeypatch, tmp_path):
    folder, address = server
    (folder / "set.zip").write_bytes(zipped({"train.csv": b"1"}))
    archive = dataclasses.replace(
        module.ARCHIVES["frappe-x1"], url=f"{address}/set.zip", files={"valid.csv": "0" * 32}
    )
    monkeypatch.setitem(module.ARCHIVES, "frappe-x1", archive)
    with pytest.raises(InputError, match=r"holds no file valid\.csv"):
        fetch("frappe-x1", tmp_path / "root", say=lambda _: None)


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_a_damaged_archive_without_a_stated_md5_is_dropped_and_can_be_fetched_again(
    server, monkeypatch, tmp_path, method
):
    folder, address = server
    text = "".join(f"{number * 7919 % 1000}\n" for number in range(2000)).encode()
    good = zipped({"train.csv": text}, method)
    (folder / "set.zip").write_bytes(good[:200] + bytes(60) + good[260:])
    archive = dataclasses.replace(
        module.ARCHIVES["frappe-x1"],
        url=f"{address}/set.zip",
        files={"train.csv": hashlib.md5(text).hexdigest()},
    )
    monkeypatch.setitem(module.ARCHIVES, "frappe-x1", archive)
    with pytest.raises(InputError, match=r"cannot be unpacked safely .*dropped: fetch again"):
        fetch("frappe-x1", tmp_path / "root", say=lambda _: None)
    assert {path.name for path in (tmp_path / "root").iterdir()} == {".frappe-x1.lock"}
    (folder / "set.zip").write_bytes(good)
    found = fetch("frappe-x1", tmp_path / "root", say=lambda _: None)
    assert (found / "train.csv").read_bytes() == text


def test_a_disk_that_fails_while_unpacking_keeps_what_was_downloaded(publish, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    publish("set.zip", zipped({"a": b"1"}))
    monkeypatch.setattr(module, "_unzip", fail)
    with pytest.raises(InputError, match=r"cannot be written \(Input/output error\)"):
        fetch(NAME, tmp_path / "root", say=lambda _: None)
    assert contents(tmp_path / "root") == {f".{NAME}.part", f".{NAME}.part.json"}
