from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from files.locks import locked
from reports.render import render
from tests.reports.made_up import comparison_rows, failed, quick_records, record, reference, write_out

NASTY = 'no_skip|<b>$x$_{}%&#~^\\"`*[a](b)\nnext'


def rendered_once(factory: pytest.TempPathFactory, name: str, write: Callable[[Path], Path]) -> Path:
    """A folder that the first of the processes of tests to need it writes and renders, and all read."""
    own = factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    out = shared / name
    with locked(shared / f"{name}.lock", wait=True):
        if not out.exists():
            unfinished = write(factory.mktemp(name))
            render(unfinished)
            unfinished.rename(out)
    return out


@pytest.fixture(scope="session")
def quick_out(tmp_path_factory) -> Path:
    """Six architectures, two seeds, oracle and constant; rendered."""
    return rendered_once(tmp_path_factory, "quick", lambda out: write_out(out, quick_records()))


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
    return rendered_once(tmp_path_factory, "mixed", lambda out: write_out(out, records, untested, seeds=1))
