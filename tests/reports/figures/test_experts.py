"""Which experts are active: what is drawn is read back and compared with numbers set by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from harness.records.store import read_runs
from reports.figures.drawing.saving import figure_of
from reports.figures.experts import LIGHT_BLUES, active_heat_map, active_over_training, expert_histogram
from reports.frames import active_experts_frame, routing_frame
from tests.reports.made_up import write_out
from tests.reports.routed import figure3_records, rankmixer, routing


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    out = write_out(tmp_path_factory.mktemp("routed"), figure3_records(seeds=3, tokens=3))
    return read_runs(out).records


def test_one_panel_a_layer_shows_every_token_and_their_mean_over_seeds(records):
    frame = routing_frame(records)
    frame = frame[frame["variant"] == "dtsi-relu-1/8"]
    shown = active_over_training(frame)
    assert [axes.get_title("left") for axes in shown] == ["layer 1", "layer 2"]
    for axes, layer in zip(shown, (1, 2), strict=True):
        rows = frame[frame["layer"] == layer]
        [mean_line] = [line for line in axes.lines if line.get_linewidth() == 2.4]
        np.testing.assert_allclose(mean_line.get_ydata(), rows.groupby("samples")["active"].mean())
        faint = [line for line in axes.lines if line.get_alpha()]
        assert len(faint) == 3
        of_token = rows[rows["token"] == 2].groupby("samples")["active"].mean()
        np.testing.assert_allclose(faint[1].get_ydata(), of_token)


@pytest.mark.parametrize("tokens", [4, 17])
def test_any_number_of_tokens_has_its_lines(tmp_path, tokens):
    run = rankmixer("dtsi-relu-1/4", routing=routing(0.25, tokens=tokens, moments=2))
    panels = active_over_training(routing_frame(read_runs(write_out(tmp_path, [run])).records))
    assert [sum(bool(line.get_alpha()) for line in axes.lines) for axes in panels] == [tokens] * 2


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
    [axes] = figure_of(active_heat_map(pd.DataFrame(rows, columns=names))).axes
    np.testing.assert_allclose(axes.collections[0].get_array(), [[0.3, 1.0], [0.05, 0.55]])
    assert [text.get_text() for text in axes.texts] == [".30", "1", ".05", ".55"]
    assert axes.get_title("left") == "RankMixer (dtsi-relu-1/2): 0.475 active, target 0.5"


def test_the_histogram_counts_the_dead_apart_from_the_living(records):
    frame = active_experts_frame(records)
    rows = frame[frame["variant"] == "smoe-1/2"]
    [axes] = [a for a in figure_of(expert_histogram(rows)).axes if a.get_visible()]
    # 2 layers x 3 tokens x 8 experts x 3 seeds = 144, of which one a layer and seed is dead
    assert [text.get_text() for text in axes.texts] == ["dead: 6 of 144"]
    heights = [bar.get_height() for bar in axes.patches]
    assert sum(heights) == pytest.approx(1)
    [dead] = [bar for bar in axes.patches if bar.get_x() < 0]
    assert dead.get_height() == pytest.approx(6 / 144)


def test_each_contestant_has_its_histogram_in_its_own_color(records):
    frame = active_experts_frame(records)
    shown = [axes for axes in figure_of(expert_histogram(frame)).axes if axes.get_visible()]
    assert len(shown) == 12
    by_title = {axes.get_title("left"): axes.patches[0].get_facecolor() for axes in shown}
    assert by_title["RankMixer (smoe-1)"] == by_title["RankMixer (smoe-1/8)"]
    assert by_title["RankMixer (smoe-1)"] != by_title["RankMixer (dtsi-relu-1)"]


def test_black_numbers_can_be_read_on_every_shade_of_the_heat_map():
    for share in np.linspace(0, 1, 101):
        rgb = LIGHT_BLUES(share)[:3]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
        luminance = float(np.dot([0.2126, 0.7152, 0.0722], linear))
        assert (luminance + 0.05) / 0.05 >= 4.5
