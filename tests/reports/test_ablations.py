"""Suites that take one model apart: signs against the paper, costs against the base, what the page says."""

from __future__ import annotations

import pytest

from harness.records.store import read_runs
from reports.paper.comparison import sign
from reports.paper.words import against_the_paper
from reports.render import markdown_page
from reports.sections import load_sections
from reports.summary import compared
from reports.tables.costs import cost_numbers, cost_table
from reports.tables.quality import quality_numbers, quality_tables
from tests.reports.made_up import quick_records, record, write_out
from tests.reports.reading import contents_of, report_text
from tests.reports.routed import rankmixer, routing, write_figure3

DASH, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
TABLE2 = ["no-residual", "no-mixing", "no-norm", "shared-ffn"]
TABLE3 = ["all-concat-mlp", "all-share", "self-attention"]


@pytest.fixture(scope="module")
def figure3(tmp_path_factory):
    """The base and two ratios of four series, two seeds, three tokens."""
    out = write_figure3(tmp_path_factory.mktemp("figure3"), seeds=2, tokens=3, ratios=("1", "1/2", "1/4"))
    return contents_of(out)


def compared_row(variant, diff, low, high, resolved, task="finish", metric="auc"):
    return {
        **{"suite": "quick", "dataset": "shortvideo", "task": task, "metric": metric},
        **{"architecture": "rankmixer", "variant": variant, "base": "rankmixer", "seeds": 3, "users": 1180},
        **{"diff": diff, "low": low, "high": high, "users_low": low, "users_high": high},
        "resolved": resolved,
    }


def section_of(out):
    [section] = load_sections(read_runs(out))
    return section


def ablation(out, variants, rows=(), table="table2", **changes):
    runs = [rankmixer(name, 0, tasks=("finish", "skip")) for name in ["", *variants]]
    options = {"paper_table": table, "base": "rankmixer", "budget": None} | changes
    return section_of(write_out(out, runs, list(rows), **options))


def numbers_by_task(section):
    return {task: quality_numbers(section, task) for task in section.tasks}


@pytest.mark.parametrize(
    ("resolved", "diff", "paper", "says"),
    [
        ("yes", -0.004, -0.50, "agrees"),
        ("yes", 0.004, 0.64, "agrees"),
        ("yes", 0.004, -0.50, "differs"),
        ("yes", -0.004, 0.64, "differs"),
        ("yes", -0.004, 0.0, "differs"),
        ("no", -0.004, -0.50, "not resolved"),
        ("no", 0.0, 0.0, "not resolved"),
        ("one seed", -0.004, -0.50, "untested"),
        ("few users", 0.004, -0.50, "untested"),
        ("yes", -0.004, None, None),
        ("yes", -0.004, float("nan"), None),
        (None, float("nan"), -0.50, None),
    ],
)
def test_a_sign_needs_a_resolved_difference_and_a_printed_one(resolved, diff, paper, says):
    assert sign(resolved, diff, paper) == says


def test_table_2_prints_the_papers_change_and_the_sign_beside_ours(tmp_path):
    rows = [
        compared_row("no-residual", 0.0010, 0.0002, 0.0018, "yes"),
        compared_row("no-mixing", -0.0040, -0.0050, -0.0030, "yes"),
        compared_row("no-norm", -0.0002, -0.0010, 0.0006, "no"),
        compared_row("shared-ffn", -0.0020, "", "", "one seed"),
    ]
    section = ablation(tmp_path, [*TABLE2, "mine"], rows)
    finish, skip = (quality_tables(section, task)[0] for task in ("finish", "skip"))
    places = [finish.header.index(name) for name in ("paper: AUC change", "AUC sign")]
    cells = {row[0]: tuple(row[place] for place in places) for row in finish.rows}
    assert cells == {
        "RankMixer": ("its base", DASH),
        "RankMixer (no-residual)": (f"{MINUS}0.07", "differs"),
        "RankMixer (no-mixing)": (f"{MINUS}0.50", "agrees"),
        "RankMixer (no-norm)": (f"{MINUS}0.05", "not resolved"),
        "RankMixer (shared-ffn)": (f"{MINUS}0.31", "untested"),
        "RankMixer (mine)": (DASH, DASH),
    }
    assert any("does not say of which task" in note for note in finish.notes)
    assert not any("paper" in name or "sign" in name for name in skip.header)
    assert "UAUC sign" not in finish.header


def test_the_page_counts_the_signs(tmp_path):
    rows = [
        compared_row("no-residual", 0.0010, 0.0002, 0.0018, "yes"),
        compared_row("no-mixing", -0.0040, -0.0050, -0.0030, "yes"),
        compared_row("no-norm", -0.0002, -0.0010, 0.0006, "no"),
    ]
    section = ablation(tmp_path, TABLE2, rows)
    [signs] = [said for said in against_the_paper(section, numbers_by_task(section)) if "sign of" in said]
    assert signs == (
        "finish, AUC: sign of the difference to RankMixer, compared with the paper's in 3 rows: "
        "agrees 1 (RankMixer (no-mixing)); "
        f"differs 1 (RankMixer (no-residual): +0.10 here, {MINUS}0.07 in the paper); "
        "not resolved 1 (RankMixer (no-norm)); untested 0."
    )


def test_signs_are_taken_only_where_our_base_is_the_papers(tmp_path):
    out = write_out(tmp_path, quick_records(), base="dcn")
    section = section_of(out)
    finish = quality_numbers(section, "finish").query("metric == 'auc'")
    assert finish["paper"].notna().any()
    assert finish["sign"].isna().all()
    assert against_the_paper(section, numbers_by_task(section)) == []


def test_costs_stand_against_the_base_where_there_is_no_budget(tmp_path):
    runs = [rankmixer(name) for name in ("", "self-attention", "all-share", "self-attention-4-heads")]
    runs[1]["cost"] |= {"dense_params": 696_000, "flops_per_sample": 2_061_600}
    runs[2]["cost"] |= {"dense_params": 594_000, "flops_per_sample": 1_200_000}
    section = section_of(write_out(tmp_path, runs, paper_table="table3", base="rankmixer", budget=None))
    table = cost_table(section)
    names = ("params vs base", "FLOPs vs base", "paper: params change", "paper: FLOPs change")
    cells = {row[0]: tuple(row[table.header.index(name)] for name in names) for row in table.rows}
    assert cells == {
        "RankMixer": ("+0.0%", "+0.0%", DASH, DASH),
        "RankMixer (self-attention)": ("+16.0%", "+71.8%", "+16.0%", "+71.8%"),
        "RankMixer (all-share)": (f"{MINUS}1.0%", "+0.0%", "+0.0%", "+0.0%"),
        "RankMixer (self-attention-4-heads)": ("+0.0%", "+0.0%", DASH, DASH),
    }
    assert "budget miss" not in table.header


def test_costs_at_a_budget_are_not_compared_with_the_base(tmp_path):
    table = cost_table(section_of(write_out(tmp_path, quick_records())))
    assert "budget miss" in table.header
    assert not any("vs base" in name for name in table.header)
    assert not any("active" in name or "expert" in name for name in table.header)


def test_the_page_says_that_there_is_no_budget_and_which_widths_differ(tmp_path):
    runs = [rankmixer(), rankmixer("dense-1/2"), rankmixer("smoe-1/2")]
    runs[1]["spec"]["config"]["ffn_dim"] = 64
    section = section_of(write_out(tmp_path, runs, base="rankmixer", budget=None))
    [said] = [sentence for sentence in compared(section) if sentence.startswith("Budget: none")]
    assert "Every row has the base's widths (model_dim 64, ffn_dim 128), except" in said
    assert said.endswith("except RankMixer (dense-1/2) (ffn_dim 64).")


def test_nothing_is_said_of_widths_that_other_architectures_name_otherwise(tmp_path):
    runs = [rankmixer(), record("dlrm_mlp", budget=None)]
    section = section_of(write_out(tmp_path, runs, base="rankmixer", budget=None))
    [said] = [sentence for sentence in compared(section) if sentence.startswith("Budget: none")]
    assert "widths" not in said


def test_cost_of_experts_is_the_mean_over_seeds(tmp_path):
    runs = [rankmixer(), *(rankmixer("dtsi-relu-1/4", seed, routing=routing(0.25)) for seed in (0, 1))]
    for run, ratio, flops, dead in zip(runs[1:], (0.26, 0.23), (480_000, 500_000), (0, 1), strict=True):
        run["routing"]["test"] = {
            "active_ratio": ratio,
            "active_experts": [[[0.5, 0.0 if dead else 0.5]] * 16] * 2,
        }
        run["cost"]["active_flops_per_sample"] = flops
    section = section_of(write_out(tmp_path, runs, base="rankmixer", budget=None))
    row = cost_numbers(section).set_index("variant").loc["dtsi-relu-1/4"]
    assert row["active_ratio"] == pytest.approx(0.245)
    assert (row["active_ratio_target"], row["active_flops_per_sample"]) == (0.25, 490_000)
    assert (row["dead_experts"], row["experts"]) == (16, 64)  # none in one seed, 32 in the other
    table = cost_table(section)
    cells = dict(zip(table.header, table.rows[1], strict=True))
    assert (cells["active ratio: target"], cells["measured"]) == ("0.250", "0.245")
    assert (cells["dead experts"], cells["of"]) == ("16", "64")
    assert table.rows[0][table.header.index("dead experts")] == DASH


def test_figure_4_is_answered_in_words(tmp_path):
    run = rankmixer("dtsi-relu-1/4", routing=routing(0.25, tokens=2))
    experts = [[[0.1, 0.3], [0.4, 0.6]], [[0.0, 0.2], [0.2, 0.2]]]
    run["routing"]["test"] = {"active_ratio": 0.25, "active_experts": experts}
    section = section_of(write_out(tmp_path, [rankmixer(), run], paper_table="figure4", base="rankmixer"))
    said = against_the_paper(section, numbers_by_task(section))
    assert said == [
        "Active ratio by token when training ends, in the paper: layer 1 0.08 to 0.81, mean 0.44; "
        "layer 2 0.08 to 0.47, mean 0.23.",
        "RankMixer (dtsi-relu-1/4), on the test split: layer 1 0.20 to 0.50, mean 0.35; "
        "layer 2 0.10 to 0.20, mean 0.15.",
    ]


def test_a_whole_figure_3_makes_a_report_with_the_papers_figure_beside_it(figure3):
    page = markdown_page(figure3)
    assert "sign of the difference to RankMixer, compared with the paper's in 9 rows" in page
    assert "| RankMixer (smoe-balance-1/4) |" in page
    assert "The paper's Figure 3 (AUC against the active fraction of parameters" in page
    assert "| Dense-RankMixer-1B | 1 | 0.8645 | base |" in page
    [frame] = [table.numbers.set_index("variant") for table in figure3.tables if "cost" in table.name]
    assert frame.loc["smoe-1/4", "dead_experts"] == 2
    assert frame.loc["dense-1/2", "flops_vs_base"] == pytest.approx(-0.4)


def test_figures_of_experts_are_drawn_for_free_routers_alone(figure3):
    figures = figure3.parts[0].figures
    assert all(drawing.figure.axes for drawing in figures.values())
    names = set(figures)
    over_time = {name for name in names if name.startswith("active-shortvideo")}
    assert over_time == {f"active-shortvideo-rankmixer__dtsi-relu-1_{n}_" for n in (2, 4)}
    assert names - over_time == {
        f"{stem}-shortvideo"
        for stem in (
            "differences",
            "active-ratio",
            "quality-cost",
            "validation",
            "loss",
            "active-map",
            "experts",
        )
    }


def test_of_many_models_the_curves_show_the_last_of_each_series_and_say_so(figure3):
    page = markdown_page(figure3)
    assert "of each series only its last row, 7 models left out" in page
    loss = figure3.parts[0].figures["loss-shortvideo"]
    named = {text.get_text() for axes in loss.figure.axes for text in axes.texts}
    assert "RankMixer (smoe-1/4)" in named
    assert "RankMixer (smoe-1/2)" not in named


def test_a_suite_without_a_base_makes_a_report_without_differences(tmp_path):
    runs = [rankmixer("100m"), rankmixer("1b")]
    out = write_out(tmp_path, runs, [], paper_table=None, base="", budget=None)
    section = section_of(out)
    assert section.base is None
    assert "no base was named, so no differences are shown." in report_text(out)
