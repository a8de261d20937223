"""The merge of sorted runs, against a stable sort of the whole table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from datasets.prepare import order as prepare_order
from datasets.prepare.order import Order, source_order, time_at, time_order, write_run


def write_runs(folder: Path, times: list[np.ndarray]) -> tuple[list[Path], pl.DataFrame]:
    """Each run as a file, sorted, and all rows in the order in which they are in the runs."""
    files, tables, rows = [], [], 0
    for number, found in enumerate(times):
        table = pl.DataFrame({"@time": np.sort(found), "row": np.arange(rows, rows + len(found))})
        files.append(folder / f"run-{number:06d}.parquet")
        write_run(table, files[-1])
        tables.append(table)
        rows += len(found)
    return files, pl.concat(tables)


def read(order: Order, least_rows: int = 1) -> pl.DataFrame:
    tables = []
    for span in order.spans(least_rows):
        tables.append(order.read(span))
        order.remove(span)
    return pl.concat(tables)


def random_runs(kind: str, runs: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    found = [rng.integers(0, 40, 23) for _ in range(runs)]
    if kind == "floats":
        return [times / 7 for times in found]
    if kind == "one time":
        return [times * 0 for times in found]
    if kind == "in order":
        return [np.sort(times) + 35 * number for number, times in enumerate(found)]
    return found


KINDS = ("shuffled", "floats", "one time", "in order")


@pytest.mark.parametrize("kind", KINDS)
def test_merged_runs_are_the_stable_order_by_time_and_leave_no_file(tiny_steps, tmp_path, kind):
    files, table = write_runs(tmp_path, random_runs(kind, 14, seed=1))
    order = time_order(files)
    expected = table.sort("@time", maintain_order=True)
    assert read(order, 50 if kind == "floats" else 1).equals(expected)
    assert list(tmp_path.iterdir()) == []


def test_runs_out_of_order_are_merged_until_a_chunk_opens_few(tiny_steps, tmp_path, monkeypatch):
    files, _ = write_runs(tmp_path, random_runs("shuffled", 29, seed=2))
    written, write = [], prepare_order.write_run

    def counted(rows: pl.DataFrame, file: Path) -> None:
        written.append(len(rows))
        write(rows, file)

    monkeypatch.setattr(prepare_order, "write_run", counted)
    order = time_order(files)
    assert max(map(len, order.chunks)) <= 3
    # 29 runs become 10, 4 and 2; a last one without neighbours stays as it is.
    assert sum(written) in range(2 * 29 * 23, 3 * 29 * 23 + 1)
    assert not any(file.exists() for file in files[:27])


def test_files_in_order_are_not_merged(tiny_steps, tmp_path, monkeypatch):
    files, _ = write_runs(tmp_path, random_runs("in order", 29, seed=3))
    monkeypatch.setattr(prepare_order, "write_run", None)
    assert [run.files for run in time_order(files).runs] == [[file] for file in files]


def test_a_table_without_time_keeps_its_order(tiny_steps, tmp_path):
    files, table = write_runs(tmp_path, random_runs("shuffled", 5, seed=4))
    assert read(source_order(files), 50).equals(table)


@pytest.mark.parametrize("kind", KINDS)
def test_the_time_at_every_position_is_that_of_the_sorted_times(tiny_steps, tmp_path, kind):
    times = random_runs(kind, 7, seed=5)
    files, _ = write_runs(tmp_path, times)
    expected = np.sort(np.concatenate(times)).tolist()
    positions = [0, 1, *range(5, len(expected), 19), len(expected) - 1]
    assert [time_at(files, position) for position in positions] == [expected[place] for place in positions]
