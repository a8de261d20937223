"""Write ``impressions.csv``: an invented log of a news reader, one row an article shown to a user.

    python examples/own_data/make_table.py [FOLDER]

The same rows every time. What a row says of the past (``read_articles``, ``read_topics``,
``topic_reads``) is taken before the row's own outcome is known; do the same with your own logs.
"""

from __future__ import annotations

import csv
import math
import random
import sys
from datetime import datetime, timedelta
from pathlib import Path

ROWS, USERS, ARTICLES, TOPICS, DAYS = 15_000, 300, 300, 8, 14
START = datetime(2024, 3, 1)
TAGS = ["analysis", "breaking", "interview", "opinion", "photo", "series"]
COUNTRIES = ["DE", "FR", "IN", "US", ""]  # some profiles have no country
HISTORY = 10
COLUMNS = ["shown_at", "user", "country", "days_registered", "article", "topic", "word_count", "tags"]
COLUMNS += ["read_articles", "read_topics", "topic_reads", "hour", "opened", "read_to_end"]


def main(folder: Path) -> Path:
    """Simulate the impressions in time order and write them; returns the file's path."""
    rng = random.Random(0)
    users = [draw_user(rng) for _ in range(USERS)]
    articles = [draw_article(rng) for _ in range(ARTICLES)]  # in the order of their publication
    activity = [1 / (rank + 10) for rank in range(USERS)]
    path = folder / "impressions.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in range(ROWS):
            published = int(ARTICLES * (0.4 + 0.6 * row / ROWS))
            number = published - 1 - int(published * rng.random() ** 2)  # mostly the latest
            user = rng.choices(range(USERS), activity)[0]
            moment = START + timedelta(days=DAYS * row / ROWS)
            writer.writerow(impression(rng, moment, user, users[user], number, articles))
    return path


def draw_user(rng: random.Random) -> dict:
    return {
        "country": rng.choice(COUNTRIES),
        "registered": START - timedelta(days=rng.expovariate(1 / 300)),
        "taste": [rng.gauss(0, 1.5) for _ in range(TOPICS)],
        "patience": rng.gauss(0, 1),
        "read": [],
    }


def draw_article(rng: random.Random) -> dict:
    return {
        "topic": rng.randrange(TOPICS),
        "word_count": round(300 * math.exp(rng.gauss(0, 0.8))),
        "tags": [tag for tag in TAGS if rng.random() < 0.25],
        "quality": rng.gauss(0, 0.5),
    }


def impression(
    rng: random.Random, moment: datetime, user_id: int, user: dict, number: int, articles: list[dict]
) -> list:
    """One row; an article that is opened joins the user's history after the row is made."""
    article, read = articles[number], user["read"]
    topic = article["topic"]
    wish = user["taste"][topic] * (1.3 if moment.hour >= 18 else 0.8) + article["quality"]
    opened = rng.random() < logistic(wish - 0.5)
    length = math.log(article["word_count"] / 300)
    finished = rng.random() < logistic(user["patience"] + wish - 1.5 * length)
    row = [
        moment.isoformat(timespec="seconds"),
        user_id,
        user["country"],
        round((moment - user["registered"]).total_seconds() / 86_400, 1),
        number,
        f"topic {topic}",
        article["word_count"],
        "|".join(article["tags"]),
        "|".join(str(earlier) for earlier in read[-HISTORY:]),
        "|".join(f"topic {articles[earlier]['topic']}" for earlier in read[-HISTORY:]),
        sum(articles[earlier]["topic"] == topic for earlier in read),
        moment.hour,
        int(opened),
        int(finished) if opened else "",  # nobody finishes what was not opened: undefined, not 0
    ]
    if opened:
        read.append(number)
    return row


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


if __name__ == "__main__":
    print(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent))
