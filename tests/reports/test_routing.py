"""Active experts of the records: read, refused where damaged, and as rows for tables and figures."""

from __future__ import annotations

import functools
import json
import operator
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from files.errors import InputError
from harness.records.store import read_runs
from reports.frames import active_experts_frame, routing_frame
from reports.results import results_frame
from tests.reports.made_up import record, reference, write_out
from tests.reports.routed import rankmixer, routing

ROOT = Path(__file__).parents[2]
BY_HAND = {
    "target": 0.5,
    "training": [
        {"samples": 512, "active": [[0.75, 0.5], [0.25, 1.0]], "penalty_coefficient": 1e-8},
        {"samples": 1024, "active": [[0.5, 0.5], [0.0, 1.0]], "penalty_coefficient": None},
    ],
    "test": {"active_ratio": 0.475, "active_experts": [[[0.8, 0.0009], [0.5, 0.5]], [[0.0, 0.001], [1, 1]]]},
}


@pytest.fixture
def by_hand(tmp_path):
    runs = [rankmixer("dtsi-relu-1/2", routing=BY_HAND), record("dlrm_mlp"), reference("constant")]
    return read_runs(write_out(tmp_path, runs)).records


def test_dead_experts_are_those_below_a_thousandth_of_the_test_rows(by_hand):
    [routed] = [run for run in by_hand if run.routing]
    assert routed.routing.test.dead_experts == 2  # 0.0009 and 0; 0.001 lives
    assert routed.routing.test.num_experts == 8


def test_results_hold_the_active_ratio_and_leave_it_empty_without_experts(by_hand):
    rows = results_frame(by_hand).set_index(["architecture", "task"])
    names = ["active_ratio_target", "active_ratio", "dead_experts", "num_tokens", "tokenizer"]
    assert rows.loc[("rankmixer", "finish"), names].tolist() == [0.5, 0.475, 2, 16, "chunks"]
    assert rows.loc[[("dlrm_mlp", "finish"), ("constant", "skip")], names].isna().all(axis=None)
    assert list(rows.reset_index())[-14:-8] == [*names, "train_flops_per_sample"]
    assert rows.loc[("rankmixer", "finish"), ["series", "ratio"]].tolist() == ["dtsi-relu", "1/2"]


def test_the_frame_over_training_has_each_layer_token_and_moment_once(by_hand):
    frame = routing_frame(by_hand)
    assert set(frame["variant"]) == {"dtsi-relu-1/2"}
    assert len(frame) == 2 * 2 * 2
    values = frame.set_index(["samples", "layer", "token"])["active"]
    assert values[512, 2, 1] == 0.25
    assert values[1024, 1, 2] == 0.5
    assert set(frame["target"]) == {0.5}


def test_the_frame_of_experts_counts_its_places_from_one(by_hand):
    shares = active_experts_frame(by_hand).set_index(["layer", "token", "expert"])["share"]
    assert len(shares) == 8
    assert shares[1, 1, 2] == 0.0009
    assert shares[2, 2, 1] == 1


def test_runs_without_experts_have_frames_without_rows(tmp_path):
    records = read_runs(write_out(tmp_path, [record("dlrm_mlp")])).records
    for frame in (routing_frame(records), active_experts_frame(records)):
        assert frame.empty
        assert {"architecture", "variant", "seed", "layer", "token"} <= set(frame)


DAMAGES = {  # where, what is put there, and what the message must say
    "a share above one": ("test.active_experts.0.0.0", 1.2, "less than or equal"),
    "a negative share": ("training.0.active.1.0", -0.1, "greater than or equal"),
    "not a number": ("test.active_ratio", float("nan"), "routing.test.active_ratio"),
    "a target of zero": ("target", 0, "routing.target"),
    "a token with fewer experts": ("test.active_experts.0.0", [0.8], "as many experts"),
    "no experts": ("test.active_experts", [], "as many experts"),
    "a layer less in training": ("training.1.active", [[0.5, 0.5]], "the same layers"),
    "a token less in training": ("training.0.active.0", [0.75], "the same layers"),
    "no samples": ("training.0.samples", None, "routing.training.0.samples"),
    "words": ("test.active_experts", "all", "routing.test.active_experts"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_routing_is_named_with_its_file_and_the_mend(tmp_path, damage):
    place, value, says = DAMAGES[damage]
    made = json.loads(json.dumps(BY_HAND))
    *path, last = (int(key) if key.isdigit() else key for key in place.split("."))
    functools.reduce(operator.getitem, path, made)[last] = value
    out = write_out(tmp_path, [rankmixer("dtsi-relu-1/2", routing=made)])
    with pytest.raises(InputError) as caught:
        read_runs(out)
    message = str(caught.value)
    assert str(out / "runs" / "run-000" / "record.json") in message
    assert says in message
    assert "delete that folder" in message
    assert "\n" not in message


def test_the_command_line_says_one_sentence_of_damaged_routing_and_ends_with_2(tmp_path):
    made = rankmixer("dtsi-relu-1/2", routing=BY_HAND | {"target": "a half"})
    out = write_out(tmp_path, [made])
    command = [sys.executable, "run_bench.py", "report", str(out)]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "run-000/record.json" in ended.stderr
    assert "routing.target" in ended.stderr
    assert not (out / "report.md").exists()


def test_a_run_that_failed_in_training_may_have_no_test_part(tmp_path):
    made = rankmixer("dtsi-relu-1/2", routing=BY_HAND | {"test": None})
    records = read_runs(write_out(tmp_path, [made])).records
    row = results_frame(records).iloc[0]
    assert row["active_ratio_target"] == 0.5
    assert pd.isna(row["active_ratio"])
    assert active_experts_frame(records).empty
    assert len(routing_frame(records)) == 8


def test_made_up_top_k_routing_keeps_its_ratio_everywhere():
    made = routing(0.25, is_free=False, tokens=4)
    assert made["test"]["active_ratio"] == pytest.approx(0.25)
    tokens = [sum(experts) / 8 for layer in made["test"]["active_experts"] for experts in layer]
    assert tokens == pytest.approx([0.25] * 8)
