"""Rows that break, each in its own way, among rows that do not: what is said, and what is the same."""

from __future__ import annotations

import pytest
import yaml

from harness.runs.jobs import Job
from suites.plan import _problem_of_name
from tests.harness.schemas import small_schema
from tests.harness.small_runs import small_spec
from tests.suites.shapes import shape_of
from tests.test_cli import SUITE, bench, check_refusal, own, records_of, unreported  # noqa: F401 - fixtures

SMALL = shape_of(small_schema())
BAD_MODELS = """
import os, signal, sys
from dataclasses import dataclass
import torch
from torch import nn
from files.errors import InputError

class Bad(nn.Module):
    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        width: int = 8

    def __init__(self, num_tokens, token_dim, config):
        super().__init__()
        self.hidden = nn.Linear(num_tokens * token_dim, config.width)
        self.output_dim = config.width
        self.calls = 0

    def forward(self, tokens):
        self.calls += not tokens.is_meta
        if self.calls:
            self.go_wrong(tokens)
        return self.hidden(tokens.flatten(1)).relu()

class Alters(Bad):
    def go_wrong(self, tokens):
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(3)
        torch.use_deterministic_algorithms(True)
        torch.manual_seed(0)
        os.chdir("/")
        os.environ["OMP_NUM_THREADS"] = "3"
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        nn.Linear.forward = None

class Exits(Bad):
    def go_wrong(self, tokens):
        sys.exit(0)

class DiesLater(Bad):
    def go_wrong(self, tokens):
        if self.calls == 9:
            os.kill(os.getpid(), signal.SIGKILL)

class RefusesLater(Bad):
    def go_wrong(self, tokens):
        if self.calls == 9:
            raise InputError("no such thing")

class LeavesWhenBuilt(Bad):
    def __init__(self, num_tokens, token_dim, config):
        os._exit(3)
"""
GOOD = [
    {"architecture": "dlrm_mlp", "config": {"hidden_dim": 8}},
    {"architecture": "dcn", "config": {"hidden_dim": 8}},
]
NAMES = ("Alters", "Exits", "DiesLater", "RefusesLater", "LeavesWhenBuilt")


def found(record: dict) -> dict:
    return {name: record[name] for name in ("status", "spec_hash", "metrics", "validation", "curve", "cost")}


def test_rows_that_break_are_named_and_the_others_have_the_numbers_that_they_have_alone(own, bench):  # noqa: F811
    (own / "bad_models.py").write_text(BAD_MODELS)
    bad = [{"architecture": f"bad_models:{name}"} for name in NAMES]
    suite = {name: value for name, value in SUITE.items() if name != "budget"} | {"seeds": 1, "base": None}
    (own / "good.yaml").write_text(yaml.safe_dump(suite | {"architectures": GOOD}))
    (own / "mixed.yaml").write_text(yaml.safe_dump(suite | {"architectures": [*bad, *GOOD]}))

    assert bench("run", "good.yaml", "--cache", "cache", "--out", "good").code == 0
    outcome = bench("run", "mixed.yaml", "--cache", "cache", "--out", "mixed")

    check_refusal(
        outcome,
        [
            "5 of 8 runs",
            "mine bad_models:Alters (",
            "mine bad_models:Exits (it called sys.exit(0))",
            "mine bad_models:DiesLater seed 0 (its process was killed (SIGKILL)",
            "mine bad_models:RefusesLater seed 0 (no such thing)",
            "mine bad_models:LeavesWhenBuilt (its process ended itself with exit code 3)",
        ],
        code=1,
    )
    alone, among = records_of(own / "good"), records_of(own / "mixed")
    assert set(among) == {("constant", 0), ("dlrm_mlp", 0), ("dcn", 0)}
    assert {run: found(record) for run, record in among.items()} == {
        run: found(record) for run, record in alone.items()
    }
    assert "report: mixed/report.md" in outcome.out


def test_a_run_that_takes_too_long_keeps_its_checkpoint_and_goes_on_next_time(own, bench, unreported):  # noqa: F811
    rows = f"architectures={[GOOD[0]]}"
    command = ["run", "tiny.yaml", "--cache", "cache", "--set", "budget=null", "--set", rows, "--seeds", "1"]
    command += ["--set", "training.epochs=1000", "--checkpoint-seconds", "0", "--set", "references=false"]
    outcome = bench(*command, "--run-minutes", "0.06")
    check_refusal(outcome, ["1 of 1 runs", "it took longer than the 0.06 minutes of --run-minutes"], code=1)
    [checkpoint] = (own / "out/tiny/runs").glob("*.partial/checkpoint.json")
    before = checkpoint.read_text()
    bench(*command, "--run-minutes", "0.06")
    assert checkpoint.read_text() != before


@pytest.mark.parametrize("option", ["--run-minutes", "--run-gigabytes"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "an hour"])
def test_what_is_no_limit_is_refused(own, bench, option, value):  # noqa: F811
    outcome = bench("run", "tiny.yaml", option, value)
    assert outcome.code == 2
    assert option in outcome.err.splitlines()[-1]
    assert not (own / "out").exists()


def test_seconds_between_checkpoints_that_are_no_number_are_refused(own, bench):  # noqa: F811
    outcome = bench("run", "tiny.yaml", "--checkpoint-seconds", "nan")
    assert outcome.code == 2
    assert "--checkpoint-seconds" in outcome.err.splitlines()[-1]
    assert not (own / "out").exists()


def test_a_folder_name_that_is_too_long_is_seen_before_training(tmp_path):
    def problem(letters: int) -> str | None:
        spec = small_spec(SMALL).model_copy(update={"variant": "v" * letters})
        return _problem_of_name([Job(spec, None, SMALL, tmp_path, 60.0)])

    short = len(Job(small_spec(SMALL), None, SMALL, tmp_path, 60.0).folder.partial.name) + 1
    assert problem(255 - short) is None
    assert problem(256 - short) == "its folder's name has 256 letters, too many here; shorten the variant"
