"""Where the data leak, or an AUC is too good, a report shows its numbers and gives no verdict."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest

from harness.evaluation.verdict import TOO_GOOD, withheld
from harness.records.store import read_runs
from reports.contents import Contents, gather
from reports.figures.differences import ablation_waterfall, forest, lift_by_tier
from reports.figures.drawing.saving import figure_of
from reports.render import render
from reports.sections import load_sections
from tests.reports.made_up import COMPARISON_COLUMNS, quick_records, record, write_out
from tests.reports.tables.analyses.test_ordering import PAPER, compared_row, pair_row
from tests.reports.tables.analyses.test_readings import variant_rows
from tests.reports.tables.analyses.test_scaling import sized_records
from tests.reports.tables.analyses.test_tiers import write_table4

LEAK = {
    "feature": "play_progress",
    "kind": "auc",
    "task": "finish",
    "number": 1.0,
    "says": "alone predicts 'finish' with AUC 1.0000 on validation",
}
REASON = "No verdict: feature 'play_progress' alone predicts 'finish' with AUC 1.0000 on validation"
VERDICTS = re.compile(r"\b(higher|lower|agrees?|differs?(?! from)|resolved|alike|steeper)\b")


def leaks(*found: dict, leak_ok: tuple[str, ...] = ()) -> dict:
    return {"found": list(found), "leak_ok": list(leak_ok)}


def with_leaks(records: list[dict], found: dict) -> list[dict]:
    return [made | {"dataset_info": made["dataset_info"] | {"leaks": found}} for made in records]


def with_auc(records: list[dict], kind: str, auc: float, task: str = "finish") -> list[dict]:
    """The first record of this kind with another AUC on the task."""
    number = next(number for number, made in enumerate(records) if made["kind"] == kind)
    made = records[number]
    measured = made["metrics"] | {task: made["metrics"][task] | {"auc": auc}}
    return [*records[:number], made | {"metrics": measured}, *records[number + 1 :]]


def texts_of(contents: Contents) -> list[str]:
    """All that the report says of its sections: words, and tables with their captions and notes."""
    texts = []
    for part in contents.parts:
        texts += [part.title, part.in_short]
        texts += [text for words in (*part.overview, *part.more) for text in (words.title, *words.bullets)]
        for table in part.tables:
            texts += [table.caption, *table.header, *table.notes]
            texts += [str(cell) for row in (*table.rows, *table.references) for cell in row]
            texts += [str(cell) for cell in table.numbers.to_numpy().ravel()]
    return texts


def quick(out: Path, found: dict) -> Path:
    return write_out(out, with_leaks(quick_records(), found))


def table4(out: Path, found: dict) -> Path:
    return write_table4(out, leaks={"shortvideo": found})


def figure2(out: Path, found: dict) -> Path:
    changes = {"name": "figure2", "paper_table": "figure2"}
    return write_out(out, with_leaks(sized_records(), found), **changes)


def table1(out: Path, found: dict) -> Path:
    records = with_leaks([record(model, seed) for model in PAPER for seed in range(3)], found)
    models = [model for model in PAPER if model != "dlrm_mlp"]
    write_out(out, records, [compared_row(model, PAPER[model] / 100) for model in models])
    pairs = [pair_row(*pair, PAPER, 0.001) for pair in combinations(models, 2)]
    pd.DataFrame(pairs).to_csv(out / "pairs.csv", index=False)
    return out


def variants(out: Path, found: dict) -> Path:
    rows = [("dlrm_mlp", ""), ("dcn", ""), ("dcn", "deep")]
    records = [record(model, seed, variant=variant) for model, variant in rows for seed in (0, 1)]
    write_out(out, with_leaks(records, found))
    with (out / "variants.csv").open("w") as file:
        writer = csv.DictWriter(file, COMPARISON_COLUMNS)
        writer.writeheader()
        writer.writerows(variant_rows())
    return out


def ablation(out: Path, found: dict) -> Path:
    """One model taken apart: changes to the base at no budget."""
    rows = [(variant, seed) for variant in ("", "no_mix", "shared") for seed in (0, 1)]
    records = [record("rankmixer", seed, variant=variant, budget=None) for variant, seed in rows]
    differences = [
        compared_row("rankmixer", diff, variant) | {"base": "rankmixer", "resolved": resolved}
        for variant, diff, resolved in (("no_mix", -0.004, "yes"), ("shared", 0.0002, "no"))
    ]
    return write_out(out, with_leaks(records, found), differences, base="rankmixer", paper_table="table2")


@pytest.fixture(autouse=True)
def without_figures(monkeypatch):
    """They take most of a report's time."""
    monkeypatch.setattr("reports.contents.section_figures", lambda section: {})


Suite = Callable[[Path, dict], Path]


@pytest.mark.parametrize(
    "suite", [quick, table4, figure2, table1, variants, ablation], ids=lambda s: s.__name__
)
def test_no_word_of_verdict_is_left_on_data_that_leak(tmp_path, suite: Suite):
    free, gated = (
        gather(read_runs(suite(tmp_path / name, found)))
        for name, found in (("free", leaks()), ("gated", leaks(LEAK)))
    )
    assert any(VERDICTS.search(text) for text in texts_of(free))  # there would be some
    assert [text for text in texts_of(gated) if VERDICTS.search(text)] == []
    (part,) = gated.parts
    mend = "remove what leaks, or acknowledge it in the schema with leak_ok: [play_progress]."
    assert part.in_short.endswith(f": {REASON}; {mend}")


def test_the_numbers_are_shown_nonetheless(tmp_path):
    free, gated = (
        gather(read_runs(quick(tmp_path / name, found)))
        for name, found in (("a", leaks()), ("b", leaks(LEAK)))
    )
    tables = {table.name: table for table in gated.parts[0].tables}
    for table in free.parts[0].tables:
        if table.name.startswith("significance"):  # p-values are there to give verdicts
            assert table.name not in tables
            continue
        for column in ("auc", "auc_low", "auc_diff", "auc_diff_low", "uauc_diff_high"):
            if column in table.numbers:
                assert tables[table.name].numbers[column].equals(table.numbers[column])


def test_figures_fill_no_mark_and_name_no_mark_resolved(tmp_path):
    """Their frames are the section's, which hold no verdict."""
    tiers = withheld(section_of(table4(tmp_path / "t", leaks())).tiers)
    changes = withheld(section_of(ablation(tmp_path / "a", leaks())).comparisons)
    assert (changes["resolved"] == "no verdict").all()
    for figure in (
        figure_of(forest(changes)),
        figure_of(ablation_waterfall(changes)),
        figure_of(lift_by_tier(tiers)),
    ):
        named = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
        assert "no verdict" in named
        assert not [text for text in named if VERDICTS.search(text)]


def test_the_page_and_the_text_begin_with_the_reason(tmp_path):
    out = quick(tmp_path, leaks(LEAK))
    render(out)
    text = (out / "report.md").read_text()
    assert REASON in text.partition("## In short")[2].partition("\n## ")[0]
    page = (out / "report" / "index.html").read_text()
    assert "No verdict: feature &#39;play_progress&#39; alone predicts" in page


def section_of(out: Path):
    (section,) = load_sections(read_runs(out))
    return section


def test_an_auc_above_99_of_any_model_withholds_the_verdict_and_of_a_reference_does_not(tmp_path):
    for name, kind, auc, is_withheld in (
        ("above", "model", TOO_GOOD + 0.0004, True),
        ("at", "model", TOO_GOOD, False),
        ("oracle", "reference", 0.9999, False),
    ):
        section = section_of(write_out(tmp_path / name, with_auc(quick_records(), kind, auc, "skip")))
        assert bool(section.no_verdict) is is_withheld, name
    above = section_of(tmp_path / "above").no_verdict
    assert "dlrm_mlp reaches AUC 0.9904 on 'skip'" in above
    assert "leak_ok" in above


def test_a_leak_of_a_label_that_is_not_trained_withholds_nothing(tmp_path):
    assert not section_of(quick(tmp_path, leaks(LEAK | {"task": "like"}))).no_verdict


def test_a_leak_of_the_split_withholds_the_verdict_of_every_task(tmp_path):
    found = leaks(LEAK | {"task": None, "kind": "split", "says": "names the split"})
    assert "feature 'play_progress' names the split" in section_of(quick(tmp_path, found)).no_verdict


def test_an_acknowledged_leak_is_told_and_the_verdict_comes_back(tmp_path):
    records = with_auc(quick_records(), "model", 0.9991)
    out = write_out(tmp_path, with_leaks(records, leaks(LEAK, leak_ok=("play_progress",))))
    section = section_of(out)
    assert not section.no_verdict
    texts = texts_of(gather(read_runs(out)))
    told = [text for text in texts if text.startswith("Acknowledged with leak_ok")]
    assert "feature 'play_progress' alone predicts 'finish'" in told[0]
    assert "[play_progress]: dlrm_mlp reaches AUC 0.9991 on 'finish'" in told[1]
    assert any("higher" in text for text in texts)


def test_one_acknowledged_leak_does_not_excuse_another_nor_the_auc_of_another_task(tmp_path):
    other = LEAK | {"feature": "answer"}
    section = section_of(quick(tmp_path / "other", leaks(LEAK, other, leak_ok=("play_progress",))))
    assert section.no_verdict.endswith("leak_ok: [answer].")
    records = with_auc(quick_records(), "model", 0.9991, "skip")
    out = write_out(tmp_path / "task", with_leaks(records, leaks(LEAK, leak_ok=("play_progress",))))
    assert "AUC 0.9991 on 'skip'" in section_of(out).no_verdict


def test_what_the_suite_last_found_counts_before_what_older_records_say(tmp_path):
    """So that a leak is acknowledged, or found, without training again."""
    acknowledged = leaks(LEAK, leak_ok=("play_progress",))
    records = with_leaks(quick_records(), leaks(LEAK))
    assert not section_of(write_out(tmp_path / "a", records, leaks={"shortvideo": acknowledged})).no_verdict
    out = write_out(tmp_path / "b", quick_records(), leaks={"shortvideo": leaks(LEAK)})
    assert section_of(out).no_verdict


def test_of_many_leaks_some_are_told_and_all_are_named_for_leak_ok(tmp_path):
    found = [LEAK | {"feature": f"f{number}"} for number in range(8)]
    reason = section_of(quick(tmp_path, leaks(*found))).no_verdict
    assert reason.count("alone predicts") == 3
    assert "5 more leaks, which data describe shows" in reason
    assert reason.endswith("leak_ok: [f0, f1, f2, f3, f4, f5, f6, f7].")
