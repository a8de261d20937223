"""Tuned settings as a file: what is wrong in one is a sentence that names the file, the row and the mend."""

from __future__ import annotations

import pytest
import yaml

from files.errors import InputError
from suites.suite import Suite
from suites.tuning.tuned import identity_of, read_tuned
from tests.harness.schemas import small_schema
from tests.suites.shapes import shape_of

PREPARED = shape_of(small_schema())


@pytest.fixture
def suite(tmp_path) -> Suite:
    content = {"name": "s", "description": "d", "datasets": ["shortvideo"], "base": None, "tuned": "s"}
    made = Suite.model_validate(content | {"architectures": ["dlrm_mlp"]})
    made._folder = tmp_path
    return made


def content_for(suite: Suite) -> dict:
    row = {
        **{
            "study": "x",
            "inputs": {},
            "budget": None,
            "trained": 1,
            "pruned": 0,
            "default": 0.6,
            "best": 0.7,
        },
        **{"training": {"dense_lr": 0.01}, "config": {"num_layers": 3}},
    }
    return {
        **{"suite": "s", "dataset": "small", "fingerprint": "0", "command": "tune", "metric": "auc"},
        **{"trials": 1, "seed": 0, "identity": identity_of(suite, PREPARED), "rows": {"dlrm_mlp": row}},
    }


def written(suite: Suite, text: str) -> str:
    path = suite.folder / "tuned" / "s-small.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text.encode(errors="surrogateescape"))
    return str(path)


def test_what_tuning_wrote_is_read(suite):
    written(suite, yaml.safe_dump(content_for(suite)))
    tuned = read_tuned(suite, PREPARED)
    assert tuned is not None
    assert tuned.rows["dlrm_mlp"].training == {"dense_lr": 0.01}


@pytest.mark.parametrize(
    ("training", "field"),
    [
        ({"dense_lr": -1}, "dense_lr"),
        ({"dense_lr": "x"}, "dense_lr"),
        ({"dense_lr": None}, "dense_lr"),
        ({"nope": 1}, "nope: is not a known field"),
        ({"batch_size": 0.5}, "batch_size"),
        ({"dropout": [0.1]}, "dropout"),
        ({"dense_optimizer": "sgdd"}, "dense_optimizer"),
    ],
)
def test_a_wrong_setting_names_file_row_and_field(suite, training, field):
    content = content_for(suite)
    content["rows"]["dlrm_mlp"]["training"] = training
    path = written(suite, yaml.safe_dump(content))
    with pytest.raises(InputError) as caught:
        read_tuned(suite, PREPARED)
    message = str(caught.value)
    assert message.startswith(f"{path}: rows.dlrm_mlp.training: {field}")
    assert "--set tuned=null" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "text", ["", "[1]", "rows: [", "rows: {}", "\udcff", "identity: 3", "{rows: {dlrm_mlp: {best: high}}}"]
)
def test_a_damaged_file_is_named(suite, text):
    path = written(suite, text)
    with pytest.raises(InputError) as caught:
        read_tuned(suite, PREPARED)
    assert str(caught.value).startswith(path)
