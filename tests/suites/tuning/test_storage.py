"""Opening the database of studies: what cannot be used is said in a sentence, by the mend, with no secret."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
from optuna.exceptions import StorageInternalError

from datasets.prepare.folder import is_full_disk
from files.errors import InputError
from suites.tuning import storage as module
from suites.tuning.storage import database_problem, heartbeat, open_storage


def refused(url: str) -> str:
    with pytest.raises(InputError) as caught:
        open_storage(url)
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def execute(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)


def test_workers_that_begin_at_the_same_moment_all_open_it(tmp_path):
    url, workers = f"sqlite:///{tmp_path}/new/folder/tune.db", 8
    together = threading.Barrier(workers)

    def opened(_: int) -> list:
        together.wait()
        return open_storage(url).get_all_studies()

    with ThreadPoolExecutor(workers) as pool:
        assert list(pool.map(opened, range(workers))) == [[]] * workers


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense", "is no URL of a database; give a URL such as sqlite:///tune.db"),
        ("postgresql://me:s3cret@host:port/x", "is no URL of a database"),
        ("sqlite://", "in memory is lost at the end"),
        ("sqlite:///", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite+pysqlite:///:memory:", "in memory"),
        ("sqlite:///file::memory:?cache=shared&uri=true", "in memory"),
        ("sqlite:///file:x?mode=memory&uri=true", "in memory"),
        ("sqlite:///file:{folder}/tune.db?mode=ro&uri=true", "cannot be opened"),
        ("sqlite:///{folder}", "is a folder; name a file in it, such as {folder}/tune.db"),
        ("sqlite:////proc/nowhere/tune.db", "the folder /proc/nowhere cannot be made"),
        ("sqlite:///{folder}/text?password=s3cret", "no SQLite database"),
        ("sqlite:///{folder}/text/tune.db", "cannot be made"),
        ("sqlite:///{folder}/other.db", "holds the tables of another program; name a database of its own"),
        ("nosuch://me:s3cret@host/x", "SQLAlchemy knows no database 'nosuch'"),
        ("oracle+cx_oracle://me:s3cret@host/x", "driver 'cx_Oracle' is not installed; install it with pip"),
        ("mysql+mysqldb://me:s3cret@host/x?read_default_file=x", "driver 'MySQLdb' is not installed"),
    ],
)
def test_what_cannot_be_used_is_refused_by_the_mend(tmp_path, url, words):
    (tmp_path / "text").write_text(
        "a note of 100 letters or more, which no program would take for its data " * 9
    )
    execute(tmp_path / "other.db", "CREATE TABLE places (id INTEGER)")
    message = refused(url.replace("{folder}", str(tmp_path)))
    assert words.replace("{folder}", str(tmp_path)) in message
    assert {path.name for path in tmp_path.iterdir()} == {"text", "other.db"}
    with sqlite3.connect(tmp_path / "other.db") as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("places",)]


@pytest.mark.parametrize(
    ("version", "mend"),
    [("v3.0.0.d", "`optuna storage upgrade --storage URL` renews it"), ("v99.0.0.a", "install that version")],
)
def test_a_database_of_another_optuna_is_refused_and_stays_as_it_is(tmp_path, version, mend):
    path = tmp_path / "tune.db"
    open_storage(f"sqlite:///{path}")
    execute(path, "DROP TABLE trial_heartbeats", f"UPDATE alembic_version SET version_num = '{version}'")
    before = path.read_bytes()
    message = refused(f"sqlite:///{path}")
    assert f"another version of Optuna than the {optuna.__version__} here; {mend}" in message
    assert path.read_bytes() == before


def test_a_database_that_another_program_locks_is_said_to_be(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "OPENING_SECONDS", 0.1)
    path = tmp_path / "tune.db"
    open_storage(f"sqlite:///{path}")
    with sqlite3.connect(path, isolation_level=None) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        assert "another program keeps the file locked" in refused(f"sqlite:///{path}")


def test_a_read_only_database_is_said_to_be(tmp_path):
    open_storage(f"sqlite:///{tmp_path}/tune.db")
    message = refused(f"sqlite:///file:{tmp_path}/tune.db?mode=ro&uri=true")
    assert "the file cannot be written to; allow it, or name another file" in message


def test_a_full_disk_is_called_full(tmp_path):
    path = tmp_path / "tune.db"
    storage = open_storage(f"sqlite:///{path}")
    with storage.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")
        with pytest.raises(module.DatabaseErrors) as caught:
            connection.exec_driver_sql("CREATE TABLE more AS SELECT hex(randomblob(100000))")
    problem = database_problem(caught.value, f"sqlite:///{path}")
    assert "no space left on the disk" in str(problem)
    assert is_full_disk(problem)


def test_a_disk_that_is_full_from_the_beginning_is_called_full(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_connected", lambda *_, **__: (_ for _ in ()).throw(StorageInternalError))
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=4096))
    with pytest.raises(InputError, match="no space left on the disk") as caught:
        open_storage(f"sqlite:///{tmp_path}/tune.db")
    assert is_full_disk(caught.value)


def test_braces_in_a_url_are_a_part_of_it(tmp_path):
    open_storage(f"sqlite:///{tmp_path}/{{a}}.db")
    assert (tmp_path / "{a}.db").is_file()


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_trial_within_its_heartbeat_is_no_stale_one_and_one_without_is(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 1)
    monkeypatch.setattr(module, "GRACE_SECONDS", 2)
    storage = open_storage(f"sqlite:///{tmp_path}/tune.db")
    study = optuna.create_study(storage=storage, study_name="s")
    study_id = storage.get_study_id_from_name("s")
    alive, dead = (storage.create_new_trial(study_id) for _ in range(2))
    with heartbeat(storage, dead):
        pass
    with heartbeat(storage, alive):
        threading.Event().wait(4.5)
        optuna.storages.fail_stale_trials(study)
        states = {trial.number: trial.state.name for trial in study.trials}
    assert states == {0: "RUNNING", 1: "FAIL"}
