"""Which model to serve, on a made-up folder: what fits, what is best, what is said of the rest."""

from __future__ import annotations

import json
import shutil
from itertools import combinations

import numpy as np
import pytest

from files.errors import InputError
from harness.evaluation.choice import Wanted, choose_models
from harness.evaluation.comparisons import compare_contrasts
from harness.records.serving import SERVING_FILE
from harness.records.store import read_runs
from reports.choice import choice_text
from tests.harness.evaluation.test_comparisons import BASE, REPLICATES, ROWS, MadeUp

# architecture: the separation of its scores, its p99 in ms with the interval's ends
MODELS = {
    BASE: (1.0, 5.0, 4.0, 6.0),
    "dcn": (6.0, 8.0, 7.0, 11.0),
    "deepfm": (6.05, 9.0, 8.0, None),
    "rankmixer": (9.0, 20.0, 18.0, 25.0),
}


def timed(name: str, p99: float, low: float, high: float | None) -> dict:
    rest = {"latency_ms_p50": 1.0, "samples_per_second": 1.0, "mfu": 0.5, "error": 0.0, "mfu_error": 0.0}
    ends = {"latency_ms_p99": p99, "latency_ms_p99_low": low, "latency_ms_p99_high": high}
    who = {"architecture": name, "spec_hash": f"{name}--0", "part": "whole", "batch_size": 512}
    return who | ends | rest | {"noisy": name == "deepfm", "calls": 500, "rounds": 5}


@pytest.fixture
def folder(tmp_path):
    made_up = MadeUp(tmp_path, tuple(MODELS))
    scores = {
        name: [made_up.run(name, seed, quality) for seed in range(4)]
        for name, (quality, *_) in MODELS.items()
    }
    measured = {
        "suite": "made-up",
        "dataset": "toy",
        "batch_sizes": [64, 512],
        "threads": 1,
        "precision": "fp32",
        "device": "cpu",
        "peak_flops": 1e9,
        "peak_source": "made up",
        "seconds": 1,
        "models": [timed(name, *ends) for name, (_, *ends) in MODELS.items()],
    }
    (tmp_path / SERVING_FILE).write_text(json.dumps({"passes": [measured]}))
    return made_up, scores


def chosen(made_up, p99: float, **wanted):
    return choose_models(read_runs(made_up.out), Wanted(p99, 512, **wanted), REPLICATES)


def test_the_best_is_the_highest_mean_of_those_that_fit(folder):
    made_up, scores = folder
    found = chosen(made_up, 10.0).set_index("architecture")
    assert found["fits"].to_dict() == {"dcn": "likely", "deepfm": "likely", BASE: "yes", "rankmixer": "no"}
    means = {name: np.mean([made_up.auc(s) for s in runs]) for name, runs in scores.items()}
    assert found["mean"].to_dict() == pytest.approx(means)
    best = max((name for name in MODELS if name != "rankmixer"), key=means.__getitem__)
    assert found.index[0] == best
    assert found.loc[best, "verdict"] == "best"
    assert found.loc[BASE, "verdict"] == "worse"
    other = "dcn" if best == "deepfm" else "deepfm"
    assert found.loc[other, "verdict"] == "cannot be told apart"
    assert found.loc["rankmixer", ["diff", "verdict"]].isna().all()


def test_differences_to_the_best_are_those_of_declared_contrasts_of_all_pairs(folder):
    """Any model might have been the best: the family has every pair."""
    made_up, _ = folder
    found = chosen(made_up, 100.0, metric="uauc").set_index("architecture")
    best = found.index[0]
    pairs = [
        [{"architecture": one, "variant": ""}, {"architecture": other, "variant": ""}]
        for other, one in combinations(found.index, 2)
    ]
    assert len(pairs) == 6
    made_up.suite["contrasts"] = pairs
    made_up.write_suite()
    declared = compare_contrasts(made_up.out, REPLICATES)
    of_best = (declared["metric"] == "uauc") & (declared["base"] == best)
    declared = declared[of_best].set_index("architecture")
    assert len(declared) == 3
    for name in found.index[1:]:
        for column in ("diff", "low", "high", "p_holm"):
            assert found.loc[name, column] == pytest.approx(declared.loc[name, column]), (name, column)


def test_nothing_is_best_or_worse_where_the_data_tell_the_outcome(folder):
    made_up, _ = folder
    leak = {"feature": "x", "task": "finish", "kind": "score", "says": "tells it"}
    made_up.suite["leaks"] = {"toy": {"found": [leak], "leak_ok": []}}
    made_up.write_suite()
    wanted = Wanted(10.0, 512)
    found = choose_models(read_runs(made_up.out), wanted, REPLICATES)
    assert set(found.loc[found["fits"] != "no", "verdict"]) == {"no verdict"}
    text = choice_text(found, wanted)
    assert "No verdict: these data tell the outcome; D" in text
    assert "worse" not in text.partition("The best is chosen")[0]


def test_where_no_user_has_both_labels_nothing_is_best_in_uauc(folder):
    made_up, _ = folder
    for name, (quality, *_) in MODELS.items():
        for seed in range(4):
            shutil.rmtree(made_up.out / "runs" / f"{name}--{seed}")
            made_up.run(name, seed, quality, users=np.arange(ROWS, dtype=np.int32))
    wanted = Wanted(10.0, 512, metric="uauc")
    found = choose_models(read_runs(made_up.out), wanted, REPLICATES)
    assert found["mean"].isna().all()
    assert found["verdict"].isna().all()
    text = choice_text(found, wanted)
    assert "No best: UAUC is not defined on these test rows; what fits: D" in text
    assert "the best that fits" not in text
    assert "is the best that fits" in choice_text(chosen(made_up, 10.0), Wanted(10.0, 512))  # in AUC


def test_a_world_that_does_not_define_the_metric_is_left_out_of_means_as_of_differences(folder):
    """The means are counted by hand over the three worlds that define it; the fourth has none."""
    made_up, _ = folder
    shutil.rmtree(made_up.out / "runs")
    uaucs: dict[str, list[float]] = {name: [] for name in MODELS}
    for name, (quality, *_) in MODELS.items():
        for world in range(4):
            at = {"world": world, "folder": f"{name}--{world}"}
            if world == 3:
                made_up.run(name, 0, quality, users=np.arange(ROWS, dtype=np.int32), **at)
            else:
                scores = made_up.scores(quality, world)
                made_up.run(name, 0, scores=scores, **at)
                uaucs[name].append(made_up.uauc(scores))
    found = chosen(made_up, 10.0, metric="uauc").set_index("architecture")
    assert found["mean"].to_dict() == pytest.approx({name: np.mean(u) for name, u in uaucs.items()})
    fitting = found[found["fits"] != "no"]
    assert list(fitting["mean"]) == sorted(fitting["mean"], reverse=True)
    assert fitting["verdict"].iloc[0] == "best"


def test_the_text_says_what_fits_and_what_follows(folder):
    made_up, _ = folder
    wanted = Wanted(10.0, 512)
    text = choice_text(choose_models(read_runs(made_up.out), wanted, REPLICATES), wanted)
    assert "toy, task finish: p99 of 10 ms, 512 rows a call, whole model" in text
    assert "is the best that fits; not known to be worse: D" in text
    assert "~9 (above 8)" in text
    none = Wanted(1.0, 512)
    text = choice_text(choose_models(read_runs(made_up.out), none, REPLICATES), none)
    assert "No model fits; DLRM-MLP comes nearest, at 5 ms." in text
    one = Wanted(6.0, 512)
    assert "Only DLRM-MLP fits." in choice_text(choose_models(read_runs(made_up.out), one, REPLICATES), one)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Wanted(5.0, 100), r"--batch 100: the models were timed at 64 and 512 rows; .*batch_sizes=\[100\]"),
        (Wanted(5.0, 512, task="skip"), "--task skip: toy has finish"),
        (Wanted(5.0, 512, metric="accuracy"), "--metric accuracy: choose from auc, uauc"),
    ],
)
def test_what_was_not_measured_is_refused(folder, wanted, said):
    made_up, _ = folder
    with pytest.raises(InputError, match=said):
        choose_models(read_runs(made_up.out), wanted, REPLICATES)


def test_a_folder_without_speeds_is_refused_with_the_mend(folder):
    made_up, _ = folder
    (made_up.out / SERVING_FILE).unlink()
    with pytest.raises(InputError, match=r"holds no speeds of toy; run the suite again .* --no-speed"):
        chosen(made_up, 5.0)


def test_speeds_of_models_that_were_trained_in_another_way_since_do_not_count(folder):
    made_up, _ = folder
    again = {"started_at": "2026-01-01T00:00:00+00:00"}
    for name, (quality, *_) in MODELS.items():
        for seed in range(4):
            spec = {"seed": seed, "lr": 0.1, "model_dim": 8}
            made_up.run(name, seed, quality, folder=f"{name}-small-{seed}", spec=spec, **again)
        if name == BASE:
            assert BASE not in set(chosen(made_up, 10.0)["architecture"])
    with pytest.raises(InputError, match=r"holds no speeds of these models of toy, .* without --no-speed"):
        chosen(made_up, 10.0)


def test_speeds_count_where_the_first_seed_they_are_named_by_failed(folder):
    made_up, _ = folder
    (made_up.out / "runs" / f"{BASE}--0" / "record.json").unlink()
    failed = {"status": "failed", "failure": {"reason": "NaN"}, "spec_hash": f"{BASE}--0"}
    made_up.run(BASE, 0, folder="failed", **failed)
    assert BASE in set(chosen(made_up, 10.0)["architecture"])


def test_results_that_were_kept_without_predictions_are_refused_with_the_mend(folder):
    made_up, _ = folder
    for file in made_up.out.glob("runs/*/predictions.parquet"):
        file.unlink()
    with pytest.raises(InputError, match=r"was kept without predictions, .* again into another folder"):
        chosen(made_up, 5.0)
