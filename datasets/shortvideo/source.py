r"""``shortvideo``: a synthetic short-video log, made on the fly.

**What a row is.** A user is shown one video and watches it for some time. ``finish`` says that the
watch time reached the duration, ``skip`` that it ended before min(3 s, duration). Rows run over 14
simulated days in time order; the last 10% test and the 10% before them validate.

**The utility.** With D the duration, W the watch time (seconds) and :math:`\epsilon \sim N(0, 1)`,
independent for each row,

.. math::

    \log (W / D) &= z + \sigma \epsilon, \qquad
    z = b - \gamma \log(D / 20) + \beta_u + \beta_i + \sum_{f} e_f(x_f) + \lambda m \\
    m &= \sqrt{v} \, \langle p_u(t), q_i \rangle
        + \sum_{j=1}^{20} 0.85^{\,j-1} s_j \left( c \, [cat_j = cat_i] + a \, [author_j = author_i] \right)
        + \sum_{(f,g)} e_{fg}(x_f, x_g) + \sum_{(f,g,h)} e_{fgh}(x_f, x_g, x_h)

(W is cut at five times D, which changes no label.) Hence the true probabilities, columns
``p_finish`` and ``p_skip``, are closed:

.. math::

    P(finish) = \Phi(z / \sigma), \qquad
    P(skip) = \Phi \left( (\log(\min(3, D) / D) - z) / \sigma \right).

They are conditional on all but the row's own noise, the latent factors included, so no model can
expect a better AUC: that is the *oracle* row of a table.

**What its parts are** (constants of :mod:`datasets.shortvideo.world`, all drawn from ``seed``)

- b, :math:`\gamma`, :math:`\sigma`: INTERCEPT sets the label rates, DURATION_SLOPE how far long
  videos are finished less often, NOISE_VARIANCE the oracle's distance from certainty.
- :math:`\beta_u, \beta_i`: effects of the single user and the single item (USER_VARIANCE,
  ITEM_VARIANCE), which only ids, histories and past rates reveal.
- :math:`e_f`: main effects of 22 categorical fields (MAIN_VARIANCE over all). The fields are the
  features themselves, numbers cut into bands, and for the sequence the last item's category and
  watch ratio, the steps back to the target's category and the number of its author's items.
- :math:`e_{fg}, e_{fgh}`: 14 pairs and 8 triples, within groups and across; which fields meet is
  uniform over all such combinations, and the effects are random tables of rank 4, free of lower
  orders (:mod:`datasets.shortvideo.effects`). PAIR_VARIANCE and TRIPLE_VARIANCE are their sums.
  Options change them (:mod:`datasets.shortvideo.structure`): how many ``fields`` meet, in interactions of
  which ``order`` and ``rank``, which share of the variance is ``memory`` of id and category, and how far a
  field's factors are ``shared`` by its interactions. With ``effects: mixed``, other kinds take their place
  with the same sum of variances: products, tree-like thresholds, full-rank tables, gated effects, memory of
  id and category, and more main effects, a sixth of it each (:mod:`datasets.shortvideo.kinds` has their
  equations).
- :math:`\langle p_u(t), q_i \rangle`: interest match, 8 latent factors. Items get theirs from
  category, author and themselves; users from age band, gender and themselves; a user's drift by
  an autoregression of daily correlation DRIFT_MEMORY, unless ``drift`` is false.
- the sum over the history: j counts back from the latest item, :math:`s_j` in [-1, 1] grows with
  the watch ratio. CATEGORY_OVERLAP and AUTHOR_OVERLAP are c and a.
- :math:`\lambda`: option ``interactions``; with 0, only main effects remain.

**Exposure.** Activity of users and appeal of items follow Zipf's law; appeal fades with age, and
nothing is shown before its upload. Of a slate of eight (six by appeal, two by authors of the
user's history) the user sees the best by interest match plus Gumbel noise.

**What it can prove.** That a model, a metric and a training loop work: how much of a known signal
a model finds at a given cost and number of rows, with the oracle as the ceiling; and, because
``interactions`` can be 0, whether an advantage comes from interactions at all.

**What it cannot prove.** That an architecture is better on real logs. By default (``effects:
products``) all interactions but the history's are sums of a few products, and so is the interest
match: the very class of functions that cross networks (DCN) compute, so a lead of theirs says little;
``mixed`` is no such home game, but its kinds and shares are our choice too. One seed is one draw of all
tables, and who leads can change with it: compare over several (a suite's ``worlds``). Users
here have no sessions, no fatigue beyond the fields above, and no taste for what a latent factor
cannot hold; interactions are sparse and of low order, and all variances are our choice. The data
are not from a real product: an absolute AUC here cannot be compared with published figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import polars as pl

from datasets.schema import Feature, FractionSplit, Schema, SingleFeatureBaseline, Task
from datasets.shortvideo.kinds import Term
from datasets.shortvideo.log import ShortVideo
from datasets.shortvideo.structure import DEFAULT, NAMES, NUM_FIELDS, Structure
from datasets.shortvideo.world import DAYS, HISTORY, World
from datasets.source import Source
from files.errors import InputError

# Of `Options`: left out of the identity where they are unused, as before there was a choice.
LATER_OPTIONS = ("drift", "effects", "fields", "order", "rank", "memory", "shared")
GENERATOR_VERSION = 1  # increase it when the same options give different rows
CHUNK_ROWS = 100_000
PRODUCTS_ALONE = (
    "products of rank {}, which cross networks (DCN) can write down, so a lead of theirs says little; "
    "effects=mixed draws other kinds too"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What a user may set.

    ``seed`` draws world and log; ``interactions`` is the utility's lambda; without ``drift`` users keep their
    interests. ``effects`` and what follows it shape the interactions (`datasets.shortvideo.structure`).
    """

    rows: int = 400_000
    users: int = 20_000
    items: int = 10_000
    seed: int = 0
    interactions: float = 1.0
    drift: bool = True
    effects: str = DEFAULT.effects
    fields: int = DEFAULT.fields
    order: int = DEFAULT.order
    rank: int = DEFAULT.rank
    memory: float = DEFAULT.memory
    shared: float = DEFAULT.shared

    @property
    def structure(self) -> Structure:
        return Structure(self.effects, self.fields, self.order, self.rank, self.memory, self.shared)

    @property
    def log(self) -> ShortVideo:
        return ShortVideo(
            self.rows, self.users, self.items, self.seed, self.interactions, self.structure, self.drift
        )


CHOICES: dict[str, tuple] = {"effects": ("products", "mixed"), "drift": (True, False), "order": (2, 3, 4)}
_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("rows", "users", "items"), (100, math.inf)),
    **dict.fromkeys(("seed", "interactions"), (0, math.inf)),
    "fields": (4, NUM_FIELDS),
    "rank": (1, 256),
    **dict.fromkeys(("memory", "shared"), (0, 1)),
}
_REAL = ("interactions", "memory", "shared")
_MOST_USERS_TIMES_ITEMS = 5_000_000_000  # 6 GB of author counters


def identity(options: dict, data_root: Path | None = None) -> dict:
    """Everything that determines the rows; InputError on an unknown or impossible option."""
    checked, default = asdict(_checked(options)), asdict(Options())
    unused = {
        name for name in LATER_OPTIONS if checked[name] == default[name]
    }  # as before there was a choice
    kept = {name: value for name, value in checked.items() if name not in unused}
    return {"dataset": "shortvideo", "generator_version": GENERATOR_VERSION, "options": kept}


def source(options: dict, data_root: Path | None, scratch: Path) -> Source:
    """The log as parquet files in ``scratch``, written a chunk at a time. Reads no raw data."""
    checked = _checked(options)
    log = checked.log
    for number, chunk in enumerate(log.chunks(CHUNK_ROWS)):
        chunk.write_parquet(scratch / f"log-{number:06d}.parquet")
    return Source(
        schema=shortvideo_schema(),
        frame=pl.scan_parquet(sorted(scratch.glob("log-*.parquet")), glob=False),
        identity=identity(options),
        notes={"simulated_days": DAYS, **_notes(log.world, checked.structure)},
    )


def _notes(world: World, structure: Structure) -> dict[str, int | float | str]:
    """Which fields interact, and what a lead on such data can mean."""
    interacting: dict[str, int | float | str] = {
        f"interacting_{kind}": _named(terms) for kind, terms in world.kinds.items()
    }
    alone = set(world.kinds) <= set(NAMES.values())
    return interacting | ({"kind_of_interactions": PRODUCTS_ALONE.format(structure.rank)} if alone else {})


def _named(terms: Sequence[Term]) -> str:
    return ", ".join(" x ".join(term.fields) for term in terms)


def shortvideo_schema() -> Schema:
    """28 features in five groups, 384 embedding columns: 16 tokens of width 24."""
    return Schema(
        name="shortvideo",
        description="Synthetic short-video log with known true probabilities",
        features=[
            _category("user_id", "user", 32),
            _category("age_band", "user"),
            _category("gender", "user"),
            _category("city", "user", 16),
            _category("device", "user", 16),
            _number("registration_age", "user"),
            _category("activity_tier", "user"),
            _category("item_id", "item", 32),
            _category("author", "item", 32),
            _category("category", "item", 16),
            _category("music", "item", 16),
            _number("duration", "item"),
            _number("upload_age", "item"),
            _number("popularity", "item"),
            _sequence("seq_item", 32, "item_id"),
            _sequence("seq_author", 32, "author"),
            _sequence("seq_category", 16, "category"),
            _sequence("seq_watch_ratio", 8, "seq_watch_ratio"),
            _number("user_category_count", "cross"),
            _number("user_category_finish_rate", "cross", "standard"),
            _number("user_category_skip_rate", "cross", "standard"),
            _number("user_author_count", "cross"),
            _number("user_author_finish_rate", "cross", "standard"),
            _number("user_author_skip_rate", "cross", "standard"),
            _category("hour", "context"),
            _category("weekday", "context"),
            _category("tab", "context"),
            _category("network", "context"),
        ],
        tasks=[Task(name="finish", probability="p_finish"), Task(name="skip", probability="p_skip")],
        user_id="user_id",
        time="time",
        baseline=SingleFeatureBaseline(name="duration_only", column="duration"),
        split=FractionSplit(valid=0.1, test=0.1),
    )


def _feature(name: str, kind: str, group: str, embedding_dim: int = 8, **more: str | int) -> Feature:
    return Feature.model_validate(
        {"name": name, "kind": kind, "group": group, "embedding_dim": embedding_dim, **more}
    )


def _category(name: str, group: str, embedding_dim: int = 8) -> Feature:
    return _feature(name, "categorical", group, embedding_dim)


def _number(name: str, group: str, normalization: str = "log1p") -> Feature:
    return _feature(name, "numeric", group, normalization=normalization)


def _sequence(name: str, embedding_dim: int, vocabulary: str) -> Feature:
    return _feature(name, "sequence", "sequence", embedding_dim, vocabulary=vocabulary, max_length=HISTORY)


def _checked(options: dict) -> Options:
    known = [field.name for field in fields(Options)]
    for name, value in options.items():
        if name not in known:
            raise InputError(f"dataset 'shortvideo' has no option {name!r}: choose from {', '.join(known)}")
        _check(name, value)
    checked = Options(**options)
    if checked.users * checked.items > _MOST_USERS_TIMES_ITEMS:
        raise InputError(
            f"shortvideo options 'users' x 'items' may be at most {_MOST_USERS_TIMES_ITEMS:,}, "
            f"not {checked.users * checked.items:,}; lower one of them"
        )
    if checked.effects == "mixed" and checked.structure.changes:
        raise InputError(
            f"shortvideo option {next(iter(checked.structure.changes))!r} shapes products, and effects=mixed "
            "draws its own kinds; leave one of them out"
        )
    interactions, memory, shared = (float(getattr(checked, name)) for name in _REAL)
    return replace(checked, interactions=interactions, memory=memory, shared=shared)


def _check(name: str, value: object) -> None:
    """InputError where an option cannot have this value."""
    if name in CHOICES:
        if value not in CHOICES[name] or (isinstance(value, bool) != (name == "drift")):
            allowed = " or ".join(map(str, CHOICES[name]))
            raise InputError(f"shortvideo option {name!r} must be {allowed}, not {value!r}; correct it")
        return
    kinds, words = ((int, float), "a number") if name in _REAL else ((int,), "a whole number")
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise InputError(f"shortvideo option {name!r} must be {words}, not {value!r}; correct it")
    low, high = _RANGES[name]
    if not low <= value <= high or math.isinf(value):
        most = "" if math.isinf(high) else f" and at most {high}"
        raise InputError(
            f"shortvideo option {name!r} must be finite and at least {low}{most}, not {value}; correct it"
        )
