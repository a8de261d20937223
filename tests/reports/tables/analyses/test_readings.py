"""Variants against their own architecture: the table, beside numbers put into the files by hand."""

from __future__ import annotations

import csv

import pytest

from harness.records.store import read_runs
from reports.sections import load_sections
from reports.tables.analyses.readings import reading_tables
from tests.reports.made_up import COMPARISON_COLUMNS, record, write_out

MINUS = "\N{MINUS SIGN}"
DIFFS = {
    ("finish", "auc"): 0.0021,
    ("finish", "uauc"): -0.0104,
    ("skip", "auc"): 0.0002,
    ("skip", "uauc"): 0.0,
}


def variant_rows(half_width=0.001):
    for (task, metric), diff in DIFFS.items():
        low, high = diff - half_width, diff + half_width
        yield {
            **{"suite": "quick", "dataset": "shortvideo", "task": task, "metric": metric},
            **{"architecture": "dcn", "variant": "deep", "base": "dcn", "seeds": 2, "users": 400},
            **{"mean": 0.7 + diff, "base_mean": 0.7, "diff": diff, "users_low": low, "users_high": high},
            **{"seeds_low": low, "seeds_high": high, "low": low, "high": high},
            "resolved": "yes" if low > 0 or high < 0 else "no",
        }


@pytest.fixture
def section(tmp_path):
    rows = [("dlrm_mlp", "", {}), ("dcn", "", {"hidden_dim": 32, "num_layers": 3})]
    rows.append(("dcn", "deep", {"hidden_dim": 20, "num_layers": 3, "rate": 0.12345}))
    records = []
    for architecture, variant, config in rows:
        for seed in (0, 1):
            made = record(architecture, seed, variant=variant)
            records.append(made | {"spec": made["spec"] | {"config": config, "variant": variant}})
    write_out(tmp_path, records)
    with (tmp_path / "variants.csv").open("w") as file:
        writer = csv.DictWriter(file, COMPARISON_COLUMNS)
        writer.writeheader()
        writer.writerows(variant_rows())
    return load_sections(read_runs(tmp_path))[0]


def test_the_table_says_what_was_switched_and_what_that_changed(section):
    (table,) = reading_tables(section)
    assert table.header == ["row", "against", "settings", *(f"{t} {m.upper()} x100" for t, m in DIFFS)]
    (row,) = table.rows
    # num_layers is the plain row's and is left out.
    assert row[:3] == ["DCN (deep)", "DCN", "hidden_dim 20, rate 0.12"]
    assert row[3] == "+0.21 (+0.11 to +0.31) higher"
    assert row[4] == f"{MINUS}1.04 ({MINUS}1.14 to {MINUS}0.94) lower"
    assert row[5] == f"+0.02 ({MINUS}0.08 to +0.12) not resolved"


def test_differences_to_the_base_are_none_of_its_business(section):
    (table,) = reading_tables(section)
    assert set(table.numbers["base"]) == {"dcn"}
    to_base = section.comparisons
    assert set(to_base["base"]) == {"dlrm_mlp"}


def test_without_the_file_there_is_no_table(tmp_path):
    write_out(tmp_path, [record("dlrm_mlp"), record("dcn"), record("dcn", variant="deep")])
    assert reading_tables(load_sections(read_runs(tmp_path))[0]) == []
