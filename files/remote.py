"""Folders in object stores such as S3, named by a URL and reached through fsspec.

An object is there whole or not at all, so nothing here writes half a file. What a store refuses is an
InputError where the user has to mend it, and else an UnfinishedError.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from files.errors import InputError, UnfinishedError

Progress = Callable[[int, int | None], None]  # bytes so far, bytes in total
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
LOCAL = "file://"
_INSTALL_S3 = "pip install -c requirements/lock.txt -e '.[s3]'"
_CHANGING = ("ETag", "etag", "md5Hash", "mtime", "created")  # with an object's content, in several stores
_NO_RIGHTS = (401, 403)
_MET = {"409", "412", "ConditionalRequestConflict", "PreconditionFailed"}  # of S3 and of Google's store


def is_url(place: Path | str) -> bool:
    """Whether it names a place in a store, and neither a path nor a local file:// URL.

    Raises InputError for a URL that was made a Path, which drops one of its slashes.

    >>> is_url("s3://bucket/out"), is_url("out/table1"), is_url("file:///out"), is_url(Path("/out"))
    (True, False, False, False)
    """
    if isinstance(place, Path) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(place)):
        raise InputError(f"{place}: a URL is no path; give it as text, with its two slashes")
    return isinstance(place, str) and _URL.match(place) is not None and not place.startswith(LOCAL)


class Store:
    """A folder in a store; ``url`` names it. Names of files are relative to it."""

    def __init__(self, url: str) -> None:
        """InputError where the URL's scheme is unknown or lacks its package."""
        if not url.partition("://")[2].strip("/"):
            raise InputError(f"{url}: names no bucket; write it as s3://BUCKET/FOLDER")
        self.url = url.rstrip("/")
        self._system, root = _system_of(self.url)
        self._root = root.rstrip("/")

    def listing(self, below: str = "") -> dict[str, str]:
        """What changes with the content of each file, by its name: all files, or those of one folder."""
        with self._in_words():
            self._system.invalidate_cache()
            found = self._system.find(self._path(below), detail=True)
        return {
            path.removeprefix(f"{self._root}/"): str(next(filter(None, map(info.get, _CHANGING)), ""))
            for path, info in found.items()
            if info["type"] == "file"  # where a folder is made just now, s3fs finds the folder itself
        }

    def read(self, name: str) -> bytes | None:
        """A file's content; None where there is no such file."""
        with self._in_words():
            try:
                return self._system.cat_file(self._path(name))
            except FileNotFoundError as error:
                if type(error.__cause__).__name__ == "NoSuchBucket":
                    raise
                return None

    def write(self, name: str, content: bytes) -> None:
        with self._in_words():
            self._system.pipe_file(self._path(name), content)

    def create(self, name: str, content: bytes) -> bool:
        """Write a file where there is none; False where there is one.

        One of several processes is given True, in a store that can do so (`creates_once`).
        """
        with self._in_words():
            try:
                self._system.pipe_file(self._path(name), content, mode="create")
            except Exception as error:
                if not _is_met(error):
                    raise
                return False
        return True

    def creates_once(self, name: str) -> bool:
        """Whether `create` keeps what is there: tried with the file ``name``, which is removed."""
        self.write(name, b"")
        try:
            return not self.create(name, b"")
        except UnfinishedError:  # a store that knows no conditions says so in words of its own
            return False
        finally:
            self.remove([name])

    def fetch(self, files: Mapping[str, Path], progress: Progress | None = None) -> None:
        """Download each file to its local path."""
        for path in files.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        if files:
            with self._in_words():
                self._system.get(
                    [self._path(name) for name in files],
                    [str(path) for path in files.values()],
                    **({"callback": _counting(progress)} if progress else {}),
                )

    def send(self, files: Mapping[str, Path]) -> None:
        """Upload local files under these names."""
        if files:
            with self._in_words():
                self._system.put([str(path) for path in files.values()], [self._path(name) for name in files])

    def remove(self, names: Sequence[str]) -> None:
        if names:
            with self._in_words():
                self._system.rm([self._path(name) for name in names])

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise _in_words(self.url, error) from error


def _system_of(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the folder's path in it."""
    import fsspec

    scheme = url.partition("://")[0]
    try:
        return fsspec.core.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        mend = _INSTALL_S3 if scheme in ("s3", "s3a") else str(error)
        raise InputError(f"{url}: a package for {scheme}:// is not installed; {mend}") from None
    except ValueError:
        raise InputError(f"{url}: the scheme {scheme}:// is unknown; give s3://, gs:// or a folder") from None


def _in_words(url: str, error: Exception) -> InputError | UnfinishedError:
    said = " ".join(str(error).split())
    status = getattr(error, "code", None)  # of gcsfs
    if isinstance(error, PermissionError) or status in _NO_RIGHTS:
        return InputError(
            f"{url}: the store gives no rights for this ({said}); allow it, or give another URL"
        )
    if "Credentials" in type(error).__name__:
        return InputError(f"{url}: there are no credentials ({said}); set them, as in AWS_PROFILE")
    if isinstance(error, FileNotFoundError):
        return InputError(f"{url}: there is no such place ({said}); make the bucket, or give another URL")
    return UnfinishedError(
        f"{url}: the store fails ({type(error).__name__}: {said}); mend that and run the same command again"
    )


def _is_met(error: Exception) -> bool:
    """Whether a conditional write found a file there, or another such write under way."""
    response = getattr(error.__cause__, "response", None) or {}
    codes = {str(getattr(error, "code", "")), str(response.get("Error", {}).get("Code", ""))}
    return isinstance(error, FileExistsError) or not codes.isdisjoint(_MET)


def _counting(progress: Progress) -> Any:
    """fsspec's callback of a download of several files, which tells ``progress`` of their bytes."""
    from fsspec.callbacks import Callback

    done = total = 0

    class OneFile(Callback):
        def set_size(self, size: int | None) -> None:
            nonlocal total
            total += size or 0

        def relative_update(self, inc: int = 1) -> None:
            nonlocal done
            done += inc
            progress(done, total)

    class AllFiles(Callback):
        def branched(self, path_1: str, path_2: str, **kwargs: Any) -> Callback:
            return OneFile()

    return AllFiles()
