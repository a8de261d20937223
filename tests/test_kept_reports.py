"""Pages of kept results are drawn from what git holds, drawn anew where that changed, and are on the site."""

from __future__ import annotations

import importlib.util
import os
import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace

import pytest

from docs import kept_reports
from docs.kept_reports import KEPT, SPEEDS, digest, draw
from reports.render import render

PAGE = "| plain MLP | 0.5 |"
FOLDERS = sorted(path for path in KEPT.iterdir() if path.is_dir())


@pytest.fixture
def hooks(tmp_path, monkeypatch):
    """The site's hooks where one report was drawn."""
    pytest.importorskip("mkdocs", reason="SKIPPED: the site is not built")
    spec = importlib.util.spec_from_file_location("hooks", kept_reports.ROOT / "docs/hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "quick/figures").mkdir(parents=True)
    (tmp_path / "quick/report.md").write_text(PAGE, encoding="utf-8")
    (tmp_path / "quick/figures/new.png").write_bytes(b"drawn")
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone/report.md").write_text(PAGE, encoding="utf-8")
    monkeypatch.setattr(module, "DRAWN", tmp_path)
    return module


def test_a_report_drawn_from_the_archive_is_the_one_drawn_from_the_run_folder(tmp_path, monkeypatch):
    """The report in words and tables: its figures are drawn from the same contents."""
    from harness.records.archive import packed_runs

    for pictures in ("write_drawing", "write_pages"):
        monkeypatch.setattr(f"reports.render.{pictures}", lambda *given: None)
    kept = KEPT / "table3"
    (tmp_path / "runs").mkdir()
    for run in packed_runs(kept):  # the folder as a suite leaves it, made without `unpack`
        (tmp_path / "runs" / run.folder).mkdir()
        (tmp_path / "runs" / run.folder / "record.json").write_bytes(run.text.encode())
    for name in ("suite.json", "comparisons.csv"):
        shutil.copyfile(kept / name, tmp_path / name)
    page = draw(kept, tmp_path / "drawn/table3", "code")
    assert page == tmp_path / "drawn/table3/report.md"
    assert page.read_bytes() == render(tmp_path).read_bytes()
    assert (page.parent / "results.csv").read_bytes() == (tmp_path / "results.csv").read_bytes()
    drawn, expected = (
        {path.name: path.read_bytes() for path in (folder / "tables").iterdir()}
        for folder in (page.parent, tmp_path)
    )
    assert "tables.tex" in drawn
    assert drawn == expected


def test_a_page_is_drawn_anew_where_its_results_or_the_code_changed(tmp_path, monkeypatch):
    def copied(out: Path) -> Path:
        shutil.copyfile(out / "profile.json", out / "profile.md")
        return out / "profile.md"

    monkeypatch.setattr("reports.speed.report.render_profile", copied)
    kept, drawn = tmp_path / "kept", tmp_path / "drawn"
    kept.mkdir()
    (kept / "profile.json").write_text("one", encoding="utf-8")
    page = draw(kept, drawn, "code")
    assert page == drawn / "profile.md"
    page.write_text("as it was", encoding="utf-8")
    draw(kept, drawn, "code")
    assert page.read_text(encoding="utf-8") == "as it was"
    draw(kept, drawn, "other code")
    assert page.read_text(encoding="utf-8") == "one"
    (kept / "profile.json").write_text("two", encoding="utf-8")
    (drawn / "figures").mkdir()  # of what was drawn before, nothing is left
    draw(kept, drawn, "other code")
    assert page.read_text(encoding="utf-8") == "two"
    assert not (drawn / "figures").exists()


def test_the_state_of_files_is_that_of_names_and_contents(tmp_path):
    (tmp_path / "a").write_text("1", encoding="utf-8")
    (tmp_path / "b").write_text("2", encoding="utf-8")
    before = digest([tmp_path / "b", tmp_path / "a", tmp_path])
    os.utime(tmp_path / "a", (0, 0))
    assert digest([tmp_path / "a", tmp_path / "b"]) == before
    (tmp_path / "a").write_text("2", encoding="utf-8")
    (tmp_path / "b").write_text("1", encoding="utf-8")
    assert digest([tmp_path / "a", tmp_path / "b"]) != before


def test_every_kept_folder_is_one_that_a_page_can_be_drawn_from():
    assert len(FOLDERS) > 30
    for folder in FOLDERS:
        held = [name for name in ("records.parquet", *SPEEDS) if (folder / name).is_file()]
        assert len(held) == 1, folder.name


def test_what_was_drawn_is_on_the_site_with_what_git_holds(hooks, monkeypatch):
    from mkdocs.config import load_config
    from mkdocs.structure.files import Files

    pytest.importorskip("material", reason="SKIPPED: the site is not built")
    config = hooks.on_config(load_config(str(kept_reports.ROOT / "mkdocs.yml")))
    [look_up] = [section["Look up"] for section in config.nav if "Look up" in section]
    assert {
        "Measured": ["reports/measured/README.md", {"quick": "reports/measured/quick/report.md"}],
    } in look_up
    monkeypatch.setattr(config.plugins, "_current_plugin", "hooks", raising=False)  # as a build sets it
    names = {file.src_uri for file in hooks.on_files(Files([]), config)}
    assert {
        *("README.md", "reports/measured/README.md", "reports/measured/quick/report.md"),
        *(
            "reports/measured/quick/figures/new.png",
            "reports/measured/quick/figures/quality-latency-shortvideo.png",
        ),
    } <= names
    assert not any("gone" in name for name in names)


def test_pages_over_several_results_are_on_the_site_before_the_kept_results(hooks, tmp_path):
    from mkdocs.config import load_config

    pytest.importorskip("material", reason="SKIPPED: the site is not built")
    for name in (kept_reports.ORDERS, kept_reports.DECIDES):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.md").write_text(PAGE, encoding="utf-8")
    (tmp_path / kept_reports.ORDERS / "orders.csv").write_text("tau", encoding="utf-8")
    config = hooks.on_config(load_config(str(kept_reports.ROOT / "mkdocs.yml")))
    [look_up] = [section["Look up"] for section in config.nav if "Look up" in section]
    [measured] = [entry["Measured"] for entry in look_up if isinstance(entry, dict) and "Measured" in entry]
    assert measured == [
        {"What decides": "reports/measured/what-decides/report.md"},
        {"Published orders": "reports/measured/published-orders/report.md"},
        "reports/measured/README.md",
        {"quick": "reports/measured/quick/report.md"},
    ]
    assert "reports/measured/published-orders/orders.csv" in hooks.drawn_files()


def test_what_is_left_over_of_results_that_are_gone_is_removed_and_the_common_pages_are_not(
    tmp_path, monkeypatch
):
    drawn = tmp_path / "drawn"
    for name in ("gone", kept_reports.ORDERS):
        (drawn / name).mkdir(parents=True)
    (drawn / kept_reports.LEADERBOARD).write_text("page", encoding="utf-8")
    (tmp_path / "kept").mkdir()
    monkeypatch.setattr(kept_reports, "KEPT", tmp_path / "kept")
    monkeypatch.setattr(kept_reports, "DRAWN", drawn)
    compared = []
    monkeypatch.setattr("reports.page.leaderboard.write_leaderboard", lambda results, page: page)
    monkeypatch.setattr("reports.paper.orders_report.render_orders", lambda *given: compared.append(given))
    kept_reports.main()
    assert {path.name for path in drawn.iterdir()} == {kept_reports.ORDERS, kept_reports.LEADERBOARD}
    assert compared == [([drawn / "table1", drawn / "table1-kuairand-pure"], drawn / kept_reports.ORDERS)]


def test_the_page_on_what_decides_is_drawn_where_one_of_its_results_is_kept(tmp_path, monkeypatch):
    from tests.reports.decides.folders import WRITERS

    kept, drawn = tmp_path / "kept", tmp_path / "drawn"
    kept.mkdir()
    WRITERS["experts-at-scale"](drawn / "experts-at-scale")
    (kept / "experts-at-scale").symlink_to(drawn / "experts-at-scale")
    for name, changed in {"KEPT": kept, "DRAWN": drawn}.items():
        monkeypatch.setattr(kept_reports, name, changed)
    monkeypatch.setattr(kept_reports, "ProcessPoolExecutor", lambda *given: NoWorkers())
    for pictures in ("write_drawing", "write_pages"):
        monkeypatch.setattr(f"reports.render.{pictures}", lambda *given: None)
    monkeypatch.setattr("reports.page.leaderboard.write_leaderboard", lambda *given: None)
    monkeypatch.setattr("reports.paper.orders_report.render_orders", lambda *given: None)
    kept_reports.main()
    page = (drawn / kept_reports.DECIDES / "report.md").read_text(encoding="utf-8")
    assert "Not there: curves, curves-worlds, heterogeneity-apart" in page
    assert "Experts: RankMixer (dtsi-relu-1/8) minus RankMixer (dense-1/8) in AUC of finish is " in page


class NoWorkers(AbstractContextManager):
    """In place of processes that draw the reports of kept results."""

    def __exit__(self, *given: object) -> None:
        pass

    def map(self, *given: object) -> list[Path]:
        return []


def test_the_kept_results_whose_orders_are_compared_are_there():
    assert set(kept_reports.ORDERED) <= {folder.name for folder in FOLDERS}


def test_markdown_that_drawn_pages_lead_to_is_on_the_site_as_it_is(hooks, tmp_path):
    (tmp_path / "quick/tables").mkdir()
    (tmp_path / "quick/tables/auc.md").write_text("| a |", encoding="utf-8")
    hooks.on_post_build(SimpleNamespace(site_dir=str(tmp_path / "site")))
    site = tmp_path / "site/reports/measured"
    found = {
        path.relative_to(site).as_posix(): path.read_text() for path in site.rglob("*") if path.is_file()
    }
    assert found == {"quick/report.md": PAGE, "quick/tables/auc.md": "| a |"}


def test_the_search_leaves_drawn_reports_out(hooks):
    for name, is_drawn in (
        ("quick/report.md", True),
        ("profile-table1/profile.md", True),
        ("README.md", False),
    ):
        page = SimpleNamespace(file=SimpleNamespace(src_uri=f"reports/measured/{name}"), meta={})
        hooks.on_page_markdown("text", page, None, Site())
        assert (page.meta == {"search": {"exclude": True}}) == is_drawn


class Site:
    """The one thing that a page's links are looked up in."""

    def get_file_from_path(self, path: str) -> str | None:
        on_site = ("reports/measured/README.md", "reports/measured/quick/report.md", "README.md")
        return path if path in on_site else None


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("[q](quick)", "[q](quick/report.md)"),
        ("[q](quick/)", "[q](quick/report.md)"),
        ("[t](table1)", "t"),  # its page is not drawn
        ("[p](paper-scale.txt)", "p"),
        ("[r](../../README.md#a)", "[r](../../README.md#a)"),
        ("[n](../../notebooks/1_a.ipynb)", "[n](../../notebooks/1_a.md)"),
        ("[x](absent)", "[x](absent)"),  # mkdocs complains of it
        ("![d](quick/figures/a.png)", "![d](quick/figures/a.png)"),
        ("```\n[q](quick)\n```", "```\n[q](quick)\n```"),
    ],
)
def test_a_link_to_a_kept_folder_leads_to_its_page_on_the_site(hooks, link, expected):
    class Page:
        class file:  # noqa: N801
            src_uri = "reports/measured/README.md"

    assert hooks.on_page_markdown(link, Page, None, Site()) == expected
