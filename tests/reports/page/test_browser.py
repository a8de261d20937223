"""The page as a browser shows it: sorting, values, themes, narrow screens, print, unkind names."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlparse

import pandas as pd
import pytest
from matplotlib.figure import Figure

from reports.cells import short
from reports.page.leaderboard import leaderboard_entries, write_leaderboard
from reports.render import render
from reports.speed.report import render_profile
from tests.reports.made_up import (
    ARCHITECTURES,
    NAMES,
    comparison_rows,
    failed,
    quick_records,
    record,
    reference,
    write_out,
)
from tests.reports.test_speed import all_records
from tests.reports.test_speed import write as write_profile

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = (
    """<script>document.title='taken'</script>" onmouseover='x' <img src=x onerror=alert(1)> & {{ 7 * 7 }}"""
)
DISPLAYED = ["DLRM-MLP", "DeepFM", "DCN", "AutoInt", "Transformer", "RankMixer"]
SHORT_HOSTILE = """"><svg/onload=alert(2)>'"""

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not installed: THE PAGE WAS NOT TESTED IN A BROWSER"
)


@contextmanager
def drawings_alone() -> Iterator[None]:
    """Figures are written as the drawings that pages hold; the pictures that they link to are empty files."""

    def save(figure: Figure, where: Path | StringIO, **options) -> None:
        write(figure, where, **options) if options.get("format") == "svg" else Path(where).touch()

    write = Figure.savefig
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", save)
        yield


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """Models with a failed run, a long curve, p-values and names meant to break out of their place."""
    records = [
        *quick_records(seeds=1),
        record("rankmixer", 0, variant=HOSTILE),
        record("dcn", 0, dataset="kuairand-pure", tasks=(SHORT_HOSTILE,)),
        record("dlrm_mlp", 0, dataset="kuairand-pure", tasks=(SHORT_HOSTILE,)),
        failed("autoint", 0, dataset="kuairand-pure"),
        reference("duration_only", "kuairand-pure", tasks=(SHORT_HOSTILE,)),
    ]
    records[0]["environment"]["processor"] = HOSTILE
    rows = comparison_rows(records)
    for row in rows:
        row |= {"p_value": 0.001, "p_holm": 0.004 if row["architecture"] == "rankmixer" else 0.2}
        row["effect_size"] = 1.5
    out = write_out(tmp_path_factory.mktemp("page"), records, rows, command=f"run {HOSTILE}")
    with drawings_alone():
        render(out)
    return out


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        # As root, as in a container, Chromium has no sandbox to run in.
        yield (chromium := playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]))
        chromium.close()


class Seen:
    """A page that was opened, with what it said and asked for; ``folded`` as a reader first sees it."""

    def __init__(
        self, browser, path: Path, width: int = 1200, theme: str = "light", folded: bool = False
    ) -> None:
        self.folded = folded
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.open(path)

    def open(self, path: Path) -> None:
        self.complaints.clear()
        self.requests.clear()
        self.page.goto(path.as_uri())
        if not self.folded:
            self.page.evaluate("document.querySelectorAll('details').forEach(fold => { fold.open = true })")


@pytest.fixture
def open_page(browser):
    opened = []

    def open_it(path: Path, **options) -> Seen:
        opened.append(Seen(browser, path, **options))
        return opened[-1]

    yield open_it
    for seen in opened:
        seen.context.close()


@pytest.fixture(scope="module")
def opened_once(browser):
    """Opens a page, or gives the one that is open, at the width asked for and from its top.

    For the tests that leave a page as they found it or alone use what they change: it takes long to open.
    """
    opened: dict[tuple, Seen] = {}

    def open_it(path: Path, width: int = 1200, theme: str = "light", folded: bool = False):
        key = (path, theme, folded)
        if key not in opened:
            opened[key] = Seen(browser, path, width, theme, folded)
        page = opened[key].page
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(media="screen")
        page.evaluate("scrollTo(0, 0)")
        return page

    yield open_it
    for seen in opened.values():
        seen.context.close()


@pytest.fixture
def page(out, opened_once):
    return opened_once(index(out))


def index(out: Path) -> Path:
    return out / "report" / "index.html"


def run_pages(out: Path) -> list[Path]:
    return sorted((out / "report" / "runs").glob("*.html"))


FACTS = """() => ({
  links: [...document.querySelectorAll("a")].map(link => link.href),
  ids: [...document.querySelectorAll("[id]")].map(element => element.id),
  scripts: document.scripts.length,
  active: document.querySelectorAll("img, [onmouseover], [onload], [onerror]").length,
  title: document.title,
})"""


@pytest.fixture(scope="module")
def visited(out, browser) -> dict[Path, dict]:
    """What every page of the report holds, complained of and asked for, each opened once."""
    seen = Seen(browser, index(out))
    facts = {}
    for path in [index(out), *run_pages(out)]:
        seen.open(path)
        facts[path] = seen.page.evaluate(FACTS)
        facts[path] |= {"complaints": [*seen.complaints], "requests": [*seen.requests]}
    seen.context.close()
    return facts


QUALITY = "#table-quality-shortvideo-finish"


def names(page, body: int = 0) -> list[str]:
    rows = f"{QUALITY} tbody >> nth={body} >> tr:not(.apart) > :first-child"
    return page.locator(rows).all_inner_texts()


def heading(page, title: str):
    return page.locator(f"{QUALITY} thead th").filter(has_text=re.compile(f"^{re.escape(title)}"))


def wait_for_order(heading, direction: str | None) -> None:
    """The table is sorted a moment after the click, so what is seen must be waited for."""
    if direction is None:
        sync_api.expect(heading).not_to_have_attribute("aria-sort", re.compile("."), timeout=30_000)
    else:
        sync_api.expect(heading).to_have_attribute("aria-sort", direction, timeout=30_000)


def means(out: Path, metric: str) -> pd.Series:
    results = pd.read_csv(out / "results.csv", keep_default_na=False, na_values=[""])
    chosen = results[(results["dataset"] == "shortvideo") & (results["task"] == "finish")]
    chosen = chosen[~chosen["architecture"].isin(["oracle", "constant"])]
    return chosen.groupby(["architecture", "variant"], dropna=False)[metric].mean()


def test_a_heading_sorts_by_the_raw_number_both_ways_and_back(out, page):
    before = names(page)
    display = dict(zip(ARCHITECTURES, DISPLAYED, strict=True))
    expected = [display[key[0]] for key in means(out, "auc").sort_values().index]
    auc = heading(page, "AUC").first
    auc.click()
    wait_for_order(auc, "descending")
    assert [name.split(" ")[0] for name in names(page)] == expected[::-1]
    auc.click()
    wait_for_order(auc, "ascending")
    assert [name.split(" ")[0] for name in names(page)] == expected
    auc.click()
    wait_for_order(auc, None)
    assert names(page) == before


def test_sorting_works_by_keyboard_on_every_heading_and_leaves_references_below(page):
    references = names(page, body=1)
    assert references == ["oracle", "constant"]
    buttons = page.locator(f"{QUALITY} thead [role=button]").all()
    assert len(buttons) == page.locator(f"{QUALITY} thead th").count()
    for button in buttons:
        button.focus()
        page.keyboard.press("Enter")
        is_number = button.evaluate("button => button.closest('th').classList.contains('number')")
        sort = "descending" if is_number else "ascending"
        wait_for_order(button.locator("xpath=ancestor::th"), sort)
        assert page.locator(f"{QUALITY} thead th[aria-sort]").count() == 1
        values = page.locator(f"{QUALITY} tbody >> nth=0").evaluate(
            "(body, i) => [...body.rows].map(row => row.cells[i].dataset.order)",
            button.evaluate("button => button.closest('th').cellIndex"),
        )
        known = [value for value in values if value]
        assert values == known + [""] * (len(values) - len(known)), "missing values are last"
        if is_number:
            assert [float(v) for v in known] == sorted(map(float, known), reverse=sort == "descending")
        assert names(page, body=1) == references


def test_numbers_sort_as_numbers_where_their_text_would_not(out, page):
    """FLOPs a sample are printed with prefixes: 998 k is less than 1.02 M."""
    headings = page.locator("#table-cost-shortvideo thead th")
    flops_heading = headings.filter(has_text=re.compile("^FLOPs/sample"))
    flops_heading.click()
    wait_for_order(flops_heading, "descending")
    shown = page.locator("#table-cost-shortvideo tbody tr > :first-child").all_inner_texts()
    flops = pd.read_csv(out / "tables" / "cost-shortvideo.csv").set_index("architecture")
    flops = flops["flops_per_sample"][lambda column: ~column.index.duplicated()]
    architectures = {name: architecture for architecture, name in NAMES.items()}
    costs = [flops[architectures[name.split(" ")[0]]] for name in shown]
    assert costs == sorted(costs, reverse=True)


def test_rows_are_filtered_by_what_is_typed_in_long_tables_alone(out, page):
    runs = page.locator("#runs")
    number = runs.locator("tbody tr").count()
    runs.locator("input[type=search]").fill("dcn")
    sync_api.expect(runs.locator("tbody tr")).not_to_have_count(number, timeout=30_000)
    shown = runs.locator("tbody tr").all_inner_texts()
    assert 0 < len(shown) < number
    assert all("DCN" in row for row in shown)
    runs.locator("input[type=search]").fill("")
    sync_api.expect(runs.locator("tbody tr")).to_have_count(number, timeout=30_000)
    assert page.locator("#table-paper-table1 input").count() == 1
    assert page.locator("#table-cost-shortvideo input").count() == 0


def test_missing_numbers_stay_last_in_both_directions(out, page):
    heading = page.locator("#runs thead th").filter(has_text="training s")
    for direction in ("descending", "ascending"):
        heading.click()
        wait_for_order(heading, direction)
        values = page.locator("#runs tbody").first.evaluate(
            "(body, i) => [...body.rows].map(row => row.cells[i].dataset.order)",
            heading.evaluate("heading => heading.cellIndex"),
        )
        num_missing = values.count("")
        assert num_missing > 0
        assert values[-num_missing:] == [""] * num_missing


def test_a_mark_shows_its_value_when_pointed_at_focused_or_tapped(out, page):
    figure = page.locator("#figure-differences-shortvideo svg")
    figure.scroll_into_view_if_needed()
    marks = figure.locator(".value")
    assert marks.count() == 4 * (len(ARCHITECTURES) - 1 + 1)
    tip = page.locator("#tip")
    assert tip.is_hidden()
    comparisons = pd.read_csv(out / "comparisons.csv")
    first = comparisons[(comparisons["metric"] == "auc") & (comparisons["architecture"] == "deepfm")].iloc[0]
    marks.nth(0).hover()
    assert tip.inner_text().startswith(f"DeepFM: {100 * first['diff']:+.2f}".replace("-", "\N{MINUS SIGN}"))
    page.mouse.move(1, 1)
    assert tip.is_hidden()
    marks.nth(0).focus()
    page.keyboard.press("ArrowRight")
    assert tip.inner_text().startswith("DCN: ")
    page.keyboard.press("Escape")
    assert tip.is_hidden()
    marks.nth(2).dispatch_event("click")
    assert tip.inner_text().startswith("AutoInt: ")


def test_every_link_leads_to_a_file_or_a_place_on_the_page(visited):
    for path, page in visited.items():
        assert len(page["links"]) > 1
        for link in page["links"]:
            file, _, anchor = link.partition("#")
            target = Path(path_of(file))
            assert target.is_file(), link
            if anchor and target == path:
                assert page["ids"].count(anchor) == 1, link


def path_of(url: str) -> str:
    parsed = urlparse(url)
    assert parsed.scheme == "file", url
    return unquote(parsed.path)


def test_nothing_is_asked_for_and_nothing_complained_of(visited):
    for path, page in visited.items():
        assert page["complaints"] == [], path
        assert [url for url in page["requests"] if not url.startswith("data:")] == [path.as_uri()]


def test_unkind_names_are_shown_and_do_nothing(visited, page):
    for facts in visited.values():
        assert (facts["scripts"], facts["active"]) == (1, 0)
        assert "taken" not in facts["title"].replace(HOSTILE, "")
    assert HOSTILE in page.locator("pre").first.inner_text()
    assert f"RankMixer ({HOSTILE})" in names(page)
    assert SHORT_HOSTILE in page.locator("#words-kuairand-pure").inner_text()
    marks = page.locator(".value").evaluate_all("marks => marks.map(mark => mark.dataset.value)")
    assert any(mark.startswith(f"RankMixer ({HOSTILE}): ") for mark in marks)


def test_no_id_is_given_twice(visited):
    for page in visited.values():
        assert len(page["ids"]) == len(set(page["ids"]))


def test_the_page_never_scrolls_sideways(out, opened_once):
    for path in [index(out), run_pages(out)[0]]:
        page = opened_once(path)
        for width in (320, 400, 900, 1440):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_first_column_stays_when_a_wide_table_is_scrolled(out, opened_once):
    page = opened_once(index(out), width=400)
    box = page.locator(f"{QUALITY} .scroll")
    box.scroll_into_view_if_needed()
    assert box.evaluate("box => box.scrollWidth > box.clientWidth")
    first = page.locator(f"{QUALITY} tbody tr").first.locator("th")
    before = first.bounding_box()["x"]
    box.evaluate("box => { box.scrollLeft = 200 }")
    assert first.bounding_box()["x"] == pytest.approx(before, abs=1)


@pytest.mark.parametrize("width", [400, 1200])
def test_the_bar_stays_in_sight_and_marks_the_section_that_is_read(out, opened_once, width):
    page = opened_once(index(out), width=width)
    links = page.locator(".jump a").all()
    assert [link.inner_text() for link in links][-1] == "Files"
    page.locator(".jump a[href='#tables-shortvideo']").click()
    sync_api.expect(page.locator(".jump [aria-current]")).to_have_text("Tables", timeout=30_000)
    bar = page.locator(".bar").bounding_box()
    assert bar["y"] == pytest.approx(0, abs=1)
    assert page.locator("#tables-shortvideo").bounding_box()["y"] >= bar["y"] + bar["height"]
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    sync_api.expect(page.locator(".jump [aria-current]")).to_have_text("Files", timeout=30_000)
    box = page.locator(".jump [aria-current]").bounding_box()
    assert 0 <= box["x"] <= box["x"] + box["width"] <= width, "the mark is scrolled into sight"


@pytest.fixture(scope="module")
def speeds(tmp_path_factory) -> Path:
    """Measured speeds of two models at two batches, one with a name meant to break out of its place."""
    out = tmp_path_factory.mktemp("speeds")
    records = all_records()
    for record_ in records:
        record_["variant"] = HOSTILE if record_["architecture"] == "rankmixer" else ""
    write_profile(out, records, paper_table="table6", command=f"run {HOSTILE}")
    with drawings_alone():
        render_profile(out)
    return out


def test_the_page_of_speeds_stands_alone_and_its_links_lead_somewhere(speeds, open_page):
    seen = open_page(index(speeds), width=400)
    assert seen.complaints == []
    assert [url for url in seen.requests if not url.startswith("data:")] == [index(speeds).as_uri()]
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 400
    assert seen.page.locator("script").count() == 1
    assert seen.page.locator("img, [onmouseover], [onload], [onerror]").count() == 0
    links = seen.page.locator("a").evaluate_all("links => links.map(link => link.href)")
    for link in links:
        file, _, anchor = link.partition("#")
        assert Path(path_of(file)).is_file(), link
        assert not anchor or seen.page.locator(f"[id='{anchor}']").count() == 1, link
    assert seen.page.evaluate(CONTRAST) == []
    seen.page.emulate_media(color_scheme="dark")
    assert seen.page.evaluate(CONTRAST) == []


def test_speeds_are_sorted_by_number_and_their_marks_say_them(speeds, opened_once):
    page = opened_once(index(speeds))
    table = page.locator("#table-speed-inference-fp32-512")
    median = table.locator("thead th").filter(has_text=re.compile("^p50"))
    median.click()
    wait_for_order(median, "descending")
    shown = table.locator("tbody tr > :first-child").all_inner_texts()
    assert [name.split(" ")[0] for name in shown] == ["RankMixer", "DLRM-MLP"]
    marks = page.locator("#figure-roofline-fp32-512 .value").evaluate_all(
        "m => m.map(one => one.dataset.value)"
    )
    assert len(marks) == 4
    assert marks[0] == "DLRM-MLP: 256 GFLOP/s at 25.6 FLOPs a byte, 40% of the peak"
    data = pd.read_csv(speeds / "figures" / "latency-fp32.csv")
    marks = page.locator("#figure-latency-fp32 .value")
    assert marks.count() == len(data) == 8


def test_every_control_and_figure_has_a_name_and_headings_skip_no_level(out, speeds, opened_once):
    """What a screen reader goes by: names of buttons, links, regions and drawings; the order of headings."""
    for path in (index(out), run_pages(out)[0], index(speeds)):
        shown = opened_once(path)
        nameless = """() => [...document.querySelectorAll('a, button, [role]')]
          .filter(e => !e.closest('[hidden]') && e.role !== 'status'
            && !(e.getAttribute('aria-label') || e.textContent).trim()
            && !document.getElementById(e.getAttribute('aria-labelledby')))
          .map(e => e.outerHTML.slice(0, 80))"""
        assert shown.evaluate(nameless) == []
        levels = shown.evaluate(
            "[...document.querySelectorAll('h1,h2,h3,h4')].map(h => Number(h.tagName[1]))"
        )
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels)), levels


# Contrast as WCAG 2 defines it, of each piece of text against the nearest background behind it. Text on
# the coloured cells of a heat map is held to the same in figures/test_experts.py.
CONTRAST = """() => {
  const linear = c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const rgba = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const behind = element => {
    for (; element; element = element.parentElement) {
      const color = rgba(getComputedStyle(element).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    throw new Error("no background");
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.textContent.trim() || element.closest("script, style, title, [hidden], .skip")) continue;
    if (element.closest("[id^='figure-active-map']")) continue;
    const style = getComputedStyle(element);
    const fore = luminance(rgba(element instanceof SVGElement ? style.fill : style.color));
    const back = luminance(behind(element));
    const ratio = (Math.max(fore, back) + 0.05) / (Math.min(fore, back) + 0.05);
    if (ratio < 4.5) found.push([ratio.toFixed(2), node.textContent.trim().slice(0, 40)]);
  }
  return found;
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_all_text_can_be_read_in_both_themes(out, opened_once, theme):
    for path in [index(out), run_pages(out)[0]]:
        page = opened_once(path, theme=theme)
        for _ in range(2):
            assert page.evaluate(CONTRAST) == []
            page.locator("#theme").click()


def test_the_button_changes_the_theme_and_is_remembered(out, open_page):
    page = open_page(run_pages(out)[0], theme="light").page
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.locator("#theme").click()
    dark = page.evaluate(ground)
    assert dark != light
    assert page.locator("#theme").inner_text() == "Light"
    page.reload()
    assert page.evaluate(ground) == dark


def test_print_is_light_and_whole(out, opened_once):
    page = opened_once(index(out), theme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("nav").evaluate_all("navs => navs.every(nav => !nav.checkVisibility())")
    assert page.locator("#theme").is_hidden()
    assert page.locator(f"{QUALITY} .scroll").evaluate("box => getComputedStyle(box).overflowX") == "visible"
    assert page.pdf().startswith(b"%PDF")


def test_no_table_is_cut_off_at_the_edge_of_a_printed_sheet(out, speeds, opened_once):
    """A4 within its margins is 186 mm wide, 703 pixels. Headings without a place to break are let alone."""
    for path in [index(out), index(speeds)]:
        page = opened_once(path, width=703)
        page.emulate_media(media="print")
        wide = "tables => tables.filter(t => t.offsetWidth > 703).map(t => t.closest('.table').id)"
        tables = page.locator("table").filter(has_not=page.locator("thead", has_text=SHORT_HOSTILE))
        assert tables.count() > 3
        assert tables.evaluate_all(wide) == []


# --- What a reader sees first --------------------------------------------------------------------------

ON_SCREEN = """() => {
  const inView = box => box.top < innerHeight && box.bottom > 0 && box.height > 0;
  const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  let words = 0;
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (element.closest("svg, table, details:not([open]) > :not(summary)")) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    if (inView(range.getBoundingClientRect())) words += node.textContent.split(/\\s+/).filter(Boolean).length;
  }
  const top = selector => document.querySelector(selector).getBoundingClientRect().top;
  return {words, figure: top(".front figure"), table: top(".front table"), verdict: top(".front .lead")};
}"""


def test_the_first_screen_has_the_verdict_the_pictures_and_the_ranked_table(quick_out, opened_once):
    seen = opened_once(index(quick_out), folded=True).evaluate(ON_SCREEN)
    assert 0 < seen["verdict"] < seen["figure"] < seen["table"] < 900 - 100, "rows of the table are seen too"
    assert seen["words"] < 150
    on_a_phone = opened_once(index(quick_out), width=400, folded=True).evaluate(ON_SCREEN)
    assert on_a_phone["verdict"] < on_a_phone["figure"] < 600


def test_the_ranked_table_is_by_falling_quality_with_the_base_in_its_place(quick_out, opened_once):
    page = opened_once(index(quick_out), folded=True)
    shown = page.locator("#table-ranked-shortvideo tbody >> nth=0 >> tr > :first-child").all_inner_texts()
    expected = means(quick_out, "auc").sort_values(ascending=False).index.get_level_values(0)
    display = dict(zip(ARCHITECTURES, DISPLAYED, strict=True))
    assert shown == [display[name] for name in expected]


def test_what_is_folded_opens_where_a_link_leads_and_for_print(quick_out, open_page):
    page = open_page(index(quick_out), folded=True).page
    folds = page.locator("details")
    assert folds.count() > 4
    assert not any(folds.evaluate_all("folds => folds.map(fold => fold.open)"))
    page.locator(".jump a[href='#tables-shortvideo']").click()
    sync_api.expect(page.locator(QUALITY)).to_be_visible()
    assert page.locator("#definitions").evaluate("fold => !fold.open")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert all(folds.evaluate_all("folds => folds.map(fold => fold.open)"))
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("#definitions").evaluate("fold => !fold.open")
    page.goto(f"{index(quick_out).as_uri()}#table-cost-shortvideo")
    sync_api.expect(page.locator("#table-cost-shortvideo")).to_be_visible()


def test_a_table_wider_than_the_page_says_so(quick_out, opened_once):
    page = opened_once(index(quick_out), width=400, folded=True)
    note = page.locator("#table-ranked-shortvideo .wide")
    sync_api.expect(note).to_be_visible()
    page.set_viewport_size({"width": 2400, "height": 900})
    sync_api.expect(note).to_be_hidden()


def test_figures_are_dark_on_a_dark_page(out, opened_once):
    page = opened_once(index(out), theme="dark")
    grounds = page.locator(".drawing path").evaluate_all(
        "paths => paths.map(path => getComputedStyle(path).fill)"
    )
    assert "rgb(255, 255, 255)" not in grounds
    assert page.locator(".card").first.evaluate("card => getComputedStyle(card).backgroundColor") == (
        page.evaluate("getComputedStyle(document.body).backgroundColor")
    )


# --- The leaderboard -----------------------------------------------------------------------------------


@pytest.fixture
def leaderboard(quick_out, mixed_out, browser):
    """Drawn reports of two folders beside each other, and one page over both."""
    path = quick_out.parent / "leaderboard.html"
    write_leaderboard([quick_out, mixed_out], path)
    seen = Seen(browser, path)
    yield seen
    seen.context.close()


def test_the_leaderboard_shows_what_is_chosen_best_first_with_links_to_the_records(quick_out, leaderboard):
    page = leaderboard.page
    assert leaderboard.complaints == []
    page.locator("select[name=log]").select_option("shortvideo")
    page.locator("select[name=task]").select_option("skip")
    page.locator("select[name=metric]").select_option("UAUC")
    (board,) = page.locator(".board").all()
    results = pd.read_csv(quick_out / "results.csv")
    chosen = results[(results["task"] == "skip") & results["architecture"].isin(ARCHITECTURES)]
    expected = chosen.groupby("architecture")["uauc"].mean().sort_values(ascending=False)
    assert board.locator("tbody td:nth-child(3)").all_inner_texts() == [f"{v:.4f}" for v in expected]
    flops = {row[0]: row[7] for row in next(leaderboard_entries(quick_out))["rows"]}
    names = board.locator("tbody th").all_inner_texts()
    shown = dict(zip(names, board.locator("tbody td:nth-child(6)").all_inner_texts(), strict=True))
    assert shown == {name: str(short(flops[name])) for name in names}
    for link in board.locator("a").evaluate_all("links => links.map(link => link.href)"):
        assert Path(path_of(link.partition("#")[0])).is_file()
    assert board.locator("img").evaluate("image => image.complete && image.naturalWidth > 0")


def test_a_choice_that_rules_another_out_takes_one_that_is_left(leaderboard):
    page = leaderboard.page
    page.locator("select[name=log]").select_option("movielens-100k")
    assert page.locator("select[name=task]").input_value() == "like"
    assert "on movielens-100k" in page.locator(".board h2").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_every_run_has_a_page_linked_from_the_table_of_runs(out, page):
    links = page.locator("#runs tbody a").evaluate_all("links => links.map(link => link.href)")
    assert sorted(links) == sorted(path.as_uri() for path in run_pages(out))
    assert len(links) == len(list((out / "runs").iterdir()))
    assert page.locator("#runs tbody td").filter(has_text=re.compile("^failed$")).count() == 1
