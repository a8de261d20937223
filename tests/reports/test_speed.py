"""The page of measured speeds, from a profile written by hand."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from files.errors import InputError
from reports.figures.drawing.models import contestants, looks_for
from reports.figures.drawing.saving import figure_of
from reports.render import markdown_page
from reports.speed.figures import latency_against_batch, roofline
from reports.speed.report import COLUMNS, load_profile, profile_contents, render_profile, speed_frame
from tests.reports.figures.read_back import dots, lines_of

DASH = "\N{EN DASH}"
LATENCY = {"dlrm_mlp": 2.0, "rankmixer": 4.0}


def measured(architecture, part="dense", mode="inference", batch=512, **changes):
    latency = LATENCY[architecture] * (3 if mode == "train" else 1) * batch / 512
    flops = 512_000_000 * (3 if mode == "train" else 1) * batch // 512
    record = {
        **{"suite": "quick", "architecture": architecture, "variant": "", "dataset": "shortvideo"},
        **{"part": part, "mode": mode, "batch_size": batch, "precision": "fp32", "compiled": False},
        **{"device": "cpu", "flops": flops, "calls": 200, "rounds": 15, "latency_ms_p50": latency},
        **{"latency_ms_p99": 2 * latency, "samples_per_second": 1e3 * batch / latency},
        **{"flops_per_second": 1e3 * flops / latency, "mfu": 0.8 / LATENCY[architecture]},
        **{"mfu_datasheet": None, "peak_flops": 4e11, "spread": 0.02, "mfu_spread": 0.01},
        "cost": {"dense_params": 523_000},
        "operators": [
            {"operator": "aten::addmm", "calls": 7, "milliseconds": 1.5, "share": 0.75},
            {"operator": "aten::relu", "calls": 5, "milliseconds": 0.5, "share": 0.25},
        ],
    }
    if part == "dense":
        record |= {"least_bytes": 2e6, "operator_bytes": 2e7, "intensity": 25.6, "bandwidth": 2e10}
        record |= {"floor_ms": 1.28, "unfused_ms": 1.5, "peak_memory_bytes": 12_000_000}
    return record | changes


def all_records(**changes):
    return [
        measured(architecture, part, mode, batch, **changes)
        for architecture in LATENCY
        for batch in (512, 64)
        for mode in ("inference", "train")
        for part in ("dense", "whole")
    ]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Two models, both parts, modes and batches; rendered."""
    out = tmp_path_factory.mktemp("speeds")
    write(out, all_records())
    render_profile(out)
    return out


def write(out, records, **changes):
    profile = {
        **{"suite": "quick", "description": "Two.", "paper_table": None, "command": "python run_bench.py x"},
        **{"measured_at": "2026-01-01T00:00:00", "environment": {"threads": 1}, "records": records},
    }
    (out / "profile.json").write_text(json.dumps(profile | changes))


def profile_text(out):
    """The text that ``profile.md`` would have; nothing is drawn or written."""
    return markdown_page(profile_contents(load_profile(out)))


def row_of(page, model, caption):
    table = page.split(caption)[1]
    line = next(line for line in table.splitlines() if line.startswith(f"| {model} "))
    header = next(line for line in table.splitlines() if line.startswith("| model"))
    names, values = ([c.strip() for c in text.strip("|").split(" | ")] for text in (header, line))
    return dict(zip(names, values, strict=True))


def test_the_page_has_a_row_a_model_with_both_parts_in_it(out):
    page = (out / "profile.md").read_text()
    row = row_of(page, "RankMixer", "Speed of a training step, fp32, batch 512")
    assert row["p50, ms"] == "12.00"
    assert row["p99, ms"] == "24.00"
    assert row["samples/s"] == "42,667"
    assert row["MFU"] == "20%"
    assert row["floor, ms"] == "1.28"
    assert row["memory, MB"] == "12"
    assert row["with look-ups: p50, ms"] == "12.00"
    assert "MFU, datasheet" not in row  # there is none of a CPU
    assert "addmm 75%" in page
    assert "python run_bench.py x" in page


def test_flops_a_parameter_are_those_of_the_batch_and_the_paper_s_row_of_them_is_on_the_page(tmp_path):
    records = [measured("rankmixer", flops=1_000_000_000, cost={"dense_params": 2_500_000})]
    write(tmp_path, records, paper_table="table6")
    page = profile_text(tmp_path)
    assert row_of(page, "RankMixer", "**Speed of inference, fp32, batch 512**")["FLOPs per param"] == "400"
    assert "FLOPs/Param" in page


def test_what_was_too_unsteady_is_a_dash_and_not_in_the_figure(tmp_path):
    records = all_records()
    unsteady = dict.fromkeys(
        ("latency_ms_p50", "latency_ms_p99", "samples_per_second", "flops_per_second", "mfu")
    )
    records[0] |= unsteady
    write(tmp_path, records)
    page = profile_text(tmp_path)
    row = row_of(page, "DLRM-MLP", "Speed of inference, fp32, batch 512")
    assert row["p50, ms"] == row["MFU"] == DASH
    assert row["floor, ms"] == "1.28"
    rows = speed_frame(load_profile(tmp_path)).query("part == 'dense' and batch_size == 512")
    inference = figure_of(roofline(rows)).axes[0]
    [marks] = inference.collections
    assert marks.get_offsets().tolist() == [[25.6, pytest.approx(512e6 / 4e-3)]]


def test_the_csv_has_every_column_and_measurement(out):
    frame = pd.read_csv(out / "profile.csv")
    assert list(frame.columns) == COLUMNS
    assert len(frame) == len(all_records())
    assert frame["dense_params"].eq(523_000).all()
    operators = pd.read_csv(out / "operators.csv")
    assert len(operators) == 2 * len(all_records())


def test_the_roof_is_the_bandwidth_up_to_the_ridge_and_the_peak_beyond(out):
    rows = speed_frame(load_profile(out)).query("part == 'dense' and batch_size == 512")
    axes = figure_of(roofline(rows)).axes[0]
    roof = axes.lines[0]
    x, y = np.asarray(roof.get_xdata()), np.asarray(roof.get_ydata())
    np.testing.assert_allclose(y, np.minimum(x * 2e10, 4e11))
    assert x[1] == pytest.approx(4e11 / 2e10)
    [point] = dots(axes, looks_for(contestants(rows))["rankmixer", ""].color)
    assert point == pytest.approx([25.6, 512e6 / 4e-3])


def test_latency_is_drawn_against_batch_in_its_order(out):
    rows = speed_frame(load_profile(out)).query("part == 'dense'")
    training = figure_of(latency_against_batch(rows)).axes[1]
    line = lines_of(training, rows)["dlrm_mlp", ""]
    assert list(line.get_xdata()) == [64, 512]
    assert list(line.get_ydata()) == pytest.approx([0.75, 6.0])


def test_the_words_name_the_fastest_the_slowest_and_what_was_too_unsteady(tmp_path):
    records = all_records()
    for record in records:
        if record["architecture"] == "dlrm_mlp" and record["mode"] == "train":
            record |= {"samples_per_second": None, "mfu": None}
    write(tmp_path, records)
    page = profile_text(tmp_path)
    assert (
        "- Inference, fp32, batch 512: 256,000 samples/s (DLRM-MLP) to 128,000 samples/s (RankMixer); "
        "MFU 40% (DLRM-MLP) to 20% (RankMixer)." in page
    )
    assert (
        "- A training step, fp32, batch 512: 42,667 samples/s (RankMixer); MFU 20% (RankMixer). "
        "Too unsteady to say: DLRM-MLP." in page
    )


def test_the_page_names_one_peak_and_how_far_it_moved(tmp_path):
    records = all_records()
    for number, record in enumerate(records):
        record["peak_flops"] = (100e9, 300e9)[number % 3 == 0]
    write(tmp_path, records)
    [line] = [line for line in profile_text(tmp_path).splitlines() if "timed in the same rounds" in line]
    measured = [record["peak_flops"] for record in records if record["part"] == "dense"]
    assert f"{np.median(measured) / 1e9:.0f} GFLOP/s in fp32 (median; from 100 GFLOP/s to 300 GFLOP/s" in line
    figures = profile_contents(load_profile(tmp_path)).parts[0].figures
    drawn = [drawing.figure.axes[0] for name, drawing in figures.items() if name.startswith("roofline")]
    named = {text.get_text() for axes in drawn for text in axes.texts if text.get_text().startswith("peak")}
    assert named == {f"peak {np.median(measured) / 1e9:.0f} GFLOP/s"}


def test_every_figure_has_the_rows_behind_it_and_the_page_shows_them_all(out):
    page = (out / "report" / "index.html").read_text()
    stems = {path.stem for path in (out / "figures").glob("*.svg")}
    assert stems == {"roofline-fp32-512", "roofline-fp32-64", "latency-fp32"}
    for stem in stems:
        assert f'href="../figures/{stem}.csv"' in page
        rows = pd.read_csv(out / "figures" / f"{stem}.csv")
        assert set(rows["architecture"]) == set(LATENCY)
        assert set(rows["part"]) == {"dense"}


def test_the_papers_table_stands_on_the_page_of_its_suite(tmp_path):
    write(tmp_path, all_records(), paper_table="table6")
    assert "44.57" in profile_text(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"suite": "x"}'])
def test_a_damaged_file_is_named_with_the_mend(tmp_path, text):
    (tmp_path / "profile.json").write_text(text)
    with pytest.raises(InputError) as error:
        render_profile(tmp_path)
    assert "profile.json: " in str(error.value)
    assert str(error.value).endswith("; measure again with `run_bench.py profile models`")
    assert "\n" not in str(error.value)


def test_replays_of_a_cuda_graph_are_named_below_the_table_that_has_them_alone(tmp_path):
    records = [
        record | {"cuda_graphs": (record["part"], record["mode"]) == ("dense", "inference")}
        for record in all_records(device="cuda")
    ]
    write(tmp_path, records)
    tables = profile_text(tmp_path).split("Speed of ")[1:]
    assert [("replays" in table) for table in tables] == ["inference" in table[:12] for table in tables]
    assert len(tables) == 4
    assert speed_frame(load_profile(tmp_path))["cuda_graphs"].sum() == 4


def test_the_error_of_fewer_bits_stands_beside_the_speed_and_says_of_what_it_is(tmp_path):
    records = [record for record in all_records(precision="fp8") if record["mode"] == "inference"]
    for record in records:
        if record["part"] == "dense":
            record |= {"probability_error_max": 0.0123456, "probability_error_mean": 0.0012345}
    write(tmp_path, records)
    page = profile_text(tmp_path)
    row = row_of(page, "RankMixer", "Speed of inference, fp8, batch 512")
    assert (row["error, max"], row["error, mean"]) == ("0.01235", "0.001234")
    assert "distance of the predicted probability from fp32's" in page
    assert "fp8: RankMixer's per-token feed-forward networks; all else is bf16." in page


def test_fp32_has_no_column_of_errors_from_itself(out):
    page = (out / "profile.md").read_text()
    assert "error, max" not in page
    assert "fp8" not in page
