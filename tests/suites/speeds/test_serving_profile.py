"""`profile serving` from the command line: AUC beside QPS, bad flags, and the report redrawn."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import yaml

import bench
import run_bench
from files.errors import InputError
from harness.records.serving_profile import read_serving_profile
from harness.records.spec import RunSpec
from harness.records.store import read_runs
from suites.speeds.serving_profile import read_auc
from tests.suites.speeds.test_serving import CONTENT, Measured, carried_out

SHORT = ["--candidates", "16", "--seconds", "0.2", "--p99", "1000"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The runs of a suite, its YAML, and where its data are."""
    folder = tmp_path_factory.mktemp("serving")
    carried_out(folder / "out", folder / "cache", Measured(), speed=False)
    (folder / "fast.yaml").write_text(yaml.safe_dump(CONTENT), encoding="utf-8")
    return folder


def command(results, capsys, *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of ``profile serving`` on the suite."""
    with pytest.MonkeyPatch.context() as patch:
        suite, cache = str(results / "fast.yaml"), str(results / "cache")
        line = ["run_bench.py", "profile", "serving", suite, "--cache", cache, *words]
        patch.setattr("sys.argv", line)
        patch.setattr("harness.serving.search.STEPS", 2)
        with pytest.raises(SystemExit) as end:
            run_bench.main()
    said = capsys.readouterr()
    return end.value.code or 0, said.out, said.err


def test_qps_stands_beside_auc_and_price(results, capsys, tmp_path):
    out = str(tmp_path / "out")
    given = [*SHORT, "--results", str(results / "out"), "--price-per-hour", "3.6", "--out", out]
    code, said, _ = command(results, capsys, *given)
    assert code == 0
    assert "dlrm_mlp (wide), eager, 16 candidates" in said
    profile = read_serving_profile(tmp_path / "out")
    assert [model.contestant.label for model in profile.models] == ["dlrm_mlp", "dlrm_mlp (wide)"]
    runs = [run for run in read_runs(results / "out").records if run.variant == "wide"]
    frame = pd.read_csv(tmp_path / "out" / "serving_profile.csv")
    for task in runs[0].metrics:
        mean = np.mean([run.metrics[task].auc for run in runs])
        assert frame[f"auc_{task}"][1] == pytest.approx(mean)
    answered = frame[frame["qps"] > 0]
    price = 3.6 / 3600 / (answered["qps"] * 16) * 1e6
    np.testing.assert_allclose(answered["price_per_million"], price)
    page = (tmp_path / "out" / "serving_profile.md").read_text(encoding="utf-8")
    header = next(line for line in page.splitlines() if line.startswith("| model | AUC"))
    assert "QPS, eager" in header
    assert (tmp_path / "out" / "figures" / "latency-load.svg").is_file() == bool(profile.models[0].loads)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--candidates", "128,many"], "--candidates 128,many: give whole numbers from 1"),
        (["--candidates", "0"], "--candidates 0: give whole numbers from 1"),
        (["--candidates", ""], "--candidates : give whole numbers from 1"),
        (["--candidates", "5000"], "--candidates 5000: the training split of 'shortvideo' has"),
        (["--engine", "tensorrt"], "--engine tensorrt: choose from eager, compile, aoti, onnx"),
        (["--cuda-graphs", "--device", "cpu"], "--cuda-graphs: the cpu has none"),
        (["--results", "nowhere"], "nowhere"),
        (["--p99", "nan"], "--p99"),
        (["--seconds", "inf"], "--seconds"),
        (["--price-per-hour", "nan"], "--price-per-hour"),
    ],
)
def test_a_bad_flag_is_one_sentence_before_anything_is_measured(results, capsys, tmp_path, words, said):
    out = tmp_path / "out"
    code, _, err = command(results, capsys, *words, "--out", str(out))
    assert code == 2
    assert said in err
    assert "Traceback" not in err
    assert not out.exists()


def test_results_of_other_models_or_data_are_not_put_beside(results):
    places = {"out": results / "never", "cache": results / "cache", "results": results / "out"}
    other = [{"architecture": "dlrm_mlp", "config": {"hidden_dim": 9}}]
    with pytest.raises(InputError, match=r"dlrm_mlp was trained with config .*8.*, not .*9.*; name the"):
        bench.profile_serving(str(results / "fast.yaml"), set={"architectures": other}, **places)
    longer = [{"name": "shortvideo", "options": {"rows": 1300}}]
    with pytest.raises(InputError, match="dlrm_mlp was trained on other 'shortvideo' data"):
        bench.profile_serving(str(results / "fast.yaml"), set={"datasets": longer}, **places)
    assert not (results / "never").exists()
    spec = RunSpec.model_validate(read_runs(results / "out").records[0].spec)
    with pytest.raises(InputError, match="holds no runs on 'kuairand'"):
        read_auc(results / "out", [spec.model_copy(update={"dataset": "kuairand"})], print)
    said: list[str] = []
    assert read_auc(results / "out", [spec.model_copy(update={"variant": "new"})], said.append) == {}
    assert said == [f"dlrm_mlp (new): has no finished run in {results / 'out'}, so no AUC stands beside it"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"p99": float("nan")}, "p99 is nan"),
        ({"seconds": float("inf")}, "seconds is inf"),
        ({"candidates": [16, 0]}, "candidates is 0"),
        ({"candidates": []}, "candidates is empty"),
        ({"engines": []}, "engines is empty"),
        ({"threads": 0}, "threads is 0"),
        ({"price_per_hour": -1.0}, "price_per_hour is -1"),
    ],
)
def test_python_is_refused_what_the_command_line_is(results, tmp_path, given, said):
    with pytest.raises(InputError, match=said):
        bench.profile_serving(str(results / "fast.yaml"), out=tmp_path / "out", **given)


def test_a_profile_that_was_damaged_is_named(tmp_path, capsys):
    (tmp_path / "serving_profile.json").write_text(json.dumps({"suite": "fast"}), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["run_bench.py", "report", str(tmp_path)])
        with pytest.raises(SystemExit) as end:
            run_bench.main()
    assert end.value.code == 2
    assert "is no profile of serving" in capsys.readouterr().err
