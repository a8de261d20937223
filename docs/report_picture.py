"""Draws the picture of a sample report: ``python docs/report_picture.py``.

It needs Chromium, and the reports that ``python docs/kept_reports.py`` draws. The picture is
the first screen of the kept ``quick`` as a browser shows it.
"""

from __future__ import annotations

import shutil
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "out/measured/quick/report/index.html"
PICTURE = ROOT / "docs/pictures/report.png"
WIDTH, HEIGHT = 1280, 1000  # to the end of the ranked table


def main() -> None:
    """Draw the picture over the one that is there."""
    with sync_playwright() as playwright:
        # As root, as in a container, Chromium has no sandbox to run in.
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(REPORT.as_uri())
        seen = Image.open(BytesIO(page.screenshot()))
        browser.close()
    # A palette makes the file a third of the size; with 64 colours, those of thin lines were lost.
    seen.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(PICTURE, optimize=True)
    print(PICTURE)


if __name__ == "__main__":
    main()
