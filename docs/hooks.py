"""The site's pages are the repository's own files, at their own places, so that no link is written twice.

MkDocs knows one folder of pages. In its place this gives it the repository's pages, pictures and notebooks.
Of links to folders and to code the words alone are left, and so of a kept report's links to what is not kept.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    "README.md",
    "SECURITY.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "*/README.md",
    "docs/*.md",
    "docs/api/*.md",
    "reports/measured/README.md",
    "reports/measured/*/*.md",
)
OTHERS = ("reports/measured/*/figures/*.png", "notebooks/*.ipynb")
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The theme's files, and the repository's in place of those of ``docs/``."""
    theme = [file for file in files if not (file.abs_src_path or "").startswith(str(config.docs_dir))]
    found = [path for pattern in (*PAGES, *OTHERS) for path in sorted(ROOT.glob(pattern))]
    own = [
        File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)) for path in found
    ]
    return Files([*theme, *own])


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page without links to what is in the repository but not on the site."""
    folder, name = posixpath.split(page.file.src_uri)

    def kept(link: re.Match[str]) -> str:
        words, target = link.groups()
        if re.match(r"[a-z]+:|#", target):
            return link[0]
        path = posixpath.normpath(posixpath.join(folder, target.partition("#")[0]))
        on_site = files.get_file_from_path(path) is not None
        known = (ROOT / path).exists() or name in ("report.md", "profile.md")
        return words if known and not on_site else link[0]

    pieces, end = [], 0
    for fence in FENCED.finditer(markdown):
        pieces += [LINK.sub(kept, markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*pieces, LINK.sub(kept, markdown[end:])])
