"""The database that processes share while they tune: opened, or refused in a sentence before any work."""

from __future__ import annotations

import contextlib
import errno
import logging
import shutil
import threading
import time
import warnings
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage, fail_stale_trials
from optuna.trial import TrialState
from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from harness.data import InputError
from suites.tuning.claims import BEGUN
from suites.tuning.masking import masked, masked_url

HEARTBEAT_SECONDS, GRACE_SECONDS = 15, 120
WAIT_SECONDS = 60  # for another process's write to an SQLite file
OPENING_SECONDS = 20  # the same, before work begins
REOPEN_SECONDS = 0.3
FULL_BYTES = 1 << 16  # SQLite cannot begin a write with less
EXAMPLES = "give a URL such as sqlite:///tune.db or postgresql://user@host/name"
DatabaseErrors = (StorageInternalError, SQLAlchemyError)

# What SQLite says of a file, in words that name the mend.
_OF_SQLITE = {
    "not a database": "the file is no SQLite database; name another one, or a new one",
    "malformed": "the file is damaged; restore it from a copy, or name a new one",
    "locked": "another program keeps the file locked; close that program, or name another file",
    "readonly": "the file cannot be written to; allow it, or name another file",
    "unable to open": "the file cannot be opened; allow this user to read and write it and its folder",
}


def open_storage(url: str) -> RDBStorage:
    """The database of studies, its tables made if it is new.

    Raises InputError where ``url`` cannot be used: it is no URL or lies in memory, its driver is missing,
    the server does not answer, the file is locked, damaged or cannot be written to, another version of
    Optuna or another program made it.
    """
    optuna.logging.set_verbosity(logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # heartbeats
    shown = f"--storage {masked_url(url)}"
    parsed = _parsed(url, shown)
    if parsed.get_backend_name() == "sqlite":
        _check_place(parsed, shown)
    try:
        tables = _tables(parsed)
        _check_owner(tables, parsed, shown)
        return _connected(url, parsed, is_made="alembic_version" in tables)
    except (ImportError, NoSuchModuleError) as error:
        raise InputError(_missing_driver(error, parsed, shown)) from None
    except RuntimeError as error:
        if "table schema" not in str(error):
            raise
        raise InputError(_other_version(error, shown)) from None
    except DatabaseErrors as error:
        problem = database_problem(error, url)
        raise problem from problem.__cause__
    except (TypeError, ValueError) as error:  # a driver's, of a field it does not know
        raise InputError(f"{shown}: cannot be used ({masked(str(error), url)}); {EXAMPLES}") from None


def database_problem(error: BaseException, url: str) -> InputError:
    """The error to raise for one of `DatabaseErrors`; a full disk is its cause where that is behind it."""
    shown = f"--storage {masked_url(url)}"
    cause = error.__cause__ or error
    told = str(getattr(cause, "orig", None) or cause).strip()
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        folder = Path(parsed.database or "").parent
        if "disk is full" in told or (folder.is_dir() and shutil.disk_usage(folder).free < FULL_BYTES):
            problem = InputError(
                f"{shown}: no space left on the disk; free some and run the same command again, which goes on"
            )
            problem.__cause__ = OSError(errno.ENOSPC, "No space left on device")
            return problem
        for words, mend in _OF_SQLITE.items():
            if words in told:
                return InputError(f"{shown}: {mend}")
    first = masked(told.partition("\n")[0], url) or type(cause).__name__
    return InputError(f"{shown}: the database refuses ({first}); check that it runs, its name and its user")


def _parsed(url: str, shown: str) -> URL:
    try:
        parsed = make_url(url)
        backend, database = parsed.get_backend_name(), parsed.database or ""
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise InputError(f"{shown}: is no URL of a database; {EXAMPLES}") from None
    in_memory = not database or ":memory:" in database or parsed.query.get("mode") == "memory"
    if backend == "sqlite" and in_memory:
        raise InputError(
            f"{shown}: a database in memory is lost at the end and cannot be shared; "
            "name a file, such as sqlite:///tune.db"
        )
    return parsed


def _check_place(parsed: URL, shown: str) -> None:
    """Make the folder of an SQLite file; InputError where the file cannot be there."""
    path = Path(parsed.database or "")
    if str(path).startswith("file:"):
        return  # SQLite's own notation, which names no plain path
    if path.is_dir():
        raise InputError(f"{shown}: {path} is a folder; name a file in it, such as {path / 'tune.db'}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{shown}: the folder {path.parent} cannot be made ({error.strerror}); name another file"
        ) from error


def _tables(parsed: URL) -> set[str]:
    """What the database holds, seen by a connection of its own that also tries whether it may write."""
    is_sqlite = parsed.get_backend_name() == "sqlite"
    engine = create_engine(parsed, connect_args={"timeout": OPENING_SECONDS} if is_sqlite else {})
    try:
        with engine.connect() as connection:
            tables = set(inspect(connection).get_table_names())
            if is_sqlite:  # which finds out that a file may not be written to when it writes
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                connection.exec_driver_sql("CREATE TABLE may_write (x INTEGER)")
                connection.rollback()
            return tables
    finally:
        engine.dispose()


def _check_owner(tables: set[str], parsed: URL, shown: str) -> None:
    """InputError where the tables are another program's and Optuna's would get in their way."""
    is_optunas = bool(tables & {"studies", "version_info"})
    if tables and not is_optunas and (parsed.get_backend_name() == "sqlite" or "alembic_version" in tables):
        raise InputError(f"{shown}: holds the tables of another program; name a database of its own")


def _connected(url: str, parsed: URL, is_made: bool, attempts: int = 5) -> RDBStorage:
    is_sqlite = parsed.get_backend_name() == "sqlite"
    try:
        return RDBStorage(
            url.replace("{", "{{").replace("}", "}}"),  # Optuna fills in what stands in braces
            engine_kwargs={"connect_args": {"timeout": WAIT_SECONDS}} if is_sqlite else None,
            heartbeat_interval=HEARTBEAT_SECONDS,
            grace_period=GRACE_SECONDS,
            skip_table_creation=is_made,
        )
    except DatabaseErrors:
        if attempts == 1:
            raise
        time.sleep(REOPEN_SECONDS)  # another process may be making the same tables
        return _connected(url, parsed, is_made, attempts - 1)


def _missing_driver(error: Exception, parsed: URL, shown: str) -> str:
    if isinstance(error, NoSuchModuleError):
        return f"{shown}: SQLAlchemy knows no database {parsed.drivername!r}; {EXAMPLES}"
    missing = getattr(error.__cause__ or error, "name", None) or parsed.drivername
    return f"{shown}: the driver {missing!r} is not installed; install it with pip, or use sqlite:///tune.db"


def _other_version(error: RuntimeError, shown: str) -> str:
    is_older = "storage upgrade" in str(error)
    mend = "`optuna storage upgrade --storage URL` renews it" if is_older else "install that version"
    return (
        f"{shown}: was made by another version of Optuna than the {optuna.__version__} here; "
        f"{mend}, or name another database"
    )


@contextlib.contextmanager
def heartbeat(storage: RDBStorage, trial_id: int) -> Iterator[None]:
    """Tell the other processes that the trial's process lives, from before the first statement inside."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(HEARTBEAT_SECONDS):
            # A beat that is missed does no harm before GRACE_SECONDS are over.
            with contextlib.suppress(*DatabaseErrors):
                storage.record_heartbeat(trial_id)
        storage.remove_session()

    storage.record_heartbeat(trial_id)
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def fail_dead_trials(study: optuna.Study) -> None:
    """Give up the trials of processes that died: their heartbeat stopped, or they did not live to begin."""
    fail_stale_trials(study)
    latest = datetime.now() - timedelta(seconds=GRACE_SECONDS)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if BEGUN not in trial.user_attrs and (trial.datetime_start or latest) < latest:
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
