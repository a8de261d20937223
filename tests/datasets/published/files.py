"""Made-up files in the layout that each published table has: names, columns, line ends, gaps, notation."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable
from pathlib import Path

from datasets.published.avazu import GROUPS as AVAZU_GROUPS

Row = dict[str, object]
SIZES = {"train": 240, "valid": 40, "test": 50}


def _hash(draw: random.Random) -> str:
    return f"{draw.randrange(12) * 2654435761 % 2**32:08x}"


def criteo_x1(draw: random.Random) -> Row:
    """Scaled numbers, integer categories written as floats, label first."""
    row: Row = {"label": draw.randrange(2)}
    row |= {f"I{i}": round(draw.random() / 50, 6) for i in range(1, 14)}
    return row | {f"C{i}": f"{draw.randrange(20)}.0" for i in range(1, 27)}


def criteo_x4(draw: random.Random) -> Row:
    """Raw counts (missing, zero and negative ones too) and hashes of 8 hex digits (missing ones too)."""
    row: Row = {"Label": draw.randrange(2)}
    row |= {f"I{i}": draw.choice(["", -1, 0, 1, 2, 3, 20, 1382]) for i in range(1, 14)}
    return row | {f"C{i}": draw.choice(["", _hash(draw), _hash(draw)]) for i in range(1, 27)}


def avazu_x1(draw: random.Random) -> Row:
    return {"label": draw.randrange(2)} | {f"feat_{i}": draw.randrange(9 * i) for i in range(1, 23)}


def avazu_x4(draw: random.Random) -> Row:
    row: Row = {"id": draw.randrange(10**18), "click": draw.randrange(2)}
    row["hour"] = f"1410{draw.choice([21, 25, 26])}{draw.randrange(24):02d}"
    for fields in AVAZU_GROUPS.values():
        row |= {name: _hash(draw) if "_" in name else draw.randrange(1000, 1020) for name in fields}
    return row


def frappe(draw: random.Random) -> Row:
    names = [
        "user",
        "item",
        "daytime",
        "weekday",
        "isweekend",
        "homework",
        "cost",
        "weather",
        "country",
        "city",
    ]
    return {"label": draw.randrange(2)} | {
        name: 100 * place + draw.randrange(8) for place, name in enumerate(names)
    }


def movielens_latest(draw: random.Random) -> Row:
    ids = {"user_id": draw.randrange(9), "item_id": 1000 + draw.randrange(30)}
    return {"label": draw.randrange(2), **ids, "tag_id": 90000 + draw.randrange(12)}


def _joined(draw: random.Random, values: range) -> str:
    return "^".join(str(draw.choice(values)) for _ in range(draw.randrange(6)))


def taobao_ad(draw: random.Random) -> Row:
    """Histories of 0 to 50 entries, gaps written as 0, the constant btag."""
    users = ["cms_segid", "cms_group_id", "final_gender_code", "age_level", "pvalue_level", "shopping_level"]
    items = ["adgroup_id", "cate_id", "campaign_id", "customer", "brand"]
    row: Row = {"clk": draw.randrange(2)}
    row |= {"btag_his": _joined(draw, range(1, 5))}
    row |= {name: _joined(draw, range(10, 16)) for name in ("cate_his", "brand_his")}
    row |= {"userid": draw.randrange(6)}
    row |= {name: draw.randrange(3) for name in [*users, "occupation", "new_user_class_level"]}
    row |= {name: draw.randrange(10, 16) for name in items}
    return row | {
        "price": f"{draw.randrange(1, 5000)}.0",
        "pid": draw.choice(["430548_1007", "430539_1007"]),
        "btag": 1,
    }


def kuaivideo(draw: random.Random) -> Row:
    row: Row = {"timestamp": 0, "user_id": draw.randrange(6), "item_id": draw.randrange(9)}
    row |= {name: draw.randrange(2) for name in ("is_click", "is_like", "is_follow")}
    return row | {name: _joined(draw, range(9)) for name in ("pos_items", "neg_items")}


LAYOUTS: dict[str, tuple[str, Callable[[random.Random], Row]]] = {
    "criteo-x1": ("Criteo_x1", criteo_x1),
    "criteo-x4": ("Criteo_x4", criteo_x4),
    "avazu-x1": ("Avazu_x1", avazu_x1),
    "avazu-x4": ("Avazu_x4", avazu_x4),
    "frappe-x1": ("Frappe_x1", frappe),
    "movielens-latest-x1": ("MovielensLatest_x1", movielens_latest),
    "taobao-ad-x1": ("TaobaoAd_x1", taobao_ad),
    "kuaivideo-x1": ("KuaiVideo_x1", kuaivideo),
}
WITHOUT_VALIDATION = ("taobao-ad-x1", "kuaivideo-x1")


def made_up_rows(name: str, seed: int = 0) -> dict[str, list[Row]]:
    """The rows of each file, by its name without the ending."""
    draw = random.Random(seed)
    splits = [split for split in SIZES if split != "valid" or name not in WITHOUT_VALIDATION]
    rows = {split: [LAYOUTS[name][1](draw) for _ in range(SIZES[split])] for split in splits}
    if name == "kuaivideo-x1":
        for each in rows.values():
            for place, row in enumerate(each):
                row["timestamp"] = place // 3
    return rows


def write_files(folder: Path, name: str, rows: dict[str, list[Row]] | None = None) -> Path:
    """Write the files as the archive has them; Frappe's lines end in CRLF, the others' in LF."""
    folder.mkdir(parents=True, exist_ok=True)
    ending = "\r\n" if name == "frappe-x1" else "\n"
    for split, each in (rows or made_up_rows(name)).items():
        with (folder / f"{split}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(each[0]), lineterminator=ending)
            writer.writeheader()
            writer.writerows(each)
    return folder
