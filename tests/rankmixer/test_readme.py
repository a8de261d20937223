from __future__ import annotations

import re
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from rankmixer.model import RankMixer
from rankmixer.sparse_moe import SparseMoE
from rankmixer.tokenmixer_large import TokenMixerLarge

README = (Path(__file__).resolve().parents[2] / "rankmixer" / "README.md").read_text()


@pytest.mark.parametrize(
    ("config", "heading"),
    [
        (RankMixer.Config, "## One model, its variants switches"),
        (SparseMoE.Config, "## Sparse-MoE"),
        (TokenMixerLarge.Config, "## TokenMixer-Large"),
    ],
)
def test_the_readme_states_every_switch_with_its_default(config, heading):
    section = README.partition(heading)[2].partition("\n## ")[0]
    stated = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", section, re.MULTILINE))
    defaults = {
        field.name: "required"
        if field.default is MISSING
        else "none"
        if field.default is None
        else field.default
        for field in fields(config)
    }
    assert {name: cell.strip("`") for name, cell in stated.items()} == {
        name: str(default) for name, default in defaults.items()
    }
