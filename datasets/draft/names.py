"""The words in columns' names, and what such words usually mean."""

from __future__ import annotations

import re

USER = ("user", "uid", "member", "customer", "visitor", "account", "reader", "viewer", "buyer", "shopper")
ITEM = (
    *("item", "video", "article", "product", "goods", "photo", "movie", "film", "song", "track", "news"),
    *("ad", "creative", "content", "sku", "doc", "post", "note", "feed", "hotel", "listing", "book"),
)
PERSON = (
    "age",
    "gender",
    "sex",
    "register",
    "registered",
    "registration",
    "signup",
    "vip",
    "occupation",
    "income",
)
ITEM_PROPERTY = (
    "author",
    "brand",
    "category",
    "cate",
    "cat",
    "music",
    "seller",
    "shop",
    "topic",
    "genre",
    "tag",
)
ID = ("id", "uid", "vid", "iid", "pid", "sku", "code", "hash", "no")
MOMENT = ("time", "timestamp", "ts", "date", "datetime", "dt", "day", "at", "when", "moment", "ms", "epoch")
OTHER_MOMENT = (
    *("upload", "create", "created", "publish", "published", "register", "registered", "registration"),
    *("signup", "birth", "born", "release", "released", "update", "updated", "first", "join", "joined"),
)
AFTERWARDS = ("click", "finish", "end", "leave", "close", "pay", "order")  # their times are outcomes
LABEL = (
    *("label", "target", "click", "clicked", "like", "liked", "finish", "finished", "buy", "bought"),
    *("purchase", "purchased", "convert", "converted", "conversion", "follow", "followed", "share", "shared"),
    *(
        "comment",
        "commented",
        "open",
        "opened",
        "skip",
        "skipped",
        "favorite",
        "favourite",
        "cart",
        "install",
    ),
    *("forward", "collect", "download", "hate", "dislike", "ctr", "cvr", "y", "positive", "response"),
    *(
        "view",
        "viewed",
        "read",
        "complete",
        "completed",
        "played",
        "subscribe",
        "subscribed",
        "order",
        "ordered",
    ),
)
OUTCOME = (
    "watch",
    "watched",
    "play",
    "played",
    "dwell",
    "stay",
    "progress",
    "completion",
    "consumed",
    "listened",
)
LENGTH = ("duration", "length")
AMOUNT = (
    "ms",
    "sec",
    "secs",
    "second",
    "seconds",
    "time",
    "ratio",
    "rate",
    "percent",
    "pct",
    "duration",
    "progress",
)
RATING = ("rating", "stars", "score", "grade")
SPLIT = ("split", "fold", "subset", "partition")
HISTORY = ("hist", "history", "historical", "seq", "sequence", "recent", "last", "past", "previous", "prev")
COUNT = (
    *(
        "count",
        "cnt",
        "num",
        "number",
        "total",
        "amount",
        "price",
        "age",
        "duration",
        "size",
        "rate",
        "ratio",
    ),
    *("score", "sum", "mean", "avg", "ms", "sec", "seconds", "minutes", "days", "hours", "bytes", "width"),
    *("height", "length", "words", "fans", "followers", "views", "clicks", "likes", "reads", "plays"),
)
PAST = (
    "past",
    "prior",
    "hist",
    "history",
    "total",
    "count",
    "cnt",
    "num",
    "avg",
    "mean",
    "rate",
    "ctr",
    "recent",
)
CONTEXT = (
    *(
        "hour",
        "weekday",
        "day",
        "dow",
        "device",
        "os",
        "platform",
        "network",
        "tab",
        "channel",
        "page",
        "app",
    ),
    *("position", "pos", "rank", "slot", "city", "region", "country", "browser", "ip", "version", "scene"),
)
ROW = (
    "row",
    "log",
    "request",
    "req",
    "impression",
    "imp",
    "event",
    "session",
    "trace",
    "uuid",
    "guid",
    "record",
)


def words(name: str) -> list[str]:
    """A name's words in lower case; camel case, underscores and digits separate them.

    >>> words("histItemIDs"), words("watch_ms"), words("user2")
    (['hist', 'item', 'ids'], ['watch', 'ms'], ['user', '2'])
    """
    separated = re.sub(r"([a-z\d])([A-Z])", r"\1 \2", name)
    return re.findall(r"[^\W\d_]+|\d+", separated.lower().replace("ids", "ids "))


def stems(name: str) -> set[str]:
    """The words and, of plurals, their singulars.

    >>> sorted(stems("hist_categories"))
    ['categories', 'category', 'hist']
    """
    found = set(words(name))
    for word in list(found):
        if word.endswith("ies") and len(word) > 4:
            found.add(word[:-3] + "y")
        elif word.endswith("s") and len(word) > 3 and not word.endswith("ss"):
            found.add(word[:-1])
    return found


def singular(name: str) -> set[str]:
    """The words, plurals as their singulars, without numbers.

    >>> sorted(singular("hist_categories_2"))
    ['category', 'hist']
    """
    found = stems(name)
    plurals = {
        word for word in found if word[:-1] in found or (word[-3:] == "ies" and word[:-3] + "y" in found)
    }
    return {word for word in found - plurals if not word.isdigit()}


def is_verb_first(name: str) -> bool:
    """Whether a list is named after what was done: read_articles, clickedItems."""
    return words(name)[:1] != [] and words(name)[0] in (*LABEL, *OUTCOME)


def has(name: str, known: tuple[str, ...]) -> bool:
    """Whether one of a name's words is among the known ones."""
    return not stems(name).isdisjoint(known)
