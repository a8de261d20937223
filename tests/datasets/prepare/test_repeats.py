"""Rows that repeat another are counted, however the table is cut, and noted for a table of one's own."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
import yaml

from datasets.own_table import source
from datasets.prepare import repeats as repeats_module
from datasets.prepare.pipeline import prepare
from datasets.prepare.repeats import Repeats, repeated_rows

SCHEMA = {
    "name": "log",
    "features": [
        {"name": "item", "kind": "categorical", "group": "item"},
        {"name": "past", "kind": "sequence", "group": "past", "separator": "|"},
        {"name": "price", "kind": "numeric", "group": "item"},
    ],
    "tasks": [{"name": "click"}],
    "user_id": "who",
    "time": "at",
    "split": {"by": "fraction", "valid": 0.2, "test": 0.2},
}


def staged(rng: np.random.Generator, rows: int, times: int) -> pl.DataFrame:
    """Rows of few different values, in time order."""
    return pl.DataFrame({
        "item": rng.integers(0, 3, rows),
        "past": pl.Series([[int(item)] * int(item) for item in rng.integers(0, 3, rows)]),
        "price": rng.choice([0.5, 1.5, None], rows).astype(float),
        "@user": rng.choice(["a", "b"], rows),
        "@time": np.sort(rng.integers(0, times, rows)),
    })  # fmt: skip


@pytest.mark.parametrize("times", [1, 3, 40])
@pytest.mark.parametrize("seed", range(8))
def test_the_count_is_that_of_the_whole_table_wherever_it_is_cut(times, seed):
    rng = np.random.default_rng(seed)
    rows = staged(rng, 120, times)
    cuts = [0, *np.sort(rng.choice(np.arange(1, 120), 6, replace=False)).tolist(), 120]
    repeats = Repeats()
    for start, stop in pairwise(cuts):
        repeats.add(repeated_rows(rows[start:stop]))
    assert repeats.number == 120 - len(set(map(repr, rows.rows())))


def test_where_too_many_rows_have_one_time_nothing_is_said(monkeypatch):
    monkeypatch.setattr(repeats_module, "MOST_OF_ONE_TIME", 5)
    rows, repeats = staged(np.random.default_rng(0), 120, 1), Repeats()
    for start in (0, 60):
        repeats.add(repeated_rows(rows[start : start + 60]))
    assert repeats.number is None
    assert not repeats.note()


@pytest.mark.parametrize("shared", [0, 1, 40])
def test_rows_that_two_files_have_are_noted(tmp_path, tiny_steps, shared):
    lines = [
        f"user {row % 3},{row % 5},{row % 4}|x,{row},{row % 2},{1_709_596_800 + row // 7}\n"
        for row in range(200)
    ]
    header = "who,item,past,price,click,at\n"
    (tmp_path / "a.csv").write_text(header + "".join(lines[:100]))
    (tmp_path / "b.csv").write_text(header + "".join(lines[100 - shared :]))
    (tmp_path / "log.yaml").write_text(yaml.safe_dump(SCHEMA))
    notes = prepare(source(tmp_path / "log.yaml"), tmp_path / "prepared").manifest["notes"]
    assert notes.get("repeated rows", "0 rows").split()[0] == str(shared)
