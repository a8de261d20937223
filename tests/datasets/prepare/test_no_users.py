"""Tables whose rows belong to no user."""

import pytest
from pydantic import ValidationError

from datasets.describe import describe, render
from datasets.prepare.pipeline import prepare
from datasets.reader import ShardReader
from datasets.schema import Schema, load_schema
from files.errors import InputError
from tests.datasets.conftest import example_rows, example_schema, example_source

YAML = """
name: ads
features: [{name: ad, kind: categorical, group: item}]
tasks: [{name: click}]
user_id: %s
split: {by: column, column: split}
"""


def without_users(rows: list[dict]):
    return example_source(rows, user_id=None)


def test_every_row_is_a_user_of_its_own_without_a_tier_and_the_rest_is_unchanged(tmp_path, tiny_steps):
    rows = example_rows()
    plain = prepare(example_source(rows), tmp_path / "plain", shard_rows=7)
    prepared = prepare(without_users(rows), tmp_path / "without", shard_rows=7)
    assert prepared.num_users is None
    assert not prepared.has_users
    for split, count in plain.rows.items():
        found, others = (
            each.columns(split, ["user_index", "tier", "item", "price", "label_click"])
            for each in (prepared, plain)
        )
        assert found["user_index"].tolist() == list(range(count))
        assert set(found["tier"]) == {-1}
        for name in ("item", "price"):
            assert found[name].tolist() == others[name].tolist()


def test_batches_carry_the_numbers_of_rows(tmp_path):
    prepared = prepare(without_users(example_rows()), tmp_path / "without")
    batches = list(ShardReader(prepared, "train", 16, ["click"]).batches())
    assert [number for batch in batches for number in batch.user_id.tolist()] == list(
        range(prepared.rows["train"])
    )


def test_the_description_has_no_columns_about_users(tmp_path):
    description = describe(prepare(without_users(example_rows()), tmp_path / "without"))
    assert description.splits.columns == ["split", "rows"]
    assert not [name for name in description.labels.columns if "user" in name]
    assert "users" not in render(description)


def test_a_yaml_says_so_and_an_empty_field_is_no_answer(tmp_path):
    path = tmp_path / "schema.yaml"
    path.write_text(YAML % "false")
    assert load_schema(path).user_id is None
    path.write_text(YAML % "")
    with pytest.raises(
        InputError, match=r"user_id: is empty; name the user's column, or write 'user_id: false'"
    ):
        load_schema(path)
    path.write_text(YAML.replace("user_id: %s\n", ""))
    with pytest.raises(InputError, match="user_id: is missing"):
        load_schema(path)


def test_a_stored_schema_comes_back_and_users_keep_their_dump():
    stored = example_schema(user_id=None)
    assert Schema.model_validate_json(stored.model_dump_json()) == stored
    assert example_schema().model_dump(mode="json")["user_id"] == "user"


def test_tiers_need_users():
    with pytest.raises(ValidationError, match="tier is given for a table without users"):
        example_schema(user_id=None, tier="raw")
