"""Draws the reports of all kept results into ``out/measured``: ``python docs/kept_reports.py``.

``reports/measured`` keeps records and profiles; their pages and figures are drawn from them here, and
``docs/hooks.py`` takes them into the site. A report is drawn anew where its results or the code that draws
have changed since.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "reports/measured"
DRAWN = ROOT / "out/measured"
CODE = (ROOT / "reports", ROOT / "harness/records", ROOT / "harness/evaluation", ROOT / "files")
STATE, LEADERBOARD = ".state", "leaderboard.html"
SPEEDS = {"profile.json": "profile.md", "serving_profile.json": "serving_profile.md"}  # and their pages
ORDERS = "published-orders"  # the folder of the page that compares published orders with ours
DECIDES = "what-decides"  # that of the page on who wins when there is more to learn
ORDERED = ("table1", "table1-kuairand-pure")  # the kept results that have an order of their own there


def main() -> None:
    """Draw every report that is not up to date, as many at a time as there are cores."""
    kept = [path for path in sorted(KEPT.iterdir()) if path.is_dir()]
    made_here = {DRAWN / LEADERBOARD, DRAWN / ORDERS}
    for left_over in set(DRAWN.glob("*")) - {*made_here, *(DRAWN / path.name for path in kept)}:
        shutil.rmtree(left_over)
    code = digest([path for folder in CODE for path in folder.rglob("*") if "measured" not in path.parts])
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as workers:
        for page in workers.map(draw, kept, [DRAWN / path.name for path in kept], [code] * len(kept)):
            print(page)
    drawn = [DRAWN / path.name for path in kept if _speeds_of(path) is None]
    sys.path.insert(0, str(ROOT))
    from reports.decides.report import render_what_decides
    from reports.decides.results import FOLDERS
    from reports.page.leaderboard import write_leaderboard
    from reports.paper.orders_report import render_orders

    print(write_leaderboard(drawn, DRAWN / LEADERBOARD))
    print(render_orders([DRAWN / name for name in ORDERED], DRAWN / ORDERS))
    if any(path.name in FOLDERS for path in kept):
        print(render_what_decides(DRAWN, DRAWN / DECIDES))


def draw(kept: Path, drawn: Path, code: str) -> Path:
    """Draw the report of one kept folder into ``drawn`` unless it is up to date; the path of its page.

    Raises:
        InputError: the kept records or the kept profile are damaged.
    """
    speeds = _speeds_of(kept)
    page = drawn / ("report.md" if speeds is None else SPEEDS[speeds])
    state = code + digest(list(kept.iterdir()))
    if page.is_file() and (drawn / STATE).is_file() and (drawn / STATE).read_text(encoding="utf-8") == state:
        return page
    sys.path.insert(0, str(ROOT))
    from harness.records.archive import unpack
    from reports.render import render
    from reports.speed.report import render_profile
    from reports.speed.serving import render_serving_profile

    shutil.rmtree(drawn, ignore_errors=True)
    if speeds is None:
        render(unpack(kept, drawn))
    else:
        drawn.mkdir(parents=True)
        shutil.copyfile(kept / speeds, drawn / speeds)
        (render_profile if speeds == "profile.json" else render_serving_profile)(drawn)
    (drawn / STATE).write_text(state, encoding="utf-8")
    return page


def _speeds_of(kept: Path) -> str | None:
    """The file of measured speeds that a kept folder holds; None where it holds runs."""
    return next((name for name in SPEEDS if (kept / name).is_file()), None)


def digest(paths: list[Path]) -> str:
    """The sha256, in hex, of the files' names and contents; folders and compiled code are passed over."""
    total = hashlib.sha256()
    for path in sorted(paths):
        if path.is_file() and "__pycache__" not in path.parts:
            total.update(f"{path.name}\n{path.stat().st_size}\n".encode() + path.read_bytes())
    return total.hexdigest()


if __name__ == "__main__":
    main()
