"""The page "What decides": its figures and sentences against sums by hand, and results that are missing."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy import stats

from files.errors import InputError
from reports.cells import interval, signed
from reports.decides.ceiling import front_heights
from reports.decides.report import render_what_decides, what_decides
from reports.decides.results import Results, read_results
from reports.decides.rows_and_size import rows_part
from reports.figures.contrasts import contrasts_side_by_side
from reports.figures.drawing.models import looks_for
from reports.figures.drawing.saving import figure_of
from reports.figures.oracle_gap import gap_closed
from reports.render import markdown_page
from tests.reports.decides.folders import MODELS, POINTS, SIZES, TASKS, WRITERS, run, write_all
from tests.reports.figures.read_back import hover_texts, lines_of

ROWS = "AUC of finish"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("decides"))


@pytest.fixture(scope="module")
def contents(root):
    return what_decides(read_results(root))


@pytest.fixture(scope="module")
def parts(contents):
    return {part.name: part for part in contents.parts}


@pytest.fixture(scope="module")
def aucs(root):
    """Every AUC of the folders, read from the files of the records: one row a run, task and point."""
    rows = []
    for path in root.glob("*/runs/*/record.json"):
        made = json.loads(path.read_text())
        if made["kind"] == "reference":
            continue
        where = {name: made[name] for name in ("architecture", "series", "size", "seed")}
        where["world"] = made.get("world") or 0
        where["folder"] = path.parents[2].name
        for point in [*made["tested"], {"samples": POINTS[-1], "metrics": made["metrics"]}]:
            rows += [
                where | {"samples": point["samples"], "task": task, "auc": metrics["auc"]}
                for task, metrics in point["metrics"].items()
            ]
    return pd.DataFrame(rows)


def series(aucs, folder, architecture, series="", size="", task="finish"):
    """The AUCs (worlds or seeds, points) of one model."""
    frame = aucs[(aucs["folder"] == folder) & (aucs["task"] == task) & (aucs["size"] == size)]
    frame = frame[(frame["architecture"] == architecture) & (frame["series"] == series)]
    return frame.pivot_table(index=["world", "seed"], columns="samples", values="auc").to_numpy()


def ours_less(aucs, folder, other, **where):
    return series(aucs, folder, "rankmixer", **where) - series(aucs, folder, other, **where)


def words_of(values: np.ndarray, p_holm: float) -> str:
    """A mean over worlds with its interval and verdict, as the page has them."""
    test = stats.ttest_1samp(values, 0)
    low, high = test.confidence_interval()
    verdict = "resolved" if p_holm < 0.05 else "not resolved"
    return f"{interval(100 * values.mean(), 100 * low, 100 * high, 2)}, {verdict}"


def holm_of_two(first: float, second: float) -> tuple[float, float]:
    low, high = 2 * min(first, second), max(first, second)
    pair = (min(1, low), min(1, max(low, high)))
    return pair if first <= second else pair[::-1]


def test_the_curves_over_rows_are_the_mean_differences_of_the_worlds(parts, aucs):
    drawing = parts["rows"].figures["decides-rows"]
    axes = drawing.figure.axes[0]
    lines = lines_of(axes, drawing.data, drawing.options["looks"])
    assert list(lines) == [("rankmixer", ""), ("dcnv2", "")]
    for (name, _), line in lines.items():
        expected = series(aucs, "curves-worlds", name, size="1M") - series(
            aucs, "curves-worlds", "dlrm_mlp", size="1M"
        )
        np.testing.assert_allclose(line.get_xdata(), POINTS)
        np.testing.assert_allclose(line.get_ydata(), 100 * expected.mean(axis=0))


def test_the_answer_over_rows_is_the_change_with_its_interval_and_what_it_was_corrected_for(parts, aucs):
    changes, p_values = {}, {}
    for name in ("rankmixer", "dcnv2"):
        gained = series(aucs, "curves-worlds", name, size="1M") - series(
            aucs, "curves-worlds", "dlrm_mlp", size="1M"
        )
        changes[name] = gained[:, -1] - gained[:, 0]
        p_values[name] = stats.ttest_1samp(changes[name], 0).pvalue
    corrected, _ = holm_of_two(p_values["rankmixer"], p_values["dcnv2"])
    said = parts["rows"].in_short
    assert said.startswith("Does RankMixer's difference to DLRM-MLP grow with rows, at 1 MFLOP a sample? In ")
    first, last = ours_less(aucs, "curves-worlds", "dlrm_mlp", size="1M").mean(axis=0)[[0, -1]]
    assert (
        f"In {ROWS} it goes from {signed(100 * first, 2)} points after 100,000 rows to "
        f"{signed(100 * last, 2)} after 1,000,000, a change of {words_of(changes['rankmixer'], corrected)};"
    ) in said
    assert said.endswith(
        "(95% intervals over 3 worlds; verdicts after Holm's correction over the 2 differences of a task)."
    )


def test_a_model_that_gains_nothing_is_not_called_resolved(tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS, "rankmixer", MODELS["dlrm_mlp"])
    write_all(tmp_path, ["curves-worlds"])
    rows = what_decides(read_results(tmp_path)).parts[0].in_short
    assert rows.count(", not resolved") == 2


def test_data_that_allow_no_verdict_have_none_here(root, tmp_path):
    (tmp_path / "curves-worlds").symlink_to(root / "curves-worlds")
    [(name, section)] = read_results(tmp_path).sections.items()
    leaking = Results({name: replace(section, no_verdict="A feature knows the label.")})
    rows = rows_part(leaking)
    assert "resolved" not in rows.in_short
    assert rows.in_short.endswith("no verdict is given on any).")


def test_each_panel_of_sizes_holds_the_differences_of_that_size(parts, aucs):
    drawing = parts["size"].figures["decides-size"]
    panels = drawing.figure.axes
    assert [axes.get_title("left") for axes in panels] == [
        f"{task}: AUC, {size}" for task in TASKS for size in SIZES
    ]
    for axes, (task, size) in zip(panels, [(task, size) for task in TASKS for size in SIZES], strict=True):
        line = lines_of(axes, drawing.data, drawing.options["looks"])["rankmixer", ""]
        expected = ours_less(aucs, "curves", "dlrm_mlp", size=size, task=task).mean(axis=0)
        np.testing.assert_allclose(line.get_ydata(), 100 * expected)
    assert "not judged (few seeds)" in parts["size"].in_short
    assert ", resolved" not in parts["size"].in_short


def test_the_marks_of_the_ceiling_are_the_shares_of_each_world_s_own_gap(parts, aucs):
    drawing = parts["ceiling"].figures["decides-ceiling"]
    ceilings = np.array([0.85, 0.86, 0.87])
    shares = (series(aucs, "curves-worlds", "rankmixer", size="1M") - 0.5) / (ceilings[:, None] - 0.5)
    axes = drawing.figure.axes[0]
    marks = [line for line in axes.lines if line.get_label() == "RankMixer"]
    assert [line.get_xdata()[0] for line in marks] == pytest.approx(100 * shares.mean(axis=0)[[0, -1]])
    gained = 100 * (shares[:, -1] - shares[:, 0])
    low, high = stats.t.interval(0.95, 2, gained.mean(), stats.sem(gained))
    words = f"a gain of {interval(gained.mean(), low, high, 1)} percentage points"
    assert words in parts["ceiling"].in_short


def test_fronts_are_compared_at_the_most_compute_that_keeps_to_what_ran(parts):
    """Against brute force: every size at every compute, and how far size and rows of the best go."""
    shared = {"variant": "", "E": 0.01, "alpha": 0.5, "B": 3.8, "beta": 0.35, "not_identified": ""}
    shared |= {"least_flops": 1e5, "least_rows": 1e5, "most_rows": 1e6}
    fits = pd.DataFrame(
        [
            shared | {"architecture": "dcnv2", "A": 16.0, "most_flops": 4e6},
            shared | {"architecture": "rankmixer", "A": 9.0, "most_flops": 1.5e5},
            shared | {"architecture": "dcn", "A": 1.0, "most_flops": 4e6, "not_identified": "E, beta"},
            shared | {"architecture": "gdcn", "A": 0.05, "alpha": 0.02, "most_flops": 4e6},  # best size: tiny
        ]
    )
    compute, heights = front_heights(fits)
    sizes = np.geomspace(1e4, 1e8, 20_001)

    def best(row, compute):
        losses = row["E"] + row["A"] * sizes**-0.5 + row["B"] * (compute / 3 / sizes) ** -0.35
        return sizes[losses.argmin()], losses.min()

    leaves = []
    for row in fits[:2].to_dict("records"):
        everywhere = np.geomspace(1e10, 1e14, 2001)
        within = [at for at in everywhere if (size := best(row, at)[0]) <= row["most_flops"]
                  and at / 3 / size <= row["most_rows"]]  # fmt: skip
        leaves.append(max(within))
    assert compute == pytest.approx(min(leaves), rel=0.01)
    assert set(heights) == {("dcnv2", ""), ("rankmixer", "")}
    for row in fits[:2].to_dict("records"):
        assert heights[row["architecture"], ""].loss == pytest.approx(best(row, compute)[1], rel=1e-6)
    assert heights["rankmixer", ""].is_measured
    assert front_heights(fits[2:]) == (pytest.approx(math.nan, nan_ok=True), {})
    few = fits[:2].assign(least_rows=[9e5, 1e5])
    beyond = front_heights(few)[1]["dcnv2", ""]
    assert not beyond.is_measured
    assert beyond.words.endswith(" above the oracle's, at a size or rows outside of those measured")
    said = parts["compute"].in_short
    assert "the fitted front of RankMixer is lowest in log loss of finish" in said


def test_the_measured_loss_is_that_of_the_largest_size_at_the_most_rows(parts, aucs):
    losses = -ours_less(aucs, "curves", "dlrm_mlp", size="3M")[:, -1]  # log loss is 1.2 - AUC
    low, high = stats.t.interval(0.95, 1, losses.mean(), stats.sem(losses))
    words = f"DLRM-MLP's is {interval(losses.mean(), low, high, 4)}, not judged (few seeds)"
    assert f"measured at 3 MFLOPs and 1,000,000 rows, RankMixer's log loss less {words}" in (
        parts["compute"].in_short
    )


def test_the_two_kinds_of_worlds_are_compared_world_by_world(parts, aucs):
    drawing = parts["heterogeneity"].figures["decides-heterogeneity"]
    here = [
        series(aucs, name, "rankmixer")[:, -1] - series(aucs, name, "dcnv2")[:, -1]
        for name in ("heterogeneity-apart", "heterogeneity-shared")
    ]
    axes = drawing.figure.axes[0]
    marks = [line for line in axes.lines if len(line.get_xdata()) == 1 and line.get_ydata()[0] < 0.5]
    assert {line.get_label(): line.get_xdata()[0] for line in marks} == pytest.approx(
        {
            "heterogeneity-apart": 100 * here[0].mean(),
            "heterogeneity-shared": 100 * here[1].mean(),
            "heterogeneity-apart less heterogeneity-shared": 100 * (here[0].mean() - here[1].mean()),
        }
    )
    low, high = stats.ttest_rel(*here).confidence_interval()
    diff = here[0].mean() - here[1].mean()
    assert f"{interval(100 * diff, 100 * low, 100 * high, 2)}, resolved, between the two" in (
        parts["heterogeneity"].in_short
    )


def test_the_bars_of_the_parts_and_the_line_of_the_experts(parts, aucs):
    drawing = parts["parts"].figures["decides-parts"]
    waterfall, experts = drawing.figure.axes[:2]
    whole = series(aucs, "parts-at-scale", "rankmixer")[:, -1]
    expected = [
        100 * (series(aucs, "parts-at-scale", "rankmixer", part)[:, -1] - whole).mean()
        for part in ("no-norm", "shared-ffn", "no-mixing")
    ]
    assert [bar.get_width() for bar in waterfall.patches] == pytest.approx(expected)
    contrast = series(aucs, "experts-at-scale", "rankmixer", "dtsi-relu-1/8") - series(
        aucs, "experts-at-scale", "rankmixer", "dense-1/8"
    )
    lines = [line for line in experts.lines if len(line.get_xdata()) == 3 and line.get_alpha() != 0]
    np.testing.assert_allclose(lines[0].get_ydata(), 100 * contrast.mean(axis=0))
    assert "of finish 2 of 3 changes lower it and are resolved" in parts["parts"].in_short
    assert signed(100 * contrast[:, -1].mean(), 2) in parts["parts"].in_short
    active = "RankMixer (dense-1/8) 90.0 k, RankMixer (dtsi-relu-1/8) 110 k."
    assert parts["parts"].in_short.endswith(active)
    assert parts["parts"].tables[0].notes[1].endswith(active)


def test_the_table_of_crossings_says_between_which_points_the_sign_changes(parts, aucs):
    tables = {table.name: table for table in parts["crossings"].tables}
    table = tables["crossings-curves-worlds-finish"]
    rows = {row[0]: row for row in table.rows}
    assert set(rows) == {"DLRM-MLP", "DCNv2"}
    means = ours_less(aucs, "curves-worlds", "dlrm_mlp", size="1M").mean(axis=0)
    assert means[0] < 0 < means[1]
    zero = np.exp(np.interp(0, means[:2], np.log(POINTS[:2])))
    assert rows["DLRM-MLP"][1:4] == ["1M", "100,000 and 300,000", f"{float(f'{zero:.3g}'):,.0f}"]
    tests = [
        stats.ttest_1samp(ours_less(aucs, "curves-worlds", other, size="1M")[:, at], 0).pvalue
        for other in ("dlrm_mlp", "dcnv2")
        for at in range(3)
    ]
    ordered = sorted(tests)
    corrected = {p: max(q * (6 - place) for place, q in enumerate(ordered) if q <= p) for p in tests}
    verdicts = [corrected[p] < 0.05 for p in tests]
    assert rows["DLRM-MLP"][4] == ("yes" if verdicts[0] and (verdicts[1] or verdicts[2]) else "no")
    words = ["resolved" if verdict else "not resolved" for verdict in (verdicts[0], verdicts[2])]
    assert [cell.split(", ")[1] for cell in rows["DLRM-MLP"][5:]] == words
    assert {"auc", "logloss"} <= set(table.numbers["metric"])


def test_results_that_are_missing_are_named_with_what_cannot_be_answered(root, tmp_path):
    for name in ("curves", "heterogeneity-shared", "experts-at-scale"):
        (tmp_path / name).symlink_to(root / name)
    found = what_decides(read_results(tmp_path))
    assert [part.name for part in found.parts] == [
        *("rows", "size", "crossings", "compute", "ceiling", "heterogeneity", "parts")
    ]
    assert found.descriptions[1] == "Not there: curves-worlds, heterogeneity-apart, parts-at-scale."
    assert "over 2 seeds" in found.parts[0].in_short  # curves in place of curves-worlds
    assert found.parts[5].in_short.endswith("The other kind of worlds is not there to compare with.")
    assert "between the two" not in found.parts[5].in_short
    assert len(found.parts[6].figures["decides-parts"].figure.axes) == 2  # the experts of two tasks


def test_one_result_alone_makes_a_page_and_none_makes_no_page(root, tmp_path, monkeypatch):
    for pictures in ("write_drawing", "write_pages"):
        monkeypatch.setattr(f"reports.render.{pictures}", lambda *given: None)
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError, match="holds none of curves, curves-worlds"):
        render_what_decides(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in/parts-at-scale").symlink_to(root / "parts-at-scale")
    page = render_what_decides(tmp_path / "in", tmp_path / "out").read_text()
    assert page.startswith("# What decides\n")
    assert "Not answered for want of results: More rows, More rows at each size, Where lines cross" in page
    assert "## Parts and experts" in page
    assert not (tmp_path / "out/figures").exists()


def test_a_folder_of_two_datasets_is_refused(tmp_path):
    WRITERS["parts-at-scale"](tmp_path / "parts-at-scale")
    other = run("rankmixer", 5, dataset="kuairand-pure") | {"suite": "parts-at-scale"}
    (tmp_path / "parts-at-scale/runs/other").mkdir()
    (tmp_path / "parts-at-scale/runs/other/record.json").write_text(json.dumps(other))
    with pytest.raises(InputError, match="give a folder of one suite and dataset"):
        read_results(tmp_path)


def test_the_page_has_a_figure_each_but_of_crossings_and_all_numbers_behind_them(contents):
    page = markdown_page(contents)
    assert sum(len(part.figures) for part in contents.parts) == 6
    for part in contents.parts:
        assert part.in_short.split("?")[0] + "?" in page
        for name in part.figures:
            assert f"figures/{name}.csv" in contents.data
    assert "tables/crossings-curves-finish.csv" in contents.data


def test_models_of_the_new_figures_can_be_ordered_and_renamed(parts):
    gaps = parts["ceiling"].figures["decides-ceiling"].data
    axes = gap_closed(gaps, metrics=["auc"], order=["rankmixer", "dlrm_mlp"], names={"rankmixer": "Ours"})[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["Ours", "DLRM-MLP"]
    contrasts = parts["heterogeneity"].figures["decides-heterogeneity"].data
    drawn = contrasts_side_by_side(contrasts, metrics=["auc"], order=["dcnv2"], names={"dcnv2": "Crosses"})
    assert [text.get_text() for text in drawn[0].get_yticklabels()] == ["RankMixer\nminus Crosses"]
    ax = Figure().subplots(1, 2)
    drawn = contrasts_side_by_side(contrasts, looks=looks_for([]), metrics=["auc"], ax=ax)
    first = contrasts[(contrasts["task"] == "finish") & (contrasts["metric"] == "auc")].iloc[0]
    expected = interval(*(100 * first[end] for end in ("diff", "diff_low", "diff_high")), 2)
    assert f"heterogeneity-apart: {expected}" in hover_texts(figure_of(drawn))
