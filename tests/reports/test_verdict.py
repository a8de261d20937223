"""The first sentence of a report: what survives correction, largest first, or why nothing can be said."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from harness.records.store import read_runs
from reports.contents import gather
from reports.sections import load_sections
from reports.tables.quality import quality_numbers
from reports.verdict import about_its_seeds, about_the_base
from tests.reports.made_up import comparison_rows, failed, record, write_out


def rows_with(records, differences):
    """Comparisons with the given AUC differences of ``finish`` resolved and nothing else."""
    rows = comparison_rows(records)
    for row in rows:
        row["resolved"] = "no"
        if row["task"] == "finish" and row["metric"] == "auc" and row["architecture"] in differences:
            row |= {"diff": differences[row["architecture"]], "resolved": "yes"}
    return rows


def said(out) -> str:
    (part,) = gather(read_runs(out)).parts
    return part.in_short


def test_what_survives_is_named_largest_first_and_on_its_side(tmp_path):
    names = ["dlrm_mlp", "dcn", "rankmixer", "autoint"]
    records = [record(name, seed) for name in names for seed in (0, 1, 2)]
    rows = rows_with(records, {"dcn": 0.0014, "rankmixer": 0.0023, "autoint": -0.0026})
    sentence = said(write_out(tmp_path, records, rows))
    assert sentence.startswith("On shortvideo 3 of 12 tested differences to DLRM-MLP survive correction. ")
    assert "Above it: RankMixer (finish AUC +0.23), DCN (finish AUC +0.14)." in sentence
    assert "Below it: AutoInt (finish AUC \N{MINUS SIGN}0.26)." in sentence


def test_nothing_that_survives_is_said_as_that_and_not_as_equality(tmp_path):
    records = [record(name, seed) for name in ("dlrm_mlp", "dcn") for seed in (0, 1, 2)]
    sentence = said(write_out(tmp_path, records, rows_with(records, {})))
    assert sentence == "On shortvideo none of 4 tested differences to DLRM-MLP survives correction."


def test_more_than_four_are_counted(tmp_path):
    names = ["deepfm", "dcn", "dcnv2", "gdcn", "rdcn", "rankmixer"]
    records = [record(name) for name in ["dlrm_mlp", *names]]
    rows = rows_with(records, {name: 0.001 * (i + 1) for i, name in enumerate(names)})
    sentence = said(write_out(tmp_path, records, rows))
    assert "Above it: RankMixer (finish AUC +0.60)" in sentence
    assert sentence.endswith("GDCN (finish AUC +0.40), DCNv2 (finish AUC +0.30) and 2 more.")


@pytest.mark.parametrize(
    ("records", "changes", "words"),
    [
        ([record("dlrm_mlp"), record("dcn")], {"base": ""}, "no base was named"),
        ([record("dcn"), record("autoint")], {}, "the base dlrm_mlp did not run"),
        ([failed("dlrm_mlp"), record("dcn")], {}, "the base DLRM-MLP has no finished run"),
        ([record("dlrm_mlp")], {}, "nothing but the base ran"),
    ],
)
def test_where_nothing_can_be_compared_it_says_why(tmp_path, records, changes, words):
    assert words in said(write_out(tmp_path, records, [], **changes))


def test_untested_differences_are_no_verdict_and_failures_are_counted(tmp_path):
    records = [record("dlrm_mlp"), record("dcn"), failed("autoint")]
    rows = [row | {"resolved": "one seed"} for row in comparison_rows(records)]
    sentence = said(write_out(tmp_path, records, rows))
    assert "no difference to DLRM-MLP could be tested" in sentence
    assert sentence.endswith("1 run failed.")


def sentences_about_the_base(out) -> list[str]:
    (section,) = load_sections(read_runs(out))
    tables = {task: quality_numbers(section, task) for task in section.tasks}
    return about_the_base(section, tables)


def test_a_base_that_is_last_is_remarked_on_with_the_probability_of_chance(tmp_path):
    names = ["deepfm", "dcn", "autoint", "rankmixer"]
    records = [record(name) for name in ["dlrm_mlp", *names]]
    rows = rows_with(records, dict.fromkeys(names, 0.001))
    for row in rows:  # in the other task they lie on both sides
        if row["task"] == "skip":
            row["diff"] = 0.001 if row["architecture"] == "dcn" else -0.001
    (sentence,) = sentences_about_the_base(write_out(tmp_path, records, rows))
    assert "In AUC of finish all 4 models are above DLRM-MLP at once" in sentence
    orders = list(itertools.permutations(range(5)))  # place 0 is the base's; all orders are equally likely
    last = sum(order[0] == 0 for order in orders)
    assert f"last by chance in 1 of {len(orders) // last} such tables" in sentence


def test_a_base_some_of_whose_seeds_fail_is_remarked_on_with_medians(tmp_path):
    names = ["deepfm", "dcn", "autoint", "rankmixer"]
    rng = np.random.default_rng(0)
    auc = {name: 0.70 + 0.001 * rng.normal(size=(2, 5)) for name in ["dlrm_mlp", *names]}
    auc["dlrm_mlp"][0, 1] -= 0.02
    records = []
    for name, values in auc.items():
        for (world, seed), value in np.ndenumerate(values):
            made = record(name, seed, tasks=("finish",), world=world)
            made["metrics"]["finish"]["auc"] = float(value)
            records.append(made)
    (section,) = load_sections(read_runs(write_out(tmp_path / "a", records)))
    (sentence,) = about_its_seeds(section)
    spread = {name: 100 * np.sqrt(values.var(axis=1, ddof=1).mean()) for name, values in auc.items()}
    others = sorted(spread[name] for name in names)
    assert f"varies by {spread['dlrm_mlp']:.2f} points from seed to seed" in sentence
    assert f"the others by {others[0]:.2f} to {others[-1]:.2f}" in sentence
    median = np.median(100 * (auc["rankmixer"] - auc["dlrm_mlp"]))
    assert f"RankMixer {median:+.2f}".replace("-", "\N{MINUS SIGN}") in sentence
    calm = [run for run in records if (run["world"], run["architecture"]) != (0, "dlrm_mlp")]
    (section,) = load_sections(read_runs(write_out(tmp_path / "b", calm)))
    assert about_its_seeds(section) == []
    few = [run for run in records if run["seed"] < 2]
    (section,) = load_sections(read_runs(write_out(tmp_path / "c", few)))
    assert about_its_seeds(section) == []


def test_a_base_among_the_others_or_few_models_are_not(tmp_path):
    records = [record(name) for name in ("dlrm_mlp", "dcn", "autoint")]
    rows = rows_with(records, {"dcn": 0.001, "autoint": 0.001})
    assert sentences_about_the_base(write_out(tmp_path, records, rows)) == []
