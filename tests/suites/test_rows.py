"""What each row of a suite is fed and costs: against schemas read by hand and the paper's counts."""

from __future__ import annotations

import resource
import sys

import pytest

import suites.costs
from datasets.kuairand.schema import kuairand_schema
from datasets.shortvideo.source import shortvideo_schema
from files.errors import InputError
from suites.costs import cost_table
from suites.rows import MatchedRow, match_rows, row_inputs
from suites.suite import Suite, load_suite
from tests.harness.schemas import small_schema
from tests.suites.shapes import shape_of

SMALL = shape_of(small_schema())  # 48 numbers, 3 groups of 12, 20 and 16, 7 features of 8 or 4
SHAPES = {
    "shortvideo": shape_of(shortvideo_schema()),
    "kuairand-pure": shape_of(kuairand_schema(all_tabs=False, history_length=50, statistics=False)),
}


def suite(*rows: dict, **fields: object) -> Suite:
    content = {"name": "s", "description": "d", "datasets": ["shortvideo"], "base": None, **fields}
    return Suite.model_validate(content | {"architectures": list(rows)})


# ---------------------------------------------------------------------------------------------- inputs


@pytest.mark.parametrize(
    ("in_suite", "in_row", "tokenizer", "num_tokens", "token_dim"),
    [
        ({}, {}, "chunks", 16, 8),
        ({"tokens": 3}, {}, "chunks", 3, 16),
        ({"tokens": 3, "token_dim": 24}, {}, "chunks", 3, 24),
        ({"tokens": 3, "token_dim": 24}, {"token_dim": 32}, "chunks", 3, 32),
        ({"tokens": 3}, {"tokens": 6}, "chunks", 6, 8),
        ({"tokenizer": "groups"}, {}, "groups", 3, 24),
        ({"tokenizer": "groups", "tokens": 4}, {}, "groups", 4, 16),
        ({"tokenizer": "fields"}, {}, "fields", 7, 8),
        ({"tokenizer": "fields", "tokens": 7}, {}, "fields", 7, 8),
        ({"tokens": 4}, {"tokenizer": "groups"}, "groups", 3, 24),
        ({"tokens": 4}, {"tokenizer": "groups", "tokens": 4}, "groups", 4, 16),
        ({"tokens": 4}, {"tokenizer": "fields"}, "fields", 7, 8),
        ({"tokens": 4}, {"tokenizer": "fields", "tokens": 7}, "fields", 7, 8),
        ({"tokenizer": "fields"}, {"tokenizer": "chunks", "tokens": 3}, "chunks", 3, 16),
    ],
)
def test_a_row_gets_its_own_tokens_or_else_the_suites(in_suite, in_row, tokenizer, num_tokens, token_dim):
    asked = suite({"architecture": "dlrm_mlp", **in_row}, **in_suite)
    inputs = row_inputs(asked, SMALL, asked.architectures[0])
    assert (inputs.tokenizer, inputs.num_tokens, inputs.token_dim) == (tokenizer, num_tokens, token_dim)


@pytest.mark.parametrize(
    ("in_suite", "in_row", "message"),
    [
        (
            {},
            {"tokenizer": "fields", "tokens": 16},
            "dlrm_mlp-v: tokens: .* one token a feature, 7 .* not 16",
        ),
        ({"tokenizer": "fields", "tokens": 16}, {}, "one token a feature, 7 for 'small', not 16"),
        ({"tokenizer": "groups", "tokens": 2}, {}, "dlrm_mlp-v: tokens: .* set tokens to at least 3"),
        ({"token_dim": 8}, {"tokens": 3}, "dlrm_mlp-v: tokens: .* set token_dim to at least 16"),
    ],
)
def test_tokens_that_a_dataset_cannot_have_are_refused_with_the_rows_name(in_suite, in_row, message):
    asked = suite(
        {"architecture": "dlrm_mlp", "variant": "v", "config": {"hidden_dim": 4}, **in_row},
        **in_suite,
    )
    with pytest.raises(InputError, match=message):
        match_rows(asked, SMALL)


def test_rows_are_counted_on_their_own_tokens():
    """An MLP's first layer is T * d wide, zeros and all."""
    asked = suite(
        {"architecture": "dlrm_mlp", "config": {"hidden_dim": 8}, "tokens": 6},
        {"architecture": "dlrm_mlp", "variant": "fields", "config": {"hidden_dim": 8}, "tokenizer": "fields"},
    )
    chunks, fields = match_rows(asked, SMALL)
    assert fields.cost.flops_per_sample - chunks.cost.flops_per_sample == 2 * (7 * 8 - 6 * 8) * 8


@pytest.mark.parametrize("dataset", SHAPES)
def test_the_rows_of_tokens_differ_in_their_tokens_alone(dataset):
    prepared, asked = SHAPES[dataset], load_suite("tokens", [])
    num_tokens = {row.variant: row_inputs(asked, prepared, row).num_tokens for row in asked.architectures}
    assert num_tokens == {
        **{"": 16, "chunks-4": 4, "chunks-8": 8, "chunks-32": 32, "chunks-64": 64, "groups-16": 16},
        "groups": len({feature.group for feature in prepared.schema.features}),
        "fields": len(prepared.schema.features),
    }


def test_the_row_of_tokens_with_the_most_tokens_still_meets_the_suites_budget():
    asked = load_suite("tokens", ["base=null"])
    fields = [row for row in asked.architectures if row.variant == "fields"]
    [row] = match_rows(asked.model_copy(update={"architectures": fields}), SHAPES["kuairand-pure"])
    assert (row.inputs.num_tokens, row.inputs.token_dim) == (72, 16)
    assert row.cost.flops_per_sample == pytest.approx(1e6, rel=0.03)


@pytest.mark.parametrize("kind", ["flops_per_sample", "dense_params"])
def test_a_row_is_matched_to_its_own_budget_or_else_to_the_suites(kind):
    in_suite, in_row = {"flops_per_sample": 40_000}, {kind: 20_000}
    asked = suite(
        "dlrm_mlp",
        {"architecture": "dlrm_mlp", "variant": "own", "budget": in_row},
        budget=in_suite,
    )
    plain, own = match_rows(asked, SMALL)
    assert plain.cost.flops_per_sample == pytest.approx(40_000, rel=0.03)
    assert getattr(own.cost, kind) == pytest.approx(20_000, rel=0.03)
    assert (own.budget.kind, own.budget.target) == (kind, 20_000)
    assert own.budget.miss == pytest.approx(getattr(own.cost, kind) / 20_000 - 1)


# --------------------------------------------------------------------------------------------- the paper's


TABLE_1 = {  # dense parameters in millions, FLOPs per batch of 512 in units of 1e9
    "dlrm_mlp": (8.7, 52),
    "dlrm_mlp-100m": (95, 185),
    "dcnv2": (22, 170),
    "rdcn": (22.6, 172),
    "moe": (47.6, 158),
    "autoint": (19.2, 307),
    "dhen": (22, 158),
    "hiformer": (116, 326),
    "wukong": (122, 442),
    "rankmixer-100m": (107, 233),
    "rankmixer-1b": (1100, 2100),
}


@pytest.fixture(scope="module")
def papers_table() -> tuple[dict[str, MatchedRow], int]:
    """The rows of ``paper`` by name, and by how many kilobytes the process grew while they were counted."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows = match_rows(load_suite("paper", []), SHAPES["shortvideo"])
    return {row.name: row for row in rows}, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before


def test_every_row_of_the_papers_table_1_has_its_parameters_and_none_is_allocated(papers_table):
    rows, grown = papers_table
    assert rows.keys() == TABLE_1.keys()
    for name, (millions, _) in TABLE_1.items():
        assert rows[name].cost.dense_params == pytest.approx(millions * 1e6, rel=0.02), name
    if sys.platform == "linux":
        assert grown < 200_000  # of the 6 million that the weights would take


def test_rankmixer_has_the_papers_tokens_width_and_layers(papers_table):
    rows, _ = papers_table
    small, large = rows["rankmixer-100m"], rows["rankmixer-1b"]
    assert [(r.inputs.num_tokens, r.config["model_dim"], r.config["num_layers"]) for r in (small, large)] == [
        (16, 768, 2),  # section 4.3
        (32, 1536, 2),
    ]


def test_rows_of_the_papers_size_stand_beside_its_own_columns(monkeypatch, papers_table):
    rows, _ = papers_table
    monkeypatch.setattr(suites.costs, "prepare_dataset", lambda *_, **__: SHAPES["shortvideo"])
    monkeypatch.setattr(suites.costs, "match_rows", lambda *_: list(rows.values()))
    published = {name: (millions * 1e6, giga * 1e9) for name, (millions, giga) in TABLE_1.items()}
    text = cost_table(load_suite("paper", []), None, None, published)  # type: ignore[arg-type]
    beside = {line.split()[0]: line.split()[1:] for line in text.split("\n\n")[1].splitlines()[1:]}
    for name, (millions, giga) in TABLE_1.items():
        ours, papers, _, forward, training, paper_flops, ratio, paper_ratio = (
            float(cell.replace(",", "").rstrip("%")) for cell in beside[name]
        )
        assert (papers, paper_flops) == (pytest.approx(millions, abs=0.05), giga)
        assert ours == pytest.approx(millions, rel=0.02)
        assert training == pytest.approx(3 * forward, rel=0.02)
        assert ratio == pytest.approx(training * 1e9 / 512 / (ours * 1e6), rel=0.02)
        assert paper_ratio == pytest.approx(giga * 1e9 / 512 / (millions * 1e6), abs=0.06)
    assert "cannot be had with its parameters" in text


def test_a_suite_of_other_sizes_has_no_such_block(monkeypatch):
    published = {"dlrm_mlp": (8.7e6, 52e9)}
    monkeypatch.setattr(suites.costs, "prepare_dataset", lambda *_, **__: SMALL)
    asked = suite({"architecture": "dlrm_mlp", "config": {"hidden_dim": 8}}, tokens=3)
    assert "paper" not in cost_table(asked, None, None, published)  # type: ignore[arg-type]


# ----------------------------------------------------------------------------------------------- the table


def table(monkeypatch, asked: Suite) -> list[str]:
    monkeypatch.setattr(suites.costs, "prepare_dataset", lambda *_, **__: SMALL)
    return cost_table(asked, None, None).splitlines()  # type: ignore[arg-type]


def test_the_table_names_rows_by_architecture_and_variant_with_nested_configs_readable(monkeypatch):
    moe = {"num_experts": 4, "routing": "relu"}
    asked = suite(
        {"architecture": "rankmixer", "config": {"model_dim": 8, "ffn_dim": 16}},
        {
            "architecture": "rankmixer",
            "variant": "sparse",
            "config": {"model_dim": 8, "ffn_dim": 16, "moe": moe},
        },
        tokens=4,
    )
    title, heading, plain, sparse = table(monkeypatch, asked)
    assert title == "small: 4 tokens of width 16, 25% padding"  # 64 for 48 numbers
    assert heading.split()[:3] == ["architecture", "dense", "params"]
    assert plain.endswith("  model_dim=8, ffn_dim=16")
    assert sparse.startswith("rankmixer-sparse ")
    assert sparse.endswith("  model_dim=8, ffn_dim=16, moe(num_experts=4, routing=relu)")


def test_the_table_gives_each_row_its_tokens_where_they_differ(monkeypatch):
    asked = suite(
        {"architecture": "dlrm_mlp", "config": {"hidden_dim": 8}},
        {"architecture": "dlrm_mlp", "variant": "fields", "config": {"hidden_dim": 8}, "tokenizer": "fields"},
        tokens=3,
    )
    title, heading, chunks, fields = table(monkeypatch, asked)
    assert title == "small:"
    assert heading.split()[:2] == ["architecture", "tokens"]
    assert "  3 tokens of width 16  " in chunks
    assert "  7 tokens of width 8, fields, 14% padding  " in fields
    assert len({line.index("  hidden_dim") for line in (chunks, fields)}) == 1
