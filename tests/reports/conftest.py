from __future__ import annotations

from pathlib import Path

import pytest

from reports.render import render
from tests.reports.made_up import comparison_rows, failed, quick_records, record, reference, write_out

NASTY = 'no_skip|<b>$x$_{}%&#~^\\"`*[a](b)\nnext'


@pytest.fixture(scope="session")
def quick_out(tmp_path_factory) -> Path:
    """Six architectures, two seeds, oracle and constant; rendered."""
    out = write_out(tmp_path_factory.mktemp("quick"), quick_records())
    render(out)
    return out


@pytest.fixture(scope="session")
def mixed_out(tmp_path_factory) -> Path:
    """Two datasets, one seed, a failed run, a variant and an architecture with unkind names; rendered."""
    records = [record(name, 0, "kuairand-pure") for name in ("dlrm_mlp", "dcn", "autoint")]
    records += [
        failed("rankmixer", 0, dataset="kuairand-pure"),
        record("rankmixer", 0, "kuairand-pure", variant=NASTY),
        record("mine.nets:Über\N{BLACK STAR}Net\N{CJK UNIFIED IDEOGRAPH-7F51}", 0, "kuairand-pure"),
        reference("constant", "kuairand-pure"),
        reference("duration_only", "kuairand-pure", lift=-0.001),
        record("dlrm_mlp", 0, "movielens-100k", tasks=("like",)),
        record("rankmixer", 0, "movielens-100k", tasks=("like",)),
    ]
    untested = [row | {"low": "", "high": "", "resolved": "one seed"} for row in comparison_rows(records)]
    out = write_out(tmp_path_factory.mktemp("mixed"), records, untested, seeds=1)
    render(out)
    return out
