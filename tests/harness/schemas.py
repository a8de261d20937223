"""Small schemas that the harness tests share."""

from datasets.schema import Feature, FractionSplit, Schema, Task


def small_schema(name: str = "small") -> Schema:
    """Three groups, two shared vocabularies, two numbers, two tasks."""
    return Schema(
        name=name,
        features=[
            Feature(name="user", kind="categorical", group="user", embedding_dim=8),
            Feature(name="age", kind="numeric", group="user", embedding_dim=4),
            Feature(name="item", kind="categorical", group="item", embedding_dim=8),
            Feature(name="genres", kind="multi_hot", group="item", embedding_dim=8, max_length=3),
            Feature(
                name="history",
                kind="sequence",
                group="sequence",
                vocabulary="item",
                embedding_dim=8,
                max_length=5,
            ),
            Feature(
                name="past_genres",
                kind="sequence",
                group="sequence",
                vocabulary="genres",
                embedding_dim=8,
                max_length=5,
            ),
            Feature(name="price", kind="numeric", group="item", embedding_dim=4),
        ],
        tasks=[Task(name="finish"), Task(name="skip")],
        user_id="user",
        time="time",
        split=FractionSplit(by="fraction"),
    )


TABLE_SIZES = {"user": 50, "item": 40, "genres": 12}
