"""Lifts by user-activity tier: the table, the words beside the paper's online table, and the figure."""

from __future__ import annotations

import csv

import numpy as np
import pandas as pd
import pytest

from files.errors import InputError
from harness.evaluation.comparisons import INTERVAL_COLUMNS
from harness.evaluation.tiers import METRIC_COLUMNS
from harness.records.store import read_runs
from reports.comparisons import load_inferred
from reports.figures.differences import lift_by_tier
from reports.figures.drawing.saving import figure_of
from reports.paper.printed import load_paper
from reports.render import markdown_page
from reports.sections import load_sections
from reports.tables.analyses.tiers import by_user_activity, paper_lifts, tier_numbers, tier_tables
from tests.reports.made_up import NAMES, record, reference, write_out
from tests.reports.reading import contents_of

MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"
MODELS = ["dlrm_mlp", "wukong", "rankmixer"]
TIERS = ["low", "middle", "high"]
# Lifts by tier of either model; their differences between tiers follow.
LIFTS = {"wukong": (0.0010, 0.0030, 0.0020), "rankmixer": (0.0090, 0.0050, 0.0020)}
PAIRS = {"low - middle": (0, 1), "low - high": (0, 2), "middle - high": (1, 2)}
HALF_WIDTH = 0.0025


def tier_rows(resolved=None, lifts=LIFTS, tasks=("finish", "skip")):
    rows = []
    for model, by_tier in lifts.items():
        diffs = dict(zip(TIERS, by_tier, strict=True))
        diffs |= {pair: by_tier[a] - by_tier[b] for pair, (a, b) in PAIRS.items()}
        for task in tasks:
            for metric in ("auc", "uauc", "gauc"):
                for tier, diff in diffs.items():
                    low, high = diff - HALF_WIDTH, diff + HALF_WIDTH
                    rows.append(
                        {
                            **{"suite": "quick", "dataset": "shortvideo", "task": task, "metric": metric},
                            **{"architecture": model, "variant": "", "base": "dlrm_mlp", "seeds": 2},
                            **{"users": 400, "mean": 0.7 + diff, "base_mean": 0.7, "diff": diff},
                            **{"users_low": low, "users_high": high, "seeds_low": low, "seeds_high": high},
                            **{"low": low, "high": high, "tier": tier},
                            "resolved": resolved or ("yes" if low > 0 or high < 0 else "no"),
                        }
                    )
    return rows


def metric_rows(models, tasks=("finish", "skip")):
    return [
        {
            **{"suite": "quick", "dataset": "shortvideo", "task": task, "tier": tier, "architecture": model},
            **{"variant": "", "seed": seed, "auc": 0.7 + 0.01 * number + 0.001 * seed, "uauc": 0.6},
            **{"users": 300 + number, "rows": 5063 + number, "one_class_users": 3000},
        }
        for model in models
        for task in tasks
        for number, tier in enumerate(TIERS)
        for seed in (0, 1)
    ]


def write_csv(path, columns, rows):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def write_table4(out, rows=None, **changes):
    runs = [record(model, seed) for model in MODELS for seed in (0, 1)] + [reference("oracle")]
    write_out(out, runs, paper_table="table4", **changes)
    write_csv(out / "tiers.csv", [*INTERVAL_COLUMNS, "tier"], tier_rows() if rows is None else rows)
    write_csv(out / "tier_metrics.csv", METRIC_COLUMNS, metric_rows([*MODELS, "oracle"]))
    return out


def section_of(out):
    [section] = load_sections(read_runs(out))
    return section


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return write_table4(tmp_path_factory.mktemp("table4"))


@pytest.fixture(scope="module")
def section(out):
    return section_of(out)


def test_the_papers_finish_lifts_are_those_of_its_table_4():
    table = load_paper().tables["table4"]
    assert paper_lifts(table, "finish") == {
        "Douyin": {"low": 4.5393, "middle": 2.5062, "high": 1.4939},
        "Douyin lite": {"low": 3.3958, "middle": 2.6568, "high": 1.7683},
    }
    assert paper_lifts(table, "skip") == {}


def test_a_table_has_a_row_a_model_and_tier_and_pair_of_tiers(section):
    finish, skip = tier_tables(section)
    rows = [(row[0], row[1]) for row in finish.rows]
    expected = [("DLRM-MLP", tier) for tier in TIERS]
    expected += [(model, tier) for model in ("Wukong", "RankMixer") for tier in [*TIERS, *PAIRS]]
    assert rows == expected
    assert [(row[0], row[1]) for row in skip.rows] == expected
    assert {row[0] for row in finish.references} == {"oracle"}
    cells = {(row[0], row[1]): dict(zip(finish.header, row, strict=True)) for row in finish.rows}
    low = cells["RankMixer", "low"]
    assert low["AUC vs base x100"] == "+0.90 (+0.65 to +1.15) higher"
    assert (low["users"], low["rows"], low["AUC"]) == ("3,300", "5,063", "0.7005")
    assert cells["DLRM-MLP", "high"]["AUC vs base x100"] == "base"
    assert cells["RankMixer", "low - high"]["AUC vs base x100"] == "+0.70 (+0.45 to +0.95) higher"
    unresolved = f"{MINUS}0.10 ({MINUS}0.35 to +0.15) not resolved"
    assert cells["Wukong", "low - high"]["AUC vs base x100"] == unresolved


def test_the_papers_lifts_stand_beside_a_rankmixer_on_its_task_alone_and_are_called_online(section):
    finish, skip = tier_tables(section)
    column = finish.header.index("paper, online: Finish % (Douyin lite)")
    papers_cells = {(row[0], row[1]): row[column] for row in finish.rows}
    assert [papers_cells["RankMixer", tier] for tier in TIERS] == ["+3.40", "+2.66", "+1.77"]
    assert {cell for (model, tier), cell in papers_cells.items() if model != "RankMixer" or "-" in tier} == {
        DASH
    }
    assert not any("paper" in name for name in skip.header)
    assert any("only the order of tiers can be compared" in note for note in finish.notes)


def test_the_numbers_of_a_tier_are_those_of_the_file(section):
    numbers = tier_numbers(section, "skip").set_index(["metric", "architecture", "tier"])
    for model, lifts in LIFTS.items():
        assert numbers.loc["uauc"].loc[model].loc[TIERS, "diff"].tolist() == pytest.approx(list(lifts))
    assert numbers.loc[("auc", "oracle", "low"), "kind"] == "reference"
    assert np.isnan(numbers.loc[("auc", "dlrm_mlp", "low"), "diff"])


def test_the_words_count_who_gains_most_here_and_in_the_paper(section):
    sentences = by_user_activity(section)
    assert "counted in the training split alone" in sentences[0]
    assert sentences[1] == (
        "Test split, finish: low 3,300 users (300 with both labels), 5,063 rows; "
        "middle 3,301 users (301 with both labels), 5,064 rows; "
        "high 3,302 users (302 with both labels), 5,065 rows."
    )
    # Counted by hand in the paper's ten columns: high gains most in comments on Douyin lite, and its likes
    # fall from low to high but not from middle to high.
    [papers] = [sentence for sentence in sentences if "online, another quantity" in sentence]
    assert "in 9 of its 10 columns, and low > middle > high in 8." in papers
    [finish] = [sentence for sentence in sentences if sentence.startswith("finish, AUC: the lift in")]
    assert "agrees 1 (RankMixer +0.70 (+0.45 to +0.95)); differs 0" in finish
    assert f"not resolved 1 (Wukong {MINUS}0.10 ({MINUS}0.35 to +0.15)); untested 0" in finish
    assert "columns: RankMixer; other: Wukong middle > high > low." in finish


def test_a_resolved_lift_among_the_high_differs_from_the_paper_and_one_seed_is_untested(tmp_path):
    lifts = {"rankmixer": (0.001, 0.002, 0.009)}
    for resolved, words in ((None, "agrees 0; differs 1 (RankMixer"), ("one seed", "untested 1 (RankMixer")):
        out = write_table4(tmp_path / str(resolved), tier_rows(resolved, lifts))
        sentences = by_user_activity(section_of(out))
        assert any(sentence.startswith("skip, UAUC") and words in sentence for sentence in sentences)


def test_a_suite_without_tiers_says_nothing_of_them(quick_out):
    section = section_of(quick_out)
    assert by_user_activity(section) == []
    assert tier_tables(section) == []
    assert "By user activity" not in (quick_out / "report.md").read_text()


def test_dots_and_bars_are_the_lifts_and_their_intervals(section):
    figure = figure_of(lift_by_tier(section.tiers))
    assert [axes.get_title("left") for axes in figure.axes] == [
        f"{task}: {metric}" for task in ("finish", "skip") for metric in ("AUC", "UAUC")
    ]
    axes = figure.axes[0]
    for model, lifts in LIFTS.items():
        dots = [line for line in axes.lines if line.get_label() == NAMES[model]]
        assert [line.get_ydata()[0] for line in dots] == pytest.approx([100 * lift for lift in lifts])
        assert [round(line.get_xdata()[0]) for line in dots] == [0, 1, 2]
        assert len({line.get_color() for line in dots}) == 1
        filled = [line.get_markerfacecolor() != "white" for line in dots]
        assert filled == [lift > HALF_WIDTH for lift in lifts]
        for dot, lift in zip(dots, lifts, strict=True):
            [bar] = [
                line.get_ydata()
                for line in axes.lines
                if line is not dot and list(line.get_xdata()) == [dot.get_xdata()[0]] * 2
            ]
            assert list(bar) == pytest.approx([100 * (lift - HALF_WIDTH), 100 * (lift + HALF_WIDTH)])


def test_with_one_seed_the_bars_are_the_users_part_and_dotted():
    rows = pd.DataFrame(tier_rows("one seed", tasks=("finish",)))
    [axes, _] = figure_of(lift_by_tier(rows.assign(low=np.nan, high=np.nan))).axes
    bars = [line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_linestyle() == ":"]
    assert len(bars) == 6
    assert all(np.isfinite(line.get_ydata()).all() for line in bars)


def test_the_page_has_the_tables_the_figure_and_the_papers_table(tmp_path):
    contents = contents_of(write_table4(tmp_path))
    page = markdown_page(contents)
    assert "### By user activity" in page
    assert "An offline counterpart of an online table" in page
    assert "Lift by user-activity tier on shortvideo, task finish" in page
    assert "(figures/tiers-shortvideo.png)" in page
    assert "| Douyin lite, high activity |" in page
    assert "Online, another quantity than AUC" in page
    assert contents.parts[0].figures["tiers-shortvideo"].figure.axes
    [frame] = [table.numbers for table in contents.tables if table.name == "tiers-shortvideo-finish"]
    low = frame[(frame["architecture"] == "rankmixer") & (frame["tier"] == "low")]
    assert low["paper_Douyin"].tolist() == [4.5393]


def test_a_file_of_tiers_without_a_column_is_refused_by_name(tmp_path):
    (tmp_path / "tiers.csv").write_text("suite,dataset\nquick,shortvideo\n")
    with pytest.raises(InputError, match=r"tiers\.csv: lacks the column 'task'"):
        load_inferred(tmp_path, "tiers")
