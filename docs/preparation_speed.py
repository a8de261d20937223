"""How fast preparation is: rows a second, memory and disk for a made-up table of 40 columns.

    python docs/preparation_speed.py make FOLDER --rows 1000000 [--shuffled]
    python docs/preparation_speed.py prepare FOLDER

``make`` writes ``table.parquet`` and ``schema.yaml``: a user, a time, a label, 24 categories (of 2 to
2,000,000 values, half of them text), 11 numbers and 2 histories of up to 10 items. ``--shuffled`` puts the
rows in no order of time. ``prepare`` prepares it below ``FOLDER/cache`` with the code in the current folder,
and says the time, the CPU time, the largest memory (RSS), and the largest disk space that the cache took
meanwhile. For one core: ``POLARS_MAX_THREADS=1 taskset -c 0 python ...``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sys
import threading
import time
from pathlib import Path

import numpy as np
import polars as pl
import psutil
import pyarrow.parquet as pq

PIECE_ROWS = 250_000
SIZES = [2, 10, 100, 1_000, 10_000, 100_000, 500_000, 2_000_000]  # of the categories, three of each
NUM_NUMBERS = 11
NUM_HISTORIES, MOST_ITEMS, NUM_ITEMS = 2, 10, 100_000
DAY = 86_400


def make(folder: Path, rows: int, shuffled: bool) -> None:
    """Write the table and its schema, piece by piece; the same rows for the same arguments."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = None
    for start in range(0, rows, PIECE_ROWS):
        piece = _piece(start, min(PIECE_ROWS, rows - start), rows, shuffled).to_arrow()
        writer = writer or pq.ParquetWriter(folder / "table.parquet", piece.schema, compression="zstd")
        writer.write_table(piece)
    assert writer is not None, "there is a row"
    writer.close()
    (folder / "schema.yaml").write_text(_schema(), encoding="utf-8")


def _piece(start: int, rows: int, all_rows: int, shuffled: bool) -> pl.DataFrame:
    rng = np.random.default_rng(start)
    places = rng.integers(0, all_rows, rows) if shuffled else np.arange(start, start + rows)
    columns: dict[str, pl.Series | np.ndarray] = {
        "user": _skewed(rng, max(all_rows // 20, 10), rows),
        "time": 1_700_000_000 + places * (30 * DAY) // all_rows,
        "label": rng.integers(0, 2, rows),
    }
    for number in range(3 * len(SIZES)):
        ids = _skewed(rng, SIZES[number % len(SIZES)], rows)
        columns[f"c{number}"] = "v" + pl.Series(ids).cast(pl.String) if number % 2 else ids
    for number in range(NUM_NUMBERS):
        columns[f"n{number}"] = pl.Series(rng.gamma(2, 3, rows)).set(pl.Series(rng.random(rows) < 0.1), None)
    for number in range(NUM_HISTORIES):
        lengths = rng.integers(0, MOST_ITEMS + 1, rows)
        items = pl.DataFrame({"row": np.repeat(np.arange(rows), lengths),
                              "item": _skewed(rng, NUM_ITEMS, int(lengths.sum()))})  # fmt: skip
        lists = items.group_by("row", maintain_order=True).agg("item")
        columns[f"h{number}"] = pl.DataFrame({"row": np.arange(rows)}).join(
            lists, on="row", how="left", maintain_order="left"
        )["item"]
    return pl.DataFrame(columns)


def _skewed(rng: np.random.Generator, size: int, rows: int) -> np.ndarray:
    """Ids below ``size``, low ones more often."""
    return (size * rng.random(rows) ** 3).astype(np.int64)


def _schema() -> str:
    features = [
        f"  - {{name: c{number}, kind: categorical, group: item}}" for number in range(3 * len(SIZES))
    ]
    features += [f"  - {{name: n{number}, kind: numeric, group: context}}" for number in range(NUM_NUMBERS)]
    features += [
        f"  - {{name: h{number}, kind: sequence, group: history, vocabulary: item, max_length: {MOST_ITEMS}}}"
        for number in range(NUM_HISTORIES)
    ]
    features += ["  - {name: user_id, column: user, kind: categorical, group: user}"]
    return "\n".join(["name: forty", "files: [table.parquet]", "features:", *features, "tasks:",
                      "  - {name: label}", "user_id: user", "time: time",
                      "split: {by: fraction, valid: 0.1, test: 0.1}", ""])  # fmt: skip


class _Watch(threading.Thread):
    """The largest memory of this process, and of a folder's files, looked at ten times a second."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder, self.memory, self.disk, self.ended = folder, 0, 0, threading.Event()

    def run(self) -> None:
        this = psutil.Process()
        while not self.ended.wait(0.1):
            self.memory = max(self.memory, this.memory_info().rss)
            self.disk = max(self.disk, sum(_size(path) for path in self.folder.rglob("*")))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def prepare(folder: Path) -> dict:
    """Prepare the table anew; the figures of that."""
    sys.path.insert(0, os.getcwd())
    from datasets.catalog import prepare_dataset  # of the checkout that this is started in

    cache = folder / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    cache.mkdir()
    watch = _Watch(cache)
    watch.start()
    start = time.perf_counter()
    prepared = prepare_dataset(folder / "schema.yaml", {}, None, cache)
    wall = time.perf_counter() - start
    watch.ended.set()
    watch.join()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu = usage.ru_utime + usage.ru_stime
    rows = sum(prepared.rows.values())
    return {
        "rows": rows,
        "wall_s": round(wall, 1),
        "cpu_s": round(cpu, 1),
        "rows_a_second": round(rows / wall),
        "rows_a_cpu_second": round(rows / cpu),
        "memory_mb": round(watch.memory / 1e6),
        "disk_mb": round(watch.disk / 1e6),
        "prepared_mb": round(sum(_size(path) for path in prepared.path.rglob("*")) / 1e6),
        "fingerprint": prepared.fingerprint[:12],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("make", "prepare"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--shuffled", action="store_true")
    chosen = parser.parse_args()
    if chosen.what == "make":
        make(chosen.folder, chosen.rows, chosen.shuffled)
    else:
        print(json.dumps(prepare(chosen.folder)))


if __name__ == "__main__":
    main()
