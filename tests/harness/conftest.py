"""A small learnable table, prepared once for all harness tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from datasets.prepare.pipeline import prepare
from datasets.prepared import PreparedDataset
from datasets.source import Source
from harness.workers.isolation import start_server
from tests.forked import fork_the_server_of_workers
from tests.harness.schemas import small_schema


def small_table(rows: int, seed: int = 0) -> pl.DataFrame:
    """Users like some items; older users skip more. A tenth of the skip labels is undefined."""
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, 40, rows), rng.integers(0, 30, rows)
    age = rng.normal(40, 10, rows)
    taste = rng.normal(size=(40, 4)) @ rng.normal(size=(4, 30))
    like = taste[user, item]
    finish = rng.random(rows) < 1 / (1 + np.exp(-like))
    skip = (rng.random(rows) < 1 / (1 + np.exp(like - (age - 40) / 10))).astype(float)
    undefined = rng.random(rows) < 0.1
    return pl.DataFrame(
        {
            "user": user,
            "item": item,
            "age": age,
            "price": rng.exponential(3.0, rows),
            "genres": [list(rng.integers(0, 10, rng.integers(0, 4))) for _ in range(rows)],
            "history": [list(rng.integers(0, 30, rng.integers(0, 7))) for _ in range(rows)],
            "past_genres": [list(rng.integers(0, 10, rng.integers(0, 7))) for _ in range(rows)],
            "time": np.arange(rows),
            "finish": finish.astype(int),
            "skip": [None if hidden else int(value) for hidden, value in zip(undefined, skip, strict=True)],
        }
    )


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    source = Source(schema=small_schema(), frame=small_table(6000).lazy(), identity={"rows": 6000}, notes={})
    return prepare(source, tmp_path_factory.mktemp("prepared") / "small", shard_rows=500)


@pytest.fixture
def server() -> None:
    """What workers are forked from. Later tests use the same one, so it imports what their workers need."""
    fork_the_server_of_workers()
    start_server(["suites.run"])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"
