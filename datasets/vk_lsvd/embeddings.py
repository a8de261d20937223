"""Content embeddings of VK-LSVD's videos, read where they lie: the file is larger than memory may be."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
import polars as pl

from datasets.prepare.folder import is_full_disk
from datasets.streamed.blocks import places
from datasets.vk_lsvd.schema import EMBEDDING_LENGTH
from files.errors import InputError

IDS, VECTORS = "item_id.npy", "embedding.npy"


class Embeddings:
    """The first ``length`` numbers of the embeddings of the videos ``items`` (I,), unpacked in ``scratch``.

    The archive holds ``item_id`` (n,) and ``embedding`` (n, 64). Raises InputError where it does not or is
    damaged, and OSError on a full disk.
    """

    def __init__(self, path: Path, items: np.ndarray, length: int, scratch: Path) -> None:
        self._length = length
        try:
            with zipfile.ZipFile(path) as archive:
                ids, self._vectors = (
                    np.load(archive.extract(name, scratch), mmap_mode="r") for name in (IDS, VECTORS)
                )
        except (
            OSError,
            KeyError,
            ValueError,
            RuntimeError,
            EOFError,
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            if is_full_disk(error):
                raise
            raise _unreadable(path, (str(error).splitlines() or ["it ends early"])[0]) from None
        shape, kind = self._vectors.shape, self._vectors.dtype
        if shape != (len(ids), EMBEDDING_LENGTH) or kind.kind != "f":
            raise _unreadable(path, f"embedding has shape {shape} and type {kind}")
        order = np.argsort(ids)
        place = places(np.asarray(ids, np.int64)[order], items)
        self._row = np.where(place >= 0, order[place], -1) if len(ids) else place
        self.num_missing = int((self._row < 0).sum())

    def of(self, item: np.ndarray) -> pl.Series:
        """One list of numbers for each video by its place in ``items``, (N,); null where it has none."""
        row = self._row[item]
        if not len(self._vectors):
            return pl.Series([None] * len(row), dtype=pl.Array(pl.Float32, self._length))
        vectors = pl.Series("embedding", self._vectors[row, : self._length].astype(np.float32))
        known = pl.Series("known", row >= 0)
        return pl.DataFrame([vectors, known]).select(pl.when("known").then("embedding")).to_series()


def _unreadable(path: Path, reason: str) -> InputError:
    return InputError(
        f"{path}: cannot be read as item_id and embedding of {EMBEDDING_LENGTH} numbers ({reason}); "
        "remove the file and fetch it again, or leave it out with embedding_length=0"
    )
