"""Cautions that a report states of its own accord."""

from __future__ import annotations

from harness.records.store import read_runs
from reports.contents import gather
from reports.sections import load_sections
from reports.summary import cautions, dataset_notes
from tests.reports.made_up import record, write_out


def cautions_of(out) -> list[str]:
    (section,) = load_sections(read_runs(out))
    return cautions(section, {})


def sized(name: str, flops: int) -> dict:
    made = record(name, budget=None)
    return made | {"cost": made["cost"] | {"flops_per_sample": flops}}


def test_a_model_far_smaller_than_the_others_is_remarked_on(tmp_path):
    sizes = {"dlrm_mlp": 1_000_000, "dcn": 900_000, "autoint": 1_100_000, "my.nets:Tiny": 60_000}
    (remark,) = [
        text
        for text in cautions_of(write_out(tmp_path, [sized(*pair) for pair in sizes.items()]))
        if text.startswith("Far smaller")
    ]
    assert "median is 950 k forward FLOPs per sample: Tiny (60.0 k)." in remark


def test_models_of_one_budget_or_of_like_sizes_are_not(tmp_path):
    sizes = {"dlrm_mlp": 1_000_000, "dcn": 900_000, "autoint": 400_000}
    assert not any(
        "Far smaller" in text
        for text in cautions_of(write_out(tmp_path / "a", [sized(*pair) for pair in sizes.items()]))
    )
    matched = [record(name) for name in ("dlrm_mlp", "dcn", "autoint")]
    matched[2]["cost"]["flops_per_sample"] = 10
    assert not any("Far smaller" in text for text in cautions_of(write_out(tmp_path / "b", matched)))


def test_what_the_suite_s_file_says_is_left_out_where_a_setting_was_changed(tmp_path):

    runs = [record("dlrm_mlp"), record("dcn")]
    said = "Six architectures at one matched budget"
    assert said in gather(read_runs(write_out(tmp_path / "a", runs))).descriptions
    command = "run_bench.py run quick --set budget.flops_per_sample=5e5"
    assert said not in gather(read_runs(write_out(tmp_path / "b", runs, command=command))).descriptions


def test_a_table_that_is_not_the_published_one_and_its_odd_protocol_are_remarked_on(tmp_path):
    notes = {"validation": "the test rows, as published", "published files": "NOT the published files: x"}
    for place, (found, expected) in enumerate([(notes, 2), ({"published files": "a: md5 as published"}, 0)]):
        info = record("dcn")["dataset_info"] | {"notes": found}
        records = [record(name, dataset="frappe-x1", dataset_info=info) for name in ("dlrm_mlp", "dcn")]
        (section,) = load_sections(read_runs(write_out(tmp_path / str(place), records)))
        said = dataset_notes(section)
        assert len(said) == expected
        if expected:
            assert said[0] == "Validation: the test rows, as published."
            assert said[1].startswith("NOT the published files: x: nothing here can be compared")
