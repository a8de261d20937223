from __future__ import annotations

from harness.model import architecture_rows
from harness.model.architectures import ARCHITECTURES


def test_the_readmes_table_is_the_one_that_the_architectures_declare():
    text = architecture_rows.README.read_text(encoding="utf-8")
    assert architecture_rows.TABLE.findall(text) == [architecture_rows.table()], (
        "write it again with `python -m harness.model.architecture_rows`"
    )


def test_a_row_has_the_class_the_knobs_with_their_steps_and_what_is_tuned():
    rows = dict(zip(ARCHITECTURES, architecture_rows.table().splitlines()[2:], strict=True))
    assert "| `rankmixer.model:RankMixer` |" in rows["rankmixer"]
    assert "| `model_dim` (T), `ffn_dim` (1) | `num_layers` (2, 1, 3, 4) |" in rows["rankmixer"]
    assert "| `model_dim` (4), `ffn_dim` (1) |" in rows["hiformer"]
    assert "[Wang et al.](https://arxiv.org/abs/2008.13535) | 2020" in rows["dcnv2"]
