"""Fits of made-up learning curves: laws are found, intervals hold them, an E that may be 0 is in words."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from harness.evaluation.oracle.loss_fits import COLUMNS, loss_fit_rows, loss_points
from harness.evaluation.statistics.power_law import PowerLaw
from harness.records.store import read_runs
from reports.figures.drawing.saving import figure_of
from reports.figures.sections import section_figures
from reports.sections import load_sections
from reports.tables.analyses.loss_fits import loss_fit_tables
from tests.reports.made_up import record, reference, write_out

LAW = PowerLaw(E=0.01, A=20.0, alpha=0.5, B=3.8, beta=0.35)
FLOPS = {"0.3M": 0.3e6, "1M": 1e6, "3M": 3e6, "10M": 1e7}
ROWS = (1e5, 3e5, 1e6, 3e6)
BEST = 0.5  # the oracle's log loss


def run(variant: str, seed: int, losses: np.ndarray, **changes) -> dict:
    """A run of one size with these log losses above the oracle's, the last of which is its result."""
    made = record("dcn", seed, tasks=("finish",), variant=variant, **changes)
    made["series"], made["size"] = "", variant
    made["cost"]["flops_per_sample"] = int(FLOPS[variant])
    made["metrics"]["finish"]["logloss"] = BEST + losses[-1]
    made["training"]["train_samples"] = int(ROWS[-1])
    made["tested"] = [
        {"step": n, "samples": int(rows), "metrics": {"finish": {"logloss": BEST + loss}}}
        for n, (rows, loss) in enumerate(zip(ROWS[:-1], losses, strict=False))
    ]
    return made


def runs(
    law: PowerLaw, repeats: int, sizes=FLOPS, together=0.02, alone=0.01, draw=0, key="seed"
) -> list[dict]:
    """All sizes with so many seeds or worlds, each off by a factor of its own and by one at each point."""
    generator = np.random.default_rng(draw)
    made = []
    for repeat in range(repeats):
        common = together * generator.normal()
        for variant in sizes:
            exact = law.loss(np.array(FLOPS[variant]), np.array(ROWS))
            noise = common + alone * generator.normal(size=len(ROWS))
            where = {"world": repeat} if key == "world" else {}
            made.append(run(variant, repeat if key == "seed" else 0, exact * np.exp(noise), **where))
    return made


def oracle(**changes) -> dict:
    made = reference("oracle", tasks=("finish",))
    made["metrics"]["finish"]["logloss"] = BEST
    return made | changes


def selection(tmp_path, records: list[dict]):
    [found] = read_runs(write_out(tmp_path, records, base="dcn")).selections()
    return found


def fit(tmp_path, records: list[dict], draws: int = 60) -> dict:
    [row] = loss_fit_rows(selection(tmp_path, records), draws)
    return row


def test_the_law_is_found_from_curves_above_the_oracle_s_loss(tmp_path):
    row = fit(tmp_path, [oracle(), *runs(LAW, 1, together=0, alone=0)])
    assert {name: row[name] for name in ("E", "alpha", "beta")} == pytest.approx(
        {"E": LAW.E, "alpha": LAW.alpha, "beta": LAW.beta}, rel=1e-3
    )
    assert (row["sizes"], row["points"], row["repeats"]) == (4, 16, 1)
    assert np.isnan(row["alpha_low"])  # one repeat tells no interval
    assert row["most_rows"] == 3e6
    assert row["best_compute"] == pytest.approx(3 * row["best_flops"] * 3e6)
    assert row["best_flops"] == pytest.approx(LAW.best_size(row["best_compute"]), rel=0.01)


def test_intervals_hold_the_truth_about_as_often_as_they_say(tmp_path):
    held = []
    for draw in range(24):
        made = [oracle(), *runs(LAW, 3, draw=draw)]
        row = fit(tmp_path / str(draw), made, draws=40)
        truth = {"alpha": LAW.alpha, "beta": LAW.beta, "E": LAW.E, "size_share": LAW.size_share}
        held.append([row[f"{name}_low"] <= value <= row[f"{name}_high"] for name, value in truth.items()])
    shares = np.mean(held, axis=0)
    assert (shares > 0.8).all()  # of 24 at 95%, 19 or fewer would be one in a hundred and fifty
    assert shares.mean() < 1


def test_several_worlds_are_the_repeats_and_each_has_its_own_oracle(tmp_path):
    by_world = runs(LAW, 3, key="world")
    for made in by_world:  # worlds whose labels are harder to tell, for all alike
        for point in [*made["tested"], {"metrics": made["metrics"]}]:
            point["metrics"]["finish"]["logloss"] += 0.05 * made["world"]
    oracles = [oracle(world=world) for world in range(3)]
    for world, made in enumerate(oracles):
        made["metrics"] = {"finish": made["metrics"]["finish"] | {"logloss": BEST + 0.05 * world}}
    row = fit(tmp_path, [*oracles, *by_world])
    assert row["repeats"] == 3
    assert (row["alpha"], row["beta"]) == pytest.approx((LAW.alpha, LAW.beta), rel=0.1)


def test_a_seed_that_lacks_a_size_does_not_count(tmp_path):
    made = [each for each in runs(LAW, 3) if (each["seed"], each["variant"]) != (1, "3M")]
    assert fit(tmp_path, [oracle(), *made])["repeats"] == 2


def test_without_an_oracle_or_sizes_there_are_no_fits(tmp_path):
    assert loss_fit_rows(selection(tmp_path / "a", runs(LAW, 2))) == []
    plain = [record("dcn", 0, tasks=("finish",))]
    assert loss_points(selection(tmp_path / "b", [oracle(), *plain]).records).empty


def section(tmp_path, records: list[dict]):
    out = write_out(tmp_path, records, base="dcn")
    [found] = read_runs(out).selections()
    pd.DataFrame(loss_fit_rows(found), columns=COLUMNS).to_csv(out / "loss_fits.csv", index=False)
    [section] = load_sections(read_runs(out))
    return section


def test_an_e_that_may_be_0_is_said_in_words_and_an_exponent_has_its_interval(tmp_path):
    without = PowerLaw(E=1e-9, A=LAW.A, alpha=LAW.alpha, B=LAW.B, beta=LAW.beta)
    with_fit = section(tmp_path, [oracle(), *runs(without, 3)])
    [table] = loss_fit_tables(with_fit)
    [cells] = table.rows
    row = with_fit.loss_fits.iloc[0]
    assert row["not_identified"] == "E"
    assert cells[table.header.index("E")] == "not told from 0"
    expected = f"{row['alpha']:.2f} ({row['alpha_low']:.2f} to {row['alpha_high']:.2f})"
    assert cells[table.header.index("exponent of FLOPs")] == expected


def test_without_an_interval_values_at_the_ends_of_the_search_are_not_taken_for_found(tmp_path):
    curve = np.array([0.09, 0.06, 0.04, 0.03])
    alike = [run(variant, 0, curve) for variant in FLOPS]
    assert "alpha" in fit(tmp_path / "alike", [oracle(), *alike])["not_identified"]
    one_worse = [run(variant, 0, curve + 0.03 * (variant == "0.3M")) for variant in FLOPS]
    assert "alpha" in fit(tmp_path / "one", [oracle(), *one_worse])["not_identified"]
    without = PowerLaw(E=1e-9, A=LAW.A, alpha=LAW.alpha, B=LAW.B, beta=LAW.beta)
    row = fit(tmp_path / "floor", [oracle(), *runs(without, 1, together=0, alone=0)])
    assert row["not_identified"] == "E"


def test_too_few_sizes_are_a_sentence_and_no_numbers(tmp_path):
    refused = section(tmp_path, [oracle(), *runs(LAW, 2, sizes=("1M", "3M"))])
    [table] = loss_fit_tables(refused)
    assert set(table.rows[0][1:]) == {"\N{EN DASH}"}
    assert table.notes == ["DCN: no fit, 2 sizes and 4 numbers of rows; a fit needs 3 of both."]
    assert not [name for name in section_figures(refused) if name.startswith("loss-compute")]


def test_the_figure_has_a_mark_for_each_point_and_the_front_that_the_law_gives(tmp_path):
    drawn = section(tmp_path, [oracle(), *runs(LAW, 2, together=0, alone=0)])
    figure = figure_of(section_figures(drawn)["loss-compute-shortvideo"].draw())
    marks, front, *_ = figure.axes[0].lines
    assert len(marks.get_xdata()) == len(FLOPS) * len(ROWS)
    for compute, least in zip(front.get_xdata(), front.get_ydata(), strict=True):
        sizes = np.geomspace(1e3, 1e9, 20_001)
        assert least == pytest.approx(LAW.loss(sizes, compute / 3 / sizes).min(), rel=0.01)
