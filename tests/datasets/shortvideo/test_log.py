"""The simulation: its stream, its causality and its utility, each against plain Python."""

import math
import tracemalloc
from collections import Counter, defaultdict

import numpy as np
import polars as pl
import pytest

from datasets.shortvideo.log import ShortVideo
from datasets.shortvideo.world import draw_world

SMALL = {"users": 300, "items": 200}
RATIO_BOUNDS = (0.05, 0.15, 0.35, 0.65, 1.0, 1.5, 2.5)


def whole(**settings) -> pl.DataFrame:
    return pl.concat(list(ShortVideo(**settings).chunks(10**9)))


@pytest.fixture(scope="module")
def log() -> pl.DataFrame:
    return whole(rows=6_000, seed=4, **SMALL)


@pytest.mark.parametrize("chunk_rows", [1, 1_000, 7_777, 19_999])
def test_chunk_size_changes_no_row(chunk_rows):
    settings = {"rows": 20_000 if chunk_rows > 1 else 200, "users": 2_000, "items": 300, "seed": 2}
    chunks = list(ShortVideo(**settings).chunks(chunk_rows))
    assert [chunk.height for chunk in chunks[:-1]] == [chunk_rows] * (len(chunks) - 1)
    assert 0 < chunks[-1].height <= chunk_rows
    assert pl.concat(chunks).equals(whole(**settings))


def test_a_log_may_end_within_a_tick_and_can_be_streamed_twice():
    video = ShortVideo(rows=1_003, seed=0, **SMALL)
    first, again = (pl.concat(list(video.chunks(250))) for _ in range(2))
    assert first.height == 1_003
    assert first.equals(again)


def test_seeds_differ_in_world_and_log():
    a, b = (whole(rows=500, seed=seed, **SMALL) for seed in (0, 1))
    assert not a.equals(b)
    for column in ("item_id", "tab"):
        assert (a[column] != b[column]).mean() > 0.3
    worlds = [draw_world(300, 200, seed) for seed in (0, 1)]
    assert [e.fields for e in worlds[0].kinds["pairs"]] != [e.fields for e in worlds[1].kinds["pairs"]]


def test_a_user_occurs_at_most_once_a_tick(log):
    tick = pl.int_range(log.height, eager=True) // ShortVideo(rows=1, **SMALL).tick_rows
    assert not log.select("user_id").with_columns(tick=tick).is_duplicated().any()


def test_histories_hold_the_last_twenty_items_and_nothing_else(log):
    past = defaultdict(list)
    for row in log.iter_rows(named=True):
        latest = past[row["user_id"]][-20:]
        assert row["seq_item"] == [seen["item_id"] for seen in latest]
        assert row["seq_author"] == [seen["author"] for seen in latest]
        assert row["seq_category"] == [seen["category"] for seen in latest]
        ratios = [seen["watch_time"] / seen["duration"] for seen in latest]
        assert row["seq_watch_ratio"] == [sum(ratio >= bound for bound in RATIO_BOUNDS) for ratio in ratios]
        past[row["user_id"]].append(row)
    assert max(map(len, past.values())) > 25


@pytest.mark.parametrize("key", ["category", "author"])
def test_cross_counts_and_rates_come_only_from_earlier_rows(log, key):
    past = defaultdict(list)
    for row in log.iter_rows(named=True):
        seen = past[row["user_id"], row[key]]
        assert row[f"user_{key}_count"] == len(seen)
        for task in ("finish", "skip"):
            expected = sum(other[task] for other in seen) / len(seen) if seen else None
            assert row[f"user_{key}_{task}_rate"] == pytest.approx(expected)
        seen.append(row)
    assert max(map(len, past.values())) > 3


def test_popularity_counts_only_impressions_before_the_tick(log):
    tick_rows = ShortVideo(rows=1, **SMALL).tick_rows
    shown, this_tick = Counter(), Counter()
    for index, row in enumerate(log.iter_rows(named=True)):
        if index % tick_rows == 0:
            shown += this_tick
            this_tick = Counter()
        assert row["popularity"] == shown[row["item_id"]]
        this_tick[row["item_id"]] += 1


def test_item_and_user_attributes_never_change_and_ages_grow_with_time(log):
    for key, attributes in (
        ("item_id", ["author", "category", "music", "duration"]),
        ("user_id", ["age_band", "gender", "city", "device", "activity_tier"]),
    ):
        assert log.select(key, *attributes).n_unique() == log[key].n_unique()
    for key, age in (("item_id", "upload_age"), ("user_id", "registration_age")):
        born = log.select(key, born=pl.col(age) - pl.col("time") / 86_400e6)
        spread = born.group_by(key).agg(pl.col("born").max() - pl.col("born").min())["born"]
        assert spread.max() < 1e-6


def test_the_utility_is_the_stated_equation_written_out():
    video = ShortVideo(rows=3_000, seed=7, interactions=0.8, **SMALL)
    world, state = video.world, video.first_state()
    for tick in range(150):
        row = video.step(state, tick)
    utilities = video.utility(row, state.interests[row["user_id"]])
    for k in range(video.tick_rows):
        user, item, duration = row["user_id"][k], row["item_id"][k], row["duration"][k]
        author, category = row["author"][k], row["category"][k]
        past = [
            (world.item_codes["category"][i], world.item_codes["author"][i], -1 + 2 * ratio / 7)
            for i, ratio in zip(row["history_items"][k], row["history_ratios"][k], strict=True)
            if i >= 0
        ]
        overlap, recency = 0.0, 21
        for back, (its_category, its_author, liking) in enumerate(reversed(past), start=1):
            overlap += 0.85 ** (back - 1) * liking * 0.35 * (its_category == category)
            overlap += 0.85 ** (back - 1) * liking * 0.45 * (its_author == author)
            recency = min(recency, back) if its_category == category else recency
        codes = {name: int(code[user]) for name, code in world.user_codes.items()}
        codes |= {name: int(code[item]) for name, code in world.item_codes.items()}
        codes |= {name: int(row[name][k]) for name in ("hour", "weekday", "tab", "network")}
        codes |= {
            "registration_band": above(row["registration_age"][k], 30, 90, 180, 365, 730),
            "upload_band": above(row["upload_age"][k], 1, 3, 7, 14, 30),
            "popularity_band": above(row["popularity"][k], *(2**i for i in range(10))),
            "last_category": past[-1][0] if past else 40,
            "last_ratio": row["history_ratios"][k, -1] if past else 8,
            "category_recency": above(recency, 2, 3, 6, 11, 21),
            "author_overlap": min(sum(its_author == author for _, its_author, _ in past), 3),
            "category_count_band": above(row["user_category"][k, 0], *(2**i for i in range(10))),
            "author_count_band": above(row["user_author"][k, 0], *(2**i for i in range(10))),
        }

        def term(effect, codes=codes):
            ranks = range(effect.tables[0].shape[1])
            factors = list(zip(effect.fields, effect.tables, strict=True))
            return sum(math.prod(table[codes[name], r] for name, table in factors) for r in ranks)

        interest = sum(a * b for a, b in zip(state.interests[user], world.topics[item], strict=True))
        matched = math.sqrt(0.35) * interest + overlap
        matched += sum(term(effect) for effect in world.interactions)
        main = world.user_bias[user] + world.item_bias[item] - 0.5 * math.log(duration / 20)
        main += sum(term(effect) for effect in world.main)
        assert utilities[k] == pytest.approx(-1.8 + main + 0.8 * matched, abs=1e-9)


def above(value, *bounds):
    return sum(value >= bound for bound in bounds)


def test_without_interactions_neither_interests_nor_history_matter():
    for strength, changes in ((0.0, False), (1.0, True)):
        video = ShortVideo(rows=3_000, seed=7, interactions=strength, **SMALL)
        state = video.first_state()
        for tick in range(100):
            row = video.step(state, tick)
        interests = state.interests[row["user_id"]]
        forgotten = row | {"history_ratios": np.zeros_like(row["history_ratios"])}
        # The last watch ratio has a main effect of its own; only the overlap is asked about here.
        forgotten["history_ratios"][:, -1] = row["history_ratios"][:, -1]
        base = video.utility(row, interests)
        assert (not np.allclose(base, video.utility(row, -interests))) == changes
        assert (not np.allclose(base, video.utility(forgotten, interests))) == changes


def test_interests_drift_from_day_to_day_and_keep_their_spread():
    video = ShortVideo(rows=2_800, users=4_000, items=200, seed=3)
    state = video.first_state()
    before = state.interests.copy()
    for tick in range(video.num_ticks):
        video.step(state, tick)
    correlation = np.corrcoef(before.ravel(), state.interests.ravel())[0, 1]
    assert correlation == pytest.approx(0.94**13, abs=0.05)
    assert state.interests.var() == pytest.approx(before.var(), rel=0.1)


def test_users_are_shown_what_matches_them_better_than_chance():
    video = ShortVideo(rows=20_000, users=2_000, items=1_000, seed=3)
    state, rng = video.first_state(), np.random.default_rng(0)
    surplus = []
    for tick in range(video.num_ticks):
        row = video.step(state, tick)
        interests, topics = state.interests[row["user_id"]], video.world.topics[row["item_id"]]
        shuffled = topics[rng.permutation(len(topics))]  # the same items for other users
        surplus.append((interests * (topics - shuffled)).sum(axis=1))
    surplus = np.concatenate(surplus)
    assert surplus.mean() > 10 * surplus.std() / math.sqrt(len(surplus))


def test_appealing_and_fresh_items_are_shown_more_often():
    video = ShortVideo(rows=20_000, users=2_000, items=1_000, seed=3)
    shown = np.bincount(pl.concat(list(video.chunks(5_000)))["item_id"], minlength=1_000)
    old = video.world.uploaded < -20
    appealing = video.world.appeal > np.median(video.world.appeal)
    assert shown[old & appealing].mean() > 3 * shown[old & ~appealing].mean()
    fresh = (video.world.uploaded > -2) & (video.world.uploaded < 5)
    per_appeal = [shown[some].sum() / video.world.appeal[some].sum() for some in (fresh, old)]
    assert per_appeal[0] > 1.5 * per_appeal[1]


def test_memory_does_not_grow_with_the_number_of_rows():
    def peak_bytes(rows: int) -> int:
        video = ShortVideo(rows=rows, users=2_000, items=500, seed=0)
        tracemalloc.start()
        for _ in video.chunks(2_000):
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    # Both are 256 to 65,535 ticks of 100 rows: the same two-byte counters.
    assert peak_bytes(60_000) < 1.1 * peak_bytes(30_000)


def test_the_state_keeps_its_size():
    video = ShortVideo(rows=10_000, seed=0, **SMALL)
    state = video.first_state()
    video.step(state, 0)
    first = state.nbytes
    for tick in range(1, 300):
        video.step(state, tick)
    assert state.nbytes == first
