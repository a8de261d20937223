"""The rows of results.csv against HOUSE's list of columns and hand-made records."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from files.errors import InputError
from harness.records.store import read_runs
from reports.comparisons import load_inferred
from reports.frames import loss_frame, validation_frame
from reports.results import results_frame, write_results
from reports.sections import load_sections
from tests.reports.made_up import failed, record, reference, write_out

# Typed out from the public format: columns may be added at the end, never renamed or moved.
FROZEN_COLUMNS = (
    "suite, architecture, variant, dataset, seed, task, status, auc, uauc, gauc, logloss, "
    "normalized_entropy, calibration, users, rows, dense_params, sparse_params, flops_per_sample, "
    "active_flops_per_sample, flops_per_batch_512, budget_flops, budget_miss, train_samples, "
    "train_seconds, train_samples_per_second, eval_samples_per_second, mfu_train, mfu_inference, "
    "latency_ms_p50, latency_ms_p99, batch_size, precision, device, peak_flops, peak_source, spec_hash, "
    "started_at"
)
EFFICIENCY = FROZEN_COLUMNS.split(", ")[15:35]


def test_results_have_the_frozen_columns_in_order(quick_out):
    frozen = FROZEN_COLUMNS.split(", ")
    assert len(frozen) == 37
    with open(quick_out / "results.csv") as file:
        assert file.readline().strip().split(",")[: len(frozen)] == frozen
    assert list(pd.read_parquet(quick_out / "results.parquet"))[: len(frozen)] == frozen


def test_there_is_one_row_a_run_and_task(quick_out):
    rows = pd.read_csv(quick_out / "results.csv")
    assert len(rows) == 14 * 2
    assert not rows.duplicated(["architecture", "seed", "task"]).any()


def test_csv_and_parquet_hold_the_same_rows(quick_out):
    from_csv = pd.read_csv(quick_out / "results.csv")
    from_parquet = pd.read_parquet(quick_out / "results.parquet")
    for name in from_csv:
        left, right = from_csv[name].fillna(""), from_parquet[name].astype(object).fillna("")
        assert left.tolist() == right.tolist(), name


def test_values_are_those_of_the_record(tmp_path):
    made = record("dcn", seed=7, tasks=("finish",))
    made["metrics"]["finish"]["auc"] = 0.71234567
    [row] = results_frame(read_runs(write_out(tmp_path, [made])).records).to_dict("records")
    assert row["auc"] == 0.71234567
    assert (row["seed"], row["task"], row["users"], row["batch_size"]) == (7, "finish", 1180, 1024)
    assert row["budget_flops"] == 1_000_000
    assert row["flops_per_batch_512"] == 512 * made["cost"]["flops_per_sample"]
    assert row["mfu_train"] == made["training"]["mfu_train"]


def test_what_was_not_measured_is_empty_and_never_zero(tmp_path):
    unmeasured = record("dcn", tasks=("finish",))
    unmeasured["training"] |= {"mfu_train": None, "train_seconds": float("nan")}
    unmeasured["metrics"]["finish"]["uauc"] = None
    del unmeasured["training"]["eval_samples_per_second"]
    out = write_out(tmp_path, [unmeasured, reference("constant", tasks=("finish",))])
    write_results(results_frame(read_runs(out).records), out)
    rows = pd.read_csv(out / "results.csv", dtype=str, keep_default_na=False).set_index("architecture")
    for name in ("mfu_train", "train_seconds", "uauc", "eval_samples_per_second", "latency_ms_p50"):
        assert rows.loc["dcn", name] == ""
    assert all(rows.loc["constant", name] == "" for name in EFFICIENCY)
    assert rows.loc["constant", "auc"] == "0.5"


def test_a_budget_of_parameters_is_no_flops_budget(tmp_path):
    made = record("dcn", budget={"kind": "dense_params", "target": 1e5, "miss": -0.01}, tasks=("finish",))
    [row] = results_frame(read_runs(write_out(tmp_path, [made])).records).to_dict("records")
    assert pd.isna(row["budget_flops"])
    assert row["budget_miss"] == -0.01


def test_a_failed_run_is_a_row_for_each_task_with_empty_metrics(tmp_path):
    rows = results_frame(read_runs(write_out(tmp_path, [failed("dcn"), record("dlrm_mlp")])).records)
    broken = rows[rows["architecture"] == "dcn"]
    assert broken["task"].tolist() == ["finish", "skip"]
    assert set(broken["status"]) == {"failed"}
    assert broken[["auc", "uauc", "gauc", "logloss", "users", "train_seconds"]].isna().all(axis=None)
    assert broken["flops_per_sample"].notna().all()


def test_half_written_runs_are_passed_over(tmp_path):
    out = write_out(tmp_path, [record("dcn")])
    (out / "runs" / "empty").mkdir()
    partial = out / "runs" / "going-on.partial"
    partial.mkdir()
    (partial / "record.json").write_text("{")
    assert len(read_runs(out).records) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "cannot be read"),
        ('{"kind": "model"}', "is no run record"),
        ("[1, 2]", "is no run record"),
        (json.dumps(record("dcn") | {"status": "perhaps"}), "status"),
        (json.dumps(record("dcn") | {"metrics": {"finish": {"auc": "high"}}}), "metrics.finish.auc"),
        ("\udcff", "cannot be read"),
    ],
)
def test_a_damaged_or_foreign_record_is_named_with_the_mend(tmp_path, text, says):
    out = write_out(tmp_path, [record("dcn")])
    path = out / "runs" / "run-000" / "record.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError) as caught:
        read_runs(out)
    message = str(caught.value)
    assert str(path) in message
    assert says in message
    assert "delete that folder" in message
    assert "\n" not in message


def test_a_folder_without_runs_is_an_error_that_names_it(tmp_path):
    with pytest.raises(InputError, match="holds no finished run"):
        read_runs(tmp_path)


def test_comparisons_that_lack_a_column_are_an_error_that_names_it(tmp_path):
    out = write_out(tmp_path, [record("dcn")])
    (out / "comparisons.csv").write_text("suite,dataset\nquick,shortvideo\n")
    with pytest.raises(InputError, match=r"comparisons\.csv: lacks the column 'task'"):
        load_inferred(out, "comparisons")


def test_a_suite_description_of_another_suite_is_not_taken(tmp_path):
    out = write_out(tmp_path, [record("dcn"), record("dlrm_mlp")])
    suite = json.loads((out / "suite.json").read_text())
    (out / "suite.json").write_text(json.dumps(suite | {"name": "table1", "description": "of another suite"}))
    [section] = load_sections(read_runs(out))
    assert (section.suite.name, section.suite.description) == ("quick", "")
    assert section.base is not None
    assert section.base.architecture == "dlrm_mlp"  # of comparisons.csv


def test_curves_keep_every_point_that_was_measured(tmp_path):
    made = record("dcn", curve=[[0, 0.7], [1024, None], [2048, 0.5]])
    records = read_runs(write_out(tmp_path, [made])).records
    assert loss_frame(records)["value"].tolist() == [0.7, 0.5]
    validation = validation_frame(records)
    assert len(validation) == 4 * 2 * 2
    last = validation[(validation["samples"] == 4096) & (validation["task"] == "skip")]
    expected = made["validation"][-1]["metrics"]["skip"]["auc"]
    assert np.isclose(last.loc[last["metric"] == "auc", "value"], expected).all()


def test_reading_records_loads_neither_torch_nor_matplotlib():
    code = (
        "import sys, harness.records.store; print([m for m in ('torch', 'matplotlib') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_rendering_never_loads_torch(tmp_path):
    out = write_out(tmp_path, [record(name, tasks=("finish",)) for name in ("dlrm_mlp", "rankmixer")])
    ours = "('torch', 'harness.training', 'harness.model', 'suites', 'baselines', 'rankmixer', 'datasets')"
    code = f"import sys, pathlib, reports.render as r; r.render(pathlib.Path({str(out)!r})); " + (
        f"print([m for m in {ours} if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
