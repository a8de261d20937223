"""Staging a table larger than memory: what polars' streaming engine cannot cut into pieces it holds whole."""

from __future__ import annotations

import re

import polars as pl

from datasets.own_table import OwnTable
from datasets.prepare.split import split_code
from datasets.prepare.stage import staged_columns


def test_staging_text_holds_no_whole_column(tmp_path):
    cells = {"number": "1.5", "flag": "true", "id": "007", "list": "a|b", "vec": "1|2", "part": "train"}
    pl.DataFrame({"user": ["u"], "y": ["1"], **{name: [cell] for name, cell in cells.items()}}).write_csv(
        tmp_path / "log.csv"
    )
    (tmp_path / "schema.yaml").write_text("""
name: text
files: [log.csv]
features:
  - {name: number, kind: numeric, group: a}
  - {name: flag, kind: numeric, group: a}
  - {name: id, kind: categorical, group: a}
  - {name: list, kind: sequence, group: a, separator: "|"}
  - {name: vec, kind: vector, group: a, separator: "|", length: 2}
tasks: [{name: y}]
user_id: user
split: {by: column, column: part}
""")
    table = OwnTable.find(tmp_path / "schema.yaml")
    source = table.source(tmp_path)
    columns = staged_columns(source.schema, dict(source.frame.collect_schema()), "here", source.text)
    staged = source.frame.select(columns)
    for rows in (staged, staged.with_columns(split_code(source.schema, None, []))):
        plan = rows.show_graph(engine="streaming", plan_stage="physical", raw_output=True)
        assert "select" in plan
        assert not re.findall("columnar-function|in-memory-[a-z]+", plan)
