"""Work on several cores ends as work on one."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from datasets.prepare import encode, learn, stage, threads
from datasets.prepare import pipeline as prepare_module
from datasets.prepare.pipeline import prepare
from datasets.prepare.threads import in_order, workers_for
from files.verified import VERIFIED_FILE
from tests.datasets.conftest import EXAMPLE_SCHEMA, example_rows, example_source


def test_results_come_in_the_order_of_the_items_though_the_first_takes_longest():
    def work(number: int) -> int:
        time.sleep(0.02 if number == 0 else 0)
        return number * number

    assert list(in_order(work, range(20), workers=4)) == [number * number for number in range(20)]


def test_no_more_items_are_taken_than_are_worked_on():
    taken: list[int] = []
    results = in_order(abs, (taken.append(number) or number for number in range(50)), workers=3)
    assert next(results) == 0
    assert len(taken) == 4
    results.close()


def test_the_first_of_several_errors_is_the_one_that_is_raised():
    def work(number: int) -> None:
        time.sleep(0.02 if number == 3 else 0)
        if number >= 3:
            raise ValueError(f"row {number}")

    with pytest.raises(ValueError, match="row 3"):
        list(in_order(work, range(20), workers=8))


def test_as_many_runs_at_once_as_half_of_the_free_memory_holds(tmp_path, monkeypatch):
    import pyarrow as pa

    run = tmp_path / "run.parquet"
    pq.write_table(pa.table({"a": np.random.default_rng(0).random(100_000)}), run, use_dictionary=False)
    monkeypatch.setattr(threads, "usable_cores", lambda: 64)
    monkeypatch.setattr(threads, "free_memory", lambda: 2 * 5 * threads.MEMORY_A_BYTE * 810_000)
    assert workers_for([run]) == 5
    assert workers_for([run], rows_at_once=250_000) == 2
    monkeypatch.setattr(threads, "free_memory", lambda: 1000)
    assert workers_for([run]) == 1
    monkeypatch.setattr(threads, "free_memory", lambda: 10**15)
    assert workers_for([run]) == 64


def written(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != VERIFIED_FILE)
    return {path.name: path.read_bytes() for path in files}


HASHED = [
    {**feature, "hash_buckets": 11} if feature["name"] == "city" else feature
    for feature in EXAMPLE_SCHEMA["features"]  # type: ignore[attr-defined]
]


@pytest.mark.parametrize("changes", [{}, {"user_id": None}], ids=["users", "no users"])
def test_how_many_cores_work_changes_no_byte(tiny_steps, tmp_path, monkeypatch, changes):
    source = example_source(example_rows(400), features=HASHED, **changes)
    found = []
    for workers in (1, 5):
        for module in (stage, learn, encode):
            monkeypatch.setattr(module, "workers_for", lambda *_, workers=workers: workers)
        found.append(written(prepare(source, tmp_path / str(workers)).path))
    assert found[0] == found[1]


def test_what_is_staged_is_removed_before_the_next_copy_is_written(tiny_steps, tmp_path, monkeypatch):
    left = []
    for name in ("learn", "count_buckets"):
        whole = getattr(prepare_module, name)

        def looked(*arguments, whole=whole):
            scratch = next(tmp_path.glob(".prepared.*.partial")) / "scratch"
            left.append({path.name.partition("-")[0] for path in scratch.rglob("*")})
            return whole(*arguments)

        monkeypatch.setattr(prepare_module, name, looked)
    prepare(example_source(example_rows(400)), tmp_path / "prepared")
    assert left == [{"run"}, set()]
