"""The fixed part of the synthetic world: users, items, and which items please which users.

Everything here is drawn once from the seed and does not depend on the number of rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np

from datasets.shortvideo.effects import Effect, Field, draw_effect
from datasets.shortvideo.kinds import Term, draw_mixture
from datasets.shortvideo.structure import DEFAULT, VARIANCE, Structure, draw_kinds

DAYS = 14
HISTORY = 20  # watched items that a user's sequence keeps
LATENT_DIM = 8
NUM_CATEGORIES = 40
NUM_AGE_BANDS, NUM_GENDERS, NUM_CITIES, NUM_DEVICES, NUM_TIERS = 7, 3, 100, 30, 3

USER_ZIPF = 0.8  # activity of the k-th most active user ~ k**-USER_ZIPF
ITEM_ZIPF = 0.9  # appeal of the k-th most shown item ~ k**-ITEM_ZIPF
UPLOADED_BEFORE_DAYS = 60.0  # uploads are uniform from this long before the log to its end

# Watch ratios are kept as categories: [0, .05), [.05, .15), .. [2.5, inf); 1 is a bound on purpose.
RATIO_BOUNDS = np.array([0.05, 0.15, 0.35, 0.65, 1.0, 1.5, 2.5])
NUM_RATIOS = len(RATIO_BOUNDS) + 1

# Bounds by which the utility (not the model) sees numbers as categories.
DURATION_BOUNDS = np.array([7.0, 10.0, 15.0, 22.0, 32.0, 50.0, 90.0])  # seconds
UPLOAD_AGE_BOUNDS = np.array([1.0, 3.0, 7.0, 14.0, 30.0])  # days
REGISTRATION_BOUNDS = np.array([30.0, 90.0, 180.0, 365.0, 730.0])  # days
COUNT_BOUNDS = np.array([1, 2, 4, 8, 16, 32, 64, 128, 256, 512])  # impressions
RECENCY_BOUNDS = np.array([2, 3, 6, 11, 21])  # steps back to the last item of the same category
MAX_OVERLAP = 3  # items of the same author in the history, counted up to here

TAB_SHARES = np.array([0.6, 0.2, 0.12, 0.08])
NETWORK_SHARES = np.array([0.6, 0.25, 0.1, 0.05])

# The utility's parts: variances of log watch ratio (see datasets.shortvideo.source for the equation).
INTERCEPT = -1.8
NOISE_VARIANCE = 1.7
DURATION_SLOPE = 0.5
MAIN_VARIANCE = 0.35
USER_VARIANCE = 0.25
ITEM_VARIANCE = 0.10
INTEREST_VARIANCE = 0.35
CATEGORY_OVERLAP, AUTHOR_OVERLAP = 0.35, 0.45


@dataclass(frozen=True)
class World:
    """Static tables, one row a user or item.

    ``user_codes`` and ``item_codes`` map a field to its categories, (users,) or (items,) int32.
    ``activity`` (users,) and ``appeal`` (items,) sum to 1. ``interests`` (users, K) are those of the
    first day, ``topics`` (items, K) what an item is about; their dot product has variance 1.
    ``registered`` and ``uploaded`` are days relative to the start of the log. ``kinds`` are the interactions
    by name: pairs and triples or, where effects are mixed, products, thresholds and so on.
    """

    user_codes: dict[str, np.ndarray]
    activity: np.ndarray
    interests: np.ndarray
    user_bias: np.ndarray
    registered: np.ndarray
    item_codes: dict[str, np.ndarray]
    appeal: np.ndarray
    topics: np.ndarray
    item_bias: np.ndarray
    duration: np.ndarray
    uploaded: np.ndarray
    num_authors: int
    main: list[Effect]
    kinds: dict[str, list[Term]]

    @property
    def interactions(self) -> Iterator[Term]:
        """All of them."""
        return chain(*self.kinds.values())


def zipf(size: int, exponent: float) -> np.ndarray:
    """Shares proportional to rank**-exponent, (size,), summing to 1."""
    shares = np.arange(1, size + 1) ** -exponent
    return shares / shares.sum()


def draw_world(users: int, items: int, seed: int, structure: Structure = DEFAULT) -> World:
    """The world of ``seed``; separate random streams, so that users do not depend on items.

    All structures have the same users, items and sum of variances; mixed effects have larger main effects for
    smaller interactions.
    """
    user_rng, item_rng, effect_rng = (
        np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(3)
    )
    user = _draw_users(users, user_rng)
    item = _draw_items(items, item_rng)
    fields = _fields(user, item)
    main = [
        draw_effect([field], MAIN_VARIANCE * share, 1, effect_rng)
        for field, share in zip(fields, effect_rng.dirichlet(np.full(len(fields), 2.0)), strict=True)
    ]
    ids = Field("user_id", "user", user["activity"]), Field("item_id", "item", item["appeal"])
    if structure.effects == "mixed":
        additive, kinds = draw_mixture(fields, *ids, VARIANCE, effect_rng)
        return World(**user, **item, main=[*main, *additive], kinds=kinds)
    return World(**user, **item, main=main, kinds=draw_kinds(structure, fields, *ids, effect_rng))


def _draw_users(users: int, rng: np.random.Generator) -> dict:
    rank = rng.permutation(users)
    age_band = rng.choice(NUM_AGE_BANDS, users, p=_bell(NUM_AGE_BANDS))
    gender = rng.choice(NUM_GENDERS, users, p=[0.48, 0.47, 0.05])
    codes = {
        "age_band": age_band,
        "gender": gender,
        "city": rng.choice(NUM_CITIES, users, p=zipf(NUM_CITIES, 1.0)),
        "device": rng.choice(NUM_DEVICES, users, p=zipf(NUM_DEVICES, 1.0)),
        "activity_tier": NUM_TIERS - 1 - rank * NUM_TIERS // users,
    }
    by_age = rng.standard_normal((NUM_AGE_BANDS, LATENT_DIM))
    by_gender = rng.standard_normal((NUM_GENDERS, LATENT_DIM))
    own = rng.standard_normal((users, LATENT_DIM))
    return {
        "user_codes": {name: code.astype(np.int32) for name, code in codes.items()},
        "activity": zipf(users, USER_ZIPF)[rank],
        "interests": np.sqrt(0.15) * (by_age[age_band] + by_gender[gender]) + np.sqrt(0.7) * own,
        "user_bias": np.sqrt(USER_VARIANCE) * rng.standard_normal(users),
        "registered": -rng.lognormal(np.log(300.0), 1.2, users).clip(1.0, 3000.0),
    }


def _draw_items(items: int, rng: np.random.Generator) -> dict:
    num_authors, num_music = max(items // 5, 2), max(items // 20, 2)
    author = rng.choice(num_authors, items, p=zipf(num_authors, 0.6))
    category = rng.choice(NUM_CATEGORIES, num_authors, p=zipf(NUM_CATEGORIES, 0.7))[author]
    elsewhere = rng.random(items) < 0.2  # authors sometimes leave their main category
    category[elsewhere] = rng.integers(NUM_CATEGORIES, size=elsewhere.sum())
    duration = np.round(rng.lognormal(np.log(20.0), 0.85, items).clip(2.0, 300.0), 1)
    codes = {
        "author": author,
        "category": category,
        "music": rng.choice(num_music, items, p=zipf(num_music, 0.8)),
        "duration_band": np.digitize(duration, DURATION_BOUNDS),
    }
    by_category = rng.standard_normal((NUM_CATEGORIES, LATENT_DIM))
    by_author = rng.standard_normal((num_authors, LATENT_DIM))
    own = rng.standard_normal((items, LATENT_DIM))
    topics = np.sqrt(0.5) * by_category[category] + np.sqrt(0.3) * by_author[author] + np.sqrt(0.2) * own
    return {
        "item_codes": {name: code.astype(np.int32) for name, code in codes.items()},
        "appeal": rng.permutation(zipf(items, ITEM_ZIPF)),
        "topics": topics / np.sqrt(LATENT_DIM),
        "item_bias": np.sqrt(ITEM_VARIANCE) * rng.standard_normal(items),
        "duration": duration,
        "uploaded": rng.uniform(-UPLOADED_BEFORE_DAYS, DAYS, items),
        "num_authors": num_authors,
    }


def _fields(user: dict, item: dict) -> list[Field]:
    """The fields that the utility uses; all are functions of the model's features.

    Users and items are weighted by activity and appeal; where the shares come out of the
    simulation itself (history, counts, ages) they are taken as uniform.
    """

    def uniform(size: int) -> np.ndarray:
        return np.full(size, 1.0 / size)

    fields = [
        Field(name, "user", np.bincount(code, user["activity"])) for name, code in user["user_codes"].items()
    ]
    fields += [
        Field(name, "item", np.bincount(code, item["appeal"])) for name, code in item["item_codes"].items()
    ]
    return [
        *fields,
        Field("registration_band", "user", uniform(len(REGISTRATION_BOUNDS) + 1)),
        Field("upload_band", "item", uniform(len(UPLOAD_AGE_BOUNDS) + 1)),
        Field("popularity_band", "item", uniform(len(COUNT_BOUNDS) + 1)),
        Field("last_category", "sequence", uniform(NUM_CATEGORIES + 1)),
        Field("last_ratio", "sequence", uniform(NUM_RATIOS + 1)),
        Field("category_recency", "sequence", uniform(len(RECENCY_BOUNDS) + 1)),
        Field("author_overlap", "sequence", uniform(MAX_OVERLAP + 1)),
        Field("category_count_band", "cross", uniform(len(COUNT_BOUNDS) + 1)),
        Field("author_count_band", "cross", uniform(len(COUNT_BOUNDS) + 1)),
        Field("hour", "context", uniform(24)),
        Field("weekday", "context", uniform(7)),
        Field("tab", "context", TAB_SHARES),
        Field("network", "context", NETWORK_SHARES),
    ]


def _bell(size: int) -> np.ndarray:
    shares = np.exp(-0.5 * ((np.arange(size) - size / 3) / (size / 4)) ** 2)
    return shares / shares.sum()
