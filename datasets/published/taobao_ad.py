"""TaobaoAd_x1: eight days of display advertisements at Taobao, with what users had looked at before.

Source: Tianchi dataset 56; prepared as in Lyu et al., "Deep Match to Rank Model for Personalized
Click-Through Rate Prediction", AAAI 2020. The first seven days train, the eighth tests. ``taobao-ad-x1`` is
the published protocol, in which the test rows also validate; ``taobao-ad-x1-clean`` validates on the last
tenth of the training file, whose rows its conversion sorted ("train_sorted.csv"). The files hold no time to
check that by.

The histories hold up to 50 earlier categories, brands and kinds of behaviour. An unknown one was left out
of each by itself, so entries of the three need not belong together. The price is read by its logarithm; the
published runs take it as it is. Values that occur less than 10 times are unseen.
"""

from __future__ import annotations

from datasets.published.table import (
    BY_FILE,
    TEST_VALIDATES,
    TWO_FILES,
    PublishedTable,
    categories,
    numbers,
)
from datasets.schema import Feature, Schema, Task

MIN_COUNT, MOST_EVENTS = 10, 50
PROFILE = ["cms_segid", "cms_group_id", "final_gender_code", "age_level", "pvalue_level", "shopping_level"]
USER = ["userid", *PROFILE, "occupation", "new_user_class_level"]
ITEM = ["adgroup_id", "cate_id", "campaign_id", "customer", "brand"]
HISTORIES = {"cate_his": "cate_id", "brand_his": "brand", "btag_his": "btag"}


def _schema(name: str, dim: int) -> Schema:
    return Schema(
        name=name,
        description="TaobaoAd_x1, display advertisements (Taobao, 6 to 13 May 2017), Tianchi's terms",
        features=[
            *categories(USER, "user", dim, MIN_COUNT),
            *categories(ITEM, "item", dim, MIN_COUNT),
            *numbers(["price"], "item", dim, "log1p"),
            *categories(["pid", "btag"], "context", dim, MIN_COUNT),
            *(
                Feature(
                    name=history,
                    kind="sequence",
                    group="sequence",
                    vocabulary=vocabulary,
                    embedding_dim=dim,
                    min_count=MIN_COUNT,
                    max_length=MOST_EVENTS,
                    separator="^",
                )
                for history, vocabulary in HISTORIES.items()
            ),
        ],
        tasks=[Task(name="click", column="clk")],
        user_id="userid",
        split=BY_FILE,
    )


X1 = PublishedTable("taobao-ad-x1", "taobao-ad-x1", "TaobaoAd_x1", TEST_VALIDATES, 32, _schema)
X1_CLEAN = PublishedTable("taobao-ad-x1-clean", "taobao-ad-x1", "TaobaoAd_x1", TWO_FILES, 32, _schema)
