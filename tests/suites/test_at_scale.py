"""The suites of millions of rows on a few thousand: each plans its runs, and a toy of one has a report."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from suites.suite import shipped_suites
from tests.test_cli import bench  # noqa: F401 - a fixture

TOY = {"rows": 3000, "users": 150, "items": 150}
FEW_STEPS = ["--set", "training.progress=[600, 1200]", "--set", "training.batch_size=128"]
RUNS = {  # models and references, in one world and with the seeds that the suite asks for
    "heterogeneity-apart": 4 + 2,
    "experts-at-scale": 3 + 2,
    "parts-at-scale": 9 + 2,
}


def small(name: str) -> list[str]:
    """The suite's dataset with few rows and one world; all else as it is."""
    [dataset] = yaml.safe_load(shipped_suites()[name].read_text(encoding="utf-8"))["datasets"]
    dataset = dataset | {"options": dataset["options"] | TOY, "worlds": 1}
    return ["--set", f"datasets={json.dumps([dataset])}", *FEW_STEPS, "--cache", "cache"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", RUNS)
def test_a_suite_at_scale_plans_every_run(name, bench):  # noqa: F811
    outcome = bench("run", name, *small(name), "--plan", "jobs.jsonl")
    assert outcome.code == 0, outcome.err
    assert f"runs: {RUNS[name]} to carry out" in outcome.out
    specs = [json.loads(line)["spec"] for line in Path("jobs.jsonl").read_text().splitlines()]
    assert len({json.dumps(spec, sort_keys=True) for spec in specs}) == RUNS[name]


def test_a_toy_of_curves_ends_in_curves_shares_and_fits(bench):  # noqa: F811
    sizes = "sizes=[{flops_per_sample: 3.0e+4}, {flops_per_sample: 6.0e+4}, {flops_per_sample: 1.2e+5}]"
    rows = "architectures=[{architecture: dlrm_mlp, budget: {flops_per_sample: 6.0e+4}}, dlrm_mlp]"
    changes = ["--set", sizes, "--set", rows, "--set", "seeds=1", "--no-speed", "--keep", "none"]
    outcome = bench("run", "curves", *small("curves"), *changes)
    assert outcome.code == 0, outcome.err
    report = Path("out/curves/report.md").read_text(encoding="utf-8")
    assert "after so many training samples" in report
    assert "How much of the way to the oracle each model goes" in report
    [fit] = pd.read_csv("out/curves/loss_fits.csv").query("task == 'finish'").to_dict("records")
    assert (fit["sizes"], fit["points"]) == (3, 9)
    gap = pd.read_csv("out/curves/oracle_gap.csv")
    assert set(gap["metric"]) == {"auc", "uauc", "gauc", "logloss"}
    assert (gap["share"].dropna() < 1).all()


def test_the_two_worlds_of_groups_differ_in_what_fields_share_alone():
    apart, shared = (
        yaml.safe_load(shipped_suites()[f"heterogeneity-{which}"].read_text(encoding="utf-8"))
        for which in ("apart", "shared")
    )
    differ = {name for name in apart if apart[name] != shared[name]}
    assert differ == {"name", "description", "datasets"}
    options = [suite["datasets"][0].pop("options") for suite in (apart, shared)]
    assert apart["datasets"] == shared["datasets"]
    assert {name for name in options[0] if options[0][name] != options[1][name]} == {"shared"}


def test_an_eighth_of_the_experts_costs_what_its_dense_row_does(bench):  # noqa: F811
    outcome = bench("cost", "--scale", "experts-at-scale", *small("experts-at-scale"))
    assert outcome.code == 0, outcome.err
    active = {words[0]: words[4] for line in outcome.out.splitlines() if len(words := line.split()) > 5}
    assert active["rankmixer-dense-1/8"] == active["rankmixer-dtsi-relu-1/8"]
