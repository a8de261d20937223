"""From training to the page on a table whose rows belong to no user: UAUC is absent, never a number."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from datasets.prepare.pipeline import prepare
from datasets.schema import Feature, FractionSplit, Schema, Task
from datasets.source import Source
from harness.evaluation.comparisons import compare
from harness.evaluation.inference import write_inference
from harness.evaluation.tiers import compare_tiers, tier_metrics
from harness.records.select import suite_from_records
from harness.records.store import read_runs
from reports.render import render
from tests.harness.small_runs import carry_out, small_spec

ROWS = 3000
CONFIGS = {"dlrm_mlp": {"hidden_dim": 32}, "dcnv2": {"rank": 4, "hidden_dim": 16}}


def prepared_ads(folder: Path):
    rng = np.random.default_rng(1)
    ad, place = rng.integers(0, 20, ROWS), rng.random(ROWS)
    click = (rng.random(ROWS) < 0.2 + 0.6 * (ad % 2) * place).astype(int)
    table = pl.DataFrame({"ad": ad, "place": place, "click": click, "time": np.arange(ROWS)})
    schema = Schema(
        name="ads",
        features=[
            Feature(name="ad", kind="categorical", group="item", embedding_dim=8),
            Feature(name="place", kind="numeric", group="context", embedding_dim=4),
        ],
        tasks=[Task(name="click")],
        user_id=None,
        time="time",
        split=FractionSplit(by="fraction"),
    )
    return prepare(Source(schema, table.lazy(), {"rows": ROWS}), folder)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    prepared, out = prepared_ads(tmp_path_factory.mktemp("ads") / "prepared"), tmp_path_factory.mktemp("out")
    for architecture in CONFIGS:
        for seed in range(2):
            spec = small_spec(prepared, seed=seed, architecture=architecture, epochs=1)
            spec = spec.model_copy(
                update={
                    "tasks": ["click"],
                    "num_tokens": 2,
                    "dataset": "ads",
                    "config": CONFIGS[architecture],
                }
            )
            carry_out(spec, prepared, out)
    suite = suite_from_records("test", read_runs(out).records, "dlrm_mlp")
    (out / "suite.json").write_text(json.dumps(suite.as_json()))
    write_inference(read_runs(out), replicates=50)
    render(out)
    return out


def records(out: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(out.glob("runs/*/record.json"))]


def test_a_record_has_the_auc_and_nothing_about_users(out):
    for path, record in zip(sorted(out.glob("runs/*/record.json")), records(out), strict=True):
        measured, predicted = record["metrics"]["click"], pd.read_parquet(path.parent / "predictions.parquet")
        assert measured["auc"] == pytest.approx(roc_auc_score(predicted.label_click, predicted.score_click))
        assert measured["rows"] == len(predicted) == predicted.user.nunique()
        assert {
            measured[name] for name in ("uauc", "gauc", "users", "one_class_users", "one_class_rows")
        } == {None}
        assert record["dataset_info"]["users"] is None
        assert record["validation"][0]["metrics"]["click"]["uauc"] is None


def test_differences_are_of_auc_alone_over_draws_of_rows(out):
    compared = compare(out, replicates=400)
    assert compared["metric"].tolist() == ["auc"]
    row = compared.iloc[0]
    assert row["users"] == records(out)[0]["metrics"]["click"]["rows"]
    assert row["users_low"] < row["diff"] < row["users_high"]


def test_tiers_have_no_rows(out):
    assert compare_tiers(out, replicates=20).empty
    assert tier_metrics(out).empty


def test_tables_and_page_leave_uauc_out_and_say_why(out):
    report = (out / "report.md").read_text()
    assert "click AUC vs base" in report
    assert "belong to no user" in report
    tables = [line for line in report.splitlines() if line.startswith("|")]
    assert tables
    assert not [line for line in tables if "UAUC" in line or "GAUC" in line]
    results = pd.read_csv(out / "results.csv")
    assert results["auc"].notna().all()
    assert results[["uauc", "gauc", "users"]].isna().all(axis=None)
    for page in [out / "report" / "index.html", *out.glob("report/runs/*.html")]:
        text = page.read_text()
        assert "<th" in text
        assert "UAUC</th>" not in text
        assert ">uauc<" not in text
