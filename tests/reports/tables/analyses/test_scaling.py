"""Growth with size: slopes against numpy and scipy, intervals against their own formulas, figures, words."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.evaluation.scaling import line, scaling_fits, size_means
from harness.records.contestant import parts_of_name
from harness.records.store import read_runs
from reports.figures.drawing.models import contestants, looks_for
from reports.figures.drawing.saving import figure_of
from reports.figures.scaling import paper_scaling, quality_against_size, size_front
from reports.paper.printed import load_paper
from reports.paper.scaling import paper_points, paper_slopes
from reports.render import markdown_page
from reports.sections import load_sections
from reports.tables.analyses.scaling import runs_by_size, scaling_tables, scaling_words
from tests.reports.made_up import (
    NAMES,
    comparison_rows,
    failed,
    metrics,
    record,
    reference,
    wobble,
    write_out,
)
from tests.reports.reading import contents_of

SIZES = (0.3e6, 0.55e6, 1e6, 1.7e6, 3e6)
SLOPES = {"dlrm_mlp": 0.0010, "wukong": 0.0040, "rankmixer": 0.0060}  # AUC a decade of FLOPs
PARAMS_EXPONENT = 0.8  # parameters grow with this power of FLOPs


def sized_record(architecture: str, target: float, seed: int, noise: float = 2e-4, **changes) -> dict:
    """A run whose AUC is on its architecture's line over log10 FLOPs but for ``noise``."""
    made = record(architecture, seed, variant=f"{target / 1e6:g}M", **changes)
    flops = round(target * 1.01)
    made["cost"] |= {"flops_per_sample": flops, "dense_params": round(flops**PARAMS_EXPONENT)}
    made["budget"] = {"kind": "flops_per_sample", "target": target, "miss": 0.01}
    made["suite"] = "figure2"
    for task in made["metrics"]:
        auc = 0.70 + SLOPES[architecture] * math.log10(flops / 1e6)
        auc += noise * wobble(architecture, target, seed, task)
        made["metrics"][task] = metrics(auc, auc - 0.05, auc - 0.04)
    return made


def sized_records(seeds: int = 3, noise: float = 2e-4) -> list[dict]:
    base = sized_record("dlrm_mlp", 1e6, 0, noise) | {"variant": ""}
    made = [base | {"seed": seed} for seed in range(seeds)]
    made += [
        sized_record(architecture, target, seed, noise)
        for architecture in SLOPES
        for target in SIZES
        for seed in range(seeds)
    ]
    return [*made, reference("oracle") | {"suite": "figure2"}]


def write_figure2(out, records=None):
    made = sized_records() if records is None else records
    changes = {"name": "figure2", "paper_table": "figure2", "base": "dlrm_mlp", "budget": None}
    return write_out(out, made, comparison_rows(made, half_width=0.0004), **changes)


def section_of(out):
    [section] = load_sections(read_runs(out))
    return section


def runs_of(tmp_path, records=None) -> pd.DataFrame:
    return runs_by_size(section_of(write_figure2(tmp_path, records)))


@pytest.fixture(scope="module")
def figure2_out(tmp_path_factory):
    """Three architectures at five sizes, three seeds, and a base without a size."""
    return write_figure2(tmp_path_factory.mktemp("figure2"))


def fits_for(fits, task="finish", metric="auc", axis="flops_per_sample", law="points"):
    return fits[
        (fits["task"] == task) & (fits["metric"] == metric) & (fits["axis"] == axis) & (fits["law"] == law)
    ]


# --- What has a size ------------------------------------------------------------------------------------


@given(st.floats(1e3, 1e13), st.sampled_from(["", "deep", "no-mixing"]))
def test_a_size_is_told_from_the_name_that_a_suite_gives_it(target, stem):
    size = f"{target / 1e6:g}M"
    assert parts_of_name("-".join(filter(None, [stem, size]))) == (stem, size, None)


def test_rows_without_a_size_of_their_own_budget_and_series_of_two_sizes_are_no_scaling(tmp_path):
    records = [sized_record("rankmixer", target, seed) for target in SIZES[:3] for seed in (0, 1)]
    records += [sized_record("wukong", target, 0) for target in SIZES[:2]]
    records += [sized_record("dlrm_mlp", target, 0) | {"variant": f"{target / 5e5:g}M"} for target in SIZES]
    records += [sized_record("dlrm_mlp", 1e6, 0) | {"variant": ""}]
    runs = runs_of(tmp_path, records)
    assert set(runs["architecture"]) == {"rankmixer"}
    assert set(runs["size"]) == {"0.3M", "0.55M", "1M"}
    assert len(runs) == 3 * 2 * 2 * 2  # sizes, seeds, tasks, metrics


# --- Slopes ---------------------------------------------------------------------------------------------

VALUES = st.floats(0.5, 0.95).map(lambda value: round(value, 6))


@given(st.lists(st.lists(VALUES, min_size=5, max_size=5), min_size=1, max_size=4))
def test_a_line_is_numpys_and_the_mean_of_seeds_lines_is_the_line_of_all_runs(values):
    x, y = np.array(SIZES), np.array(values)
    slopes, intercepts = line(x, y)
    for seed, row in enumerate(y):
        assert np.polyfit(np.log10(x), row, 1) == pytest.approx([slopes[seed], intercepts[seed]], abs=1e-9)
    together = stats.linregress(np.tile(np.log10(x), len(y)), y.ravel())
    assert slopes.mean() == pytest.approx(together.slope, abs=1e-9)
    assert intercepts.mean() == pytest.approx(together.intercept, abs=1e-9)


def test_slopes_that_were_put_in_come_out_over_flops_and_over_parameters(tmp_path):
    fits = scaling_fits(runs_of(tmp_path, sized_records(noise=0)))
    for axis, power in (("flops_per_sample", 1), ("dense_params", PARAMS_EXPONENT)):
        rows = fits_for(fits, axis=axis).set_index("architecture")
        for architecture, slope in SLOPES.items():
            assert rows.loc[architecture, "slope"] == pytest.approx(100 * slope / power, rel=1e-5)
            assert rows.loc[architecture, "off_line"] == pytest.approx(0, abs=1e-5)
        assert rows.index.tolist() == ["rankmixer", "wukong", "dlrm_mlp"]
    assert set(fits["sizes"]) == {5}


def test_a_power_law_that_was_put_in_comes_out(tmp_path):
    records = sized_records(noise=0)
    for made in records:
        if made["kind"] == "model":
            for task in made["metrics"]:
                auc = 1 - 2.0 * made["cost"]["dense_params"] ** -0.17
                made["metrics"][task] |= {"auc": auc, "uauc": auc}
    fits = scaling_fits(runs_of(tmp_path, records))
    assert fits_for(fits, axis="dense_params", law="exponent")["slope"].tolist() == pytest.approx([0.17] * 3)
    flops = fits_for(fits, axis="flops_per_sample", law="exponent")["slope"].tolist()
    assert flops == pytest.approx([0.17 * PARAMS_EXPONENT] * 3, rel=1e-5)


def test_a_seed_that_lacks_a_size_is_left_out_and_a_size_that_none_finished_too(tmp_path):
    records = [r for r in sized_records() if r["architecture"] != "rankmixer"]
    for target in SIZES:
        for seed in range(3):
            lost = target == SIZES[4] or (target == SIZES[0] and seed == 2)
            made = sized_record("rankmixer", target, seed)
            gone = {"variant": made["variant"], "budget": made["budget"], "suite": "figure2"}
            records.append(failed("rankmixer", seed) | gone if lost else made)
    fits = fits_for(scaling_fits(runs_of(tmp_path, records))).set_index("architecture")
    assert fits.loc["rankmixer", ["sizes", "seeds"]].tolist() == [4, 2]
    assert fits.loc["wukong", ["sizes", "seeds"]].tolist() == [5, 3]


# --- Intervals ------------------------------------------------------------------------------------------

SLOPE = st.floats(0, 0.01).map(lambda value: round(value, 5))
XS = np.array([1.0, 10.0, 100.0])


def runs_with_slopes(slopes):
    """Runs of three sizes that lie on lines: by architecture, the slope of each seed (or world and seed)."""
    rows = [
        {"architecture": name, "variant": "", "size": f"{x:g}M", "world": world, "seed": seed}
        | {"task": "finish", "metric": "auc", "value": 0.7 + slope * math.log10(x)}
        | {"flops_per_sample": x, "dense_params": x}
        for name, by_run in slopes.items()
        for (world, seed), slope in by_run.items()
        for x in XS
    ]
    return pd.DataFrame(rows)


def fits_of(slopes):
    fits = scaling_fits(runs_with_slopes(slopes))
    fits = fits[(fits["axis"] == "flops_per_sample") & (fits["law"] == "points")]
    return fits.set_index("architecture")


@settings(max_examples=15)
@given(st.lists(SLOPE, min_size=2, max_size=6, unique=True))
def test_the_interval_of_a_slope_is_the_t_interval_of_its_own_seeds_whatever_the_neighbours(slopes):
    neighbour = {(0, seed): (-1) ** seed * 0.01 for seed in range(len(slopes))}
    got = fits_of({"a": {(0, seed): slope for seed, slope in enumerate(slopes)}, "wild": neighbour}).loc["a"]
    points = 100 * np.array(slopes)
    expected = stats.t.interval(0.95, len(points) - 1, points.mean(), stats.sem(points))
    assert (got.low, got.high) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@settings(max_examples=15)
@given(st.lists(st.tuples(SLOPE, SLOPE), min_size=2, max_size=6, unique=True))
def test_the_difference_of_two_slopes_has_the_paired_t_interval(pairs):
    first, second = (dict(enumerate(side)) for side in zip(*pairs, strict=True))
    slopes = {"a": {(0, s): v for s, v in first.items()}, "b": {(0, s): v for s, v in second.items()}}
    gaps = 100 * np.abs(np.mean(list(first.values())) - np.mean(list(second.values())))
    got = fits_of(slopes).iloc[0]
    half = 100 * stats.t.ppf(0.975, len(pairs) - 1) * stats.sem(np.subtract(*zip(*pairs, strict=True)))
    assert got.next_diff == pytest.approx(gaps, abs=1e-9)
    assert (got.next_high - got.next_low) / 2 == pytest.approx(half, rel=1e-6, abs=1e-9)


def test_over_worlds_the_interval_of_a_slope_is_that_of_the_worlds_means():
    by_world = {0: (0.001, 0.003), 1: (0.005, 0.007), 2: (0.002, 0.002)}
    slopes = {(world, seed): slope for world, pair in by_world.items() for seed, slope in enumerate(pair)}
    got = fits_of({"a": slopes}).loc["a"]
    means = 100 * np.array([np.mean(pair) for pair in by_world.values()])
    expected = stats.t.interval(0.95, 2, means.mean(), stats.sem(means))
    assert (got.low, got.high) == pytest.approx(expected)


def test_one_seed_has_slopes_and_an_order_but_no_interval(tmp_path):
    section = section_of(write_figure2(tmp_path, sized_records(seeds=1)))
    fits = fits_for(scaling_fits(runs_by_size(section)))
    assert fits["slope"].notna().all()
    assert fits[["low", "high", "next_low", "next_high"]].isna().all(axis=None)
    table = scaling_tables(section)[0]
    assert [row[4] for row in table.rows] == ["untested", "untested", "\N{EN DASH}"]


@pytest.mark.parametrize(("seeds", "said"), [(2, "untested"), (3, "yes")])
def test_two_seeds_call_no_slope_steeper_however_clear(tmp_path, seeds, said):
    section = section_of(write_figure2(tmp_path, sized_records(seeds=seeds, noise=1e-6)))
    table = scaling_tables(section)[0]
    assert [row[4] for row in table.rows] == [said, said, "\N{EN DASH}"]


# --- The paper ------------------------------------------------------------------------------------------


def test_rankmixer_gains_028_points_a_decade_of_parameters_in_the_papers_figure():
    slopes = paper_slopes(load_paper()).set_index(["axis", "architecture"])["slope"]
    assert round(slopes["dense_params", "rankmixer"], 2) == 0.28
    rows = [(25, 0.49), (51, 0.55), (100, 0.64), (240, 0.75), (500, 0.83), (1000, 0.94)]
    params, gains = np.array(rows).T
    assert slopes["dense_params", "rankmixer"] == pytest.approx(np.polyfit(np.log10(params), gains, 1)[0])
    assert ("dense_params", "moe") not in slopes  # two points


def test_no_row_of_the_papers_figure_stands_beside_one_of_ours():
    printed = load_paper().tables["figure2"]
    assert all(printed.row(row.architecture or "", "") is None for row in printed.rows)
    assert not any(parts_of_name(row.variant)[1] for row in printed.rows)


# --- On the page ----------------------------------------------------------------------------------------


def test_the_table_is_steepest_first_with_the_papers_slope_beside_finish_auc_alone(figure2_out):
    tables = {table.name: table for table in scaling_tables(section_of(figure2_out))}
    assert set(tables) == {f"scaling-shortvideo-{t}-{m}" for t in ("finish", "skip") for m in ("auc", "uauc")}
    finish = tables["scaling-shortvideo-finish-auc"]
    assert [row[0] for row in finish.rows] == ["RankMixer", "Wukong", "DLRM-MLP"]
    assert [row[finish.header.index("paper: points a decade of parameters")] for row in finish.rows] == [
        "+0.28",
        "+0.15",
        "+0.12",
    ]
    assert not any("paper" in name for name in tables["scaling-shortvideo-skip-auc"].header)


def test_the_words_rank_the_slopes_and_say_what_cannot_be_seen(figure2_out):
    sentences = scaling_words(section_of(figure2_out))
    [flops] = [line for line in sentences if line.startswith("finish, AUC, points a decade of FLOPs")]
    names = [name for name in flops.replace(",", " ").split() if name in map(NAMES.get, SLOPES)]
    assert names[:3] == ["RankMixer", "Wukong", "DLRM-MLP"]
    assert "RankMixer over Wukong" in flops
    assert sum("+0.28 there" in line for line in sentences) == 1
    assert any("cannot show" in line for line in sentences)
    contents = contents_of(figure2_out)
    page = markdown_page(contents)
    assert "How quality grows with size" in page
    assert "figures/scaling-shortvideo-finish.png" in page
    assert "figures/scaling-paper-shortvideo.png" in page
    assert "scaling-shortvideo-finish-auc" in {table.name for table in contents.tables}
    figures = contents.parts[0].figures
    assert all(figures[f"{name}-shortvideo-finish"].figure.axes for name in ("scaling", "front"))
    assert figures["scaling-paper-shortvideo"].figure.axes


def test_a_folder_without_sizes_says_nothing_of_scaling(quick_out):
    section = section_of(quick_out)
    assert scaling_tables(section) == []
    assert scaling_words(section) == []
    assert "scaling" not in " ".join(contents_of(quick_out).parts[0].figures)


def test_each_model_has_a_panel_with_its_means_intervals_and_a_line_of_the_fitted_slope(figure2_out):
    runs = runs_by_size(section_of(figure2_out))
    means, fits = size_means(runs), scaling_fits(runs)
    means, fits = means[means["task"] == "finish"], fits[fits["task"] == "finish"]
    figure, looks = figure_of(quality_against_size(means, fits)), looks_for(contestants(means))
    slopes = fits_for(fits, axis="flops_per_sample").set_index("architecture")["slope"]
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in panels] == [
        f"{NAMES[name]}: {metric}" for metric in ("AUC", "UAUC") for name in SLOPES
    ]
    for name, axes in zip(SLOPES, panels, strict=False):
        assert axes.get_xscale() == "log"
        of_model = means[(means["architecture"] == name) & (means["metric"] == "auc")]
        its_runs = runs[
            (runs["architecture"] == name) & (runs["task"] == "finish") & (runs["metric"] == "auc")
        ]
        [points] = [line for line in axes.lines if line.get_label() == NAMES[name]]
        expected = its_runs.groupby("size")["value"].mean()
        assert sorted(points.get_ydata()) == pytest.approx(sorted(expected))
        ends = {tuple(segment[:, 1]) for bars in axes.collections for segment in bars.get_segments()}
        bottom, top = axes.get_ylim()
        low, high = of_model["low"].clip(lower=bottom), of_model["high"].clip(upper=top)
        assert ends == set(zip(low, high, strict=True))
        arrows = [line for line in axes.lines if line.get_marker() in (6, 7)]
        cut = (of_model["high"] > top).sum() + (of_model["low"] < bottom).sum()
        assert sum(len(line.get_xdata()) for line in arrows) == cut
        lines = [line for line in axes.lines if len(line.get_xdata()) == 2 and line not in arrows]
        assert [line.get_color() for line in lines].count(looks[name, ""].color) == 1
        assert len(lines) == len(SLOPES)  # its own, and the others' in grey
        [fitted] = [line for line in lines if line.get_color() == looks[name, ""].color]
        (x0, x1), (y0, y1) = fitted.get_xdata(), fitted.get_ydata()
        assert 100 * (y1 - y0) / math.log10(x1 / x0) == pytest.approx(slopes[name])


def test_panels_of_a_metric_have_one_scale_and_places_without_a_model_are_empty(figure2_out):
    means = size_means(runs_by_size(section_of(figure2_out))).query("task == 'finish'")
    seven = pd.concat(means.assign(architecture=means["architecture"] + str(i)) for i in range(3))
    names = seven["architecture"].unique()[:7]
    seven = seven[seven["architecture"].isin(names)]
    none = scaling_fits(runs_by_size(section_of(figure2_out))).iloc[:0]
    axes = figure_of(quality_against_size(seven, none)).axes
    assert len(axes) == 20  # two rows of five for each metric
    for panels in (axes[:10], axes[10:]):
        assert [each.get_visible() for each in panels] == [True] * 7 + [False] * 3
        assert len({each.get_ylim() for each in panels[:7]}) == 1


def test_the_front_over_sizes_is_every_mean_that_nothing_as_small_beats(figure2_out):
    means = size_means(runs_by_size(section_of(figure2_out))).query("task == 'finish'")
    figure = figure_of(size_front(means))
    panels = iter(figure.axes)
    for metric in ("auc", "uauc"):
        metric_means = means[means["metric"] == metric]
        for axis in ("dense_params", "flops_per_sample"):
            rows = metric_means[[axis, "mean"]].to_numpy()
            best = [
                (cost, mean)
                for cost, mean in rows
                if not any((c <= cost and m > mean) or (c < cost and m >= mean) for c, m in rows)
            ]
            [steps] = [line for line in next(panels).lines if line.get_label() == "_front"]
            assert list(zip(*steps.get_data(), strict=True)) == [
                (pytest.approx(cost), pytest.approx(mean)) for cost, mean in sorted(best)
            ]


def test_the_papers_figure_is_its_own_and_says_whose_data_it_shows():
    paper = load_paper()
    figure = figure_of(paper_scaling(paper_points(paper), paper_slopes(paper)))
    for axes in figure.axes:
        assert "the paper's" in axes.get_title(loc="left")
        [marks] = axes.collections
        gains = [row.numbers["finish_auc"] for row in paper.tables["figure2"].rows]
        assert sorted(marks.get_offsets()[:, 1]) == pytest.approx(sorted(gains))


def test_the_sizes_of_an_architecture_have_its_color():
    looks = looks_for([(name, size) for name in sorted(SLOPES) for size in ("0.3M", "3M", "17M")])
    for name in SLOPES:
        assert {looks[name, size].color for size in ("0.3M", "3M", "17M")} == {looks[name, ""].color}
    assert len({looks[name, ""].color for name in SLOPES}) == len(SLOPES)
