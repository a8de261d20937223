"""KuaiVideo_x1: clicks on the thumbnails of short videos (Kuaishou, 2018), with the videos clicked and
passed before.

Li et al., "Routing Micro-videos via A Temporal Graph-guided Recommendation System", MM 2019.
``kuaivideo-x1`` is the published protocol, in which the test rows also validate; ``kuaivideo-x1-clean``
validates on the last tenth of the training file, which is in the order of its timestamps. Those tell the
order and nothing else.

``pos_items`` and ``neg_items`` hold up to 100 videos: by the published conversion the *first* of a longer
history, not the latest. Videos that occur less than 10 times are unseen. The thumbnails' embeddings
(``item_visual_emb_dim64.h5``) are not read, which the published runs do.
"""

from __future__ import annotations

from datasets.published.table import BY_FILE, TEST_VALIDATES, TWO_FILES, PublishedTable, categories
from datasets.schema import Feature, Schema, Task

MIN_COUNT, MOST_EVENTS = 10, 100


def _schema(name: str, dim: int) -> Schema:
    return Schema(
        name=name,
        description="KuaiVideo_x1, clicks on short videos (Kuaishou, 2018); no licence stated",
        features=[
            *categories(["user_id"], "user", dim, MIN_COUNT),
            *categories(["item_id"], "item", dim, MIN_COUNT),
            *(
                Feature(
                    name=history,
                    kind="sequence",
                    group="sequence",
                    vocabulary="item_id",
                    embedding_dim=dim,
                    min_count=MIN_COUNT,
                    max_length=MOST_EVENTS,
                    separator="^",
                )
                for history in ("pos_items", "neg_items")
            ),
        ],
        tasks=[Task(name=name) for name in ("is_click", "is_like", "is_follow")],
        default_tasks=["is_click"],
        user_id="user_id",
        split=BY_FILE,
    )


X1 = PublishedTable("kuaivideo-x1", "kuaivideo-x1", "KuaiVideo_x1", TEST_VALIDATES, 64, _schema)
X1_CLEAN = PublishedTable("kuaivideo-x1-clean", "kuaivideo-x1", "KuaiVideo_x1", TWO_FILES, 64, _schema)
