"""The page's own parts without a browser: scales, curves, sorting keys, and what is written."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.records.store import read_runs
from reports.cells import Shown, interval
from reports.contents import gather
from reports.page.build import write_pages
from reports.page.curves import line_chart
from reports.page.intervals import MARGIN, WIDTH, Scale, draw
from reports.page.leaderboard import leaderboard_entries
from reports.page.run_pages import flattened, run_view
from reports.page.tables import table_view
from reports.page.templating import HERE
from reports.render import render
from tests.reports.made_up import ARCHITECTURES, quick_records, record, write_out


def attribute(svg, element, name):
    return [float(value) for value in re.findall(rf"<{element}\b[^>]*? {name}=\"([^\"]*)\"", svg)]


@given(st.lists(st.tuples(st.floats(-2, 2), st.floats(0.01, 1)), min_size=1, max_size=8))
def test_intervals_of_a_column_share_a_scale_that_keeps_order_and_proportion(rows):
    cells = [interval(middle, middle - half, middle + half, 2) for middle, half in rows]
    scale = Scale.fit(cells)
    per_unit = (WIDTH - 2 * MARGIN) / (scale.high - scale.low)
    for cell in cells:
        svg = str(draw(cell, scale))
        (zero, low), (_, high) = attribute(svg, "line", "x1"), attribute(svg, "line", "x2")
        [middle] = attribute(svg, "circle", "cx")
        assert MARGIN - 0.01 <= low <= middle <= high <= WIDTH - MARGIN + 0.01
        assert high - low == pytest.approx((cell.high - cell.low) * per_unit, abs=0.02)
        assert middle - zero == pytest.approx(cell.value * per_unit, abs=0.02)
        assert ("away" in svg) == (cell.low > 0 or cell.high < 0)


def test_an_interval_beyond_the_scale_is_an_arrow_that_way():
    svg = draw(interval(-9.0, -9.5, -8.5, 2), Scale(-1.0, 1.0))
    places = re.search(r'points="([^"]*)"', svg)[1].split(" ")
    tip, *back = [float(place.split(",")[0]) for place in places]
    assert tip < min(back) < WIDTH / 2
    assert "circle" not in svg


def test_an_interval_that_claims_nothing_is_never_filled():
    untested = interval(0.5, 0.4, 0.6, 2, "untested (one seed)", claimed=False)
    assert 'class="interval open unclaimed"' in draw(untested, Scale(0.0, 1.0))
    assert Scale.fit([Shown("base", 0.0), "text"]) is None


def test_a_curve_goes_through_its_points_and_says_their_values():
    points = [(0.0, 0.9), (50.0, 0.5), (100.0, 0.7)]
    svg = str(line_chart(points, "a <loss>", "#123456"))
    path = re.search(r'points="([^"]*)"', svg)[1]
    (x0, y0), (x1, y1), (x2, y2) = (map(float, place.split(",")) for place in path.split(" "))
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert (y1 - y0) / (y1 - y2) == pytest.approx(2, abs=0.02)  # falls by 0.4, rises by 0.2
    assert y1 > y0  # less is lower
    assert "<title>a &lt;loss&gt;: 0.5000 after 50 samples</title>" in svg


def test_one_point_or_equal_values_still_make_a_curve():
    for points in ([(10.0, 0.5)], [(10.0, 0.0), (20.0, 0.0)]):
        assert "nan" not in line_chart(points, "loss", "#123456")


def test_nested_settings_become_dotted_names():
    nested = {"training": {"lr": 0.001, "clip": None}, "config": {"layers": [1, 2]}, "seed": 0}
    assert flattened(nested) == [("training.lr", "0.001"), ("config.layers", "1, 2"), ("seed", "0")]


def test_every_cell_with_a_number_carries_it(quick_out):
    """What reads as a number is sorted by a number, and it is the one that is printed."""
    for table in gather(read_runs(quick_out)).tables:
        view = table_view(table)
        for i, column in enumerate(view.columns):
            for row in view.rows if column.numeric else []:
                shown = re.match(r"([+\N{MINUS SIGN}]?[\d,.]+)$", row[i].text)
                if shown:
                    printed = float(shown[1].replace("\N{MINUS SIGN}", "-").replace(",", ""))
                    digits = len(shown[1].partition(".")[2])
                    assert float(row[i].value) == pytest.approx(printed, abs=0.51 * 10**-digits)
            texts = [row[i].text for row in view.rows]
            if not column.numeric:
                assert not any(re.fullmatch(r"[+\N{MINUS SIGN}]?\d+\.\d+.*", text) for text in texts), texts


def test_the_papers_columns_and_no_others_are_marked(quick_out):
    tables = {table.name: table for table in gather(read_runs(quick_out)).tables}
    view = table_view(tables["quality-shortvideo-finish"])
    marked = [column.title for column in view.columns if column.papers]
    assert marked == ["paper: Finish AUC", "paper: Finish UAUC"]


class Rows(HTMLParser):
    """The data values of the table of runs by run, and the links."""

    def __init__(self):
        super().__init__()
        self.links = []

    def handle_starttag(self, tag, attrs):
        if tag == "a":
            self.links.append(dict(attrs)["href"])


def test_each_run_has_a_page_and_pages_of_runs_that_are_gone_are_removed(quick_out, tmp_path):
    out = shutil.copytree(quick_out, tmp_path / "out")
    (out / "report" / "runs" / "gone.html").write_text("old")
    write_pages(gather(read_runs(out)), out)
    names = {path.stem for path in (out / "report" / "runs").iterdir()}
    assert names == {path.name for path in (out / "runs").iterdir()}
    assert len(names) == 14


def test_folders_with_awkward_names_are_linked(tmp_path):
    out = write_out(tmp_path, [record(name, tasks=("finish",)) for name in ARCHITECTURES[:2]])
    (out / "runs" / "run-000").rename(out / "runs" / "a #1 %41 ü?")
    render(out)
    parser = Rows()
    parser.feed((out / "report" / "index.html").read_text())
    assert "runs/a%20%231%20%2541%20%C3%BC%3F.html" in parser.links
    assert (out / "report" / "runs" / "a #1 %41 ü?.html").is_file()


def test_each_figure_has_the_rows_it_was_drawn_from(quick_out):
    drawn = pd.read_csv(quick_out / "figures" / "differences-shortvideo.csv")
    compared = pd.read_csv(quick_out / "comparisons.csv")
    compared = compared[compared["metric"] != "gauc"]
    assert sorted(drawn["diff"]) == pytest.approx(sorted(compared["diff"]))
    for svg in (quick_out / "figures").glob("*.svg"):
        assert svg.with_suffix(".csv").stat().st_size > 0


def test_a_page_holds_no_address_of_another_machine(quick_out):
    """The library of tables names its makers' site in notices of its paid parts, and may ask for nothing."""
    library = (HERE / "vendor" / "dataTables.min.js").read_text(encoding="utf-8")
    index = (quick_out / "report" / "index.html").read_text(encoding="utf-8")
    assert library in index
    for path in (quick_out / "report").rglob("*.html"):
        text = re.sub(r'xmlns(:\w+)?="[^"]*"', "", path.read_text().replace(library, ""))
        assert "default-src 'none'" in text
        assert not re.search(r"(src|href|url\(|@import)\W*https?:", text), path


def test_a_run_is_drawn_over_training_and_ends_where_its_record_does(quick_out):
    made = quick_records()[0]
    page = (quick_out / "report" / "runs" / "run-000.html").read_text()
    titles = re.findall(r'<svg class="chart"[^>]* aria-label="([^"]*)"', page)
    tasks = [f"{task}: validation {metric}" for task in ("finish", "skip") for metric in ("AUC", "UAUC")]
    assert titles == ["training loss", *tasks]
    last = made["validation"][-1]["metrics"]["skip"]["auc"]
    assert f"<dt>skip: AUC</dt><dd>{last:.4f}</dd>" in page
    assert "<dt>rows.<wbr>train</dt><dd>" in page, "long names break where a reader expects it"
    assert f"skip: validation AUC: {last:.4f} after 4,096 samples" in page
    assert '<a href="../../runs/run-000/record.json">' in page


def test_a_run_stands_beside_the_bases_run_of_its_seed_and_shows_its_calibration(tmp_path):
    runs = [record(name, seed) for seed in (0, 1) for name in ("dlrm_mlp", "dcn")]
    parts = [{"score": 0.1 * i + 0.05, "rate": 0.1 * i + 0.02, "rows": 10} for i in range(10)]
    runs[3]["metrics"]["finish"]["reliability"] = parts
    out = write_out(tmp_path, runs)
    stored = read_runs(out)
    contents = gather(stored)
    assert {name: run.seed for name, run in contents.base_runs.items()} == {"run-001": 0, "run-003": 1}
    ours, base = stored.records[-1], contents.base_runs["run-003"]
    view = run_view(ours, base)
    row = dict(zip([column.title for column in view.metrics.columns], view.metrics.rows[0], strict=True))
    difference = 100 * (runs[3]["metrics"]["finish"]["auc"] - runs[2]["metrics"]["finish"]["auc"])
    assert float(row["AUC vs base"].value) == pytest.approx(difference)
    charts = {title: str(chart) for title, chart in view.charts}
    drawn = charts["finish: rate of positives in tenths of the test rows by score"]
    assert "0.9200 where the mean score is 0.9500" in drawn
    assert 'class="diagonal"' in drawn
    assert not any("skip: rate" in title for title in charts), "nothing is kept of the other task"


def test_a_leaderboard_ranks_by_the_metric_and_keeps_the_interval(quick_out):
    entries = list(leaderboard_entries(quick_out))
    assert {(e["task"], e["metric"]) for e in entries} == {
        (task, metric) for task in ("finish", "skip") for metric in ("AUC", "UAUC")
    }
    compared = pd.read_csv(quick_out / "comparisons.csv").set_index(["architecture", "task", "metric"])
    for entry in entries:
        means = [row[1] for row in entry["rows"]]
        assert means == sorted(means, reverse=True)
        (dcn,) = [row for row in entry["rows"] if row[0] == "DCN"]
        kept = compared.loc[("dcn", entry["task"], entry["metric"].lower())]
        assert dcn[2:5] == pytest.approx([kept["diff"], kept["low"], kept["high"]])
        assert entry["budget"] == "1.00 M forward FLOPs per sample"
