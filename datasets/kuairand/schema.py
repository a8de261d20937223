"""The schema of KuaiRand-Pure.

The default features are 512 numbers wide, in 16 slices of 32 that follow the groups: user 5, item
3, sequence 5, cross 2, context 1. Ids are 16 wide, counts and rates 4.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from datasets.schema import Feature, Schema, SingleFeatureBaseline, Task, TimeSplit

NAME = "kuairand-pure"
CHINA = timezone(timedelta(hours=8))
VALID_FROM = int(datetime(2022, 5, 2, tzinfo=CHINA).timestamp() * 1000)
TEST_FROM = int(datetime(2022, 5, 5, tzinfo=CHINA).timestamp() * 1000)
LOG_ENDS = int(datetime(2022, 5, 9, tzinfo=CHINA).timestamp() * 1000)
DAY = 24 * 3600 * 1000

ENCRYPTED = [f"onehot_feat{i}" for i in range(18)]
ENCRYPTED_DIMS = [4, 4, 8, 8, 8] + [4, 4, 8, 8, 8] + [4] * 8
SOCIAL = ["follow_user_num", "fans_user_num", "friend_user_num", "register_days"]
# Eight of the statistic table's 51 columns: shows and plays, and what became of plays.
STATISTICS = [
    *("show_cnt", "play_cnt", "play_progress", "complete_play_cnt", "valid_play_cnt"),
    *("long_time_play_cnt", "short_time_play_cnt", "like_cnt"),
]


def kuairand_schema(all_tabs: bool, history_length: int, statistics: bool, days_earlier: int = 0) -> Schema:
    """``all_tabs`` adds the feature ``tab`` (8), ``statistics`` the leaking averages (8 x 4)."""
    earlier = days_earlier * DAY
    item = _item() + [_count(f"statistic_{name}", "item") for name in STATISTICS if statistics]
    context = _context() + ([_category("tab", "context", 8)] if all_tabs else [])
    return Schema(
        name=NAME,
        description="KuaiRand-Pure, exposures of short videos (Kuaishou, 2022), CC BY-SA 4.0",
        features=_user() + item + _sequence(history_length) + _cross() + context,
        tasks=[Task(name=name) for name in ("finish", "skip", "is_click", "is_like", "long_view")],
        default_tasks=["finish", "skip"],
        user_id="user_id",
        time="time_ms",
        baseline=SingleFeatureBaseline(name="duration_only", column="duration_ms"),
        split=TimeSplit(valid_from=VALID_FROM - earlier, test_from=TEST_FROM - earlier),
    )


def _feature(**fields: object) -> Feature:
    return Feature.model_validate(fields)


def _category(name: str, group: str, dim: int) -> Feature:
    return _feature(name=name, kind="categorical", group=group, embedding_dim=dim)


def _count(name: str, group: str, dim: int = 4) -> Feature:
    return _feature(name=name, kind="numeric", group=group, embedding_dim=dim, normalization="log1p")


def _number(name: str, group: str) -> Feature:
    return _feature(name=name, kind="numeric", group=group, embedding_dim=4)


def _user() -> list[Feature]:
    """160 numbers: identity and activity, social circle, encrypted profile (3 slices)."""
    return [
        _category("user_id", "user", 16),
        _category("user_active_degree", "user", 8),
        _category("is_live_streamer", "user", 4),
        _category("is_video_author", "user", 4),
        *(_count(name, "user") for name in SOCIAL),
        *(_category(f"{name}_range", "user", 4) for name in SOCIAL),
        *(_category(name, "user", dim) for name, dim in zip(ENCRYPTED, ENCRYPTED_DIMS, strict=True)),
    ]


def _item() -> list[Feature]:
    """96 numbers: video and author; tags and duration; music, types, form and age."""
    return [
        _category("video_id", "item", 16),
        _category("author_id", "item", 16),
        _feature(name="tags", kind="multi_hot", group="item", vocabulary="tag"),
        _category("duration_bucket", "item", 8),
        _count("duration_ms", "item", 8),
        _category("music_id", "item", 8),
        _category("music_type", "item", 4),
        _category("video_type", "item", 4),
        _category("upload_type", "item", 8),
        _number("log_aspect_ratio", "item"),
        _number("age_days", "item"),
    ]


def _sequence(length: int) -> list[Feature]:
    """160 numbers: videos, authors and tags of three streams; durations of the first two (8 each)."""
    shared = {"videos": ("video_id", 16), "authors": ("author_id", 16), "tags": ("tag", 16)}
    shared["durations"] = ("duration_bucket", 8)
    return [
        _feature(
            name=f"{stream}_{what}",
            kind="sequence",
            group="sequence",
            vocabulary=vocabulary,
            embedding_dim=dim,
            max_length=length,
        )
        for stream in ("exposed", "long_viewed", "liked")
        for what, (vocabulary, dim) in shared.items()
        if (stream, what) != ("liked", "durations")
    ]


def _cross() -> list[Feature]:
    """64 numbers: counts of user, video, user x tag, author, video; rates of user, video, user x tag."""
    counts = ["user_exposures", "user_long_views", "video_known_exposures", "user_tag_exposures"]
    counts += ["user_tag_long_views", "user_author_exposures", "user_video_exposures"]
    keys, outcomes = ("user", "video", "user_tag"), ("finish", "skip", "long_view")
    rates = [f"{key}_{outcome}_rate" for key in keys for outcome in outcomes]
    return [_count(name, "cross") for name in counts] + [_number(name, "cross") for name in rates]


def _context() -> list[Feature]:
    """32 numbers: hour, weekday, and the user's pace."""
    return [
        _category("hour", "context", 8),
        _category("weekday", "context", 8),
        _count("minutes_since_exposure", "context", 8),
        _count("exposures_in_last_hour", "context", 8),
    ]
