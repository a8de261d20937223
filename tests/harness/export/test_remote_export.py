"""A run in a store is exported as one on this machine, and its artefact lies beside it."""

from __future__ import annotations

import json

import pytest

import bench
from files.errors import InputError
from files.remote import Store
from tests.files.test_remote import machine  # noqa: F401 - fixture
from tests.harness.export.test_export import cache, dense_run  # noqa: F401 - fixtures
from tests.s3 import endpoint, url  # noqa: F401 - fixtures

FORMAT = "torch-export"


@pytest.fixture
def store(url, dense_run) -> Store:  # noqa: F811
    """A folder of results that holds the run and another one."""
    for name in (dense_run.name, "another"):
        for file in dense_run.iterdir():
            Store(url).write(f"runs/{name}/{file.name}", file.read_bytes())
    return Store(url)


def test_the_artefact_of_a_run_in_a_store_is_sent_and_no_other_run_is_fetched(
    store,
    dense_run,  # noqa: F811
    cache,  # noqa: F811
    machine,  # noqa: F811
):
    folder = bench.export(f"{store.url}/runs/{dense_run.name}/", format=FORMAT, cache=cache)
    assert not list(machine.rglob("another"))
    sent = {name for name in store.listing() if name.startswith("export/")}
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    assert sent == {f"export/{dense_run.name}/{FORMAT}/{file}" for file in files}
    here = bench.export(dense_run, format=FORMAT, cache=cache, out=machine / "here")
    checks = [json.loads((place / "manifest.json").read_text())["parity"] for place in (folder, here)]
    assert checks[0] == checks[1]


@pytest.mark.parametrize(
    ("run", "out", "words"),
    [
        ("", None, "is no run's URL"),
        ("/runs/of/another", None, "is no run's URL"),
        ("/runs/missing", None, "the store has no such finished run"),
        ("/runs/another", "s3://bench/artefacts", "an artefact is written to this machine"),
    ],
)
def test_what_is_no_run_in_a_store_is_refused(store, cache, machine, run, out, words):  # noqa: F811
    before = store.listing()
    with pytest.raises(InputError, match=words):
        bench.export(store.url + run, format=FORMAT, cache=cache, out=out)
    assert store.listing() == before
