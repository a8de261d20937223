"""Comparisons on a made-up output folder, against what scipy and scikit-learn say of the same numbers."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from files.checksums import sha256_of
from files.errors import InputError
from harness.evaluation.comparisons import COLUMNS, compare, compare_contrasts, compare_variants
from harness.evaluation.inference import write_inference
from harness.evaluation.statistics.bootstrap import bootstrap_users
from harness.records.store import read_runs

USERS, ROWS, REPLICATES = 50, 600, 100
BASE = "dlrm_mlp"


class MadeUp:
    """An output folder as a suite leaves it."""

    def __init__(self, out, architectures=(BASE, "dcn", "rankmixer")):
        self.out = out
        generator = np.random.default_rng(0)
        self.users = generator.integers(0, USERS, ROWS).astype(np.int32)
        self.signal = generator.normal(size=ROWS)
        self.labels = (generator.random(ROWS) < 1 / (1 + np.exp(-self.signal))).astype(np.float32)
        self.labels[:7] = np.nan
        self.suite = {
            "name": "made-up",
            "base": BASE,
            "architectures": [{"architecture": name, "variant": ""} for name in architectures],
            "datasets": ["toy"],
        }
        self.write_suite()

    def write_suite(self):
        (self.out / "suite.json").write_text(json.dumps(self.suite))

    def scores(self, quality, seed):
        noise = np.random.default_rng([seed, round(quality * 1000)]).normal(size=ROWS)
        return (1 / (1 + np.exp(-quality * self.signal - noise))).astype(np.float32)

    def run(self, architecture, seed, quality=1.0, **changes):
        """Write a run; ``changes`` go into its record, save ``scores``, ``users`` and ``folder``."""
        scores = changes.pop("scores", None)
        scores = self.scores(quality, seed) if scores is None else scores
        users = changes.pop("users", self.users)
        folder = (
            self.out / "runs" / changes.pop("folder", f"{architecture}-{changes.get('variant', '')}-{seed}")
        )
        folder.mkdir(parents=True)
        record = {
            "kind": "model",
            "status": "finished",
            "suite": "made-up",
            "architecture": architecture,
            "variant": "",
            "dataset": "toy",
            "seed": seed,
            "spec_hash": folder.name,
            "spec": {"seed": seed, "lr": 0.1},
            "started_at": "2025-01-01T00:00:00+00:00",
        } | changes
        (folder / "record.json").write_text(json.dumps(record))
        table = {
            "user": users,
            "tier": np.zeros(ROWS, np.int8),
            "label_finish": self.labels,
            "score_finish": scores,
        }
        if record["status"] == "finished":
            pd.DataFrame(table).to_parquet(folder / "predictions.parquet")
        return scores

    def auc(self, scores):
        known = ~np.isnan(self.labels)
        return roc_auc_score(self.labels[known], scores[known])

    def uauc(self, scores):
        known = ~np.isnan(self.labels)
        frame = pd.DataFrame({"u": self.users, "y": self.labels, "s": scores})[known]
        values = [roc_auc_score(g.y, g.s) for _, g in frame.groupby("u") if g.y.nunique() == 2]
        return np.mean(values)


@pytest.fixture
def made_up(tmp_path):
    return MadeUp(tmp_path)


def row(frame, architecture, metric="auc", variant=""):
    found = frame[
        (frame.architecture == architecture) & (frame.metric == metric) & (frame.variant == variant)
    ]
    assert len(found) == 1
    return found.iloc[0]


def test_a_difference_is_the_mean_over_seeds_and_its_parts_are_what_scipy_says(made_up):
    base = [made_up.run(BASE, seed, 1.0) for seed in range(3)]
    dcn = [made_up.run("dcn", seed, 1.2) for seed in range(3)]
    found = compare(made_up.out, REPLICATES)
    assert list(found.columns) == COLUMNS
    for metric, measure in (("auc", made_up.auc), ("uauc", made_up.uauc)):
        got = row(found, "dcn", metric)
        ours, theirs = [measure(s) for s in dcn], [measure(s) for s in base]
        assert got["mean"] == pytest.approx(np.mean(ours), abs=1e-12)
        assert got.base_mean == pytest.approx(np.mean(theirs), abs=1e-12)
        assert got["diff"] == pytest.approx(np.mean(ours) - np.mean(theirs), abs=1e-12)
        t_low, t_high = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
        assert (got.seeds_low, got.seeds_high) == pytest.approx((t_low, t_high), abs=1e-12)
        drawn = bootstrap_users(made_up.labels, made_up.users, [*base, *dcn], REPLICATES)
        assert (got.users_low, got.users_high) == pytest.approx(drawn.interval(metric, [3, 4, 5], [0, 1, 2]))
        # Together: each draw of users, and about it what a t distribution of the seeds draws.
        generator = np.random.default_rng(0)
        user_draws = generator.choice(drawn.drawn_differences(metric, [3, 4, 5], [0, 1, 2]), 400_000)
        seed_draws = np.std(np.subtract(ours, theirs), ddof=1) / np.sqrt(3) * generator.standard_t(2, 400_000)
        low, high = np.quantile(user_draws + seed_draws, [0.025, 0.975])
        assert (got.low, got.high) == pytest.approx((low, high), abs=0.02 * (high - low))
        assert (got.seeds, got.suite, got.dataset, got.task, got.base) == (
            3,
            "made-up",
            "toy",
            "finish",
            BASE,
        )
    assert row(found, "dcn").users == len(np.unique(made_up.users[7:]))


def test_the_seed_part_is_the_t_interval_of_the_pairs_own_differences_whatever_the_neighbours(made_up):
    values = {
        name: [made_up.auc(made_up.run(name, seed, quality)) for seed in range(3)]
        for name, quality in {BASE: 1.0, "dcn": 1.1, "rankmixer": 1.3}.items()
    }
    found = compare(made_up.out, REPLICATES)
    for name in ("dcn", "rankmixer"):
        got = row(found, name)
        low, high = stats.ttest_rel(values[name], values[BASE]).confidence_interval(0.95)
        assert (got.seeds_low, got.seeds_high) == pytest.approx((low, high), abs=1e-12)


def test_a_row_that_varies_much_changes_no_interval_of_its_neighbours(made_up):
    """Only the family's size, by which Holm corrects, depends on what else was compared."""
    for seed in range(3):
        made_up.run(BASE, seed, 1.0)
        made_up.run("dcn", seed, 1.2)
        made_up.run("rankmixer", seed, 1.3)
    own = [name for name in COLUMNS if name not in ("p_holm", "detectable")]
    before = compare(made_up.out, REPLICATES)
    for seed, quality in enumerate((0.1, 5.0, 0.3)):
        made_up.run("autoint", seed, quality)
    made_up.suite["architectures"].append({"architecture": "autoint", "variant": ""})
    made_up.write_suite()
    after = compare(made_up.out, REPLICATES)
    after = after[after.architecture != "autoint"].reset_index(drop=True)
    pd.testing.assert_frame_equal(before[own], after[own])


def test_what_a_seed_does_to_all_alike_does_not_widen_the_seed_part(made_up):
    """Both models are equal on either seed, and the seeds differ much: the difference is 0 for certain."""
    for seed, quality in enumerate((0.5, 3.0, 1.0)):
        scores = made_up.scores(quality, seed)
        made_up.run(BASE, seed, scores=scores)
        made_up.run("dcn", seed, scores=scores)
    got = row(compare(made_up.out, REPLICATES), "dcn")
    assert [got["diff"], got.low, got.high, got.seeds_low] == pytest.approx([0, 0, 0, 0], abs=1e-12)
    assert got.resolved == "no"


def test_a_clear_difference_is_resolved_and_a_slight_one_is_not(made_up):
    for seed in range(5):
        made_up.run(BASE, seed, 1.0)
        made_up.run("dcn", seed, 1.01)
        made_up.run("rankmixer", seed, 6.0)
    found = compare(made_up.out, REPLICATES)
    for metric in ("auc", "uauc", "gauc"):
        assert row(found, "rankmixer", metric).resolved == "yes"
        assert row(found, "dcn", metric).resolved == "no"


def test_a_failed_seed_counts_against_its_row_however_good_the_others_are(made_up):
    base = [made_up.run(BASE, seed) for seed in range(4)]
    dcn = [made_up.run("dcn", seed, 6.0) for seed in range(3)]
    made_up.run("dcn", 3, status="failed")
    for seed in range(4):
        made_up.run("rankmixer", seed, 6.0)
    found = compare(made_up.out, REPLICATES)
    got = row(found, "dcn")
    assert (got.seeds, got.failed_seeds, got.resolved) == (3, 1, "failed seeds")
    assert np.isnan([got.p_value, got.p_holm, got.detectable]).all()
    assert got.base_mean == pytest.approx(np.mean([made_up.auc(s) for s in base[:3]]), abs=1e-12)
    assert got["mean"] == pytest.approx(np.mean([made_up.auc(s) for s in dcn]), abs=1e-12)
    other = row(found, "rankmixer")
    assert (other.failed_seeds, other.resolved) == (0, "yes")
    assert other.p_holm == other.p_value  # alone in its family


def test_an_architecture_that_never_finished_has_no_row(made_up):
    made_up.run(BASE, 0)
    made_up.run("dcn", 0, status="failed")
    assert compare(made_up.out, REPLICATES).empty


def test_one_seed_claims_nothing(made_up):
    made_up.run(BASE, 0, 1.0)
    made_up.run("dcn", 0, 6.0)
    got = row(compare(made_up.out, REPLICATES), "dcn")
    assert got.resolved == "few seeds"
    assert np.isnan([got.seeds_low, got.seeds_high, got.low, got.high]).all()
    assert 0 < got.users_low < got["diff"] < got.users_high


def test_two_seeds_claim_nothing_however_far_apart_the_models_are(made_up):
    for seed in range(2):
        made_up.run(BASE, seed, 1.0)
        made_up.run("dcn", seed, 6.0)
    got = row(compare(made_up.out, REPLICATES), "dcn")
    assert (got.resolved, got.seeds) == ("few seeds", 2)
    assert np.isnan([got.p_value, got.p_holm]).all()
    assert got.seeds_low < got["diff"] < got.seeds_high  # shown all the same


def test_few_users_claim_nothing(tmp_path):
    made_up = MadeUp(tmp_path)
    few = (made_up.users % 5).astype(np.int32)
    for seed in range(3):
        made_up.run(BASE, seed, 1.0, users=few)
        made_up.run("dcn", seed, 6.0, users=few)
    got = row(compare(made_up.out, REPLICATES), "dcn", "uauc")
    assert (got.resolved, got.users) == ("few users", 5)
    assert np.isnan([got.users_low, got.low, got.high]).all()


def test_a_reference_is_held_against_every_seed_of_the_base(made_up):
    base = [made_up.auc(made_up.run(BASE, seed)) for seed in range(3)]
    for seed in range(3):
        made_up.run("dcn", seed, 1.1)
    without = row(compare(made_up.out, REPLICATES), "dcn")
    oracle = made_up.auc(made_up.run("oracle", 0, scores=made_up.signal.astype(np.float32), kind="reference"))
    found = compare(made_up.out, REPLICATES)
    got = row(found, "oracle")
    assert got.seeds == 1
    assert got["diff"] == pytest.approx(oracle - np.mean(base), abs=1e-12)
    # Its own value is certain, so that the base's t interval is all there is to seeds.
    low, high = stats.ttest_1samp(base, 0).confidence_interval(0.95)
    assert (got.seeds_low, got.seeds_high) == pytest.approx((oracle - high, oracle - low), abs=1e-12)
    assert got.resolved == "yes"
    pd.testing.assert_series_equal(row(found, "dcn"), without)
    assert found.architecture.iloc[-1] == "oracle"


def test_variants_of_the_base_are_compared_with_it(made_up):
    made_up.suite["architectures"].append({"architecture": BASE, "variant": "wide"})
    made_up.write_suite()
    for seed in range(2):
        made_up.run(BASE, seed, 1.0)
        made_up.run(BASE, seed, 4.0, variant="wide")
    found = compare(made_up.out, REPLICATES)
    assert row(found, BASE, variant="wide")["diff"] > 0
    assert set(found.variant) == {"wide"}


def test_runs_of_other_suites_unfinished_folders_and_older_settings_are_passed_over(made_up):
    for seed in range(2):
        made_up.run(BASE, seed)
        made_up.run("dcn", seed, 1.0)
    expected = compare(made_up.out, REPLICATES)
    made_up.run("rankmixer", 0, 5.0, suite="another")
    made_up.run("dcn", 2, 5.0, folder="dcn-2.partial")
    early = {"started_at": "2024-01-01T00:00:00+00:00"}
    for seed in range(2):
        made_up.run("dcn", seed, 5.0, folder=f"old-{seed}", spec={"seed": seed, "lr": 9}, **early)
    pd.testing.assert_frame_equal(compare(made_up.out, REPLICATES), expected)


def test_settings_that_the_suite_last_asked_for_win_over_younger_ones(made_up):
    for seed in range(2):
        made_up.run(BASE, seed)
        made_up.run("dcn", seed, 1.0)
    expected = compare(made_up.out, REPLICATES)
    late = {"started_at": "2030-01-01T00:00:00+00:00"}
    for seed in range(2):
        made_up.run("dcn", seed, 5.0, folder=f"young-{seed}", spec={"seed": seed, "lr": 9}, **late)
    assert not compare(made_up.out, REPLICATES).equals(expected)
    suite = json.loads((made_up.out / "suite.json").read_text())
    suite["spec_hashes"] = [f"{name}--{seed}" for name in (BASE, "dcn") for seed in range(2)]
    (made_up.out / "suite.json").write_text(json.dumps(suite))
    pd.testing.assert_frame_equal(compare(made_up.out, REPLICATES), expected)


def test_a_model_that_has_not_run_as_last_asked_is_not_compared_with_those_that_have(made_up):
    late = {"started_at": "2030-01-01T00:00:00+00:00"}
    for seed in range(2):
        for name, quality in ((BASE, 1.0), ("dcn", 5.0), ("rankmixer", 3.0)):
            made_up.run(name, seed, quality)
    before = compare(made_up.out, REPLICATES)
    made_up.suite["spec_hashes"] = [
        f"{name}-new-{seed}" for name in (BASE, "dcn", "rankmixer") for seed in (0, 1)
    ]
    made_up.write_suite()
    pd.testing.assert_frame_equal(compare(made_up.out, REPLICATES), before)  # none has, and all are alike
    for name in (BASE, "rankmixer"):
        new = {"folder": f"{name}-new-0", "spec": {"seed": 0, "lr": 9}, **late}
        made_up.run(name, 0, 2.0, **new)
    assert set(compare(made_up.out, REPLICATES).architecture) == {"rankmixer"}


def test_rows_follow_the_order_of_the_suite(made_up):
    for name in ("rankmixer", "dcn", BASE):
        for seed in range(2):
            made_up.run(name, seed, 1.0)
    found = compare(made_up.out, REPLICATES)
    assert found.architecture[found.metric == "auc"].tolist() == ["dcn", "rankmixer"]
    assert list(dict.fromkeys(found.metric)) == ["auc", "uauc", "gauc"]


def test_the_file_holds_the_frame_and_leaves_unknown_cells_empty(made_up):
    made_up.run(BASE, 0)
    made_up.run("dcn", 0, 1.2)
    write_inference(read_runs(made_up.out))
    path = made_up.out / "comparisons.csv"
    assert {p.name for p in made_up.out.iterdir()} == {"suite.json", "runs", "comparisons.csv"}
    header, first, *_ = path.read_text().splitlines()
    assert header.split(",") == COLUMNS
    assert first.endswith(",,,,,few seeds,,,,,1,0")
    read = pd.read_csv(path, dtype={"variant": str}).fillna({"variant": ""})
    pd.testing.assert_frame_equal(read, compare(made_up.out), check_dtype=False, rtol=5e-10, atol=0)


def test_different_test_rows_are_an_error_that_names_both_files(made_up):
    made_up.run(BASE, 0)
    made_up.run("dcn", 0, users=made_up.users[::-1])
    with pytest.raises(InputError, match=r"dcn.*predictions\.parquet and .*dlrm_mlp.* different test rows"):
        compare(made_up.out, REPLICATES)


def test_a_folder_without_a_suite_is_an_error_with_the_mend(made_up):
    made_up.run(BASE, 0)
    (made_up.out / "suite.json").unlink()
    with pytest.raises(InputError, match=r"suite\.json is not there: run the suite again"):
        compare(made_up.out)


@pytest.mark.parametrize(
    ("content", "words"),
    [("{", "cannot be read"), ("[]", "its top level"), ('{"name": "s"}', "base: Field required")],
)
def test_a_damaged_suite_is_an_error_that_names_it(tmp_path, content, words):
    (tmp_path / "suite.json").write_text(content)
    with pytest.raises(InputError, match=rf"suite\.json.*{words}.*; run the suite again"):
        compare(tmp_path)


def test_a_damaged_record_is_an_error_that_names_it(made_up):
    made_up.run(BASE, 0)
    (made_up.out / "runs" / f"{BASE}--0" / "record.json").write_text('{"kind": "mod')
    with pytest.raises(InputError, match=r"record\.json: cannot be read"):
        compare(made_up.out)


def test_missing_or_damaged_predictions_are_an_error_that_names_them(made_up):
    made_up.run(BASE, 0)
    path = made_up.out / "runs" / f"{BASE}--0" / "predictions.parquet"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"predictions\.parquet cannot be read"):
        compare(made_up.out)
    path.unlink()
    with pytest.raises(InputError, match=r"predictions\.parquet cannot be read"):
        compare(made_up.out)


def test_predictions_that_were_altered_since_the_run_are_an_error_that_names_them(made_up):
    scores = np.linspace(0, 1, ROWS).astype(np.float32)
    made_up.run(BASE, 0, scores=scores)
    path = made_up.out / "runs" / f"{BASE}--0" / "predictions.parquet"
    record = json.loads(path.with_name("record.json").read_text())
    record["files"] = {"predictions.parquet": sha256_of(path)}
    path.with_name("record.json").write_text(json.dumps(record))
    compare(made_up.out, REPLICATES)
    table = pd.read_parquet(path)
    table["score_finish"] = scores[::-1]
    table.to_parquet(path)
    with pytest.raises(InputError, match=r"predictions\.parquet: was changed since it was written"):
        compare(made_up.out, REPLICATES)


@pytest.mark.parametrize(
    ("field", "value"), [("name", 3), ("base", None), ("architectures", [3]), ("datasets", "toy")]
)
def test_a_suite_with_a_field_of_another_type_is_an_error_that_names_it(made_up, field, value):
    made_up.run(BASE, 0)
    (made_up.out / "suite.json").write_text(json.dumps(made_up.suite | {field: value}))
    with pytest.raises(InputError, match=rf"suite\.json: is no suite description \({field}"):
        compare(made_up.out)


def test_a_finished_run_with_nan_scores_is_an_error(made_up):
    made_up.run(BASE, 0)
    made_up.run("dcn", 0, scores=np.full(ROWS, np.nan, np.float32))
    with pytest.raises(InputError, match="no usable score_finish"):
        compare(made_up.out, REPLICATES)


def test_a_variant_is_compared_with_the_plain_row_of_its_own_architecture(made_up):
    made_up.suite["architectures"].append({"architecture": "dcn", "variant": "deep"})
    made_up.suite["architectures"].append({"architecture": BASE, "variant": "deep"})
    made_up.write_suite()
    for seed in range(3):
        made_up.run(BASE, seed, 1.0)
        made_up.run(BASE, seed, 1.1, variant="deep")
        made_up.run("rankmixer", seed, 1.3)
    plain = [made_up.run("dcn", seed, 1.2) for seed in range(3)]
    deep = [made_up.run("dcn", seed, 1.5, variant="deep") for seed in range(3)]
    found = compare_variants(made_up.out, REPLICATES)
    # Neither plain rows nor other architectures.
    pairs = set(zip(found.architecture, found.variant, found.base, strict=True))
    assert pairs == {("dcn", "deep", "dcn"), (BASE, "deep", BASE)}
    got = row(found, "dcn", variant="deep")
    expected = np.mean([made_up.auc(s) for s in deep]) - np.mean([made_up.auc(s) for s in plain])
    assert got["diff"] == pytest.approx(expected, abs=1e-12)
    assert got.base_mean == pytest.approx(np.mean([made_up.auc(s) for s in plain]), abs=1e-12)
    write_inference(read_runs(made_up.out))
    assert len(pd.read_csv(made_up.out / "variants.csv")) == len(found)


def test_declared_contrasts_are_compared_directly_and_written_beside(made_up):
    deep = {"architecture": "dcn", "variant": "deep"}
    made_up.suite["architectures"].append(deep)
    made_up.suite["contrasts"] = [[deep, {"architecture": "rankmixer", "variant": ""}]]
    made_up.write_suite()
    made_up.run(BASE, 0)
    ours = [made_up.auc(made_up.run("dcn", seed, 1.5, variant="deep")) for seed in range(3)]
    others = [made_up.auc(made_up.run("rankmixer", seed, 1.2)) for seed in range(3)]
    got = row(compare_contrasts(made_up.out, REPLICATES), "dcn", variant="deep")
    assert (got.base, got.base_variant) == ("rankmixer", "")
    assert got["diff"] == pytest.approx(np.mean(ours) - np.mean(others), abs=1e-12)
    write_inference(read_runs(made_up.out))
    written = pd.read_csv(made_up.out / "contrasts.csv")
    assert set(zip(written.architecture, written.base, strict=True)) == {("dcn", "rankmixer")}


def test_worlds_have_test_rows_of_their_own(made_up):
    """Two worlds whose test rows differ; each run is held against the base's of its own world."""
    gaps = []
    for world in range(2):
        made_up.labels = np.random.default_rng(world).permutation(made_up.labels)
        of_world = {"world": world, "spec": {"seed": 0}}
        names = [f"{BASE}-w{world}", f"dcn-w{world}"]
        base = made_up.auc(made_up.run(BASE, 0, 1.0, folder=names[0], **of_world))
        gaps.append(made_up.auc(made_up.run("dcn", 0, 1.3, folder=names[1], **of_world)) - base)
    got = row(compare(made_up.out, REPLICATES), "dcn")
    assert got["diff"] == pytest.approx(np.mean(gaps), abs=1e-12)
    assert (got.worlds, got.seeds, got.resolved) == (2, 2, "few worlds")


def test_worlds_on_the_same_test_rows_keep_the_users_part(made_up):
    """Draws of a log's training rows: with no spread over the worlds, users are all that is left."""
    for world in range(3):
        of_world = {"world": world, "spec": {"seed": 0}}
        made_up.run(BASE, 0, 1.0, folder=f"{BASE}-w{world}", **of_world)
        made_up.run("dcn", 0, 1.3, folder=f"dcn-w{world}", **of_world)
    got = row(compare(made_up.out, REPLICATES), "dcn")
    assert (got.low, got.high) == pytest.approx((got.users_low, got.users_high))
    assert got.low < got["diff"] < got.high
    assert (got.worlds, got.users) == (3, len(np.unique(made_up.users[7:])))


def test_where_the_base_alone_has_variants_the_comparisons_hold_them(made_up):
    made_up.suite["architectures"].append({"architecture": BASE, "variant": "deep"})
    made_up.write_suite()
    for variant in ("", "deep"):
        made_up.run(BASE, 0, variant=variant)
    made_up.run("dcn", 0)
    assert compare_variants(made_up.out, REPLICATES).empty
    assert row(compare(made_up.out, REPLICATES), BASE, variant="deep").base == BASE


def test_variants_of_an_earlier_suite_do_not_stay_behind(made_up):
    made_up.run(BASE, 0)
    (made_up.out / "variants.csv").write_text("old")
    write_inference(read_runs(made_up.out))
    assert not (made_up.out / "variants.csv").exists()
