"""The options and the schema of VK-LSVD."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from datasets.schema import ColumnSplit, Feature, Schema, SingleFeatureBaseline, Task
from datasets.streamed.schema import counts, feature, histories, rates

NAME = "vk-lsvd"
TRAIN_WEEKS = 25
EMBEDDING_LENGTH = 64
REACTIONS = ("like", "dislike", "share", "bookmark", "click_on_author", "open_comments")
OUTCOMES = ("finish", "skip", "like")  # whose rates are features
STREAMS = ("exposed", "finished", "liked")
HISTORIES = {"items": "item_id", "authors": "author_id"}


class VkLsvdOptions(BaseModel):
    """``subsample``: a folder of ``subsamples/``, or ``all``; ``weeks``: the last so many training weeks.

    ``embedding_length``: the first so many numbers of a video's content embedding, 0 for none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    subsample: str = Field(default="ur0.01", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    weeks: int = Field(default=TRAIN_WEEKS, ge=1, le=TRAIN_WEEKS)
    history_length: int = Field(default=50, ge=1, le=1000)
    embedding_length: int = Field(default=16, ge=0, le=EMBEDDING_LENGTH)


def vk_lsvd_schema(options: VkLsvdOptions) -> Schema:
    """360 numbers: user 64, item 64 (48 without the embedding), sequence 96, cross 104 and context 32."""
    return Schema(
        name=NAME,
        description="VK-LSVD, exposures of short videos (VK, January to June 2025), Apache-2.0",
        features=[
            *_user(),
            *_item(options),
            *histories(STREAMS, HISTORIES, options.history_length),
            *_cross(),
            *_context(),
        ],
        tasks=[Task(name=name) for name in ("finish", "skip", *REACTIONS)],
        default_tasks=["finish", "skip"],
        user_id="user_id",
        time="position",
        baseline=SingleFeatureBaseline(name="duration_only", column="duration"),
        split=ColumnSplit(column="split"),
    )


def _user() -> list[Feature]:
    return [
        feature("user_id", "categorical", "user", 24),
        feature("age", "numeric", "user", 8),
        feature("gender", "categorical", "user", 8),
        feature("geo", "categorical", "user", 24),
    ]


def _item(options: VkLsvdOptions) -> list[Feature]:
    length = options.embedding_length
    embedding = [feature("embedding", "vector", "item", 16, length=length)] if length else []
    return [
        feature("item_id", "categorical", "item", 16),
        feature("author_id", "categorical", "item", 16),
        feature("duration", "numeric", "item", 16, normalization="log1p"),
        *embedding,
    ]


def _cross() -> list[Feature]:
    numbers = [f"user_{name}" for name in STREAMS] + [f"author_recently_{name}" for name in STREAMS]
    numbers += ["item_trials", "author_trials"]
    return [*counts(numbers, 4), *rates(("user", "item", "author"), OUTCOMES, 8)]


def _context() -> list[Feature]:
    dims = {"place": 16, "platform": 8, "agent": 8}
    return [feature(name, "categorical", "context", dim) for name, dim in dims.items()]
