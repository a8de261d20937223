"""Where a row lacks runs of the base, the means that its difference is between stand below the table."""

from __future__ import annotations

import pytest

from harness.records.store import read_runs
from reports.sections import load_sections
from reports.summary import cautions, dataset_notes, failures
from reports.tables.quality import quality_numbers, quality_tables
from reports.tables.unequal_runs import unequal_runs_notes
from tests.reports.made_up import comparison_rows, quick_records, write_out


def in_worlds(records, worlds=3):
    return [
        made | {"world": world, "spec_hash": f"{made['spec_hash']}w{world}"}
        for world in range(worlds)
        for made in records
    ]


def section_of(tmp_path, records, rows=None):
    rows = comparison_rows(records) if rows is None else rows
    return load_sections(read_runs(write_out(tmp_path, records, rows)))[0]


def test_rows_with_all_runs_of_the_base_have_no_note(tmp_path):
    assert not unequal_runs_notes(section_of(tmp_path, in_worlds(quick_records())), "finish")


def test_a_row_that_lacks_a_world_stands_beside_the_bases_mean_of_the_same_worlds(tmp_path):
    records = [
        made for made in in_worlds(quick_records()) if (made["architecture"], made["world"]) != ("dcn", 2)
    ]
    rows = [
        row | ({"mean": 0.75, "base_mean": 0.74} if row["architecture"] == "dcn" else {})
        for row in comparison_rows(records)
    ]
    [note] = unequal_runs_notes(section_of(tmp_path, records, rows), "finish")
    assert "DCN, 4 runs in 2 of 3 worlds (AUC 0.7500 against 0.7400, UAUC 0.7500 against 0.7400)" in note
    assert "RankMixer" not in note
    assert "constant" not in note


def test_a_row_whose_base_lacks_a_seed_is_named_too(tmp_path):
    records = quick_records(seeds=3)
    records = [made for made in records if (made["architecture"], made["seed"]) != ("dlrm_mlp", 2)]
    [note] = unequal_runs_notes(section_of(tmp_path, records), "finish")
    assert "RankMixer, 2 runs (AUC" in note


def test_a_metric_that_a_world_does_not_define_is_named_with_the_world(tmp_path):
    records = in_worlds(quick_records())
    rows = comparison_rows(records)
    for made in records:
        if made["world"] == 1:
            made["metrics"] = {task: found | {"uauc": None} for task, found in made["metrics"].items()}
    notes = unequal_runs_notes(section_of(tmp_path, records, rows), "finish")
    assert notes == ["UAUC leaves out the worlds whose test rows do not define it: 1."]


@pytest.mark.parametrize(
    ("worlds", "seeds", "said"),
    [
        (3, 2, "With 3 worlds the spread over worlds is itself only roughly known"),
        (2, 5, "fewer than 3 finished worlds is called resolved"),
        (1, 2, "fewer than 3 finished seeds is called resolved"),
    ],
)
def test_cautions_count_what_the_interval_is_over(tmp_path, worlds, seeds, said):
    section = section_of(tmp_path, in_worlds(quick_records(seeds=seeds), worlds))
    tables = {"finish": quality_numbers(section, "finish")}
    assert any(said in sentence for sentence in cautions(section, tables))


def test_words_of_a_table_are_those_of_worlds_or_of_seeds(tmp_path):
    for worlds, over in ((3, "interval over worlds"), (1, "interval over users and seeds")):
        section = section_of(tmp_path / str(worlds), in_worlds(quick_records(), worlds))
        notes = " ".join(quality_tables(section, "finish")[0].notes)
        assert over in notes
        assert ("in each world" in notes) == (worlds == 3)


def test_a_failed_run_names_its_world(tmp_path):
    records = in_worlds(quick_records())
    lost = next(made for made in records if (made["architecture"], made["world"]) == ("dcn", 2))
    lost |= {"status": "failed", "metrics": {}, "failure": {"reason": "loss is NaN", "step": 3}}
    [sentence] = failures(section_of(tmp_path, records))
    assert sentence == f"DCN, world 2, seed {lost['seed']}: failed at step 3: loss is NaN"


def test_worlds_of_a_log_are_said_to_be_draws_of_one_log(tmp_path):
    for dataset, said in (("kuairand-pure", True), ("shortvideo", False)):
        section = section_of(tmp_path / dataset, in_worlds(quick_records(dataset=dataset)))
        notes = " ".join(dataset_notes(section))
        assert ("draws of the training rows of one log" in notes) == said


def test_worlds_that_are_splits_are_said_to_share_their_rows(tmp_path):
    records = in_worlds(quick_records(dataset="kuairand-pure"))
    for made in records:
        made["spec"] |= {"dataset_options": {"worlds_of": "splits"}}
    notes = " ".join(dataset_notes(section_of(tmp_path, records)))
    assert "The 3 worlds are splits of one log" in notes
    assert "draws of the training rows" not in notes


def test_worlds_of_which_nothing_counts_are_named(tmp_path):
    records, asked = in_worlds(quick_records(seeds=3)), {"shortvideo": [0, 1, 2, 7]}
    [section] = load_sections(read_runs(write_out(tmp_path, records, comparison_rows(records), worlds=asked)))
    said = " ".join(cautions(section, {"finish": quality_numbers(section, "finish")}))
    assert "The suite has worlds of which no run counts here: 7." in said
    whole = section_of(tmp_path / "whole", records)
    assert "no run counts" not in " ".join(cautions(whole, {"finish": quality_numbers(whole, "finish")}))
