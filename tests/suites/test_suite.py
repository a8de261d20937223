"""Suites: what loads, what a command line may change, and what is refused with which words."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from files.errors import InputError
from harness.model.architectures import ARCHITECTURES, architecture_class
from harness.model.assembly import Tower, build_backbone
from harness.records.contestant import Contestant
from harness.records.spec import RunSpec
from suites.suite import Suite, load_suite, shipped_suites

MINIMAL = {
    "name": "mine",
    "description": "Two architectures.",
    "datasets": ["shortvideo"],
    "budget": {"flops_per_sample": 1000},
    "architectures": ["dlrm_mlp", "dcn"],
}


@pytest.fixture
def suite_file(tmp_path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    return path


def written(folder: Path, **changes: object) -> str:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(MINIMAL | changes))
    return str(path)


def refusal(name_or_path: str | Path, overrides: list[str] | None = None) -> str:
    with pytest.raises(InputError) as error:
        load_suite(str(name_or_path), overrides or [])
    return str(error.value)


# -------------------------------------------------------------------------------------------- what loads


def rows_of(content: dict) -> list[dict]:
    """The rows of a suite's YAML as mappings."""
    rows = content["architectures"]
    if rows == "all":
        rows = list(ARCHITECTURES)
    elif isinstance(rows, dict):
        rows = [{"architecture": name} | fields for name in ARCHITECTURES for fields in rows["all"]]
    return [{"architecture": row} if isinstance(row, str) else row for row in rows]


@pytest.mark.parametrize("name", shipped_suites())
def test_a_shipped_suite_loads_under_the_name_of_its_file(name):
    assert load_suite(name, []).name == name


@pytest.mark.parametrize("name", shipped_suites())
def test_a_shipped_suite_says_all_that_it_says_in_its_own_yaml(name):
    content = yaml.safe_load(shipped_suites()[name].read_text())
    suite = load_suite(name, []).model_dump(mode="json", exclude_none=True)
    for field in content.keys() - {"architectures", "training", "datasets", "budget", "base"}:
        assert suite[field] == content[field]
    assert suite.get("base") == content["base"]
    sizes = len(content.get("sizes", [0]))
    stated = [row for row in rows_of(content) for _ in range(1 if "budget" in row else sizes)]
    for row, loaded in zip(stated, suite["architectures"], strict=True):
        given = {name: value for name, value in row.items() if value is not None and name != "ratio"}
        assert given.items() <= loaded.items()
        assert loaded.get("ratio") == (str(row["ratio"]) if "ratio" in row else loaded.get("ratio"))
        assert all(loaded.get(name) is None for name in row.keys() - given.keys() - {"ratio"})
    assert content["training"].items() <= suite["training"].items()
    assert content.get("budget", {}).items() <= suite.get("budget", {}).items()


@pytest.mark.parametrize("name", shipped_suites())
def test_a_shipped_suite_has_a_budget_or_sizes_every_row(name):
    suite = load_suite(name, [])
    for row in suite.architectures:
        knobs = architecture_class(row.architecture).knobs(16, 16).each
        assert suite.budget or row.budget or all(knob.is_fixed(row.config) for knob in knobs)


def test_names_alone_and_whole_rows_say_the_same(tmp_path):
    short = load_suite(written(tmp_path), [])
    rows = [
        {"architecture": name, "variant": "", "tokens": None, "config": {}}
        for name in MINIMAL["architectures"]
    ]
    whole = load_suite(
        written(tmp_path, architectures=rows, datasets=[{"name": "shortvideo", "options": {}}]), []
    )
    assert short == whole


def test_all_stands_for_every_architecture_of_the_table_and_may_come_with_variants(tmp_path):
    suite = load_suite(written(tmp_path, architectures="all"), [])
    assert [row.architecture for row in suite.architectures] == list(ARCHITECTURES)
    with_defaults = {"all": [{}, {"variant": "defaults", "tuned_as": None}]}
    suite = load_suite(written(tmp_path, architectures=with_defaults), [])
    names = [(row.architecture, row.variant, row.tuned_as) for row in suite.architectures]
    assert names[:2] == [("dlrm_mlp", "", ""), ("dlrm_mlp", "defaults", None)]
    assert len(names) == 2 * len(ARCHITECTURES)
    for rows in ("every", {"all": "x"}, {"some": [{}]}):
        assert "architectures" in refusal(written(tmp_path, architectures=rows))


@pytest.mark.parametrize(
    ("row", "variant", "series", "ratio"),
    [
        ({"series": "smoe", "ratio": "1/4"}, "smoe-1/4", "smoe", "1/4"),
        ({"series": "smoe", "ratio": 1}, "smoe-1", "smoe", "1"),
        ({"variant": "smoe-1/8"}, "smoe-1/8", "smoe", "1/8"),
        ({"variant": "quarter", "series": "smoe", "ratio": 0.25}, "quarter", "smoe", "1/4"),
        ({"variant": "smoe-1/4", "series": "smoe-1/4"}, "smoe-1/4", "smoe-1/4", "None"),
        ({"variant": "chunks-8"}, "chunks-8", "chunks-8", "None"),
    ],
)
def test_series_and_ratio_are_fields_of_a_row_or_what_its_name_states(tmp_path, row, variant, series, ratio):
    rows = ["dlrm_mlp", {"architecture": "rankmixer"} | row]
    contestant = load_suite(written(tmp_path, architectures=rows), []).architectures[1].contestant
    found = (contestant.variant, contestant.series, str(contestant.ratio), contestant.size)
    assert found == (variant, series, ratio, "")


@pytest.mark.parametrize("ratio", ["1/0", "5/4", 0, -0.5, "half", True, "1e-999999999"])
def test_a_ratio_that_is_no_share_is_refused_by_name(tmp_path, ratio):
    rows = ["dlrm_mlp", {"architecture": "rankmixer", "series": "smoe", "ratio": ratio}]
    assert "ratio" in refusal(written(tmp_path, architectures=rows))


def test_an_analysis_that_there_is_not_is_refused(tmp_path):
    assert load_suite(written(tmp_path, analyses=["tiers", "scaling"]), []).analyses == ["tiers", "scaling"]
    assert "analyses" in refusal(written(tmp_path, analyses=["tears"]))


def test_papers_are_named_once_each_and_by_names_that_there_are(tmp_path):
    assert load_suite(written(tmp_path), []).published == []
    assert load_suite(written(tmp_path, published=["bars", "rankmixer"]), []).published == [
        "bars",
        "rankmixer",
    ]
    unknown = refusal(written(tmp_path, published=["bars", "my_paper"]))
    assert "published.1: Input should be 'rankmixer', 'rankelastor'" in unknown
    assert "names a paper twice; name each once" in refusal(written(tmp_path, published=["bars", "bars"]))
    assert "published" in refusal(written(tmp_path, published="bars"))


def test_a_variant_may_share_an_architecture_with_its_base(tmp_path):
    rows = ["dlrm_mlp", {"architecture": "dlrm_mlp", "variant": "deep", "config": {"num_layers": 6}}]
    suite = load_suite(written(tmp_path, architectures=rows), [])
    assert [(row.architecture, row.variant) for row in suite.architectures] == [
        ("dlrm_mlp", ""),
        ("dlrm_mlp", "deep"),
    ]


def test_the_recipe_of_the_paper_can_be_set_and_fields_beside_it_win(suite_file):
    training = load_suite(str(suite_file), ["training.recipe=paper", "training.dense_lr=0.5"]).training
    assert (training.dense_optimizer, training.dense_lr) == ("rmsprop", 0.5)


@pytest.mark.parametrize("kind", ["flops_per_sample", "dense_params"])
def test_a_budget_has_the_kind_and_target_that_were_given(tmp_path, kind):
    budget = load_suite(written(tmp_path, budget={kind: 1234}), []).budget
    assert budget is not None
    assert (budget.kind, budget.target) == (kind, 1234)


# ------------------------------------------------------------------------------------------ the command line


@pytest.mark.parametrize(
    ("override", "found", "expected"),
    [
        ("seeds=7", lambda s: s.seeds, 7),
        ("seeds=1e1", lambda s: s.seeds, 10),
        ("budget.flops_per_sample=1e6", lambda s: s.budget.flops_per_sample, 1_000_000),
        ("budget.flops_per_sample=2.5e5", lambda s: s.budget.flops_per_sample, 250_000),
        ("training.batch_size=2048", lambda s: s.training.batch_size, 2048),
        ("training.dense_lr=1e-3", lambda s: s.training.dense_lr, 0.001),
        ("training.compile=true", lambda s: s.training.compile, True),
        ("training.patience=null", lambda s: s.training.patience, None),
        ("training={batch_size: 8}", lambda s: s.training.batch_size, 8),
        ("tasks=[finish, skip]", lambda s: s.tasks, ["finish", "skip"]),
        ("description=a=b", lambda s: s.description, "a=b"),
        ("architectures=[dlrm_mlp]", lambda s: [r.architecture for r in s.architectures], ["dlrm_mlp"]),
        ("datasets=[{name: a, options: {rows: 5}}]", lambda s: s.datasets[0].options, {"rows": 5}),
    ],
)  # fmt: skip
def test_an_override_sets_its_field_and_nothing_else(suite_file, override, found, expected):
    suite = load_suite(str(suite_file), [override])
    assert found(suite) == expected
    plain = load_suite(str(suite_file), [])
    top = override.partition("=")[0].partition(".")[0]
    assert suite.model_dump(exclude={top}) == plain.model_dump(exclude={top})


def test_an_override_within_a_field_keeps_its_neighbours(tmp_path):
    path = written(tmp_path, training={"batch_size": 64, "epochs": 3})
    training = load_suite(path, ["training.batch_size=32"]).training
    assert (training.batch_size, training.epochs) == (32, 3)


def test_the_later_of_two_overrides_holds_and_the_command_lines_flags_come_first(suite_file):
    suite = load_suite(str(suite_file), ["seeds=3", "seeds=4"], {"seeds": 2, "datasets": [{"name": "other"}]})
    assert suite.seeds == 4
    assert [dataset.name for dataset in suite.datasets] == ["other"]


# ----------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["seeds"], ["--set seeds", "--set key=value"]),
        (["=3"], ["--set =3", "--set key=value"]),
        (["tasks=[a"], ["--set tasks=[a", "not valid YAML", "quote"]),
        (["name.x=3"], ["--set name.x=3", "'name' has no fields inside", "set it whole"]),
        (["architectures.0=dcn"], ["'architectures' has no fields inside"]),
        (["sedes=3"], ["--set sedes=3", "sedes", "spelling"]),
        (["training.lr=1"], ["training.lr", "spelling"]),
        (["training.batch_size=big"], ["training.batch_size", "integer", "not 'big'"]),
        (["training.precision=fp16"], ["training.precision", "'fp32' or 'bf16'", "not 'fp16'"]),
        (["training.patience=3", "training.validations_per_epoch=0"], ["patience needs"]),
        (["seeds=0"], ["seeds", "greater than or equal to 1", "not 0"]),
        (["seeds=2.5"], ["seeds", "integer", "2.5"]),
        (["tower_dim="], ["tower_dim", "not empty"]),
        (["description="], ["description", "string", "not empty"]),
        (["budget.flops_per_sample=0"], ["budget.flops_per_sample", "greater than 0"]),
        (["budget.flops_per_sample=.inf"], ["budget.flops_per_sample", "finite"]),
        (["budget.flops_per_sample=1e400"], ["budget.flops_per_sample", "finite"]),
        (
            ["budget.dense_params=5"],
            ["budget", "give one of flops_per_sample, dense_params and latency_ms_p99"],
        ),
        (["budget={}"], ["budget", "give one of flops_per_sample, dense_params"]),
        (["base=rankmixer"], ["'rankmixer'", "'architectures'", "another base"]),
        (["architectures=[]"], ["architectures", "at least 1"]),
        (["architectures=[dlrm_mlp, dcn, dcn]"], ["'dcn' appears twice", "variant"]),
        (["architectures=[dlrm_mlp, dnc]"], ["no architecture 'dnc'", "rankmixer", "package.module:Class"]),
        (["architectures=[dlrm_mlp, dcn:DCN]"], ["'dcn:DCN'", "no module 'dcn'"]),
        (["architectures=[dlrm_mlp, baselines.dcn:Dnc]"], ["'baselines.dcn' has no 'Dnc'"]),
        (["architectures=[dlrm_mlp, {name: dcn}]"], ["architectures.1.name", "spelling"]),
        (["datasets=[]"], ["datasets", "at least 1"]),
        (["datasets=[{nam: x}]"], ["datasets.0.nam", "spelling"]),
        (["name=a b"], ["name", "pattern"]),
        (["name=" + "n" * 300], ["name", "at most 100 characters", "(302 characters)"]),
        (["seeds=1001"], ["seeds", "less than or equal to 1000", "not 1001"]),
        (["seeds=9223372036854775808"], ["--set seeds", "too large", "2^63"]),
        (["seeds=1e19"], ["seeds", "exceeded maximum size"]),
        (["token_dim=1000000"], ["token_dim", "less than or equal to 65536"]),
        (["tower_dim=1e9"], ["tower_dim", "less than or equal to 65536"]),
        (["training.batch_size=1e12"], ["training.batch_size", "less than or equal to 16777216"]),
        (["training.epochs=1e9"], ["training.epochs", "less than or equal to 100000"]),
        (["name=2024-13-45"], ["--set name=2024-13-45", "no date", "quote it"]),
        (["name=2024-10-10"], ["name", "valid string"]),
        ([f"architectures=[dlrm_mlp, {{architecture: dcn, variant: {'v' * 140}}}]"], ["144", "140 together"]),
        (
            ['architectures=[dlrm_mlp, {architecture: dcn, variant: "\\e[31m"}]'],
            ["architectures.1.variant", r"\x1b"],
        ),
        (['architectures=[dlrm_mlp, {architecture: dcn, variant: "a\\nb"}]'], ["variant", r"\n"]),
        (['architectures=[dlrm_mlp, {architecture: dcn, variant: "\\u202e"}]'], ["variant", r"\u202e"]),
        (['datasets=["\\e[2J"]'], ["datasets.0.name", r"\x1b"]),
        (['description="\\a"'], ["description", r"\x07"]),
        (["datasets=[shortvideo, " + "d" * 5000 + "]"], ["datasets.1.name", "at most 4096"]),
    ],
)
def test_a_wrong_override_names_the_flag_or_file_the_field_and_the_fault(suite_file, overrides, words):
    message = refusal(suite_file, overrides)
    assert [word for word in words if word not in message] == [], message
    assert "--set" in message or "architecture" in message


def test_a_base_that_is_there_only_as_a_variant_is_no_base(tmp_path):
    rows = [{"architecture": "dlrm_mlp", "variant": "deep", "config": {}}, "dcn"]
    assert "'dlrm_mlp' is no row without a variant" in refusal(written(tmp_path, architectures=rows))


def test_contrasts_are_pairs_of_rows_by_name(tmp_path):
    rows = ["dlrm_mlp", {"architecture": "dcn", "variant": "wide"}, "dcn"]
    suite = load_suite(written(tmp_path, architectures=rows, contrasts=[["dcn-wide", "dcn"]]), [])
    assert suite.contrasted == [(Contestant("dcn", "wide"), Contestant("dcn"))]
    for contrasts, words in (
        ([["dcn-deep", "dcn"]], "'dcn-deep' is no row; choose from dlrm_mlp, dcn-wide, dcn"),
        ([["dcn", "dcn"]], "'dcn' is compared with itself"),
    ):
        assert words in refusal(written(tmp_path, architectures=rows, contrasts=contrasts))


def test_a_suite_that_compares_none_has_no_base(tmp_path):
    rows = [{"architecture": "dlrm_mlp", "variant": "deep"}, {"architecture": "dcn", "variant": "wide"}]
    assert load_suite(written(tmp_path, architectures=rows, base=None), []).base is None
    assert "or null to compare none" in refusal(written(tmp_path, architectures=rows))


def test_rows_can_share_a_config_by_yamls_merge_keys_and_change_it(tmp_path):
    text = yaml.safe_dump({k: v for k, v in MINIMAL.items() if k not in ("architectures", "budget")})
    text += """
architectures:
  - {architecture: dlrm_mlp, config: &size {hidden_dim: 8, num_layers: 2}}
  - {architecture: dlrm_mlp, variant: deep, config: &deep {<<: *size, num_layers: 4}}
  - architecture: dlrm_mlp
    variant: nested
    config:
      <<: *deep
      hidden_dim: 16
      moe: {num_experts: 4}
"""
    (tmp_path / "mine.yaml").write_text(text)
    plain, deep, nested = (row.config for row in load_suite(str(tmp_path / "mine.yaml"), []).architectures)
    assert plain == {"hidden_dim": 8, "num_layers": 2}
    assert deep == {"hidden_dim": 8, "num_layers": 4}
    assert nested == {"hidden_dim": 16, "num_layers": 4, "moe": {"num_experts": 4}}


def test_the_longest_names_make_folders_that_a_file_system_takes(tmp_path):
    row = {"architecture": "dlrm_mlp", "variant": "v" * 131}
    suite = load_suite(written(tmp_path, architectures=["dlrm_mlp", row]), ["seeds=1000"])
    parts = {
        "dataset": "d" * 64,
        "architecture": "dlrm_mlp",
        "variant": suite.architectures[1].variant,
        "seed": 999,
        "budget": None,
    }
    name = RunSpec.model_construct(**parts).folder_name
    (tmp_path / f".{name}.lock").touch()
    (tmp_path / f"{name}.partial").mkdir()
    assert "140 together" in refusal(
        written(tmp_path, architectures=["dlrm_mlp", row | {"variant": "v" * 132}])
    )
    sizes = {"budget": None, "base": None, "sizes": [{"flops_per_sample": 3e5}]}
    assert "140 together" in refusal(written(tmp_path, architectures=[row], **sizes))


def test_an_override_changes_no_other_row_that_shares_an_anchor(tmp_path):
    text = yaml.safe_dump({k: v for k, v in MINIMAL.items() if k != "budget"})
    text += "budget: &size {flops_per_sample: 1000}\nsizes: []\n"
    text = text.replace("- dcn\n", "- {architecture: dcn, budget: {flops_per_sample: 1000}}\n")
    text = text.replace("budget: {flops_per_sample: 1000}}", "budget: *size}").replace(
        "budget: &size {flops_per_sample: 1000}\n", ""
    )
    (tmp_path / "mine.yaml").write_text("budget: &size {flops_per_sample: 1000}\n" + text)
    suite = load_suite(str(tmp_path / "mine.yaml"), ["budget.flops_per_sample=2000"])
    assert suite.budget is not None
    assert suite.architectures[1].budget is not None
    assert (suite.budget.target, suite.architectures[1].budget.target) == (2000, 1000)


def test_sizes_make_a_row_of_every_contestant_without_a_budget_of_its_own_for_each_of_them(tmp_path):
    sizes = [{"flops_per_sample": 3e5}, {"dense_params": 2e6}]
    own = {"architecture": "dlrm_mlp", "budget": {"flops_per_sample": 1e6}}
    deep = {"architecture": "dcn", "variant": "deep", "config": {"num_layers": 4}}
    suite = load_suite(written(tmp_path, budget=None, sizes=sizes, architectures=[own, "dcn", deep]), [])
    rows = [
        (r.architecture, r.variant, r.budget.kind, r.budget.target, r.config) for r in suite.architectures
    ]
    assert rows == [
        ("dlrm_mlp", "", "flops_per_sample", 1e6, {}),
        ("dcn", "0.3M", "flops_per_sample", 3e5, {}),
        ("dcn", "2M", "dense_params", 2e6, {}),
        ("dcn", "deep-0.3M", "flops_per_sample", 3e5, {"num_layers": 4}),
        ("dcn", "deep-2M", "dense_params", 2e6, {"num_layers": 4}),
    ]


def test_a_budget_and_sizes_exclude_each_other_and_so_do_two_sizes_alike(tmp_path):
    size = {"flops_per_sample": 3e5}
    assert "give either budget or sizes" in refusal(written(tmp_path, sizes=[size]))
    twice = written(tmp_path, budget=None, base=None, sizes=[size, size])
    assert "'dlrm_mlp' appears twice" in refusal(twice)


def test_a_suite_without_a_budget_loads_since_its_configs_may_size_it(tmp_path):
    assert load_suite(written(tmp_path, budget=None), []).budget is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: [", ["mine.yaml: line ", "not valid YAML"]),
        ("- a", ["mine.yaml: must be a mapping"]),
        ("name: a\nname: b", ["mine.yaml: line 2", "'name' is given twice"]),
        ("training: {batch_size: 1}\nseeds: 2\ntraining: {epochs: 2}", ["'training' is given twice"]),
        ("name: a", ["mine.yaml: description: is missing; add it"]),
    ],
)
def test_a_file_that_is_no_suite_is_refused_by_name(tmp_path, text, words):
    (tmp_path / "mine.yaml").write_text(text)
    message = refusal(tmp_path / "mine.yaml")
    assert [word for word in words if word not in message] == [], message


def test_an_unknown_name_and_a_path_that_is_not_there_are_told_apart():
    assert all(name in refusal("quik") for name in shipped_suites())
    assert "absent.yaml: no such file" in refusal("absent.yaml")


def test_a_suite_cannot_be_changed_once_loaded(suite_file):
    suite: Suite = load_suite(str(suite_file), [])
    with pytest.raises(ValueError, match="frozen"):
        suite.seeds = 5


def test_a_row_s_training_changes_its_own_fields_and_no_other_row(tmp_path):
    own = {"architecture": "dcn", "training": {"table_l2": 0.1, "patience": 1}}
    training = {"table_l2": 0.01, "sparse_optimizer": "adam", "dense_lr": 0.005}
    suite = load_suite(written(tmp_path, architectures=["dlrm_mlp", own], training=training), [])
    first, second = (row.trained_by(suite.training) for row in suite.architectures)
    assert first == suite.training
    assert (second.table_l2, second.patience) == (0.1, 1)
    assert second.model_copy(update={"table_l2": 0.01, "patience": None}) == suite.training


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"training": {"tabel_l2": 0.1}}, ["'dcn': training: tabel_l2"]),
        ({"training": {"precision": "bf16"}}, ["training", "precision is the same for all rows"]),
        (
            {"training": {"table_l2": 0.1, "sparse_optimizer": "rowwise_adagrad"}},
            ["'dcn'", "table_l2 changes"],
        ),
        ({"training": {"epochs": 2}}, ["'dcn'", "training of its own and settings of 'table1'", "tuned_as"]),
    ],
)
def test_a_row_s_training_that_cannot_be_is_refused_by_name(tmp_path, row, words):
    rows = ["dlrm_mlp", {"architecture": "dcn", **row}]
    message = refusal(
        written(tmp_path, architectures=rows, tuned="table1" if "epochs" in row["training"] else None)
    )
    assert [word for word in words if word not in message] == [], message


def test_published_suites_have_the_published_numbers_of_dense_parameters():
    """Those of BARS's logs, less 10 for each of the 5,389 rows of the tables of frappe_x1."""
    suite = load_suite("bars-frappe-x1", [])
    published = {"dlrm_mlp": 417_891, "dcn": 418_591, "dcnv2": 458_391}
    for row in suite.architectures:
        if row.architecture in published:
            with torch.device("meta"):
                backbone = build_backbone(row.architecture, 10, suite.token_dim, row.config)
                head = Tower(backbone.output_dim, suite.tower_dim)
            counted = sum(p.numel() for part in (backbone, head) for p in part.parameters())
            assert counted == published[row.architecture] - 53_890


def test_published_runs_of_autoint_with_a_norm_have_it_where_fuxictr_has_it():
    rows = [
        row.config
        for name in shipped_suites()
        if name.startswith(("bars-", "rankelastor-"))
        for row in load_suite(name, []).architectures
        if row.architecture == "autoint"
    ]
    normalised = [config for config in rows if config.get("layer_norm", True)]
    assert len(normalised) == 2
    assert all(config.get("norm_before_relu") for config in normalised)


@pytest.mark.parametrize("name", ["table3", "parts-at-scale"])
def test_self_attention_has_a_head_for_each_token_and_in_another_row_four_at_the_same_size(name):
    suite = load_suite(name, [])
    heads, sizes = {}, set()
    for row in suite.architectures:
        if row.config.get("mixing") == "self_attention":
            with torch.device("meta"):
                backbone = build_backbone(row.architecture, suite.tokens, 24, row.config)
            heads[row.variant] = {block.mixing.attention.num_heads for block in backbone.blocks}
            sizes.add(sum(p.numel() for p in backbone.parameters()))
    assert heads == {"self-attention": {16}, "self-attention-4-heads": {4}}
    assert len(sizes) == 1
