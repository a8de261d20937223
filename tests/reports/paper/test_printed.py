"""The paper's values as data against values typed from the paper's tables."""

from __future__ import annotations

import pytest

from reports.paper.comparison import active_ratio_curves
from reports.paper.printed import load_paper


@pytest.mark.parametrize(
    ("table", "row", "column", "value"),
    [
        ("table1", "DLRM-MLP", "finish_auc", 0.8554),
        ("table1", "DLRM-MLP", "skip_uauc", 0.7294),
        ("table1", "DLRM-MLP", "flops_per_batch_512", 52e9),
        ("table1", "DLRM-MLP-100M", "dense_params", 95e6),
        ("table1", "DCNv2", "flops_per_batch_512", 170e9),
        ("table1", "RDCN", "dense_params", 22.6e6),
        ("table1", "MoE", "skip_auc", 0.08),
        ("table1", "AutoInt", "flops_per_batch_512", 307e9),
        ("table1", "DHEN", "skip_uauc", 0.52),
        ("table1", "HiFormer", "finish_auc", 0.48),
        ("table1", "Wukong", "finish_auc", 0.29),
        ("table1", "Wukong", "skip_auc", 0.49),
        ("table1", "RankMixer-100M", "skip_uauc", 1.33),
        ("table1", "RankMixer-1B", "skip_uauc", 1.82),
        ("table1", "RankMixer-1B", "flops_per_batch_512", 2.1e12),
        ("table2", "without multi-head token mixing", "auc_change", -0.50),
        ("table2", "shared FFN instead of per-token FFN", "auc_change", -0.31),
        ("table3", "Self-Attention", "flops_change", 71.8),
        ("table3", "All-Share", "auc_change", -0.25),
        ("table2", "without skip connections", "auc_change", -0.07),
        ("table2", "without layer normalization", "auc_change", -0.05),
        ("table3", "All-Concat-MLP", "params_change", 0.0),
        ("table3", "Self-Attention", "params_change", 16.0),
        ("figure3", "Vanilla SMoE, 1/8", "auc", 0.8615),
        ("figure3", "Vanilla SMoE + balance loss, 1/4", "finish_auc", -0.22),
        ("figure3", "SMoE + DTSI + ReLU routing, 1/8", "auc", 0.8643),
        ("figure4", "layer 1, panel 7", "active_ratio", 0.083),
        ("figure4", "layer 2, panel 3", "active_ratio", 0.115),
        ("table4", "Douyin, low activity", "like", 8.1641),
        ("table4", "Douyin lite, high activity", "comment", 2.3683),
        ("table5", "Ads", "advv", 3.90),
        ("table6", "OnlineBase-16M", "mfu", 4.47),
        ("table6", "RankMixer-1B", "mfu", 44.57),
        ("table6", "RankMixer-1B", "latency_ms", 14.3),
        ("figure2", "Wukong 123M", "finish_auc", 0.49),
        ("figure2", "RankMixer 1000M", "flops_per_batch_512", 2470e9),
    ],
)
def test_a_value_is_the_one_that_the_paper_prints(table, row, column, value):
    [found] = [r for r in load_paper().tables[table].rows if r.name == row]
    assert found.numbers[column] == pytest.approx(value, rel=1e-12)


def test_what_the_paper_does_not_print_is_absent():
    rows = {row.name: row.numbers for row in load_paper().tables["table1"].rows}
    assert set(rows["HiFormer"]) == {"finish_auc", "dense_params", "flops_per_batch_512"}
    assert "finish_uauc" not in rows["DLRM-MLP-100M"]


def test_every_value_stands_in_a_column_with_a_unit():
    for table in load_paper().tables.values():
        for row in table.rows:
            assert set(row.numbers) <= set(table.columns), (table.label, row.name)
        assert all(column.unit for column in table.columns.values())


def test_number_of_values_is_that_of_the_tables():
    counts = load_paper().frame().groupby("table").size().to_dict()
    expected = {"Table 1": 61, "Table 2": 4, "Table 3": 9, "Table 4": 40, "Table 5": 2, "Table 6": 12}
    assert counts == expected | {"Figure 2": 26 * 3, "Figure 3": 12 * 3 + 2 + 2, "Figure 4": 16 * 2}


def test_ratios_that_the_paper_states_follow_from_its_table_6():
    base, big = (row.numbers for row in load_paper().tables["table6"].rows)
    assert big["dense_params"] / base["dense_params"] == pytest.approx(70, abs=0.5)
    assert big["flops_per_batch"] / base["flops_per_batch"] == pytest.approx(20.7, rel=0.06)
    assert big["mfu"] / base["mfu"] == pytest.approx(10, abs=0.05)


def test_the_known_conflicts_are_noted():
    paper = load_paper()
    assert any("+0.49" in note and "+0.29" in note for note in paper.notes_on("table1"))
    assert any("70" in note for note in paper.notes_on("table6"))
    assert paper.citation.doi == "10.1145/3746252.3761507"


def test_rankmixer_at_a_matched_budget_stands_beside_the_100m_row():
    table = load_paper().tables["table1"]
    assert table.row("rankmixer").name == "RankMixer-100M"
    assert table.row("rankmixer", "rankmixer-1b").name == "RankMixer-1B"
    assert table.row("transformer") is None
    assert table.row("rankmixer", "no_skip") is None


@pytest.mark.parametrize(
    ("table", "variant", "name"),
    [
        ("table2", "", "RankMixer-100M in full"),
        ("table2", "no-mixing", "without multi-head token mixing"),
        ("table2", "shared-ffn", "shared FFN instead of per-token FFN"),
        ("table3", "", "RankMixer-100M with token mixing"),
        ("table3", "self-attention", "Self-Attention"),
        ("figure3", "", "Dense-RankMixer-1B"),
        ("figure3", "smoe-balance-1/2", "Vanilla SMoE + balance loss, 1/2"),
        ("figure3", "dtsi-relu-1", "SMoE + DTSI + ReLU routing, 1"),
    ],
)
def test_a_variant_stands_beside_its_row(table, variant, name):
    row = load_paper().tables[table].row("rankmixer", variant)
    assert row.name == name
    assert row.base == (variant == "")


def test_the_dense_100m_line_and_figure_4_stand_for_no_row_of_ours():
    tables = load_paper().tables
    assert tables["figure3"].row("rankmixer", "dense-1/8") is None
    assert all(row.architecture is None for row in tables["figure4"].rows)


def test_changes_in_figure_3_are_its_aucs_less_the_dense_models():
    rows = [row.numbers for row in load_paper().tables["figure3"].rows]
    dense = rows[0]["auc"]
    for numbers in rows[1:]:
        assert numbers["finish_auc"] == pytest.approx(100 * (numbers["auc"] - dense), abs=1e-9)


def test_vanilla_experts_lose_with_every_halving_and_balance_wins_part_back():
    curves = active_ratio_curves(load_paper()).set_index(["series", "ratio"])["auc"]
    for ratio in (0.5, 0.25, 0.125):
        assert curves["smoe", ratio] < curves["smoe", 2 * ratio]
        assert curves["smoe", ratio] < curves["smoe-balance", ratio] < curves["dtsi-relu", ratio]
        assert 0.0002 <= round(curves["smoe-balance", ratio] - curves["smoe", ratio], 4) <= 0.0005


def test_figure_4_means_are_those_that_its_note_states():
    rows = [row.numbers for row in load_paper().tables["figure4"].rows]
    means = [
        sum(ratios) / len(ratios)
        for layer in (1, 2)
        if (ratios := [row["active_ratio"] for row in rows if row["layer"] == layer])
    ]
    assert [f"{mean:.2f}" for mean in (*means, sum(means) / 2)] == ["0.44", "0.23", "0.34"]
    assert any("0.44 in layer 1, 0.23 in layer 2 and 0.34" in n for n in load_paper().notes_on("figure4"))
