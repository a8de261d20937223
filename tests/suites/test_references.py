"""Fitted references as rows of a suite."""

from __future__ import annotations

import json
from types import SimpleNamespace

import polars as pl
import pytest
import yaml

from tests.test_cli import SUITE, bench, check_refusal, own, record_times, records_of, unreported  # noqa: F401

ROW = {"architecture": "dlrm_mlp", "config": {"hidden_dim": 8}}
FEW = {name: value for name, value in SUITE.items() if name != "budget"} | {
    "seeds": 1,
    "architectures": [ROW],
}


def test_fitted_references_are_rows_without_costs_and_are_not_fitted_again(own, bench, monkeypatch):  # noqa: F811
    (own / "few.yaml").write_text(yaml.safe_dump(FEW | {"references": ["gbdt", "logistic"]}))
    assert bench("run", "few.yaml", "--cache", "cache", "--out", "few").code == 0
    records = records_of(own / "few")
    assert set(records) == {("dlrm_mlp", 0), ("gbdt", 0), ("logistic", 0)}
    rows = pl.read_csv(own / "few/results.csv").filter(pl.col("architecture").is_in(["gbdt", "logistic"]))
    assert rows["auc"].null_count() == 0
    assert rows["flops_per_sample"].null_count() == rows["dense_params"].null_count() == 4
    report = (own / "few/report.md").read_text()
    assert "| gbdt |" in report
    assert "| logistic |" in report

    def fit_nothing(*_: object) -> None:
        raise AssertionError("a finished reference was fitted again")

    monkeypatch.setattr("suites.carrying_out._carry_out", fit_nothing)
    monkeypatch.setattr("bench.report", lambda out: None)
    before = record_times(own / "few")
    assert bench("run", "few.yaml", "--cache", "cache", "--out", "few").code == 0
    assert record_times(own / "few") == before


def test_one_that_runs_out_of_time_is_named_and_the_others_go_on(own, bench, unreported):  # noqa: F811
    (own / "few.yaml").write_text(yaml.safe_dump(FEW | {"references": ["gbdt", "constant"]}))
    outcome = bench("run", "few.yaml", "--cache", "cache", "--out", "few", "--run-minutes", "1e-5")
    assert "mine gbdt (it took longer than the 1e-05 minutes of --run-minutes)" in outcome.err
    assert ("constant", 0) in records_of(own / "few")


def test_settings_that_tuning_found_are_those_of_the_run(own, bench, unreported, monkeypatch):  # noqa: F811
    found = SimpleNamespace(reference_settings={"logistic": {"l2": 0.5}}.get)
    monkeypatch.setattr("suites.dataset_plan.read_tuned", lambda suite, prepared: found)
    (own / "few.yaml").write_text(yaml.safe_dump(FEW | {"references": ["logistic"]}))
    assert bench("run", "few.yaml", "--cache", "cache", "--out", "few").code == 0
    [path] = (own / "few/runs").glob("mine-logistic-*/record.json")
    assert json.loads(path.read_text())["spec"]["config"]["l2"] == 0.5


@pytest.mark.parametrize(
    ("references", "said"),
    [
        (
            "[gdbt]",
            "references: dataset 'mine' has no 'gdbt': choose from oracle, constant, gbdt, gbdt_unordered, "
            "logistic",
        ),
        ("some", "references: give true, false, or a list of names"),
        ("[3]", "references: give true, false, or a list of names"),
    ],
)
def test_what_names_no_reference_is_refused_before_anything_is_trained(own, bench, references, said):  # noqa: F811
    outcome = bench("run", "tiny.yaml", "--cache", "cache", "--set", f"references={references}")
    check_refusal(outcome, [said])
    assert not list(own.glob("out/tiny/runs/*"))
