"""How the commands of `profile` are named, and which options each takes."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

import run_bench

FIGURE = {"name": "rate", "value": 2.0, "unit": "rows/s", "median_of": 1, "spread": 0.0, "command": ""}
MEASURED = {
    "data": "harness.speed.profiles.data.profile_data",
    "bootstrap": "harness.speed.profiles.bootstrap.profile_bootstrap",
    "metrics": "harness.speed.profiles.metrics.profile_metrics",
    "sparse": "harness.speed.profiles.sparse.profile_sparse",
}


@pytest.fixture
def profile(monkeypatch, tmp_path):
    """Runs ``profile`` in a folder of its own; returns the result and the names of what was measured."""
    measured: list[str] = []
    monkeypatch.chdir(tmp_path)
    for name, path in MEASURED.items():
        monkeypatch.setattr(path, lambda name=name: measured.append(name) or [FIGURE])
    return lambda *words: (CliRunner().invoke(run_bench.app, ["profile", *words]), measured)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["data", "--json", "figures.json"], "data"),
        (["--json", "figures.json", "data"], "data"),
        (["--json=figures.json", "metrics"], "metrics"),
        (["sparse", "--json", "figures.json"], "sparse"),
        (["bootstrap", "--json", "figures.json"], "bootstrap"),
    ],
)
def test_the_command_may_stand_before_or_after_its_options(profile, tmp_path, words, name):
    result, measured = profile(*words)
    assert result.exit_code == 0, result.output
    assert measured == [name]
    assert json.loads((tmp_path / "figures.json").read_text(encoding="utf-8")) == [FIGURE]


def test_a_value_that_is_the_name_of_a_command_stays_a_value(profile, tmp_path):
    _, measured = profile("--json", "data", "sparse")
    assert measured == ["sparse"]
    assert (tmp_path / "data").is_file()


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        (["sparse", "--scale", "quick"], "--scale"),
        (["pipeline", "--precision", "bf16"], "--precision"),
        (["metrics", "--batch-size", "8"], "--batch-size"),
        (["nothing"], "nothing"),
    ],
)
def test_an_option_that_a_command_does_not_take_is_refused_by_name(profile, words, refused):
    result, measured = profile(*words)
    assert result.exit_code == 2
    assert refused in result.output
    assert measured == []
