"""Downloads after a killed process, and from servers that disconnect, are slow or change the file.

The server counts the bytes that it sends, which shows whether a download was resumed or started again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import http.server
import io
import random
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest

from datasets.fetch import download as module
from datasets.fetch import official as fetching
from datasets.fetch.official import fetch
from datasets.prepare.folder import is_full_disk
from files.errors import InputError
from tests.datasets.fetch.test_official import POLL_SECONDS, contents

ROOT = Path(__file__).resolve().parents[3]
NAME = "movielens-100k"
PART = f".{NAME}.part"
FETCH = """
import dataclasses, sys
from pathlib import Path
from datasets.fetch import official as fetch
sys.path[0:0] = [{root!r}]
fetch.ARCHIVES[{name!r}] = dataclasses.replace(fetch.ARCHIVES[{name!r}], url={url!r}, md5={md5!r})
print(fetch.fetch({name!r}, Path({folder!r})))
"""


def archive(seed: int = 0, size: int = 3_000_000) -> bytes:
    """A zip of bytes that cannot be compressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr("a", random.Random(seed).randbytes(size))
    return buffer.getvalue()


class Server(http.server.ThreadingHTTPServer):
    """Serves ``content`` at ``/good``; `Handler.do_GET` defines what goes wrong at other paths."""

    daemon_threads = True
    content = archive()
    etag: str | None = '"one"'
    chunk_seconds = 0.0
    stops_after: int | None = None  # bytes, after which it waits until the client is gone

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.sent: Counter[str] = Counter()
        self.asked: list[tuple[str, str | None]] = []
        self.broken = 0
        self.client_left = threading.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{path}"

    def handle_error(self, *_: object) -> None:
        pass  # a client that was killed


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    reasons: ClassVar[dict[str, int]] = {"404": 404, "503": 503}

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path, content, begin = self.path.strip("/"), self.server.content, 0
        asked = self.headers.get("Range")
        self.server.asked.append((path, asked))
        if path in self.reasons:
            return self.send_error(self.reasons[path])
        if path == "redirect":
            self.send_response(302)
            self.send_header("Location", "/good")
            self.end_headers()
            return None
        if path == "drip-headers":
            for letter in "HTTP/1.1 200 OK\r\n" * 99:
                self.wfile.write(letter.encode())
                time.sleep(0.1)
            return None
        if_range = self.headers.get("If-Range", self.server.etag)
        if asked and path != "no-ranges" and if_range == self.server.etag:
            begin = int(asked.removeprefix("bytes=").removesuffix("-"))
            if begin >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.end_headers()
                return None
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if self.server.etag:
            self.send_header("ETag", self.server.etag)
        if path != "no-length":
            self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        return self._send(path, content[begin:])

    def _send(self, path: str, content: bytes) -> None:
        step = 3 if path == "drip" else 1 << 16
        if path == "drip":
            time.sleep(0.05)
        breaks = path == "break-once" and not self.server.broken
        for at in range(0, len(content), step):
            if breaks and at > len(content) // 2:
                self.server.broken += 1
                return
            if self.server.stops_after is not None and at > self.server.stops_after:
                with contextlib.suppress(ConnectionError):
                    self.connection.recv(1)  # answered when the client's connection ends
                self.server.client_left.set()
                return
            piece = content[at : at + step]
            try:
                self.wfile.write(piece)
            except ConnectionError:  # killed before so much was sent
                self.server.client_left.set()
                raise
            self.server.sent[path] += len(piece)
            time.sleep(0.1 if path == "drip" else self.server.chunk_seconds)


@pytest.fixture
def server():
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(POLL_SECONDS,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def publish(monkeypatch):
    def publish(url: str, content: bytes = Server.content) -> None:
        archive = dataclasses.replace(fetching.ARCHIVES[NAME], url=url, md5=hashlib.md5(content).hexdigest())
        monkeypatch.setitem(fetching.ARCHIVES, NAME, archive)

    return publish


def process(server: Server, path: str, folder: Path) -> subprocess.Popen:
    code = FETCH.format(
        root=str(ROOT),
        name=NAME,
        url=server.url(path),
        md5=hashlib.md5(Server.content).hexdigest(),
        folder=str(folder),
    )
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def is_whole(folder: Path) -> bool:
    with zipfile.ZipFile(io.BytesIO(Server.content)) as packed:
        return (folder / NAME / "a").read_bytes() == packed.read("a") and contents(folder) == {NAME}


def killed_in_the_middle(server: Server, path: str, folder: Path) -> int:
    """Kill a process while it downloads, and return how many bytes it left."""
    server.stops_after = 1_000_000
    first = process(server, path, folder)
    deadline = time.monotonic() + 120
    while not (folder / PART).exists() or (folder / PART).stat().st_size < 500_000:
        assert time.monotonic() < deadline
        assert first.poll() is None, first.communicate()[1]
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert server.client_left.wait(60)
    server.stops_after = None
    server.sent.clear()
    return (folder / PART).stat().st_size


def test_the_download_of_a_killed_process_is_resumed(server, publish, tmp_path):
    left = killed_in_the_middle(server, "good", tmp_path)
    publish(server.url("good"))
    seen, messages = [], []
    fetch(NAME, tmp_path, progress=lambda *step: seen.append(step), say=messages.append)
    assert is_whole(tmp_path)
    assert server.sent["good"] == len(Server.content) - left
    assert seen[0][0] > left
    assert seen[-1] == (len(Server.content), len(Server.content))
    assert f"resuming after the {left:,} bytes that were kept" in messages


def test_another_mirror_resumes_the_download_of_the_first(server, publish, tmp_path):
    left = killed_in_the_middle(server, "good", tmp_path)
    publish(server.url("good"))
    fetch(NAME, tmp_path, urls=[server.url("mirror")], say=lambda _: None)
    assert is_whole(tmp_path)
    assert server.sent["mirror"] == len(Server.content) - left


def test_a_server_without_ranges_sends_the_whole_file_again(server, publish, tmp_path):
    killed_in_the_middle(server, "no-ranges", tmp_path)
    publish(server.url("no-ranges"))
    fetch(NAME, tmp_path, say=lambda _: None)
    assert is_whole(tmp_path)
    assert server.sent["no-ranges"] == len(Server.content)


def test_a_part_of_a_file_that_is_no_longer_published_is_dropped(server, publish, tmp_path):
    killed_in_the_middle(server, "good", tmp_path)
    server.content = archive(seed=1)
    publish(server.url("good"), server.content)
    fetch(NAME, tmp_path, say=lambda _: None)
    assert contents(tmp_path) == {NAME}
    assert server.asked[-1] == ("good", None)


@pytest.mark.parametrize("etag", ['"two"', None])
def test_a_file_that_changes_on_the_server_is_downloaded_from_the_start(server, publish, tmp_path, etag):
    """The ETag shows it; without one, the md5 of the joined bytes does."""
    server.content, server.etag = archive(seed=1), etag and '"one"'
    left = killed_in_the_middle(server, "good", tmp_path)
    server.content, server.etag = Server.content, etag
    publish(server.url("good"))
    messages = []
    fetch(NAME, tmp_path, say=messages.append)
    assert is_whole(tmp_path)
    is_dropped = "do not fit the file, so they are dropped; starting again" in " ".join(messages)
    assert is_dropped == (etag is None)
    assert server.sent["good"] == len(Server.content) * (1 if etag else 2) - (0 if etag else left)


def test_a_broken_connection_is_resumed_at_once(server, publish, tmp_path):
    publish(server.url("break-once"))
    fetch(NAME, tmp_path, say=lambda _: None)
    assert is_whole(tmp_path)
    assert [path for path, _ in server.asked] == ["break-once"] * 2
    assert server.sent["break-once"] < len(Server.content) * 1.1


def test_a_complete_part_is_not_requested_again(server, publish, tmp_path, monkeypatch):
    publish(server.url("good"))
    with monkeypatch.context() as killed:
        killed.setattr(fetching, "_unpack", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fetch(NAME, tmp_path, say=lambda _: None)
    fetch(NAME, tmp_path, say=lambda _: None)
    assert is_whole(tmp_path)
    assert len(server.asked) == 1


def test_three_processes_at_once_download_it_once(server, tmp_path):
    server.chunk_seconds = 0.02
    together = [process(server, "good", tmp_path) for _ in range(3)]
    outputs = [child.communicate(timeout=120) for child in together]
    assert [child.returncode for child in together] == [0, 0, 0], outputs
    assert is_whole(tmp_path)
    assert server.sent["good"] == len(Server.content)
    assert sum("another process is fetching it; waiting for it to finish" in out for out, _ in outputs) == 2


@pytest.mark.parametrize("path", ["drip", "drip-headers"])
def test_a_server_that_sends_too_slowly_is_given_up_with_one_sentence(
    server, publish, tmp_path, monkeypatch, path
):
    monkeypatch.setattr(module, "WINDOW_SECONDS", 1.0)
    publish(server.url(path))
    began = time.monotonic()
    with pytest.raises(
        InputError, match=r"too slow, [0-9,]+ bytes in the last 1 sec|no answer for 1 seconds"
    ):
        fetch(NAME, tmp_path, say=lambda _: None)
    assert time.monotonic() - began < 10


def test_after_a_slow_server_the_next_mirror_sends_the_rest(server, publish, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "WINDOW_SECONDS", 0.5)
    publish(server.url("drip"))
    fetch(NAME, tmp_path, urls=[server.url("drip"), server.url("good")], say=lambda _: None)
    assert is_whole(tmp_path)
    assert server.asked[-1][1] is not None


@pytest.mark.parametrize("path", ["redirect", "no-length"])
def test_a_redirection_is_followed_and_a_length_is_not_needed(server, publish, tmp_path, path):
    publish(server.url(path))
    fetch(NAME, tmp_path, say=lambda _: None)
    assert is_whole(tmp_path)


def test_errors_of_servers_are_named_and_the_next_mirror_is_tried(server, publish, tmp_path):
    publish(server.url("good"))
    bad = [server.url("404"), server.url("503"), "nonsense://host/x", "http://127.0.0.1:9/x"]
    with pytest.raises(InputError) as caught:
        fetch(NAME, tmp_path / "none", urls=bad, say=lambda _: None)
    for words in (
        "404 (404 Not Found)",
        "503 (503 Service Unavailable)",
        "No connection adapters",
        "refused",
    ):
        assert words in str(caught.value)
    assert not contents(tmp_path / "none")
    fetch(NAME, tmp_path / "some", urls=[*bad, server.url("good")], say=lambda _: None)
    assert is_whole(tmp_path / "some")


def test_a_mirror_with_another_file_is_passed_over(server, publish, tmp_path):
    publish(server.url("good"), b"what was published once")
    with pytest.raises(
        InputError, match=r"md5 is .* it is dropped: fetch again or use another mirror; check"
    ):
        fetch(NAME, tmp_path, say=lambda _: None)
    assert not contents(tmp_path)


def test_a_part_with_a_damaged_note_or_none_is_not_resumed(server, publish, tmp_path):
    publish(server.url("good"))
    for notes in (None, "{", "[]", '{"md5": "another"}'):
        (tmp_path / PART).write_bytes(b"some bytes")
        if notes is not None:
            (tmp_path / f"{PART}.json").write_text(notes)
        folder = fetch(NAME, tmp_path, say=lambda _: None)
        assert is_whole(tmp_path)
        (folder / "a").unlink()
        folder.rmdir()
    assert {asked for _, asked in server.asked} == {None}


@pytest.mark.parametrize("path", ["good", "break-once"])
def test_without_an_md5_the_stated_size_must_arrive(server, tmp_path, path):
    part = module.Part(tmp_path / "part", None)
    assert module.download([server.url(path)], part, None, say=lambda _: None) == server.url(path)
    assert part.path.read_bytes() == Server.content
    assert server.sent[path] < len(Server.content) * 1.1


def test_without_an_md5_and_a_size_nothing_is_taken(server, tmp_path):
    part = module.Part(tmp_path / "part", None)
    with pytest.raises(InputError, match="no-length: states neither size nor md5"):
        module.download([server.url("no-length")], part, None, say=lambda _: None)
    assert not list(tmp_path.iterdir())


def test_without_an_md5_another_mirror_begins_anew(server, tmp_path):
    """Its file may have the same size and other bytes."""
    part = module.Part(tmp_path / "part", None)
    part.begin(server.url("first"), server.etag, len(Server.content))
    part.path.write_bytes(archive(seed=1)[:1_000_000])
    messages: list[str] = []
    urls = [server.url("404"), server.url("second")]
    assert module.download(urls, part, None, messages.append) == server.url("second")
    assert part.path.read_bytes() == Server.content
    assert server.asked == [("404", None), ("second", None)]
    assert messages == []


def test_without_an_md5_a_server_that_cannot_tell_whether_its_file_changed_begins_anew(server, tmp_path):
    server.etag = None
    part = module.Part(tmp_path / "part", None)
    part.begin(server.url("good"), None, len(Server.content))
    part.path.write_bytes(archive(seed=1)[:1_000_000])
    with pytest.raises(InputError, match="check the network"):
        module.download([server.url("404")], part, None, say=lambda _: None)
    module.download([server.url("good")], part, None, say=lambda _: None)
    assert part.path.read_bytes() == Server.content
    assert server.asked[-1] == ("good", None)


def test_too_little_room_is_reported_before_a_byte_is_written(server, publish, tmp_path, monkeypatch):
    publish(server.url("good"))
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    with pytest.raises(
        InputError, match=r"No space left on device: .* bytes to come, 1,000,000 free"
    ) as caught:
        fetch(NAME, tmp_path, say=lambda _: None)
    assert is_full_disk(caught.value)


def test_a_disk_that_fills_up_is_reported_and_the_download_is_kept(server, publish, tmp_path, monkeypatch):
    publish(server.url("good"))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as filled:
        filled.setattr(fetching, "_unpack", full)
        with pytest.raises(InputError, match="No space left on device") as caught:
            fetch(NAME, tmp_path, say=lambda _: None)
    assert is_full_disk(caught.value)
    fetch(NAME, tmp_path, say=lambda _: None)
    assert len(server.asked) == 1


def test_leftovers_of_killed_processes_are_removed(server, publish, tmp_path):
    publish(server.url("good"))
    for left in (f".{NAME}-ab12cd", f".{NAME}.unpacked"):
        (tmp_path / left / "unpacked").mkdir(parents=True)
    fetch(NAME, tmp_path, say=lambda _: None)
    assert is_whole(tmp_path)


def test_the_lock_does_not_touch_what_a_link_in_its_place_points_to(server, publish, tmp_path):
    publish(server.url("good"))
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / f".{NAME}.lock").symlink_to(tmp_path / "mine")
    with pytest.raises(InputError, match="is a symbolic link, and a lock is kept"):
        fetch(NAME, tmp_path / "root", say=lambda _: None)
    assert (tmp_path / "mine").read_text() == "precious"


def test_without_a_terminal_progress_is_shown_in_lines(capsys, monkeypatch):
    monkeypatch.setattr(module, "PLAIN_SECONDS", 0.0)
    with module.shown("set") as progress:
        progress(1000, 4000)
    assert "set: 1,000 of 4,000 bytes" in capsys.readouterr().err
