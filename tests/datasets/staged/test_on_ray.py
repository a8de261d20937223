"""Folders that Ray Data stages: the bytes that one machine makes of the same files, and what is refused.

``make test-ray`` starts a cluster of one node; ``make test`` skips those tests.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest
import yaml

import bench
from datasets.prepare import stage as prepare_stage
from datasets.schema import Schema
from datasets.staged import on_ray
from datasets.staged.on_ray import stage_on_ray
from files.errors import InputError, UnfinishedError
from tests.datasets.conftest import EXAMPLE_SCHEMA, example_frame
from tests.datasets.staged.conftest import use_staged, write_raw
from tests.datasets.staged.test_ready import contents, prepared

FEW_ROWS = 23  # of a run


@pytest.fixture(scope="module")
def node() -> Iterator[None]:
    """A cluster of one node, which this process has joined."""
    if find_spec("ray") is None or "TEST_RAY" not in os.environ:
        pytest.skip("SKIPPED: no Ray cluster is started; `make test-ray` does, for a minute")
    from harness.workers.ray_cluster import connected

    with connected("local", {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}, 200 * 2**20):
        yield


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of a few rows, so that a small table has several of them."""
    monkeypatch.setattr(on_ray, "RUN_ROWS", FEW_ROWS)
    monkeypatch.setattr(prepare_stage, "RUN_ROWS", FEW_ROWS)


def killed_once(item: dict, schema: Schema, code: pl.Expr) -> dict:
    """As the task that it stands for, whose process dies the first time."""
    killed = Path(item["run"]).parents[2] / "killed"
    if not killed.exists():
        killed.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return on_ray._moments_of_run(item, schema, code)


def test_a_table_that_ray_stages_prepares_to_the_bytes_of_one_machine_though_a_task_is_killed(
    tmp_path, rows, node, few_rows, monkeypatch
):
    schema_file = write_raw(tmp_path, rows)
    of_raw = prepared(schema_file, tmp_path / "raw")
    monkeypatch.setattr(on_ray, "_moments_of_run", killed_once)
    found = stage_on_ray(schema_file, tmp_path / "staged", nullcontext())
    assert found == of_raw.rows
    assert (tmp_path / "killed").exists()
    staged = pl.concat([pl.read_parquet(file) for file in sorted((tmp_path / "staged" / "train").iterdir())])
    assert staged["@time"].is_sorted()
    assert len(list((tmp_path / "staged" / "train").iterdir())) > 1
    of_staged = prepared(use_staged(schema_file, tmp_path / "staged"), tmp_path / "cache")
    assert contents(of_staged.path) == contents(of_raw.path)


def test_text_without_users_and_with_a_split_by_fraction_does_so_too(tmp_path, rows, node, few_rows):
    lists = {
        name: pl.col(name).list.eval(pl.element().cast(pl.String)).list.join("|")
        for name in ("history", "tags")
    }
    example_frame(rows).with_columns(**lists).write_csv(tmp_path / "table.csv")
    features = [
        feature | ({"separator": "|"} if feature["name"] in lists else {})
        | ({"hash_buckets": 7} if feature["name"] == "city" else {})
        for feature in EXAMPLE_SCHEMA["features"]  # type: ignore[attr-defined]
    ]  # fmt: skip
    changes = {"files": ["table.csv"], "features": features, "user_id": False, "missing": ["NaN", "inf"],
               "split": {"by": "fraction", "valid": 0.2, "test": 0.2}}  # fmt: skip
    (tmp_path / "schema.yaml").write_text(yaml.safe_dump(EXAMPLE_SCHEMA | changes))
    of_raw = prepared(tmp_path / "schema.yaml", tmp_path / "raw")
    stage_on_ray(tmp_path / "schema.yaml", tmp_path / "staged", nullcontext())
    of_staged = prepared(use_staged(tmp_path / "schema.yaml", tmp_path / "staged"), tmp_path / "cache")
    assert contents(of_staged.path) == contents(of_raw.path)


def test_the_first_bad_value_is_refused_and_nothing_is_left(tmp_path, rows, node, few_rows):
    rows[140]["click"], rows[60]["click"] = 3, 2
    schema_file = write_raw(tmp_path, rows)
    with pytest.raises(InputError, match=r"task 'click': .* in row 60 .*: 2\.0"):
        stage_on_ray(schema_file, tmp_path / "out" / "staged", nullcontext())
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".staged.lock"]


def full_disk(item: dict, schema: Schema, code: pl.Expr) -> dict:
    raise OSError(errno.ENOSPC, "No space left on device")


def broken(item: dict, schema: Schema, code: pl.Expr) -> dict:
    raise RuntimeError("this breaks")


def test_a_task_that_breaks_is_said_in_one_sentence_and_leaves_nothing(tmp_path, rows, node, monkeypatch):
    schema_file = write_raw(tmp_path, rows)
    for breaks, error, told in (
        (broken, UnfinishedError, r"data stage: a task broke \(RuntimeError: this breaks\)"),
        (full_disk, InputError, "staged: no space left on the disk"),
    ):
        monkeypatch.setattr(on_ray, "_moments_of_run", breaks)
        with pytest.raises(error, match=told):
            stage_on_ray(schema_file, tmp_path / "out" / "staged", nullcontext())
        assert [path.name for path in (tmp_path / "out").iterdir()] == [".staged.lock"]


# ----------------------------------------------------------------------------------------- without Ray


def test_stretches_are_the_rows_of_the_files_in_order(tmp_path, few_rows):
    frames = [
        pl.DataFrame({"a": range(start, stop)}) for start, stop in ((0, 50), (50, 50), (50, 57), (57, 115))
    ]
    found = [rows.collect() for rows in on_ray._stretches([frame.lazy() for frame in frames])]
    assert pl.concat(found)["a"].to_list() == list(range(115))
    assert {rows.height for rows in found} == {FEW_ROWS}


@contextmanager
def unreachable() -> Iterator[None]:
    raise AssertionError("no cluster is needed to say so")
    yield


def test_what_needs_no_cluster_is_refused_before_one_is_joined(tmp_path, rows):
    schema_file = write_raw(tmp_path, rows)
    (tmp_path / "staged").mkdir()
    with pytest.raises(InputError, match="staged: is there already; remove it or choose another --out"):
        stage_on_ray(schema_file, tmp_path / "staged", unreachable())
    (tmp_path / "0.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"0\.parquet: cannot be read as a parquet table"):
        stage_on_ray(schema_file, tmp_path / "other", unreachable())
    assert not (tmp_path / "other").exists()


def test_without_ray_staging_says_how_to_install_it(tmp_path, rows, monkeypatch):
    schema_file = write_raw(tmp_path, rows)
    monkeypatch.setattr("harness.workers.ray_cluster.importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="data stage: Ray is not installed; pip install"):
        bench.stage(schema_file, tmp_path / "staged")
