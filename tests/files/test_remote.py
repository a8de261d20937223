"""Folders in a store: what is fetched and sent, who is given a claim, and what is said of every refusal."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from datasets.catalog import prepare_dataset
from datasets.fetch.raw_files import find_folder
from datasets.prepare import pipeline
from files import remote_claims
from files.errors import InputError, UnfinishedError
from files.remote import Store, is_url
from files.remote_claims import Claim
from files.remote_copy import copy_at, open_copy
from harness.records import remote_run
from harness.records.folder import RunFolder
from harness.records.remote_folder import opened, refresh, shared
from harness.records.remote_run import RemoteRun
from suites.planned_run import open_data
from tests.s3 import BUCKET, endpoint, url, without_rights  # noqa: F401 - fixtures

TINY = {"rows": 1000, "users": 100, "items": 100}


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch) -> Path:
    """The current folder, in which copies are kept."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def count_calls(monkeypatch, owner: type, name: str) -> list[object]:
    """A list that has one more element after each call of the method, which is made as ever."""
    method, calls = getattr(owner, name), []

    def counted(self: object) -> None:
        try:
            method(self)
        finally:
            calls.append(self)

    monkeypatch.setattr(owner, name, counted)
    return calls


def elsewhere(path: Path, monkeypatch) -> None:
    """Go on as another machine would, which has no copies yet."""
    path.mkdir()
    monkeypatch.chdir(path)


# ------------------------------------------------------------------------------------------------- claims


def test_of_many_at_once_one_is_given_a_claim(url):  # noqa: F811
    claims = [Claim(Store(url), "claim", f"owner {number}") for number in range(6)]
    given: list[Claim] = []

    def take(claim: Claim) -> None:
        if claim.take():
            given.append(claim)

    threads = [threading.Thread(target=take, args=(claim,)) for claim in claims]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [holder] = given
    assert [claim for claim in claims if claim.is_held()] == [holder]
    holder.release()
    assert claims[0].take()


@pytest.mark.parametrize("code", ["PreconditionFailed", "ConditionalRequestConflict"])
def test_a_write_that_another_is_ahead_of_creates_nothing(url, monkeypatch, code):  # noqa: F811
    """Not every server names the condition that failed, and S3 answers 409 where two writes meet."""
    from botocore.exceptions import ClientError

    store = Store(url)

    def refuse(*_: object, **__: object) -> None:
        answer = ClientError({"Error": {"Code": code}}, "PutObject")
        raise OSError("a condition did not hold") from answer

    monkeypatch.setattr(store._system, "pipe_file", refuse)
    assert not store.create("a", b"")


def test_a_folder_that_appears_while_it_is_listed_is_no_file(url, monkeypatch):  # noqa: F811
    store = Store(url)
    path = f"{BUCKET}/{url.rpartition('/')[2]}/claim"
    monkeypatch.setattr(store._system, "find", lambda *_, **__: {path: {"type": "directory", "name": path}})
    assert store.listing("claim") == {}


def test_a_claim_is_outbid_when_its_holder_is_silent_and_no_sooner(url, monkeypatch):  # noqa: F811
    clock = [0.0]
    monkeypatch.setattr(remote_claims, "monotonic", lambda: clock[0])
    first, second, third = (Claim(Store(url), "claim", f"owner {number}") for number in range(3))
    assert first.take()
    assert not second.take()
    clock[0] = remote_claims.SILENT_SECONDS - 1
    assert not second.take()
    first.beat()
    clock[0] += 60
    assert not second.take()  # there was a beat since it looked last
    clock[0] += remote_claims.SILENT_SECONDS + 1
    assert second.take()
    assert not third.take()
    assert not first.is_held()
    first.beat()  # too late: it takes nothing back
    first.release()
    assert second.is_held()
    second.release()
    assert Store(url).listing() == {}


def test_a_killed_process_s_claim_is_its_own_folder_s_again_on_this_machine(url, monkeypatch):  # noqa: F811
    killed, next_one = (Claim(Store(url), "claim", "this copy") for _ in range(2))
    monkeypatch.setattr(remote_claims, "_machine", lambda: "a clone of this machine")
    on_a_clone = Claim(Store(url), "claim", "this copy")
    assert killed.take()
    assert not Claim(Store(url), "claim", "another").take()
    assert not on_a_clone.take()
    assert next_one.take()
    assert next_one.is_held()
    assert not killed.is_held()


def test_who_waits_hears_at_once_of_a_claim_that_is_gone_on_with(url, monkeypatch):  # noqa: F811
    clock = [0.0]
    monkeypatch.setattr(remote_claims, "monotonic", lambda: clock[0])
    killed, next_one, waiting = (Claim(Store(url), "claim", owner) for owner in ("one", "one", "another"))
    assert killed.take()
    assert not waiting.take()
    clock[0] = remote_claims.SILENT_SECONDS - 1
    assert next_one.take()
    clock[0] += 2
    assert not waiting.take()
    assert next_one.is_held()


def test_a_number_that_was_released_and_given_again_is_not_held_by_the_first(url, monkeypatch):  # noqa: F811
    clock = [0.0]
    monkeypatch.setattr(remote_claims, "monotonic", lambda: clock[0])
    first, second, third = (Claim(Store(url), "claim", f"owner {number}") for number in range(3))
    assert first.take()
    assert not second.take()
    clock[0] = remote_claims.SILENT_SECONDS + 1
    assert second.take()
    second.release()
    assert third.take()
    assert third.is_held()
    assert not first.is_held()
    first.release()
    assert third.is_held()


# ----------------------------------------------------------------------------------------- runs of the store


def finish(run: RunFolder) -> None:
    """What a run leaves; its record is no real one, which nothing here reads."""
    run.final.mkdir()
    (run.final / "record.json").write_bytes(b"{}")
    (run.final / "predictions.parquet").write_bytes(b"scores")


def take_over(store: Store) -> None:
    store.write("runs/.one.claim/2", b'{"owner": "another", "beats": 0}')


def write_checkpoint(folder: Path, step: int) -> None:
    """The parts of a checkpoint that a run leaves after ``step`` steps, and its pointer."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"checkpoint-{step}-0.pt").write_bytes(b"weights")
    pointer = {"tag": step, "best": None, "sha256": ["a"], "best_sha256": []}
    (folder / "checkpoint.json").write_text(json.dumps(pointer))


def test_a_process_that_was_taken_over_sends_nothing_of_its_run(url):  # noqa: F811
    store, folder = Store(url), open_copy(url, shared=True)
    run = RunFolder(folder, "one")

    def carry_out() -> None:
        with run.locked(wait=False) as held:
            assert held is not None
            take_over(store)
            store.write("runs/one/predictions.parquet", b"of the taker")
            finish(run)

    with pytest.raises(UnfinishedError, match="another process took one over"):
        carry_out()
    assert set(store.listing("runs/one")) == {"runs/one/predictions.parquet"}
    assert store.read("runs/one/predictions.parquet") == b"of the taker"
    assert "runs/.one.claim/2" in store.listing()


def test_a_process_that_is_taken_over_while_it_sends_sends_no_record(url, monkeypatch):  # noqa: F811
    store, folder = Store(url), open_copy(url, shared=True)
    run, send = RunFolder(folder, "one"), Store.send

    def taken_over(self: Store, files: dict[str, Path]) -> None:
        send(self, files)
        take_over(store)

    def carry_out() -> None:
        with run.locked(wait=False):
            finish(run)
            monkeypatch.setattr(Store, "send", taken_over)

    with pytest.raises(UnfinishedError, match="another process took one over"):
        carry_out()
    assert set(store.listing("runs/one")) == {"runs/one/predictions.parquet"}


def test_a_process_that_was_taken_over_replaces_no_checkpoint(url, monkeypatch):  # noqa: F811
    monkeypatch.setattr(remote_run, "LOOK_SECONDS", 0.02)
    looks = count_calls(monkeypatch, RemoteRun, "_send_checkpoint")
    store, folder = Store(url), open_copy(url, shared=True)
    run = RunFolder(folder, "one")
    with run.locked(wait=False):
        write_checkpoint(run.partial, 5)
        wait_until(lambda: "runs/one.partial/checkpoint.json" in store.listing())
        sending = len(looks)
        wait_until(lambda: len(looks) > sending)  # it still removes what was there before
        take_over(store)
        store.write("runs/one.partial/checkpoint-9-0.pt", b"of the taker")
        write_checkpoint(run.partial, 6)
        before = len(looks)
        wait_until(lambda: len(looks) > before + 2)
    assert store.read("runs/one.partial/checkpoint-9-0.pt") == b"of the taker"
    assert "runs/one.partial/checkpoint-6-0.pt" not in store.listing()


@pytest.mark.parametrize("gone", ["checkpoint-6-1.pt", "best-4-0.pt"])
def test_a_checkpoint_of_which_a_file_is_gone_is_not_pointed_to(url, monkeypatch, gone):  # noqa: F811
    """Two ranks' parts and the best weights of three before them; the store keeps what it has whole."""
    store, folder = Store(url), open_copy(url, shared=True)
    run = RunFolder(folder, "one")
    remote = RemoteRun(copy_at(folder), run.final, run.partial)
    assert remote._claim.take()

    def names(step: int, best: int) -> set[str]:
        parts = {f"checkpoint-{step}-{rank}.pt" for rank in range(2)}
        return parts | {f"best-{best}-{rank}.pt" for rank in range(3)}

    def write(step: int, best: int) -> None:
        run.partial.mkdir(parents=True, exist_ok=True)
        for name in names(step, best):
            (run.partial / name).write_bytes(b"weights")
        pointer = {"tag": step, "best": best, "sha256": ["a", "b"], "best_sha256": ["c", "d", "e"]}
        (run.partial / "checkpoint.json").write_text(json.dumps(pointer))

    write(5, best=3)
    remote._send_checkpoint()
    write(6, best=4)
    with monkeypatch.context() as patched:  # the run goes on while the store is asked
        patched.setattr(RemoteRun, "_check_held", lambda _: (run.partial / gone).unlink())
        remote._send_checkpoint()
    assert json.loads(store.read("runs/one.partial/checkpoint.json"))["tag"] == 5
    assert {
        f"runs/one.partial/{name}" for name in names(5, 3) | {"checkpoint.json"}
    } <= store.listing().keys()
    write(7, best=4)
    remote._send_checkpoint()
    whole = {f"runs/one.partial/{name}" for name in names(7, 4) | {"checkpoint.json"}}
    assert set(store.listing("runs/one.partial")) == whole
    assert json.loads(store.read("runs/one.partial/checkpoint.json"))["tag"] == 7
    (run.partial / "checkpoint.json").write_text('{"tag": 8, "ranks": 2, "best": null}')
    remote._send_checkpoint()  # of an earlier version, which the run does not go on with
    assert set(store.listing("runs/one.partial")) == whole


def test_the_holder_is_heard_while_it_fetches_a_checkpoint(url, monkeypatch):  # noqa: F811
    store, folder = Store(url), open_copy(url, shared=True)
    write_checkpoint(Path("there"), 5)
    store.send({f"runs/one.partial/{path.name}": path for path in Path("there").iterdir()})
    monkeypatch.setattr(remote_run, "BEAT_SECONDS", 0.02)
    fetch, beats = Store.fetch, count_calls(monkeypatch, Claim, "beat")

    def slow(*given: object) -> None:
        wait_until(lambda: len(beats) > 1)
        fetch(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "fetch", slow)
    run = RunFolder(folder, "one")
    with run.locked(wait=False):
        assert (run.partial / "checkpoint-5-0.pt").read_bytes() == b"weights"


def test_a_checkpoint_of_which_a_part_was_cut_when_it_was_fetched_is_fetched_again(url, monkeypatch):  # noqa: F811
    store, folder = Store(url), open_copy(url, shared=True)
    write_checkpoint(Path("there"), 5)
    store.send({f"runs/one.partial/{path.name}": path for path in Path("there").iterdir()})
    run, fetch = RunFolder(folder, "one"), Store.fetch

    def cut(self: Store, files: dict[str, Path]) -> None:
        fetch(self, files)
        (run.partial / "checkpoint-5-0.pt").write_bytes(b"wei")
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "fetch", cut)
    with pytest.raises(KeyboardInterrupt):
        run.locked(wait=False).__enter__()
    monkeypatch.setattr(Store, "fetch", fetch)
    with run.locked(wait=False):
        assert (run.partial / "checkpoint-5-0.pt").read_bytes() == b"weights"
        assert json.loads((run.partial / "checkpoint.json").read_bytes())["tag"] == 5


def test_a_run_that_another_command_of_this_machine_sends_while_the_store_is_listed_stays(url, monkeypatch):  # noqa: F811
    folder = open_copy(url, shared=True)
    copy, listing = copy_at(folder), Store.listing
    assert copy is not None
    run = RunFolder(folder, "one")

    def sent_just_after(self: Store, below: str = "") -> dict[str, str]:
        found = listing(self, below)
        if not below:
            monkeypatch.setattr(Store, "listing", listing)
            with run.locked(wait=False):
                finish(run)
        return found

    monkeypatch.setattr(Store, "listing", sent_just_after)
    refresh(copy)
    assert run.is_finished


# ------------------------------------------------------------------------- stores without conditional writes


@pytest.fixture
def unconditional(monkeypatch) -> None:
    """As a store behaves that ignores the condition of a write."""

    def create(self: Store, name: str, content: bytes) -> bool:
        self.write(name, content)
        return True

    monkeypatch.setattr(Store, "create", create)


def test_a_store_that_cannot_share_is_one_process_s_at_a_time(url, unconditional, monkeypatch, machine):  # noqa: F811
    with shared(url) as folder:
        assert not copy_at(folder).shares  # type: ignore[union-attr]
        elsewhere(machine / "other", monkeypatch)
        with pytest.raises(InputError, match=f"^{url}: this store cannot keep two processes .*delete {url}/"):
            shared(url).__enter__()
        monkeypatch.chdir(machine)
    assert Store(url).listing() == {}
    monkeypatch.chdir(machine / "other")
    with shared(url):
        pass


def test_s3_can_share(url):  # noqa: F811
    assert copy_at(open_copy(url, shared=True)).shares  # type: ignore[union-attr]
    assert Store(url).listing() == {}


def test_what_lies_beside_the_runs_is_sent_and_a_run_that_was_deleted_in_the_store_counts_no_more(url):  # noqa: F811
    store = Store(url)
    for name in ("predictions.parquet", "record.json"):
        store.write(f"runs/one/{name}", b"whole")
    store.write("runs/half/predictions.parquet", b"no record yet")
    store.write("suite.json", b"{}")
    store.write("runs/begun.partial/record.json", b"not final")
    with shared(url) as folder:
        assert sorted(path.parent.name for path in folder.glob("runs/*/*")) == ["one", "one"]
        (folder / "figures").mkdir()
        (folder / "figures/forest.png").write_bytes(b"a figure")
        (folder / "runs/one/litter").write_bytes(b"not a run's")
    assert store.read("figures/forest.png") == b"a figure"
    assert store.read("runs/one/litter") is None
    store.remove(["runs/one/record.json"])
    assert opened(url) == folder
    assert not (folder / "runs/one").exists()
    (folder / "runs/one").mkdir()  # made again, while the store is away
    (folder / "runs/one/record.json").write_bytes(b"anew")
    with shared(url):
        assert store.read("runs/one/record.json") == b"anew"


def test_what_was_written_here_is_sent_and_nothing_else_is_put_back(url):  # noqa: F811
    store = Store(url)
    for name in ("suite.json", "report.md"):
        store.write(name, b"as fetched")
    with shared(url) as folder:
        store.write("suite.json", b"of another command")
        (folder / "report.md").write_bytes(b"drawn again")
    assert store.read("suite.json") == b"of another command"
    assert store.read("report.md") == b"drawn again"

    def breaks() -> None:
        with shared(url) as folder:
            (folder / "serving.json").write_bytes(b"measured")
            raise UnfinishedError

    with pytest.raises(UnfinishedError):
        breaks()
    with shared(url):
        pass
    assert store.read("serving.json") == b"measured"


def test_where_one_run_is_carried_out_no_other_is_fetched_or_sent(url):  # noqa: F811
    store, folder = Store(url), open_copy(url, shared=True)
    for name in ("runs/one/record.json", "runs/another/record.json", "suite.json"):
        store.write(name, b"whole")
    with shared(url, "one"):
        assert [path.parent.name for path in folder.glob("runs/*/*")] == ["one"]
        assert not (folder / "suite.json").exists()
    store.remove(["runs/one/record.json"])
    for name in ("late", "later"):
        finish(RunFolder(folder, name))
    with shared(url, "late"):
        assert store.read("runs/late/record.json") == b"{}"
    assert store.listing("runs/later") == {}
    assert RunFolder(folder, "one").is_finished  # deleted in the store, which is asked of the run alone
    with shared(url, "one"):
        assert not (folder / "runs/one").exists()


# -------------------------------------------------------------------------------------------- prepared data


def prepared_at(url: str):  # noqa: F811
    return prepare_dataset("shortvideo", TINY, None, open_copy(url))


def test_prepared_data_are_made_once_and_fetched_elsewhere(url, monkeypatch, machine):  # noqa: F811
    made = prepared_at(url)
    elsewhere(machine / "other", monkeypatch)
    monkeypatch.setattr(pipeline, "_write", lambda *_: pytest.fail("made again"))
    found = prepared_at(url)
    assert found.fingerprint == made.fingerprint
    for name in [*made.manifest["files"], "manifest.json"]:
        assert (found.path / name).read_bytes() == (machine / made.path / name).read_bytes()
    monkeypatch.setattr(Store, "fetch", lambda *_: pytest.fail("fetched again"))
    prepared_at(url)


def test_a_planned_run_finds_its_data_in_the_store(url, monkeypatch, machine):  # noqa: F811
    made = prepared_at(url)
    elsewhere(machine / "other", monkeypatch)
    assert open_data(open_copy(url) / made.path.name, made.fingerprint).rows == made.rows
    with pytest.raises(InputError, match="no such prepared dataset"):
        open_data(open_copy(url) / "gone", made.fingerprint)


def test_prepared_data_that_were_altered_in_the_store_are_refused(url, monkeypatch, machine):  # noqa: F811
    made = prepared_at(url)
    name = f"{made.path.name}/users.parquet"
    store = Store(url)
    content = bytearray(store.read(name) or b"")
    content[len(content) // 2] ^= 1
    store.write(name, bytes(content))
    elsewhere(machine / "other", monkeypatch)
    with pytest.raises(InputError, match=r"users\.parquet: was changed .*--rebuild"):
        prepared_at(url)


def test_a_folder_without_its_manifest_counts_as_none(url, monkeypatch, machine):  # noqa: F811
    made = prepared_at(url)
    Store(url).remove([f"{made.path.name}/manifest.json"])
    elsewhere(machine / "other", monkeypatch)
    assert prepared_at(url).fingerprint == made.fingerprint
    assert f"{made.path.name}/manifest.json" in Store(url).listing()


# ------------------------------------------------------------------------------------------------ raw files


def test_raw_files_are_fetched_when_they_are_not_as_in_the_store(url, monkeypatch):  # noqa: F811
    store = Store(url)
    store.write("films/inside/u.data", b"1 2 3")
    store.write("films/inside/u.item", b"1|Heat")
    store.write("others/huge", b"x")
    root = open_copy(url)
    assert (find_folder("films", root, "inside", "u.data") / "u.item").read_bytes() == b"1|Heat"
    assert not (root / "others").exists()
    fetched: list[str] = []
    fetch = Store.fetch
    monkeypatch.setattr(
        Store, "fetch", lambda self, files, *rest: (fetched.extend(files), fetch(self, files))
    )
    find_folder("films", root, "inside", "u.data")
    store.write("films/inside/u.item", b"1|Heat (1995)")
    (root / "films/inside/u.data").unlink()
    folder = find_folder("films", root, "inside", "u.data")
    assert sorted(fetched) == ["films/inside/u.data", "films/inside/u.item"]
    assert (folder / "u.item").read_bytes() == b"1|Heat (1995)"
    with pytest.raises(InputError, match=r"u\.gone: no such file"):
        find_folder("films", root, "inside", "u.gone")


def test_progress_counts_the_bytes(url):  # noqa: F811
    store, told = Store(url), []
    for name, size in {"a": 300_000, "b": 5}.items():
        store.write(name, b"x" * size)
    store.fetch({"a": Path("here/a"), "b": Path("here/b")}, lambda *counts: told.append(counts))
    assert told[-1] == (300_005, 300_005)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_what_a_killed_download_left_is_removed_by_the_next(url):  # noqa: F811
    Store(url).write("a", b"whole")
    copy = copy_at(open_copy(url))
    assert copy is not None
    (copy.folder / ".fetching").mkdir()
    (copy.folder / ".fetching/a").write_bytes(b"wh")
    copy.fetch(copy.store.listing())
    assert (copy.folder / "a").read_bytes() == b"whole"
    assert not (copy.folder / ".fetching").exists()


# -------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("zz://bench/x", "the scheme zz:// is unknown"),
        ("s3://", "names no bucket"),
        ("s3:///", "names no bucket"),
        ("s3://no-such-bucket/x", "there is no such place .*make the bucket"),
        ("s3://bench/../x", "write the URL without"),
    ],
)
@pytest.mark.parametrize("shared", [True, False])
def test_a_url_that_cannot_be_used_is_refused_and_nothing_is_written(endpoint, machine, place, words, shared):  # noqa: F811
    with pytest.raises(InputError, match=f"^{place}: {words}"):
        open_copy(place, shared=shared)
    assert list(machine.iterdir()) == []


@pytest.mark.parametrize("shared", [True, False])
def test_a_store_that_gives_no_rights_says_so(endpoint, url, machine, shared):  # noqa: F811
    with without_rights(endpoint), pytest.raises(InputError, match=f"^{url}: the store gives no rights"):
        open_copy(url, shared=shared)
    assert list(machine.iterdir()) == []


def test_a_missing_package_is_named_with_the_command(monkeypatch):
    import fsspec

    def missing(*_: object, **__: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(InputError, match=r"pip install -c requirements/lock\.txt -e '\.\[s3\]'$"):
        Store("s3://bench/x")
    with pytest.raises(InputError, match="is not installed; Install s3fs"):
        Store("abfs://bench/x")


def test_a_store_that_fails_later_leaves_what_is_done(url, monkeypatch):  # noqa: F811
    store = Store(url)

    def fail(*_: object, **__: object) -> None:
        raise TimeoutError("no answer")

    monkeypatch.setattr(store._system, "pipe_file", fail)
    with pytest.raises(
        UnfinishedError, match=r"TimeoutError: no answer\); mend that and run the same command"
    ):
        store.write("a", b"")


def test_a_url_that_was_made_a_path_is_refused():
    with pytest.raises(InputError, match="a URL is no path"):
        is_url(Path("s3://bench/x"))
    assert not is_url(Path("/a/b:/c"))


def test_a_damaged_mark_is_named(url):  # noqa: F811
    folder = open_copy(url)
    (folder / ".store.json").write_text(json.dumps({"url": url}))
    with pytest.raises(InputError, match=r"\.store\.json: is damaged; delete it"):
        copy_at(folder)
    shutil.rmtree(folder)
    assert copy_at(folder) is None
