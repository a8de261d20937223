"""The report on serving, from a profile written by hand."""

from __future__ import annotations

import pandas as pd
import pytest

from harness.records.serving_profile import LoadPoint, ProfiledEngine, ServingProfile, write_serving_profile
from reports.figures.drawing.saving import figure_of
from reports.speed.figures import latency_against_load
from reports.speed.serving import COLUMNS, loads_frame, render_serving_profile

DASH = "\N{EN DASH}"


def load(qps: float, p99: float) -> LoadPoint:
    return LoadPoint(
        offered_qps=qps,
        requests=1000,
        latency_ms_p50=p99 / 4,
        latency_ms_p99=p99,
        latency_ms_p99_low=0.9 * p99,
        latency_ms_p99_high=1.1 * p99,
        queue_ms_p50=0.1,
        queue_ms_p99=p99 - 2,
        compute_ms_p50=2.0,
        compute_ms_p99=2.5,
        sent_late_ms_p99=0.1,
    )


def engine(
    architecture: str, name: str = "eager", candidates: int = 128, **changes: object
) -> ProfiledEngine:
    found = {"score_difference": 0.0, "alone_ms_p50": 2.0, "alone_ms_p99": 2.5, "spread": 0.02}
    found |= {"candidates_per_second": 64_000.0, "qps": 200.0, "qps_low": 100.0, "qps_high": 300.0}
    found |= {"loads": [load(100, 4), load(200, 8), load(300, 40)], "auc": {"finish": 0.7012}}
    return ProfiledEngine(
        architecture=architecture, spec_hash="0", engine=name, candidates=candidates, **(found | changes)
    )


@pytest.fixture
def out(tmp_path):
    nothing = dict.fromkeys(("score_difference", "alone_ms_p50", "alone_ms_p99", "spread"))
    nothing |= dict.fromkeys(("candidates_per_second", "qps", "qps_low", "qps_high")) | {"loads": []}
    models = [
        engine("dlrm_mlp"),
        engine("dlrm_mlp", "onnx", **nothing, refused="its scores differ by up to 0.1, more than 1e-05"),
        engine("rankmixer", qps=300.0, spread=0.06, loads=[load(300, 9)], auc={"finish": 0.7055}),
        engine("rankmixer", "onnx", qps=0.0, qps_low=0.0, auc={"finish": 0.7055}),
        engine("dlrm_mlp", candidates=512, auc={"finish": 0.7012}),
    ]
    profile = ServingProfile(
        suite="quick",
        dataset="shortvideo",
        command="python run_bench.py profile serving quick",
        measured_at="2026-01-01T00:00:00+00:00",
        bound_ms=10.0,
        seconds=5.0,
        threads=1,
        precision="fp32",
        device="cpu",
        cuda_graphs=False,
        user_features=["user_id", "hour"],
        price_per_hour=3.6,
        results="out/quick",
        environment={"torch": "2"},
        models=models,
    )
    write_serving_profile(tmp_path, profile)
    render_serving_profile(tmp_path)
    return tmp_path


def rows_of(page: str, caption: str) -> list[list[str]]:
    """The cells of the table under a caption."""
    lines = page.split(f"**{caption}")[1].split("\n\n")[1].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "---" not in line]


def test_one_row_a_model_has_qps_beside_auc(out):
    page = (out / "serving_profile.md").read_text(encoding="utf-8")
    assert rows_of(page, "Requests a second within a p99 of 10 ms, 128 candidates a request") == [
        ["model", "AUC finish", "QPS, eager", "QPS, onnx"],
        ["DLRM-MLP", "0.7012", "200 (100 to 300)", "refused"],
        ["RankMixer", "0.7055", "\\~300 (100 to 300)", "0 (0 to 300)"],
    ]
    [header, row] = rows_of(page, "Requests a second within a p99 of 10 ms, 512 candidates a request")
    assert header == ["model", "AUC finish", "QPS, eager"]
    assert row == ["DLRM-MLP", "0.7012", "200 (100 to 300)"]
    assert "DLRM-MLP, onnx, 128 candidates: its scores differ by up to 0.1, more than 1e-05" in page
    assert "with the first row's user: user_id, hour." in page


def test_the_details_are_those_of_the_load_at_the_bound(out):
    page = (out / "serving_profile.md").read_text(encoding="utf-8")
    header, first, refused, _, none = rows_of(page, "At the p99 of 10 ms, 128 candidates a request")
    found = dict(zip(header, first, strict=True))
    assert found["p99, ms"] == "8.00 (7.20 to 8.80)"
    assert (found["p50, ms"], found["queue p99, ms"], found["requests"]) == ("2.00", "6.00", "1,000")
    assert found["price a million candidates"] == "0.0391"  # 3.6 / (200 * 128 * 3600) * 1e6
    for row in (refused, none):
        assert dict(zip(header, row, strict=True))["p99, ms"] == DASH
    assert dict(zip(header, refused, strict=True))["QPS"] == DASH
    assert dict(zip(header, none, strict=True))["QPS"] == "0"


def test_the_csv_has_every_column_and_the_loads_are_beside(out):
    frame = pd.read_csv(out / "serving_profile.csv")
    assert list(frame.columns) == [*COLUMNS, "auc_finish"]
    assert list(frame["latency_ms_p99_at_bound"].fillna(-1)) == [8, -1, 9, -1, 8]
    assert list(frame["noisy"]) == [False, False, True, False, False]
    loads = pd.read_csv(out / "serving_loads.csv")
    assert len(loads) == 3 + 1 + 3 + 3
    assert list(loads["offered_qps"][:3]) == [100, 200, 300]


def test_the_curve_rises_to_its_loads_and_the_bound_is_dashed(out):
    loads = pd.read_csv(out / "serving_loads.csv")
    left, right = figure_of(latency_against_load(loads, 10.0)).axes
    drawn = [
        list(map(float, line.get_ydata()))
        for line in left.lines
        if line.get_alpha() != 0 and len(line.get_xdata()) > 2
    ]
    assert [4, 8, 40] in drawn
    assert [1, 2, 10] in drawn
    assert right.get_title(loc="left") == "512 candidates a request"
    for axes in (left, right):
        bounds = [line for line in axes.lines if list(line.get_ydata()) == [10.0, 10.0]]
        assert [line.get_linestyle() for line in bounds] == ["--"]


def test_a_row_is_noisy_where_rounds_or_loads_differ_in_compute():
    assert not engine("dcn").noisy
    assert engine("dcn", spread=0.051).noisy
    assert engine("dcn", alone_ms_p50=1.9).noisy  # 2.0 under load
    assert engine("dcn", alone_ms_p50=2.2).noisy
    assert not ProfiledEngine(
        architecture="dcn", spec_hash="0", engine="onnx", candidates=8, refused="x"
    ).noisy


def test_nothing_but_refused_engines_is_a_report_without_a_figure(tmp_path):
    profile = ServingProfile.model_validate(
        {
            **{"suite": "q", "dataset": "d", "measured_at": "", "bound_ms": 1.0, "seconds": 1.0},
            **{"threads": 1, "precision": "fp32", "device": "cpu", "cuda_graphs": False},
            **{"user_features": [], "environment": {}},
            "models": [
                {
                    **{"architecture": "dcn", "spec_hash": "0", "engine": "onnx", "candidates": 8},
                    "refused": "cannot be traced",
                }
            ],
        }
    )
    assert loads_frame(profile).empty
    write_serving_profile(tmp_path, profile)
    page = render_serving_profile(tmp_path).read_text(encoding="utf-8")
    assert rows_of(page, "Requests a second")[1] == ["DCN", "refused"]
    assert "nothing, as all features are of groups item or cross, or none is" in page
