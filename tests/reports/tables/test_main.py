"""The main table: quality, cost and speed of each model, cell by cell from what the records hold."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from harness.records.serving import SERVING_FILE
from harness.records.store import read_runs
from reports.cells import MISSING
from reports.contents import gather
from reports.render import render
from reports.results import results_frame
from tests.reports.made_up import NAMES, quick_records, write_out


def served(architecture: str, part: str, batch_size: int, p99: float, **changes: object) -> dict:
    return {
        "architecture": architecture,
        "spec_hash": f"{architecture[:4]:0<10}00",  # that of its first run in `quick_records`
        "part": part,
        "batch_size": batch_size,
        "latency_ms_p50": p99 / 2,
        "latency_ms_p99": p99,
        "latency_ms_p99_low": 0.9 * p99,
        "latency_ms_p99_high": 1.2 * p99,
        "samples_per_second": 1e3 * batch_size / p99,
        "mfu": 0.431,
        "error": 0.01,
        "mfu_error": 0.01,
        "noisy": False,
        "calls": 500,
        "rounds": 9,
        "memory_bytes": 2_500_000,
    } | changes


MODELS = [
    served("dlrm_mlp", "dense", 64, 1.0),
    served("dlrm_mlp", "whole", 64, 2.0),
    served("dlrm_mlp", "dense", 512, 10.0),
    served("dlrm_mlp", "whole", 512, 20.0),
    served("rankmixer", "whole", 512, 30.0, noisy=True, latency_ms_p99_high=None),
]
PASS = {
    "suite": "quick",
    "dataset": "shortvideo",
    "batch_sizes": [64, 512],
    "threads": 1,
    "precision": "fp32",
    "device": "cpu",
    "peak_flops": 5e10,
    "peak_source": "made up",
    "seconds": 9,
    "environment": {"processor": "a processor"},
    "models": MODELS,
}


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Six models and references of two tasks; two of the models were timed."""
    out = write_out(tmp_path_factory.mktemp("timed"), quick_records())
    (out / SERVING_FILE).write_text(json.dumps({"passes": [PASS]}))
    return out


@pytest.fixture(scope="module")
def tables(out):
    return {table.name: table for table in gather(read_runs(out)).tables}


def row_of(table, name: str) -> dict[str, str]:
    [found] = [row for row in [*table.rows, *table.references] if row[0] == name]
    return dict(zip(table.header, found, strict=True))


def test_a_row_has_quality_cost_and_speed_side_by_side(tables, out):
    table = tables["main-shortvideo"]
    row, results = row_of(table, "DLRM-MLP"), results_frame(read_runs(out).records)
    rows_of_mlp = results[(results["architecture"] == "dlrm_mlp") & (results["task"] == "skip")]
    assert row["skip UAUC"] == f"{rows_of_mlp['uauc'].mean():.4f}"
    assert row["skip UAUC vs base"] == "base"
    assert row["inference MFU"] == "43%"
    assert (row["p50 ms"], row["p99 ms"]) == ("10", "20 (18 to 24)")
    assert (row["samples/s"], row["memory, MB"]) == ("25.6 k", "2.5")
    assert row_of(table, "oracle")["p99 ms"] == row_of(table, "DCN")["p99 ms"] == MISSING


def test_a_noisy_speed_is_marked_and_an_unknown_end_is_said(tables):
    row = row_of(tables["main-shortvideo"], "RankMixer")
    assert row["p99 ms"] == "~30 (above 27)"
    assert any(note.startswith("~: noisy") for note in tables["main-shortvideo"].notes)


def test_differences_are_those_of_the_comparisons_and_a_word_means_resolved(tables, out):
    compared = pd.read_csv(out / "comparisons.csv")
    for row in compared[compared["metric"].isin(["auc", "uauc"])].to_dict("records"):
        shown = row_of(tables["main-shortvideo"], NAMES[row["architecture"]])
        cell = shown[f"{row['task']} {row['metric'].upper()} vs base"]
        assert cell.value == pytest.approx(100 * row["diff"])
        assert cell.endswith(("higher", "lower")) == (row["resolved"] == "yes")


def test_the_csv_holds_the_raw_numbers_one_row_a_model(tables):
    numbers = tables["main-shortvideo"].numbers.set_index("architecture")
    assert numbers.loc["dlrm_mlp", "latency_ms_p99"] == 20.0
    assert numbers.loc["dlrm_mlp", "batch_size"] == 512
    assert pd.isna(numbers.loc["deepfm", "latency_ms_p99"])
    assert not numbers.index.duplicated().any()


def test_each_batch_size_and_part_stands_in_the_table_of_speeds(tables):
    table = tables["speed-shortvideo"]
    first = dict(zip(table.header, table.rows[0], strict=True))
    assert (first["model"], first["rows a call"]) == ("DLRM-MLP", "64")
    assert (first["whole: p99 ms"], first["dense: p99 ms"]) == ("2 (1.8 to 2.4)", "1 (0.9 to 1.2)")


def test_results_and_files_hold_the_speeds(out):
    stored = read_runs(out)
    rows = results_frame(stored.records, stored.serving).set_index("architecture")
    assert set(rows.loc["dlrm_mlp", "latency_ms_p99"]) == {20.0}
    assert set(rows.loc["dlrm_mlp", "inference_batch_size"]) == {512}
    assert rows.loc["dcn", "latency_ms_p99"].isna().all()
    render(out, stored)
    written = pd.read_csv(out / "serving.csv")
    assert len(written) == len(MODELS)
    assert (out / "figures" / "quality-latency-shortvideo.svg").is_file()
    assert written.loc[3, "latency_ms_p99"] == 20.0


def test_speeds_of_a_model_that_was_trained_in_another_way_since_are_not_shown(tmp_path):
    """Its size may be another: what was measured is that of the runs that have its hash alone."""
    anew = [
        made | {"spec_hash": f"new{made['seed']}", "spec": {"model_dim": 9}, "started_at": "2030-01-01"}
        for made in quick_records()
        if made["architecture"] == "rankmixer"
    ]
    write_out(tmp_path, [*quick_records(), *anew])
    (tmp_path / SERVING_FILE).write_text(json.dumps({"passes": [PASS]}))
    stored = read_runs(tmp_path)
    table = next(table for table in gather(stored).tables if table.name == "main-shortvideo")
    assert row_of(table, "RankMixer")["p99 ms"] == MISSING
    assert row_of(table, "DLRM-MLP")["p99 ms"] == "20 (18 to 24)"
    speeds = results_frame(stored.records, stored.serving).groupby("spec_hash")["latency_ms_p99"].max()
    assert pd.isna(speeds["new0"])
    assert pd.isna(speeds["new1"])
    assert speeds["rank00000001"] == 30.0


def test_the_mfu_of_a_model_whose_peak_moved_is_marked_and_explained(tmp_path):
    records = quick_records()
    for made in records:
        if made["architecture"] == "dcn":
            made["training"] |= {"peak_flops": (1e11, 3e11)[made["seed"]], "mfu_train": 0.25}
    write_out(tmp_path, records)
    (part,) = gather(read_runs(tmp_path)).parts
    for table in (part.tables[0], part.ranked):
        at = table.header.index("train MFU")
        marked = {row[0]: row[at] for row in table.rows}
        assert marked.pop("DCN") == "≈ 25%"
        assert not any("≈" in cell for cell in marked.values())
        assert any(note.startswith("≈: the peak moved") for note in table.notes)


def test_peaks_that_were_measured_alike_are_one_way_however_many_products_their_medians_are_of(tmp_path):
    records = quick_records(seeds=2)
    for number, training in enumerate(record["training"] for record in records if record["training"]):
        training["peak_flops"] = 1.2e11 + 2e9 * (number % 3)
        training["peak_source"] = f"measured: median of {3 + number % 5} products"
    tables = {table.name: table for table in gather(read_runs(write_out(tmp_path, records))).tables}
    [measured] = [note for note in tables["cost-shortvideo"].notes if note.startswith("Measured on")]
    assert measured == (
        "Measured on: cpu, fp32, batch 1,024, peak 122 GFLOP/s, 120 GFLOP/s to 124 GFLOP/s over the runs "
        "(measured: medians of products)."
    )
