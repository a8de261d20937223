"""How fast preparation is: rows a second, memory and disk for a made-up table of 40 columns.

    python docs/preparation_speed.py make FOLDER --rows 1000000 [--shuffled] [--narrow] [--ids]
    python docs/preparation_speed.py prepare FOLDER [--staged]
    python docs/preparation_speed.py stage FOLDER [--ray-address local|auto|HOST:PORT]

``make`` writes ``table.parquet`` and ``schema.yaml``: a user, a time, a label, 24 categories (of 2 to
2,000,000 values, half of them text), 11 numbers and 2 histories of up to 10 items. ``--shuffled`` puts the
rows in no order of time; ``--narrow`` makes 8 categories, 2 numbers and a history; ``--ids`` adds two
categories of as many values as there are rows, of which 63% occur. ``prepare`` prepares the table below
``FOLDER/cache`` with the code in the current folder, and says the time, the CPU time, the largest memory
(RSS), and the largest disk space that the cache took meanwhile. For one core: ``POLARS_MAX_THREADS=1 taskset
-c 0 python ...``. ``stage`` stages the table with Ray Data as ``FOLDER/staged`` and says the same; memory and
CPU time are those of this process and of what it started, not of other machines. From that folder ``prepare
--staged`` goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import psutil
import pyarrow.parquet as pq

PIECE_ROWS = 250_000
SIZES = [2, 10, 100, 1_000, 10_000, 100_000, 500_000, 2_000_000]  # of the categories
MOST_ITEMS, NUM_ITEMS = 10, 100_000
DAY = 86_400


class Columns(NamedTuple):
    """How many columns of each kind a table has, beside a user, a time and a label."""

    categories: int
    numbers: int
    histories: int
    ids: int = 0


WIDE, NARROW = Columns(24, 11, 2), Columns(8, 2, 1)


def make(folder: Path, rows: int, shuffled: bool, columns: Columns) -> None:
    """Write the table and its schema, piece by piece; the same rows for the same arguments."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = None
    for start in range(0, rows, PIECE_ROWS):
        piece = _piece(start, min(PIECE_ROWS, rows - start), rows, shuffled, columns).to_arrow()
        writer = writer or pq.ParquetWriter(folder / "table.parquet", piece.schema, compression="zstd")
        writer.write_table(piece)
    assert writer is not None, "there is a row"
    writer.close()
    (folder / "schema.yaml").write_text(_schema(columns), encoding="utf-8")


def _piece(start: int, rows: int, all_rows: int, shuffled: bool, of: Columns) -> pl.DataFrame:
    rng = np.random.default_rng(start)
    places = rng.integers(0, all_rows, rows) if shuffled else np.arange(start, start + rows)
    columns: dict[str, pl.Series | np.ndarray] = {
        "user": _skewed(rng, max(all_rows // 20, 10), rows),
        "time": 1_700_000_000 + places * (30 * DAY) // all_rows,
        "label": rng.integers(0, 2, rows),
    }
    for number in range(of.categories):
        ids = _skewed(rng, SIZES[number % len(SIZES)], rows)
        columns[f"c{number}"] = "v" + pl.Series(ids).cast(pl.String) if number % 2 else ids
    for number in range(of.ids):
        columns[f"i{number}"] = rng.integers(0, all_rows, rows)
    for number in range(of.numbers):
        columns[f"n{number}"] = pl.Series(rng.gamma(2, 3, rows)).set(pl.Series(rng.random(rows) < 0.1), None)
    for number in range(of.histories):
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


def _schema(of: Columns) -> str:
    features = [f"  - {{name: c{number}, kind: categorical, group: item}}" for number in range(of.categories)]
    features += [f"  - {{name: i{number}, kind: categorical, group: item}}" for number in range(of.ids)]
    features += [f"  - {{name: n{number}, kind: numeric, group: context}}" for number in range(of.numbers)]
    features += [
        f"  - {{name: h{number}, kind: sequence, group: history, vocabulary: item, max_length: {MOST_ITEMS}}}"
        for number in range(of.histories)
    ]
    features += ["  - {name: user_id, column: user, kind: categorical, group: user}"]
    return "\n".join(["name: forty", "files: [table.parquet]", "features:", *features, "tasks:",
                      "  - {name: label}", "user_id: user", "time: time",
                      "split: {by: fraction, valid: 0.1, test: 0.1}", ""])  # fmt: skip


class _Watch(threading.Thread):
    """The largest memory of this process and its children, a folder's largest size, the children's CPU time.

    It looks ten times a second, and misses what a child does after the last look.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder, self.memory, self.disk, self.ended = folder, 0, 0, threading.Event()
        self.cpu_of_children: dict[int, float] = {}

    def run(self) -> None:
        this = psutil.Process()
        while not self.ended.wait(0.1):
            memory = this.memory_info().rss
            for child in this.children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    found = child.cpu_times()
                    self.cpu_of_children[child.pid] = found.user + found.system
                    memory += child.memory_info().rss
            self.memory = max(self.memory, memory)
            with contextlib.suppress(FileNotFoundError):  # a folder goes while it is walked
                self.disk = max(self.disk, sum(_size(path) for path in self.folder.rglob("*")))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def prepare(folder: Path, staged: bool) -> dict:
    """Prepare the table, or its staged folder, anew; the figures of that."""
    from datasets.catalog import prepare_dataset  # of the checkout that this is started in

    cache = folder / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    cache.mkdir()
    schema = folder / ("staged.yaml" if staged else "schema.yaml")
    prepared, figures = _measured(lambda: prepare_dataset(schema, {}, None, cache), cache)
    return _of_rows(figures, sum(prepared.rows.values())) | {
        "prepared_mb": _megabytes(prepared.path),
        "fingerprint": prepared.fingerprint[:12],
    }


def stage(folder: Path, ray_address: str) -> dict:
    """Stage the table with Ray Data anew; the figures of that."""
    from bench import stage as stage_with_ray  # of the checkout that this is started in

    shutil.rmtree(folder / "staged", ignore_errors=True)
    schema = folder / "schema.yaml"
    rows, figures = _measured(
        lambda: stage_with_ray(schema, folder / "staged", ray_address=ray_address), folder
    )
    (folder / "staged.yaml").write_text(
        schema.read_text(encoding="utf-8") + "staged: staged\n", encoding="utf-8"
    )
    return _of_rows(figures, sum(rows.values())) | {"staged_mb": _megabytes(folder / "staged")}


def _measured(work: Callable[[], Any], folder: Path) -> tuple[Any, dict]:
    """What ``work`` returns, and its wall and CPU seconds, largest memory, and growth of ``folder``."""
    before = _megabytes(folder)
    watch = _Watch(folder)
    watch.start()
    start = time.perf_counter()
    found = work()
    wall = time.perf_counter() - start
    watch.ended.set()
    watch.join()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu = usage.ru_utime + usage.ru_stime + sum(watch.cpu_of_children.values())
    return found, {
        "wall_s": round(wall, 1),
        "cpu_s": round(cpu, 1),
        "memory_mb": round(watch.memory / 1e6),
        "disk_mb": round(watch.disk / 1e6) - before,
    }


def _of_rows(figures: dict, rows: int) -> dict:
    speeds = {
        "rows_a_second": round(rows / figures["wall_s"]),
        "rows_a_cpu_second": round(rows / figures["cpu_s"]),
    }
    return {"rows": rows} | figures | speeds


def _megabytes(folder: Path) -> int:
    return round(sum(_size(path) for path in folder.rglob("*")) / 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("make", "prepare", "stage"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--shuffled", action="store_true")
    parser.add_argument("--narrow", action="store_true")
    parser.add_argument("--ids", action="store_true")
    parser.add_argument("--staged", action="store_true")
    parser.add_argument("--ray-address", default="local")
    chosen = parser.parse_args()
    sys.path.insert(0, os.getcwd())
    if chosen.what == "make":
        columns = (NARROW if chosen.narrow else WIDE)._replace(ids=2 * chosen.ids)
        make(chosen.folder, chosen.rows, chosen.shuffled, columns)
    elif chosen.what == "stage":
        print(json.dumps(stage(chosen.folder, chosen.ray_address)))
    else:
        print(json.dumps(prepare(chosen.folder, chosen.staged)))


if __name__ == "__main__":
    main()
