"""The table of effective ranks: means by hand, and no table where no model has layers of tokens."""

from __future__ import annotations

from harness.records.store import read_runs
from reports.sections import load_sections
from reports.tables.analyses.token_ranks import token_rank_tables
from tests.reports.made_up import record, write_out


def tables(tmp_path, ranks: dict[str, list[list[float]]]) -> list:
    """By architecture and seed, the effective ranks of the input and of each layer."""
    records = []
    for architecture, seeds in ranks.items():
        for seed, values in enumerate(seeds):
            run = record(architecture, seed)
            run["token_ranks"] = [
                {
                    "layer": f"blocks.{n - 1}" if n else "input",
                    "tokens": 16,
                    "width": 24 + n,
                    "effective_rank": v,
                }
                for n, v in enumerate(values)
            ]
            records.append(run)
    [section] = load_sections(read_runs(write_out(tmp_path, records)))
    return token_rank_tables(section)


def test_a_cell_is_the_mean_over_runs_and_models_of_other_depths_have_gaps(tmp_path):
    ranks = {
        "dlrm_mlp": [[9.0], [9.0]],
        "transformer": [[9.0, 4.0]],
        "rankmixer": [[9.0, 12.0, 10.0], [10.0, 13.0, 12.0]],
    }
    [table] = tables(tmp_path, ranks)
    assert table.header == ["model", "tokens x width", "input", "after 1", "after 2"]
    assert table.rows == [
        ["Transformer", "16 x 25", "9.0", "4.0", "\N{EN DASH}"],
        ["RankMixer", "16 x 26", "9.5", "12.5", "11.0"],
    ]
    assert table.numbers.query("architecture == 'dlrm_mlp'")["effective_rank"].tolist() == [9.0]


def test_without_layers_of_tokens_there_is_no_table(tmp_path):
    assert tables(tmp_path, {"dlrm_mlp": [[9.0]], "dcn": [[9.0]]}) == []
    assert tables(tmp_path / "older", {"dlrm_mlp": [[]]}) == []
