"""Numbers of the tables against scipy and hand computation."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.evaluation.statistics.intervals import mean_interval
from harness.records.store import read_runs
from reports.comparisons import load_inferred
from reports.figures.sections import differences_frame
from reports.sections import load_sections
from reports.summary import compared
from reports.tables.costs import cost_table
from reports.tables.quality import quality_numbers, quality_tables
from tests.reports.made_up import ARCHITECTURES, comparison_rows, failed, quick_records, record, write_out


def section_of(out):
    [section] = load_sections(read_runs(out))
    return section


def tables_of(out, task):
    return quality_tables(section_of(out), task)


@given(st.lists(st.floats(0.4, 0.9), min_size=2, max_size=12))
def test_interval_over_seeds_is_scipys_t_interval(values):
    mean, low, high = mean_interval(values)
    sem = stats.sem(values)
    if sem > 1e-12:
        assert (low, high) == pytest.approx(stats.t.interval(0.95, len(values) - 1, np.mean(values), sem))
    assert mean == pytest.approx(np.mean(values))


def test_one_seed_has_a_mean_and_no_interval():
    mean, low, high = mean_interval([0.7])
    assert mean == 0.7
    assert math.isnan(low)
    assert math.isnan(high)


def test_mean_and_half_width_by_hand(tmp_path):
    records = [record("dlrm_mlp", seed, tasks=("finish",)) for seed in range(3)]
    for made, auc in zip(records, (0.70, 0.71, 0.72), strict=True):
        made["metrics"]["finish"]["auc"] = auc
    [row] = tables_of(write_out(tmp_path, records), "finish")[0].rows
    # standard deviation 0.01, t(2 degrees of freedom) = 4.302653: 4.302653 x 0.01 / sqrt(3) = 0.02484
    assert row[2] == "0.7100 ± 0.0248"


def test_rows_are_in_suite_order_base_first_references_apart(tmp_path):
    records = quick_records()
    order = ["rankmixer", "autoint", "dlrm_mlp", "dcn", "deepfm", "transformer"]
    out = write_out(
        tmp_path, records, architectures=[{"architecture": name, "variant": ""} for name in order]
    )
    table = tables_of(out, "finish")[0]
    assert [row[0] for row in table.rows] == [
        "DLRM-MLP",
        "RankMixer",
        "AutoInt",
        "DCN",
        "DeepFM",
        "Transformer",
    ]
    assert [row[0] for row in table.references] == ["oracle", "constant"]


def test_with_worlds_the_page_counts_runs_and_worlds_and_takes_means_over_worlds(tmp_path):
    records = [
        made | {"world": world, "spec": made["spec"] | {"world": world}}
        for world in range(3)
        for made in quick_records()
    ]
    for made in records:
        if made["kind"] == "model":
            auc = 0.7 + made["world"] / 100 + made["seed"] / 1000
            made["metrics"] = {"finish": {"auc": auc, "uauc": 0.6, "gauc": 0.6}}
    out = write_out(tmp_path, records, comparisons=[])
    [section] = load_sections(read_runs(out))
    table = quality_tables(section, "finish")[0]
    assert table.header[1] == "runs"
    half = stats.t.ppf(0.975, 2) * stats.sem([0.7005, 0.7105, 0.7205])
    assert table.rows[0][1:3] == ["6", f"0.7105 ± {half:.4f}"]
    assert "6 runs each, over 3 worlds" in " ".join(compared(section))


def test_a_table_says_which_of_its_rows_are_not_all_of_their_papers_model(tmp_path):
    out = write_out(tmp_path, quick_records(), partial={"dcn": "no norm", "unimixer": "not in this suite"})
    assert [note for note in tables_of(out, "finish")[0].notes if note.startswith("Partial")] == [
        "Partial, by the defaults: DCN: no norm."
    ]


def test_differences_are_those_of_comparisons_csv_in_points(tmp_path):
    base = {"suite": "quick", "dataset": "shortvideo", "task": "finish", "metric": "auc", "variant": ""}
    base |= {"base": "dlrm_mlp", "seeds": 2, "users": 1180, "users_low": 0.001, "users_high": 0.009}
    rows = [
        base | {"architecture": "dcn", "diff": 0.00644, "low": 0.0051, "high": 0.0077, "resolved": "yes"},
        base
        | {"architecture": "deepfm", "diff": -0.0064, "low": -0.0077, "high": -0.0051, "resolved": "yes"},
        base | {"architecture": "autoint", "diff": 0.0004, "low": -0.001, "high": 0.0018, "resolved": "no"},
        base | {"architecture": "transformer", "diff": 0.0004, "low": "", "high": "", "resolved": "one seed"},
    ]
    table = tables_of(write_out(tmp_path, quick_records(), rows), "finish")[0]
    cells = {row[0]: row[3] for row in table.rows}
    assert table.header[3] == "AUC vs base x100"
    assert cells == {
        "DLRM-MLP": "base",
        "DCN": "+0.64 (+0.51 to +0.77) higher",
        "DeepFM": "\N{MINUS SIGN}0.64 (\N{MINUS SIGN}0.77 to \N{MINUS SIGN}0.51) lower",
        "AutoInt": "+0.04 (\N{MINUS SIGN}0.10 to +0.18) not resolved",
        "Transformer": "+0.04 (+0.10 to +0.90) untested (one seed)",
        "RankMixer": "\N{EN DASH}",
    }


def test_the_papers_values_stand_beside_ours_and_absent_ones_are_dashes(quick_out):
    table = tables_of(quick_out, "skip")[0]
    auc, uauc = (table.header.index(f"paper: Skip {name}") for name in ("AUC", "UAUC"))
    cells = {row[0]: (row[auc], row[uauc]) for row in table.rows}
    assert cells["RankMixer"] == ("+0.86", "+1.33")
    assert cells["AutoInt"] == ("+0.12", "+0.23")
    assert cells["DLRM-MLP"] == ("0.8124 (its base)", "0.7294 (its base)")
    assert cells["Transformer"] == cells["DCN"] == ("\N{EN DASH}", "\N{EN DASH}")
    assert any("arXiv 2507.15551v3" in note and "RankMixer = RankMixer-100M" in note for note in table.notes)


def test_a_task_that_the_paper_lacks_has_no_paper_column(mixed_out):
    sections = load_sections(read_runs(mixed_out))
    [movielens] = [section for section in sections if section.dataset == "movielens-100k"]
    for table in quality_tables(movielens, "like"):
        assert not any("paper" in title for title in table.header)


def test_the_papers_gains_are_drawn_over_its_base_alone_and_the_note_names_it(tmp_path):
    bases = ("dlrm_mlp", "dcn")
    over = {base: section_of(write_out(tmp_path / base, quick_records(), base=base)) for base in bases}
    drawn = {base: differences_frame(section)["paper_gain"] for base, section in over.items()}
    assert drawn["dlrm_mlp"].notna().any()
    assert drawn["dcn"].isna().all()
    for section in over.values():
        notes = quality_tables(section, "skip")[0].notes
        assert any("differences to DLRM-MLP;" in note for note in notes)


def test_a_suite_without_a_paper_table_has_no_paper_columns(tmp_path):
    out = write_out(tmp_path, quick_records(), paper_table=None)
    tables = [*tables_of(out, "finish"), cost_table(section_of(out))]
    assert not any("paper" in title for table in tables for title in table.header)


def test_failed_seeds_are_counted_and_kept_out_of_the_mean(tmp_path):
    records = [
        record("dlrm_mlp", 0),
        record("dlrm_mlp", 1),
        record("dcn", 0),
        failed("dcn", 1),
        failed("autoint", 0),
    ]
    records[2]["metrics"]["finish"]["auc"] = 0.75
    rows = {row[0]: row for row in tables_of(write_out(tmp_path, records), "finish")[0].rows}
    assert rows["DCN"][1:3] == ["1 of 2", "0.7500"]
    assert rows["AutoInt"][1:3] == ["0 of 1", "failed"]


def test_runs_of_other_settings_are_never_mixed_into_a_mean(tmp_path):
    old = record("dcn", 0, started_at="2025-01-01T00:00:00")
    old["spec"]["training"] = {"epochs": 9}
    old["metrics"]["finish"]["auc"] = 0.99
    out = write_out(tmp_path, [old, record("dlrm_mlp", 0), record("dcn", 0), record("dcn", 1)])
    section = section_of(out)
    numbers = quality_numbers(section, "finish").set_index(["metric", "architecture"])
    assert numbers.loc[("auc", "dcn"), "seeds"] == 2
    assert numbers.loc[("auc", "dcn"), "mean"] < 0.8
    assert len(section.superseded) == 1


def test_a_model_that_has_not_run_as_last_asked_has_no_row_beside_those_that_have(tmp_path):
    old = [record("dlrm_mlp", 0), record("dcn", 0)]
    new = record("dlrm_mlp", 0, spec_hash="new", started_at="2030-01-01T00:00:00")
    new["spec"]["training"] = {"epochs": 9}
    section = section_of(write_out(tmp_path / "none", old, spec_hashes=["new", "newer"]))
    assert [contestant.label for contestant in section.contestants] == ["dlrm_mlp", "dcn"]
    section = section_of(write_out(tmp_path / "one", [*old, new], spec_hashes=["new", "newer"]))
    assert [contestant.label for contestant in section.contestants] == ["dlrm_mlp"]
    assert len(section.superseded) == 2


def test_a_model_that_the_suite_no_longer_has_gets_no_row(tmp_path):
    old = record("dcn", 0)
    asked = {"architectures": [{"architecture": "dlrm_mlp", "variant": ""}], "spec_hashes": ["new"]}
    out = write_out(tmp_path, [old, record("dlrm_mlp", 0, spec_hash="new")], **asked)
    section = section_of(out)
    assert [contestant.label for contestant in section.contestants] == ["dlrm_mlp"]
    assert len(section.superseded) == 1


def test_variants_that_look_like_numbers_or_nothing_keep_their_differences(tmp_path):
    names = ["", "64", "0.50", "None", "true"]
    records = [record("dlrm_mlp", 0), *(record("dcn", 0, variant=name) for name in names)]
    rows = [row for row in comparison_rows(records) if (row["task"], row["metric"]) == ("finish", "auc")]
    rows = [row | {"diff": at} for at, row in enumerate(rows)]
    read = load_inferred(write_out(tmp_path, records, rows), "comparisons")
    assert dict(zip(read["variant"], read["diff"], strict=True)) == {
        name: at for at, name in enumerate(names)
    }


def test_cost_table_shows_counted_costs_and_median_speeds(tmp_path):
    records = [record("dlrm_mlp", seed) for seed in range(3)]
    for made, rate in zip(records, (10_000.0, 90_000.0, 12_000.0), strict=True):
        made["training"]["train_samples_per_second"] = rate
        made["training"]["mfu_train"] = 0.231
        made["cost"] |= {
            "dense_params": 523_400,
            "flops_per_sample": 1_020_000,
            "flops_per_batch_512": 522_240_000,
        }
        made["budget"]["miss"] = 0.0204
    table = cost_table(section_of(write_out(tmp_path, records)))
    row = dict(zip(table.header, table.rows[0], strict=True))
    assert row["train samples/s"] == "12.0 k"
    assert (row["dense params"], row["FLOPs/sample"], row["FLOPs/batch of 512"]) == (
        "523 k",
        "1.02 M",
        "522 M",
    )
    assert (row["budget miss"], row["train MFU"]) == ("+2.0%", "23.1%")
    assert (row["paper: params"], row["paper: FLOPs/batch of 512"]) == ("8.70 M", "52.0 G")
    assert "latency p50 ms" not in row


def test_csv_of_a_table_holds_raw_numbers(quick_out):
    frame = pd.read_csv(quick_out / "tables" / "quality-shortvideo-finish.csv").set_index("architecture")
    results = pd.read_csv(quick_out / "results.csv")
    runs = results[(results["architecture"] == "rankmixer") & (results["task"] == "finish")]
    assert frame.loc["rankmixer", "auc"] == pytest.approx(runs["auc"].mean())
    comparisons = pd.read_csv(quick_out / "comparisons.csv").set_index(["architecture", "task", "metric"])
    assert frame.loc["rankmixer", "uauc_diff"] == comparisons.loc[("rankmixer", "finish", "uauc"), "diff"]
    assert frame.loc["rankmixer", "auc_paper"] == 0.64
    assert list(frame.index[:6]) == ARCHITECTURES
