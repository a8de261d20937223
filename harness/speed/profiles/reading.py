"""How many prepared rows a second one core reads, on a synthetic table of 30 features."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from datasets.prepare.pipeline import prepare
from datasets.reader import ShardReader
from datasets.schema import Schema
from datasets.source import Source
from harness.machine.timing import Stopwatch

SINGLE, NUMERIC, LISTS, LIST_LENGTH = 20, 6, 4, 20
CATEGORIES = 50_000


def benchmark_reader(rows: int = 600_000, batch_size: int = 2048, repeats: int = 5) -> list[float]:
    """Rows a second of ``repeats`` passes over the training split, shuffled, as batches of two tasks.

    What is timed is a whole pass: decoding, shuffling within windows and building batches. A pass
    before the clock starts fills the page cache.
    """
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare(benchmark_source(rows), Path(folder) / "prepared")
        rates = []
        for epoch in range(repeats + 1):
            reader = ShardReader(prepared, "train", batch_size, [], shuffle_seed=0, epoch=epoch)
            watch = Stopwatch()
            read = sum(len(batch) for batch in reader.batches())
            rates.append(read / watch.seconds())
    return rates[1:]


def benchmark_source(rows: int) -> Source:
    """Thirty features with heavy-tailed categories: 20 categorical, 6 numeric, 4 sequences of 20."""
    rng = np.random.default_rng(0)

    def categories(*shape: int) -> np.ndarray:
        return (rng.pareto(1.0, shape) * 10).astype(np.int64) % CATEGORIES

    columns: dict[str, np.ndarray] = {f"single_{i}": categories(rows) for i in range(SINGLE)}
    columns |= {f"number_{i}": rng.standard_normal(rows) for i in range(NUMERIC)}
    columns |= {f"list_{i}": categories(rows, LIST_LENGTH) for i in range(LISTS)}
    columns |= {"user": rng.integers(0, rows // 20 + 1, rows), "time": np.arange(rows)}
    columns |= {task: rng.integers(0, 2, rows) for task in ("first", "second")}
    features = [{"name": f"single_{i}", "kind": "categorical", "group": "item"} for i in range(SINGLE)]
    features += [{"name": f"number_{i}", "kind": "numeric", "group": "item"} for i in range(NUMERIC)]
    features += [{"name": f"list_{i}", "kind": "sequence", "group": "history"} for i in range(LISTS)]
    schema = Schema.model_validate({
        "name": "reader-benchmark",
        "features": features,
        "tasks": [{"name": "first"}, {"name": "second"}],
        "user_id": "user",
        "time": "time",
        "split": {"by": "fraction", "valid": 0.01, "test": 0.01},
    })  # fmt: skip
    return Source(schema, pl.LazyFrame(columns), identity={"benchmark_rows": rows})
