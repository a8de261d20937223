"""Ids without bound: each is hashed into one of a fixed number of buckets, and no vocabulary is kept.

The index of an id is ``FIRST_INDEX + h mod buckets``, where h is the number that the first 14 hexadecimal
digits of the SHA-256 of the id's text (UTF-8; integers in decimal) write. So it depends on nothing but the
id, in any language. Another ``hash_seed`` than 0 stands before the text, and a colon: two features of one
column with two seeds tell ids apart that share a bucket of one of them (double hashing, Zhang et al., RecSys
2020). Missing values keep index 0; index 1 (unseen) is not used.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from threading import Lock

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from datasets.prepare.split import SPLITS
from datasets.prepare.vocabulary import Vocabulary
from datasets.schema import FIRST_INDEX, Feature, Schema
from files.errors import InputError

HASH_BITS = 56  # 14 hexadecimal digits, which a signed 64-bit integer of any language or SQL holds
KEPT_IDS = 65_536  # the smallest hashes, a random sample of the ids; up to here, all of them
BYTES_A_BUCKET = 6


class Buckets:
    """One table of hashed ids, and what is known of the ids that it has encoded.

    Memory: 6 bytes a bucket, 8 for each of the KEPT_IDS, and a chunk's ids; however many ids there are.
    """

    def __init__(self, size: int, seed: int = 0) -> None:
        """``size`` buckets of the hash of ``seed``; InputError where they do not fit into memory."""
        self.size, self.seed = size, seed
        try:
            self._first_id = np.zeros(size, np.uint32)  # a check of the first id of each bucket, 0: none
            self.shared = np.zeros(size, np.bool_)  # whether a bucket holds several ids
            self.trained = np.zeros(size, np.bool_)  # whether training has it, known once shards are written
        except MemoryError:
            raise InputError(
                f"hash_buckets is {size:,}: preparation needs {BYTES_A_BUCKET} bytes for each, more than "
                "this machine has; choose fewer"
            ) from None
        self._kept = np.empty(0, np.uint64)
        self._noting = Lock()  # chunks are encoded by several threads, in any order

    def encode(self, values: pl.Series) -> pl.Series:
        """The Int32 index of every value, in order."""
        ids = values.drop_nulls().unique()
        hashes, checks = hashed(ids, self.seed)
        buckets = (hashes % np.uint64(self.size)).astype(np.int64)
        with self._noting:
            self._note(hashes, checks, buckets)
        index = pl.Series("index", FIRST_INDEX + buckets, dtype=pl.Int32)
        return Vocabulary(pl.DataFrame([ids.alias("value"), index])).encode(values)

    def _note(self, hashes: np.ndarray, checks: np.ndarray, buckets: np.ndarray) -> None:
        """Each id of a chunk once: hash, check and bucket, each (ids,)."""
        empty = self._first_id[buckets] == 0
        self._first_id[buckets[empty]] = checks[empty]  # of several ids of one bucket the last remains
        self.shared[buckets[self._first_id[buckets] != checks]] = True
        if len(self._kept) == KEPT_IDS:
            hashes = hashes[hashes < self._kept[-1]]
        self._kept = np.union1d(self._kept, hashes)[:KEPT_IDS]

    def facts(self) -> dict:
        """How many ids were encoded, and how many buckets they share."""
        return {
            "hash": formula(self.seed),
            "buckets": self.size,
            "used_buckets": int((self._first_id != 0).sum()),
            "ids": self._number_of_ids(),
            "ids_are_estimated": len(self._kept) == KEPT_IDS,
            "ids_sharing": self._share_of_ids(),
        }

    def _number_of_ids(self) -> int:
        """Exact below KEPT_IDS; else by the KEPT_IDS-th smallest hash, with a standard error of .4 %."""
        if len(self._kept) < KEPT_IDS:
            return len(self._kept)
        return round((KEPT_IDS - 1) * 2**HASH_BITS / int(self._kept[-1]))

    def _share_of_ids(self) -> float:
        """The share of the kept ids whose bucket holds another id, with a standard error of at most .002."""
        kept = (self._kept % np.uint64(self.size)).astype(np.int64)
        return float(self.shared[kept].mean()) if len(kept) else 0.0


def formula(seed: int = 0) -> str:
    """How an id's index is computed, as manifests state it."""
    text = "the id's UTF-8 text; integers in decimal"
    hashed_text = f"'{seed}:' + {text}" if seed else text
    return f"2 + int(first 14 hex digits of sha256({hashed_text}), 16) % hash_buckets"


def hashed(ids: pl.Series, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Of each id (Int64 or text) the hash, (ids,) uint64 below 2**56, and a uint32 of other bits, never 0."""
    texts = _with_seed(ids.cast(pl.String), seed).cast(pl.Binary).to_list()
    digests = b"".join([hashlib.sha256(text).digest()[:12] for text in texts])
    parts = np.frombuffer(digests, np.dtype([("hash", ">u8"), ("check", ">u4")]))
    return parts["hash"].astype(np.uint64) >> np.uint64(64 - HASH_BITS), np.maximum(
        parts["check"].astype(np.uint32), 1
    )


def _with_seed(texts: pl.Series, seed: int) -> pl.Series:
    return f"{seed}:" + texts if seed else texts


def count_buckets(
    schema: Schema, tables: dict[str, Buckets], shards: dict[str, list[dict]], folder: Path
) -> tuple[dict[str, dict], dict[str, dict[str, int]]]:
    """By table what fell into which bucket, and by split and feature the elements new to training.

    These are the elements in a bucket that training never met. ``shards`` (file, rows) are those written,
    by split; one hashed feature at a time is read again, shard by shard.
    """
    elements, sharing = dict.fromkeys(tables, 0), dict.fromkeys(tables, 0)
    unseen: dict[str, dict[str, int]] = {split: {} for split in SPLITS}
    features = [feature for feature in schema.sparse_features if feature.table in tables]
    for split in SPLITS:  # training first
        for feature in features:
            table = tables[feature.table]
            unseen[split][feature.name] = 0
            for shard in shards[split]:
                buckets = _buckets(folder / shard["file"], feature)
                if split == "train":
                    table.trained[buckets] = True
                unseen[split][feature.name] += int((~table.trained[buckets]).sum())
                elements[feature.table] += len(buckets)
                sharing[feature.table] += int(table.shared[buckets].sum())
    found = {
        name: table.facts() | {"elements_sharing": sharing[name] / max(elements[name], 1)}
        for name, table in tables.items()
    }
    return found, unseen


def _buckets(file: Path, feature: Feature) -> np.ndarray:
    """The buckets of a shard's elements, without missing ones: (elements,)."""
    column = pq.read_table(file, columns=[feature.name])[feature.name].combine_chunks()
    indices = (column.flatten() if feature.is_list else column).to_numpy()
    return indices[indices >= FIRST_INDEX] - FIRST_INDEX
