"""Fetching into a store: a process that is killed while it sends, and the same command again."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from datasets.fetch import official, sending
from datasets.fetch.sending import fetch_and_send
from files.errors import InputError
from files.remote import Store
from files.remote_copy import open_copy

FILES = {f"set/{number}.csv": f"{number},1\n".encode() for number in range(5)}
NAME = "movielens-100k"


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A copy of a folder in memory, to which an archive of ``FILES`` comes without a server."""
    monkeypatch.chdir(tmp_path)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)

    def download(urls: list[str], part: official.Part, *_: object) -> str:
        part.path.write_bytes(packed.getvalue())
        return urls[0]

    monkeypatch.setattr(official, "download", download)
    monkeypatch.setattr(sending, "AT_ONCE", 2)
    return open_copy(f"memory://{tmp_path.name}/raw")


def fetched(root: Path) -> dict[str, bytes | None]:
    """What the store has after the command, by name."""
    store = Store(f"memory://{root.parent.name}/raw")
    assert fetch_and_send(NAME, root, lambda *_: None, {}) == root / NAME
    return {name.removeprefix(f"{NAME}/"): store.read(name) for name in store.listing(NAME)}


def test_all_files_are_sent_and_a_second_fetch_is_refused(root):
    assert fetched(root) == FILES
    with pytest.raises(InputError, match="exists already"):
        fetched(root)


def test_the_same_command_sends_what_a_killed_one_did_not(root, monkeypatch):
    sent: list[str] = []
    send = Store.send

    def killed(self: Store, files: dict[str, Path]) -> None:
        if len(sent) == 2:
            raise KeyboardInterrupt
        sent.extend(files)
        send(self, files)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "send", killed)
        with pytest.raises(KeyboardInterrupt):
            fetched(root)
    before = list(sent)
    monkeypatch.setattr(Store, "send", lambda self, files: (sent.extend(files), send(self, files)))
    monkeypatch.setattr(official, "download", lambda *_: pytest.fail("downloaded again"))
    assert fetched(root) == FILES
    assert len(before) == 2
    assert sorted(sent) == sorted(f"{NAME}/{name}" for name in FILES)
    assert not list(root.glob(f".{NAME}.sent"))


def test_a_folder_that_came_from_the_store_is_not_taken_for_a_fetched_one(root):
    (root / NAME).mkdir()
    with pytest.raises(InputError, match="exists already"):
        fetched(root)
