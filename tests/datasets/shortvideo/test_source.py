"""The synthetic log: its options, its source, and what its rows promise."""

import math
import re

import numpy as np
import polars as pl
import pytest
from scipy.special import ndtri
from scipy.stats import chi2
from sklearn.metrics import roc_auc_score

from datasets.shortvideo.kinds import KINDS
from datasets.shortvideo.source import ShortVideo, identity, shortvideo_schema, source
from files.errors import InputError

TASKS = ("finish", "skip")


@pytest.fixture(scope="module")
def log() -> pl.DataFrame:
    """A log dense enough for statistics: 60,000 rows, 3,000 users, 2,000 items."""
    return pl.concat(list(ShortVideo(rows=60_000, users=3_000, items=2_000, seed=1).chunks(60_000)))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("by", ["probability", "duration", "tab", "last_ratio"])
def test_labels_are_positive_as_often_as_their_probabilities(log, task, by):
    probability, label = log[f"p_{task}"].to_numpy(), log[task].to_numpy()
    key = {
        "probability": probability,
        "duration": log["duration"].to_numpy(),
        "tab": log["tab"].to_numpy(),
        "last_ratio": log["seq_watch_ratio"].list.last().fill_null(-1).to_numpy(),
    }[by]
    edges = np.quantile(key, np.linspace(0, 1, 21)[1:-1])
    bins = np.unique(np.searchsorted(edges, key, side="right"), return_inverse=True)[1]
    surplus = np.bincount(bins, label - probability)
    variance = np.bincount(bins, probability * (1 - probability))
    assert (surplus**2 / variance).sum() < chi2.isf(1e-4, len(variance))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("noise", [0.2, 0.5, 1.0])
def test_no_disturbed_probability_ranks_better_than_the_true_one(log, task, noise):
    probability, label = log[f"p_{task}"].to_numpy(), log[task].to_numpy()
    disturbed = ndtri(probability) + noise * np.random.default_rng(0).standard_normal(len(label))
    assert roc_auc_score(label, disturbed) < roc_auc_score(label, probability)


def test_label_rates_and_the_oracle_lie_in_the_ranges_of_short_video_logs(log):
    assert 0.15 < log["finish"].mean() < 0.35
    assert 0.25 < log["skip"].mean() < 0.45
    for task in TASKS:
        assert 0.80 < roc_auc_score(log[task], log[f"p_{task}"]) < 0.90


def test_labels_follow_the_watch_time_and_are_never_both_positive(log):
    watch_time, duration = log["watch_time"].to_numpy(), log["duration"].to_numpy()
    np.testing.assert_array_equal(log["finish"].to_numpy(), watch_time >= duration)
    np.testing.assert_array_equal(log["skip"].to_numpy(), watch_time < np.minimum(3.0, duration))
    assert (log["finish"] + log["skip"]).max() == 1


def test_a_video_of_under_three_seconds_is_either_finished_or_skipped(log):
    brief = log.filter(pl.col("duration") < 3.0)
    assert brief.height > 100
    assert (brief["finish"] + brief["skip"] == 1).all()
    np.testing.assert_allclose(brief["p_finish"] + brief["p_skip"], 1.0)


def test_one_percent_of_items_and_of_users_hold_far_more_than_one_percent_of_the_rows(log):
    for column, size in (("item_id", 2_000), ("user_id", 3_000)):
        counts = np.sort(np.bincount(log[column].to_numpy(), minlength=size))[::-1]
        assert counts[: size // 100].sum() > 0.07 * log.height
        assert np.median(counts) < 0.6 * counts.mean()


def test_times_increase_strictly_and_cover_the_fortnight(log):
    time = log["time"].to_numpy()
    assert (np.diff(time) > 0).all()
    hours = time / 3.6e9
    assert 0 <= hours[0] < 1
    assert 14 * 24 - 1 < hours[-1] < 14 * 24
    np.testing.assert_array_equal(log["hour"].to_numpy(), hours.astype(int) % 24)
    np.testing.assert_array_equal(np.diff(log["weekday"].to_numpy()) % 7, np.diff(hours.astype(int) // 24))


def test_nothing_is_shown_before_its_upload_and_new_items_appear(log):
    assert log["upload_age"].min() >= 0
    early, late = log[:30_000], log[30_000:]
    assert set(late["item_id"]) - set(early["item_id"])


def test_the_schema_names_columns_of_the_frame_and_cuts_into_sixteen_tokens(log):
    schema = shortvideo_schema()
    named = {feature.source_column for feature in schema.features}
    named |= {task.source_column for task in schema.tasks} | {task.probability for task in schema.tasks}
    assert named | {schema.user_id, schema.time} <= set(log.columns)
    assert schema.groups == ["user", "item", "sequence", "cross", "context"]
    assert sum(feature.embedding_dim for feature in schema.features) == 16 * 24


def test_the_source_holds_the_stream_and_the_identity_computed_before(tmp_path):
    options = {"rows": 2_345, "users": 300, "items": 200, "seed": 9}
    made = source(options, None, tmp_path)
    streamed = pl.concat(list(ShortVideo(**options).chunks(1_000)))
    assert made.frame.collect().equals(streamed)
    assert made.identity == identity(options, None)


def test_the_notes_say_which_fields_interact_and_what_a_lead_of_cross_networks_means(tmp_path):
    options = {"rows": 200, "users": 300, "items": 200}
    plain, mixed = (
        source(options | {"effects": name}, None, tmp_path).notes for name in ("products", "mixed")
    )
    assert plain["interacting_pairs"].count(" x ") == 14
    assert (
        "cross networks (DCN) can write down, so a lead of theirs says little"
        in plain["kind_of_interactions"]
    )
    assert mixed["interacting_memory"].startswith("user_id x category, user_id x author, item_id x ")
    assert {name.removeprefix("interacting_") for name in mixed} - {"simulated_days"} == set(KINDS[:-1])


def test_every_option_changes_the_identity():
    other = {"rows": 500, "users": 500, "items": 500, "seed": 1, "interactions": 0.5, "effects": "mixed"}
    other |= {"drift": False, "fields": 8, "order": 2, "rank": 2, "memory": 0.5, "shared": 1}
    identities = [identity({})] + [identity({name: value}) for name, value in other.items()]
    assert all(a != b for i, a in enumerate(identities) for b in identities[:i])
    assert identity({"interactions": 1}) == identity({}) == identity({"effects": "products"})


def test_the_default_identity_and_rows_are_those_before_there_were_kinds_of_effects():
    """The fingerprint of a kept record, and a checksum of rows that the earlier generator made."""
    assert identity({"rows": 500})["options"] == {
        **{"rows": 500, "users": 20_000, "items": 10_000},
        **{"seed": 0, "interactions": 1.0},
    }
    rows = pl.concat(list(ShortVideo(rows=600, users=300, items=200, seed=3).chunks(600)))
    assert rows["p_finish"].sum() == pytest.approx(133.70328187169216, rel=1e-12)
    assert rows["item_id"].dot(pl.Series(range(600))) == 17_480_468


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"row": 10_000},
            "no option 'row': choose from rows, users, items, seed, interactions, drift, effects",
        ),
        ({"effects": "trees"}, "'effects' must be products or mixed, not 'trees'; correct it"),
        ({"effects": ["mixed"]}, "'effects' must be products or mixed, not ['mixed']; correct it"),
        ({"order": 5}, "'order' must be 2 or 3 or 4, not 5; correct it"),
        ({"order": True}, "'order' must be 2 or 3 or 4, not True; correct it"),
        ({"drift": 1}, "'drift' must be True or False, not 1; correct it"),
        ({"fields": 3}, "'fields' must be finite and at least 4 and at most 22, not 3; correct it"),
        ({"shared": 1.5}, "'shared' must be finite and at least 0 and at most 1, not 1.5; correct it"),
        (
            {"effects": "mixed", "rank": 8},
            "'rank' shapes products, and effects=mixed draws its own kinds; leave one of them out",
        ),
        ({"rows": "many"}, "'rows' must be a whole number, not 'many'"),
        ({"rows": 1e6}, "'rows' must be a whole number"),
        ({"users": True}, "'users' must be a whole number"),
        ({"items": 5}, "'items' must be finite and at least 100, not 5"),
        ({"interactions": math.nan}, "'interactions' must be finite"),
        ({"interactions": math.inf}, "'interactions' must be finite"),
        ({"users": 10**6, "items": 10**6}, "'users' x 'items' may be at most 5,000,000,000"),
    ],
)
def test_a_wrong_option_is_named_with_its_mend(options, words, tmp_path):
    for ask in (lambda: identity(options, None), lambda: source(options, None, tmp_path)):
        with pytest.raises(InputError, match=re.escape(words)):
            ask()
    assert not list(tmp_path.iterdir())
