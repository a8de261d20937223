"""The log itself: exposures and watch times, simulated in ticks and streamed in chunks.

A tick is a fixed number of rows (users / 20) in which no user occurs twice. All of its rows see the
state as the tick found it, so a tick is a handful of numpy calls and every history and counter
holds events of strictly earlier time only. Item popularity is therefore refreshed once a tick, as
serving systems refresh it now and then. Ticks have their own random streams, keyed by the seed and
the tick's number, and know nothing of chunks.

The state is one history, one row of category counters and one of author counters a user, and one
count an item: its size does not depend on the number of rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from scipy.special import ndtr

from datasets.shortvideo.frame import log_frame
from datasets.shortvideo.structure import DEFAULT, Structure
from datasets.shortvideo.world import (
    AUTHOR_OVERLAP,
    CATEGORY_OVERLAP,
    COUNT_BOUNDS,
    DAYS,
    DURATION_SLOPE,
    HISTORY,
    INTERCEPT,
    INTEREST_VARIANCE,
    MAX_OVERLAP,
    NETWORK_SHARES,
    NOISE_VARIANCE,
    NUM_CATEGORIES,
    NUM_RATIOS,
    RATIO_BOUNDS,
    RECENCY_BOUNDS,
    REGISTRATION_BOUNDS,
    TAB_SHARES,
    UPLOAD_AGE_BOUNDS,
    World,
    draw_world,
)

USERS_PER_TICK_ROW = 20
FIRST_WEEKDAY = 3  # Monday is 0; with a Thursday both weekends fall into the training days
DRIFT_MEMORY = 0.94  # correlation of a user's interests with those of the day before
POPULAR_CANDIDATES, AUTHOR_CANDIDATES = 6, 2  # a slate: by appeal, and by authors of the history
POLICY_STRENGTH = 1.0  # weight of the interest match against Gumbel noise when one is shown
FRESH_DAYS, OLD_APPEAL = 4.0, 0.15  # appeal decays with this time constant, down to this share
SKIP_SECONDS = 3.0
MAX_PLAYS = 5.0  # watch time ends after this many times the duration
MICROSECONDS_PER_DAY = 86_400_000_000

SENTIMENT = np.linspace(-1.0, 1.0, NUM_RATIOS)  # how much a history entry was liked, by watch ratio
RECENCY_WEIGHTS = 0.85 ** np.arange(HISTORY - 1, -1, -1)  # oldest first

_DRIFT_STREAM, _TICK_STREAM = 1, 2
_IMPRESSIONS = 0  # the first of a counter's three numbers


@dataclass
class State:
    """The state after the earlier ticks; arrays are updated in place.

    interests (users, K); history_items and history_ratios (users, HISTORY), oldest first, -1 where
    there is no entry yet; user_category (users, categories, 3) and user_author (users, authors, 3)
    count impressions, finishes and skips; impressions (items,).
    """

    interests: np.ndarray
    history_items: np.ndarray
    history_ratios: np.ndarray
    user_category: np.ndarray
    user_author: np.ndarray
    impressions: np.ndarray
    day: int = 0
    hour: int = -1
    appeal_cdf: np.ndarray = field(default_factory=lambda: np.ones(1))

    @property
    def nbytes(self) -> int:
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, np.ndarray))


class ShortVideo:
    """A stream of ``rows`` watched videos over 14 simulated days.

    ``interactions`` scales all that is not a main effect: interest match, history overlap, and the
    interactions of ``structure``. Without ``drift`` users keep the interests of the first day. Equal
    arguments give equal rows whatever the chunk size. Memory is a chunk and the state, mostly the author
    counters: 3 * users * authors integers (authors = items / 5) of two bytes each up to 65,535 ticks, of
    four beyond.
    """

    def __init__(
        self,
        rows: int,
        users: int = 20_000,
        items: int = 10_000,
        seed: int = 0,
        interactions: float = 1.0,
        structure: Structure = DEFAULT,
        drift: bool = True,
    ) -> None:
        self.rows, self.seed, self.interactions = rows, seed, interactions
        self.drift_memory = DRIFT_MEMORY if drift else 1.0
        self.world = draw_world(users, items, seed, structure)
        self.tick_rows = max(users // USERS_PER_TICK_ROW, 1)
        self.num_ticks = -(-rows // self.tick_rows)
        self._clock = _clock()
        author = self.world.item_codes["author"]
        self._items_by_author = np.argsort(author, kind="stable")
        self._author_size = np.bincount(author, minlength=self.world.num_authors)
        self._author_start = np.cumsum(self._author_size) - self._author_size

    def chunks(self, chunk_rows: int) -> Iterator[pl.DataFrame]:
        """The rows in time order, ``chunk_rows`` at a time; the last chunk may be shorter."""
        rest: list[pl.DataFrame] = []
        for block in self._blocks(-(-chunk_rows // self.tick_rows)):
            frame = pl.concat([*rest, block])
            whole = frame.height // chunk_rows * chunk_rows
            for start in range(0, whole, chunk_rows):
                yield frame.slice(start, chunk_rows)
            rest = [frame.slice(whole)]
        yield from (frame for frame in rest if frame.height)

    def _blocks(self, num_ticks: int) -> Iterator[pl.DataFrame]:
        """The rows in time order, ``num_ticks`` ticks at a time."""
        author, category = (self.world.item_codes[name] for name in ("author", "category"))
        state = self.first_state()
        for start in range(0, self.num_ticks, num_ticks):
            end = min(start + num_ticks, self.num_ticks)
            ticks = [self.step(state, tick) for tick in range(start, end)]
            rows = {name: np.concatenate([tick[name] for tick in ticks]) for name in ticks[0]}
            yield log_frame(rows, author, category).head(self.rows - start * self.tick_rows)

    def first_state(self) -> State:
        """The state before the first exposure."""
        users, authors = len(self.world.activity), self.world.num_authors
        # A user adds at most one a tick, so the number of ticks bounds every counter.
        counter = np.min_scalar_type(self.num_ticks)
        return State(
            interests=self.world.interests.copy(),
            history_items=np.full((users, HISTORY), -1, np.int32),
            history_ratios=np.full((users, HISTORY), -1, np.int8),
            user_category=np.zeros((users, NUM_CATEGORIES, 3), counter),
            user_author=np.zeros((users, authors, 3), counter),
            impressions=np.zeros(len(self.world.appeal), np.int64),
        )

    def step(self, state: State, tick: int) -> dict[str, np.ndarray]:
        """One tick's columns, (tick_rows,) or (tick_rows, HISTORY); ``state`` is advanced past it."""
        rng = np.random.default_rng((self.seed, _TICK_STREAM, tick))
        time = self._times(tick, rng)
        self._advance(state, time[0])
        user = self._active_users(rng)
        history = state.history_items[user]
        item = self._expose(state, user, history, time[0], rng)
        row = self._context(time, rng)
        row |= self._features(state, user, item, history, time)
        row |= self._outcome(row, state.interests[user], rng)
        self._remember(state, row)
        return row

    def _times(self, tick: int, rng: np.random.Generator) -> np.ndarray:
        """Strictly increasing times in microseconds, denser in the evening and at weekends."""
        position = tick * self.tick_rows + np.arange(self.tick_rows) + 0.5 * rng.random(self.tick_rows)
        share = position / (self.num_ticks * self.tick_rows)
        hours = np.interp(share, self._clock, np.arange(len(self._clock)))
        return (hours * (MICROSECONDS_PER_DAY / 24)).astype(np.int64)

    def _advance(self, state: State, time: int) -> None:
        """Let interests drift daily and appeal change hourly up to ``time``."""
        now = time / MICROSECONDS_PER_DAY
        while state.day < int(now):
            state.day += 1
            rng = np.random.default_rng((self.seed, _DRIFT_STREAM, state.day))
            shock = rng.standard_normal(state.interests.shape)
            state.interests *= self.drift_memory
            state.interests += np.sqrt(1 - self.drift_memory**2) * shock
        if state.hour < int(now * 24):
            state.hour = int(now * 24)
            age = now - self.world.uploaded
            fresh = OLD_APPEAL + (1 - OLD_APPEAL) * np.exp(-age.clip(0) / FRESH_DAYS)
            cdf = np.cumsum(np.where(age >= 0, self.world.appeal * fresh, 0.0))
            state.appeal_cdf = cdf / cdf[-1]

    def _active_users(self, rng: np.random.Generator) -> np.ndarray:
        """Users drawn without replacement by activity (the smallest exponential clocks), in random order."""
        clocks = rng.standard_exponential(len(self.world.activity)) / self.world.activity
        chosen = np.sort(np.argpartition(clocks, self.tick_rows - 1)[: self.tick_rows])
        return rng.permutation(chosen)

    def _expose(
        self, state: State, user: np.ndarray, history: np.ndarray, time: int, rng: np.random.Generator
    ) -> np.ndarray:
        """The item shown to each user: the best of a small slate by interest match and Gumbel noise."""
        rows, size = np.arange(len(user)), POPULAR_CANDIDATES + AUTHOR_CANDIDATES
        slate = np.searchsorted(state.appeal_cdf, rng.random((len(user), size)), side="right")
        source = history[rows[:, None], rng.integers(HISTORY, size=(len(user), AUTHOR_CANDIDATES))]
        author = self.world.item_codes["author"][source]
        nth = (rng.random(author.shape) * self._author_size[author]).astype(np.int64)
        same_author = self._items_by_author[self._author_start[author] + nth]
        known = (source >= 0) & (self.world.uploaded[same_author] <= time / MICROSECONDS_PER_DAY)
        slate[:, :AUTHOR_CANDIDATES] = np.where(known, same_author, slate[:, :AUTHOR_CANDIDATES])
        match = np.einsum("uk,uck->uc", state.interests[user], self.world.topics[slate])
        best = np.argmax(POLICY_STRENGTH * match + rng.gumbel(size=slate.shape), axis=1)
        return slate[rows, best]

    def _context(self, time: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        hours = time // (MICROSECONDS_PER_DAY // 24)
        days = hours // 24

        def draw(shares: np.ndarray) -> np.ndarray:
            return np.searchsorted(np.cumsum(shares)[:-1], rng.random(len(time)), side="right").astype(
                np.int32
            )

        return {
            "time": time,
            "hour": (hours % 24).astype(np.int32),
            "weekday": ((FIRST_WEEKDAY + days) % 7).astype(np.int32),
            "tab": draw(TAB_SHARES),
            "network": draw(NETWORK_SHARES),
        }

    def _features(
        self, state: State, user: np.ndarray, item: np.ndarray, history: np.ndarray, time: np.ndarray
    ) -> dict[str, np.ndarray]:
        """User, item, sequence and cross columns as the state stands, before the outcome."""
        world, now = self.world, time / MICROSECONDS_PER_DAY
        row = {name: code[user] for name, code in world.user_codes.items()}
        row |= {name: code[item] for name, code in world.item_codes.items()}
        return row | {
            "user_id": user.astype(np.int32),
            "item_id": item.astype(np.int32),
            "registration_age": now - world.registered[user],
            "upload_age": now - world.uploaded[item],
            "duration": world.duration[item],
            "popularity": state.impressions[item],
            "history_items": history,
            "history_ratios": state.history_ratios[user],
            "user_category": state.user_category[user, row["category"]],
            "user_author": state.user_author[user, row["author"]],
        }

    def _outcome(
        self, row: dict[str, np.ndarray], interests: np.ndarray, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Watch time, labels and true probabilities from the utility."""
        utility = self.utility(row, interests)  # the mean of log(watch time / duration)
        sigma = np.sqrt(NOISE_VARIANCE)
        duration = row["duration"]
        ratio = np.exp(utility + sigma * rng.standard_normal(len(utility)))
        watch_time = duration * np.minimum(ratio, MAX_PLAYS)
        skip_before = np.minimum(SKIP_SECONDS, duration)
        return {
            "watch_time": watch_time,
            "finish": (watch_time >= duration).astype(np.int8),
            "skip": (watch_time < skip_before).astype(np.int8),
            "p_finish": ndtr(utility / sigma),
            "p_skip": ndtr((np.log(skip_before / duration) - utility) / sigma),
        }

    def utility(self, row: dict[str, np.ndarray], interests: np.ndarray) -> np.ndarray:
        """The mean of log(watch time / duration), (rows,); `datasets.shortvideo.source` has the equation."""
        world = self.world
        codes, overlap = _codes_and_overlap(row, world)
        interest = np.einsum("uk,uk->u", interests, world.topics[row["item_id"]])
        matched = np.sqrt(INTEREST_VARIANCE) * interest + overlap
        matched += sum(effect(codes) for effect in world.interactions)
        main = world.user_bias[row["user_id"]] + world.item_bias[row["item_id"]]
        main -= DURATION_SLOPE * np.log(row["duration"] / 20.0)
        main += sum(effect(codes) for effect in world.main)
        return INTERCEPT + main + self.interactions * matched

    def _remember(self, state: State, row: dict[str, np.ndarray]) -> None:
        user, item = row["user_id"], row["item_id"]
        ratio = np.digitize(row["watch_time"] / row["duration"], RATIO_BOUNDS)
        for kept, newest in ((state.history_items, item), (state.history_ratios, ratio)):
            kept[user, :-1] = kept[user, 1:]
            kept[user, -1] = newest
        counted = np.stack([np.ones_like(row["finish"]), row["finish"], row["skip"]], axis=1)
        # A user occurs once a tick, so the indices repeat nowhere and fancy assignment is exact.
        state.user_category[user, row["category"]] += counted.astype(state.user_category.dtype)
        state.user_author[user, row["author"]] += counted.astype(state.user_author.dtype)
        state.impressions += np.bincount(item, minlength=len(state.impressions))


def _codes_and_overlap(row: dict[str, np.ndarray], world: World) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The utility's categorical fields, and how much the history's liking speaks for the target."""
    known = row["history_items"] >= 0
    seen_category = world.item_codes["category"][row["history_items"]]
    same_category = known & (seen_category == row["category"][:, None])
    seen_author = world.item_codes["author"][row["history_items"]]
    same_author = known & (seen_author == row["author"][:, None])
    liking = SENTIMENT[row["history_ratios"]] * RECENCY_WEIGHTS
    overlap = CATEGORY_OVERLAP * np.einsum("uh,uh->u", liking, same_category)
    overlap += AUTHOR_OVERLAP * np.einsum("uh,uh->u", liking, same_author)
    steps_back = np.argmax(same_category[:, ::-1], axis=1) + 1
    steps_back[~same_category.any(axis=1)] = HISTORY + 1
    return row | {
        "registration_band": np.digitize(row["registration_age"], REGISTRATION_BOUNDS),
        "upload_band": np.digitize(row["upload_age"], UPLOAD_AGE_BOUNDS),
        "popularity_band": np.digitize(row["popularity"], COUNT_BOUNDS),
        "last_category": np.where(known[:, -1], seen_category[:, -1], NUM_CATEGORIES),
        "last_ratio": np.where(known[:, -1], row["history_ratios"][:, -1], NUM_RATIOS),
        "category_recency": np.digitize(steps_back, RECENCY_BOUNDS),
        "author_overlap": np.minimum(same_author.sum(axis=1), MAX_OVERLAP),
        "category_count_band": np.digitize(row["user_category"][:, _IMPRESSIONS], COUNT_BOUNDS),
        "author_count_band": np.digitize(row["user_author"][:, _IMPRESSIONS], COUNT_BOUNDS),
    }, overlap


def _clock() -> np.ndarray:
    """The share of all rows that falls before each full hour of the log, (24 * DAYS + 1,)."""
    hour = np.arange(24 * DAYS)
    weekend = (FIRST_WEEKDAY + hour // 24) % 7 >= 5
    rate = 1.0 + 0.7 * np.cos(2 * np.pi * (hour % 24 - 21) / 24) + 0.2 * weekend
    return np.concatenate([[0.0], np.cumsum(rate)]) / rate.sum()
