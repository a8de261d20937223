"""Figures of models with experts: what is drawn is read back and compared with numbers set by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.records.contestant import parts_of_name
from harness.records.store import read_runs
from reports.beside import active_ratio_curves
from reports.expert_figures import active_heat_map, active_over_training, expert_histogram
from reports.frames import active_experts_frame, routing_frame
from reports.paper import load_paper
from reports.ratio_figures import quality_against_active_ratio
from reports.results import results_frame
from reports.style import look
from tests.reports.made_up import write_out
from tests.reports.routed import figure3_records, rankmixer, routing
from tests.reports.test_figures import lines_by_label


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    out = write_out(tmp_path_factory.mktemp("routed"), figure3_records(seeds=3, tokens=3))
    return read_runs(out).records


@pytest.fixture(scope="module")
def results(records):
    return results_frame(records)


def values(results, variant, task="finish", column="auc"):
    return results.loc[(results["variant"] == variant) & (results["task"] == task), column].tolist()


def test_a_series_is_drawn_through_the_means_of_its_seeds(results):
    finish, skip = quality_against_active_ratio(results).axes
    for axes, task in ((finish, "finish"), (skip, "skip")):
        lines = lines_by_label(axes)
        for stem in ("smoe", "smoe-balance", "dtsi-relu"):
            means = [np.mean(values(results, f"{stem}-{r}", task)) for r in ("1", "1/2", "1/4", "1/8")]
            np.testing.assert_allclose(lines[f"rankmixer ({stem})"].get_ydata(), means)
        assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "1/2", "1/4", "1/8"]


def test_the_dense_base_is_a_flat_line_and_where_the_dense_series_begins(results):
    axes = quality_against_active_ratio(results).axes[0]
    base = np.mean(values(results, ""))
    lines = lines_by_label(axes)
    assert set(lines["rankmixer"].get_ydata()) == {base}
    assert lines["rankmixer (dense)"].get_ydata()[0] == base
    assert len(lines["rankmixer (dense)"].get_ydata()) == 4


def test_bars_are_t_intervals_over_seeds(results):
    axes = quality_against_active_ratio(results).axes[0]
    drawn = [segment[:, 1] for bars in axes.collections for segment in bars.get_segments()]
    aucs = values(results, "smoe-1/4")
    expected = stats.t.interval(0.95, 2, np.mean(aucs), stats.sem(aucs))
    assert any(np.allclose(bar, expected) for bar in drawn)
    assert len(drawn) == 4 * 4


def test_measured_ratios_stand_below_the_ratios_asked_for(results):
    changed = results.copy()
    changed.loc[changed["variant"] == "dtsi-relu-1/4", "active_ratio"] = 0.2613
    axes = quality_against_active_ratio(changed).axes[0]
    below = [(text.get_text(), text.xy[0]) for text in axes.texts]
    assert ("0.261", 2) in below
    assert sum(words.endswith(", measured") for words, _ in below) == 3


def test_the_papers_curves_are_in_a_panel_of_their_own_that_says_so(results):
    *ours, papers = quality_against_active_ratio(results, active_ratio_curves(load_paper())).axes
    assert papers.get_title("left") == "the paper's Figure 3: its own data"
    lines = lines_by_label(papers)
    assert lines["Vanilla SMoE"].get_ydata().tolist() == [0.8645, 0.8634, 0.8619, 0.8615]
    assert lines["Vanilla SMoE"].get_color() == lines_by_label(ours[0])["rankmixer (smoe)"].get_color()
    flat = [line.get_ydata()[0] for line in papers.lines if line.get_linestyle() == "--"]
    assert flat == [0.8645, 0.8614]
    assert all(max(line.get_ydata()) < 0.8 for axes in ours for line in axes.lines)


def test_one_panel_a_token_and_layer_shows_every_seed_and_their_mean(records):
    frame = routing_frame(records)
    mine = frame[frame["variant"] == "dtsi-relu-1/8"]
    shown = [axes for axes in active_over_training(mine).axes if axes.get_visible()]
    places = [(layer, token) for layer in (1, 2) for token in (1, 2, 3)]
    assert [axes.get_title("left") for axes in shown] == [f"layer {la}, token {t}" for la, t in places]
    for axes, (layer, token) in zip(shown, places, strict=True):
        rows = mine[(mine["layer"] == layer) & (mine["token"] == token)]
        mean = rows.groupby("samples")["active"].mean()
        np.testing.assert_allclose(lines_by_label(axes)["mean"].get_ydata(), mean)
        faint = [line for line in axes.lines if line.get_alpha()]
        assert len(faint) == 3
        np.testing.assert_allclose(faint[1].get_ydata(), rows.loc[rows["seed"] == 1, "active"])


@pytest.mark.parametrize(("tokens", "rows"), [(4, 2), (16, 4), (32, 8), (17, 6)])
def test_any_number_of_tokens_has_its_panels(tmp_path, tokens, rows):
    run = rankmixer("dtsi-relu-1/4", routing=routing(0.25, tokens=tokens, moments=2))
    figure = active_over_training(routing_frame(read_runs(write_out(tmp_path, [run])).records))
    assert sum(axes.get_visible() for axes in figure.axes) == 2 * tokens
    assert figure.axes[0].get_gridspec().nrows == rows


def test_cells_of_the_map_are_means_over_experts_and_seeds():
    rows = [
        ("rankmixer", "dtsi-relu-1/2", seed, layer, token, expert, share, 0.5)
        for layer, token, shares in (
            (1, 1, (0.2, 0.4)),
            (1, 2, (1.0, 1.0)),
            (2, 1, (0.0, 0.1)),
            (2, 2, (0.5, 0.6)),
        )
        for expert, share in enumerate(shares, 1)
        for seed in (0, 1)
    ]
    names = ["architecture", "variant", "seed", "layer", "token", "expert", "share", "target"]
    [axes] = active_heat_map(pd.DataFrame(rows, columns=names)).axes
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.3, 1.0], [0.05, 0.55]])
    assert [text.get_text() for text in axes.texts] == [".30", "1", ".05", ".55"]
    assert axes.get_title("left") == "rankmixer (dtsi-relu-1/2): 0.475 active, target 0.5"


def test_the_histogram_counts_the_dead_apart_from_the_living(records):
    frame = active_experts_frame(records)
    mine = frame[frame["variant"] == "smoe-1/2"]
    [axes] = [a for a in expert_histogram(mine).axes if a.get_visible()]
    # 2 layers x 3 tokens x 8 experts x 3 seeds = 144, of which one a layer and seed is dead
    assert [text.get_text() for text in axes.texts] == ["dead: 6 of 144"]
    heights = [bar.get_height() for bar in axes.patches]
    assert sum(heights) == pytest.approx(1)
    [dead] = [bar for bar in axes.patches if bar.get_x() < 0]
    assert dead.get_height() == pytest.approx(6 / 144)


def test_each_contestant_has_its_histogram_in_its_own_color(records):
    frame = active_experts_frame(records)
    shown = [axes for axes in expert_histogram(frame).axes if axes.get_visible()]
    assert len(shown) == 12
    by_title = {axes.get_title("left"): axes.patches[0].get_facecolor() for axes in shown}
    assert by_title["rankmixer (smoe-1)"] == by_title["rankmixer (smoe-1/8)"]
    assert by_title["rankmixer (smoe-1)"] != by_title["rankmixer (dtsi-relu-1)"]


@pytest.mark.parametrize(
    ("variant", "stem", "ratio"),
    [
        ("smoe-1/4", "smoe", 0.25),
        ("smoe-balance-1", "smoe-balance", 1.0),
        ("dtsi-relu-1/8", "dtsi-relu", 0.125),
        ("shared-ffn", "shared-ffn", None),
        ("chunks-16", "chunks-16", None),
        ("groups-1/0", "groups-1/0", None),
        ("", "", None),
        ("1/4", "1/4", None),
    ],
)
def test_a_ratio_is_read_only_from_a_name_that_ends_in_one(variant, stem, ratio):
    series, size, found = parts_of_name(variant)
    assert (series, size) == (stem, "")
    assert (None if found is None else float(found)) == ratio
    assert look("rankmixer", variant).color
