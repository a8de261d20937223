"""The site's pages are the repository's own files, at their own places, so that no link is written twice.

MkDocs knows one folder of pages. In its place this gives it the repository's pages, pictures and notebooks,
these as pages, too, and the pages of kept results that ``docs/kept_reports.py`` drew, which the search leaves
out: they hold the same words forty times. A link to a folder of results or to a notebook leads to its page.
Of links to other folders, to code, and to what a drawn page has beside it, the words alone are left.
"""

from __future__ import annotations

import posixpath
import re
import shutil
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from docs.notebook_pages import notebook_page  # noqa: E402 - MkDocs runs this file alone

PAGES = (
    "README.md",
    "SECURITY.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "*/README.md",
    "docs/*.md",
    "docs/api/*.md",
    "reports/measured/README.md",
)
OTHERS = ("reports/measured/*/figures/*.png", "docs/pictures/*.*", "notebooks/*.ipynb")
KEPT = "reports/measured"
DRAWN = ROOT / "out/measured"  # by docs/kept_reports.py
PAGE_NAMES = ("report.md", "profile.md", "serving_profile.md")
LINKED = {".html", ".png", ".svg", ".csv", ".tex", ".json", ".parquet"}  # what drawn pages lead to
LEADERBOARD = "leaderboard.html"
OVER_SEVERAL = {"what-decides": "What decides", "published-orders": "Published orders"}  # of several folders
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The pages of kept results stand in the navigation under their overview."""
    pages = {path.parent.name: name for name, path in drawn_files().items() if path.name in PAGE_NAMES}
    over_several = [{title: pages.pop(name)} for name, title in OVER_SEVERAL.items() if name in pages]
    drawn = [{folder: name} for folder, name in pages.items()]
    for section in config.nav or []:
        for entry in next(iter(section.values())) if isinstance(section, dict) else []:
            if isinstance(entry, dict) and entry.get("Measured") == f"{KEPT}/README.md":
                front = [{"Leaderboard": f"{KEPT}/{LEADERBOARD}"}] if (DRAWN / LEADERBOARD).is_file() else []
                entry["Measured"] = [*front, *over_several, f"{KEPT}/README.md", *drawn]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The theme's files, and the repository's in place of those of ``docs/``."""
    theme = [file for file in files if not (file.abs_src_path or "").startswith(str(config.docs_dir))]
    found = [path for pattern in (*PAGES, *OTHERS) for path in sorted(ROOT.glob(pattern))]
    own = {path.relative_to(ROOT).as_posix(): path for path in found} | drawn_files()
    notebooks = [path for path in found if path.suffix == ".ipynb"]
    return Files(
        [
            *theme,
            *(File.generated(config, name, abs_src_path=str(path)) for name, path in own.items()),
            *(
                File.generated(config, f"notebooks/{path.stem}.md", content=notebook_page(path))
                for path in notebooks
            ),
        ]
    )


def drawn_files() -> dict[str, Path]:
    """Pages and pictures of kept results by their places on the site, where they were drawn."""
    drawn = {}
    kept = sorted(path.name for path in (ROOT / KEPT).iterdir() if path.is_dir())
    for folder in (DRAWN / name for name in [*kept, *OVER_SEVERAL]):
        pages = [folder / name for name in PAGE_NAMES if (folder / name).is_file()]
        other_files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in LINKED)
        for path in [*pages, *other_files] if pages else []:
            drawn[f"{KEPT}/{path.relative_to(DRAWN).as_posix()}"] = path
    if (DRAWN / LEADERBOARD).is_file():
        drawn[f"{KEPT}/{LEADERBOARD}"] = DRAWN / LEADERBOARD
    return drawn


def on_post_build(config: MkDocsConfig) -> None:
    """Markdown that drawn pages lead to, as it is: MkDocs would make pages of it."""
    for place, path in drawn_files().items():
        if path.name in PAGE_NAMES:
            for text in [path, *path.parent.glob("tables/*.md")]:
                target = Path(config.site_dir) / posixpath.dirname(place) / text.relative_to(path.parent)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(text, target)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page without links to what is in the repository but not on the site."""
    folder, name = posixpath.split(page.file.src_uri)
    if folder.startswith(f"{KEPT}/"):
        page.meta["search"] = {"exclude": True}

    def kept(link: re.Match[str]) -> str:
        words, target = link.groups()
        if re.match(r"[a-z]+:|#", target):
            return link[0]
        path = posixpath.normpath(posixpath.join(folder, target.partition("#")[0]))
        if path.endswith(".ipynb") and folder + "/" + name != path.replace(".ipynb", ".md"):
            return f"[{words}]({target.replace('.ipynb', '.md')})"
        if files.get_file_from_path(path) is not None:
            return link[0]
        for page_name in PAGE_NAMES:
            if files.get_file_from_path(f"{path}/{page_name}") is not None:
                return f"[{words}]({target.rstrip('/')}/{page_name})"
        return words if (ROOT / path).exists() or name in PAGE_NAMES else link[0]

    pieces, end = [], 0
    for fence in FENCED.finditer(markdown):
        pieces += [LINK.sub(kept, markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*pieces, LINK.sub(kept, markdown[end:])])
