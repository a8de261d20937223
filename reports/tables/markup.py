"""A table as CSV, Markdown and LaTeX, with every name that users chose escaped.

pandas' Styler writes the LaTeX. Markdown is written here: pandas would need tabulate for it, and neither has
reference rows that stand apart.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from string import Template

import pandas as pd

from reports.cells import Shown
from reports.files import write_csv, write_text


@dataclass(frozen=True)
class Table:
    """``numbers`` is what the CSV holds; ``header`` and ``rows`` are what people read.

    ``references`` are the rows of references, which are shown apart. All cells are plain text. In the columns
    that ``ranked`` names, LaTeX marks the highest and the second highest of the values that were tested.
    ``groups`` are words that some headings begin with; LaTeX has them once above their columns.
    """

    name: str
    caption: str
    numbers: pd.DataFrame
    header: list[str]
    rows: list[list[str]]
    references: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    ranked: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)

    @classmethod
    def from_columns(
        cls,
        name: str,
        caption: str,
        numbers: pd.DataFrame,
        columns: dict[str, list[str]],
        notes: list[str],
        num_references: int = 0,
        ranked: Iterable[str] = (),
    ) -> Table:
        """The table with these columns by title; the last ``num_references`` cells belong to references."""
        rows = [list(cells) for cells in zip(*columns.values(), strict=True)]
        split = len(rows) - num_references
        return cls(name, caption, numbers, list(columns), rows[:split], rows[split:], notes, list(ranked))


NO_CONTESTANTS = "no contestants, for reference:"


def write_table(table: Table, folder: Path) -> None:
    """Write ``<name>.csv``, ``<name>.md`` and ``<name>.tex`` to ``folder``."""
    write_csv(folder / f"{table.name}.csv", table.numbers)
    write_text(folder / f"{table.name}.md", markdown_table(table))
    write_text(folder / f"{table.name}.tex", latex_table(table))


# --- Markdown -------------------------------------------------------------------------------------------

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def markdown(text: str) -> str:
    """``text`` so that Markdown shows it as it is: one line, no markup, no HTML."""
    text = " ".join(text.split())
    text = re.sub(r"[\\`*\[\]|#$~]", lambda match: "\\" + match[0], text)
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)  # inside a word an underscore is only itself
    return re.sub(r"[&<>]", lambda match: _ENTITIES[match[0]], text)


def bullet_list(sentences: list[str]) -> str:
    """The sentences as a Markdown list, escaped."""
    return "\n".join(f"- {markdown(sentence)}" for sentence in sentences)


def code_block(text: str) -> str:
    """``text`` in a fence that it cannot close."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text.strip()}\n{fence}"


def markdown_table(table: Table) -> str:
    """The table under its caption, with its notes below."""
    width = len(table.header)
    rows = [table.header, *table.rows]
    if table.references:
        rows += [[NO_CONTESTANTS] + [""] * (width - 1), *table.references]
    lines = [_markdown_row(row) for row in rows]
    lines.insert(1, "|" + " --- |" + " ---: |" * (width - 1))
    notes = [f"- {markdown(note)}" for note in table.notes]
    return "\n".join([f"**{markdown(table.caption)}**", "", *lines, "", *notes]).rstrip() + "\n"


def _markdown_row(cells: list[str]) -> str:
    shown = [f"*{markdown(cell)}*" if cell == NO_CONTESTANTS else markdown(cell) for cell in cells]
    return "| " + " | ".join(shown) + " |"


# --- LaTeX ----------------------------------------------------------------------------------------------

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "[": "{[}",
    "]": "{]}",
    "\N{EN DASH}": r"\textendash{}",
    "\N{MINUS SIGN}": "$-$",
    "±": r"$\pm$",
    "≈": r"$\approx$",
    "†": r"$^\dagger$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
}


def latex(text: str) -> str:
    """``text`` so that LaTeX prints it as it is; letters that pdflatex lacks become their code points."""
    shown = "".join(map(_latex_character, " ".join(text.split())))
    return re.sub(r"-(?=-)", "-{}", shown)  # two hyphens are no dash


def _latex_character(character: str) -> str:
    if character in _LATEX:
        return _LATEX[character]
    if character.isascii():
        return character if character.isprintable() else ""
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return "".join(_LATEX.get(c, c) for c in plain) or f"{{[}}U+{ord(character):04X}{{]}}"


RANK_NOTE = (
    "Bold: the highest difference of its column, underlined: the second, among the base and the rows whose "
    "difference was tested. The marks do not tell these rows apart from each other."
)


def latex_table(table: Table) -> str:
    """A ``table`` float for ``\\input``, labelled ``tab:<name>``; needs booktabs and graphicx."""
    rows = [*_marked_rows(table), *(list(map(latex, row)) for row in table.references)]
    frame = pd.DataFrame(rows, columns=_latex_header(table))
    if table.references:
        words = rf"\midrule\makebox[0pt][l]{{\emph{{{latex(NO_CONTESTANTS)}}}}}"
        apart = pd.DataFrame([[words, *[""] * (len(table.header) - 1)]], columns=frame.columns)
        frame = pd.concat([frame[: len(table.rows)], apart, frame[len(table.rows) :]], ignore_index=True)
    columns = "l" + "r" * (len(table.header) - 1)
    tabular = frame.style.hide(axis="index").to_latex(hrules=True, column_format=columns, multicol_align="c")
    if table.groups:
        first, *after = tabular.split("\\\\\n")
        tabular = "\\\\\n".join([first, _rules_below_groups(table) + after[0], *after[1:]])
    sentences = [*table.notes, *([RANK_NOTE] if table.ranked else [])]
    notes = _NOTES.substitute(notes=r" \\ ".join(map(latex, sentences))) if sentences else ""
    return _FLOAT.substitute(
        caption=latex(table.caption), name=table.name, tabular=tabular.rstrip(), notes=notes
    )


def _marked_rows(table: Table) -> list[list[str]]:
    """The rows in LaTeX, the highest of each ranked column in bold and the second underlined."""
    rows = [list(map(latex, row)) for row in table.rows]
    for at, title in enumerate(table.header):
        tested = [
            (cell.value, number)
            for number, row in enumerate(table.rows)
            if title in table.ranked
            and isinstance(cell := row[at], Shown)
            and cell.value is not None
            and cell.claimed
        ]
        for (_, number), command in zip(sorted(tested)[::-1], (r"\textbf", r"\underline"), strict=False):
            rows[number][at] = f"{command}{{{rows[number][at]}}}"
    return rows


def _group(title: str, table: Table) -> str:
    return max((group for group in table.groups if title.startswith(f"{group} ")), key=len, default="")


def _latex_header(table: Table) -> list[str] | pd.MultiIndex:
    if not table.groups:
        return list(map(latex, table.header))
    groups = [_group(title, table) for title in table.header]
    titles = [title.removeprefix(group).lstrip() for title, group in zip(table.header, groups, strict=True)]
    return pd.MultiIndex.from_tuples(zip(map(latex, groups), map(latex, titles), strict=True))


def _rules_below_groups(table: Table) -> str:
    at, rules = 1, ""
    for group, titles in groupby(table.header, lambda title: _group(title, table)):
        width = len(list(titles))
        rules += rf"\cmidrule(lr){{{at}-{at + width - 1}}}" if group else ""
        at += width
    return rules + "\n"


_FLOAT = Template(r"""\begin{table}[htbp]
\centering
\caption{$caption}
\label{tab:$name}
\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%
$tabular}
$notes\end{table}
""")
_NOTES = Template(r"""\par\smallskip\begin{minipage}{\linewidth}\footnotesize $notes\end{minipage}
""")


def latex_document(tables: list[Table], of_a_paper: bool = False) -> str:
    """A document that shows all ``tables`` from the ``.tex`` files in its folder, in columns of 3.3 inches
    if it is ``of_a_paper``.
    """
    inputs = "\n".join(rf"\input{{{table.name}.tex}}" for table in tables)
    options, page = ("10pt", "a4paper,landscape,margin=15mm")
    if of_a_paper:
        options, page = "10pt,twocolumn", "letterpaper,textwidth=7in,columnsep=0.4in"
    return _DOCUMENT.substitute(options=options, page=page, inputs=inputs)


_DOCUMENT = Template(r"""\documentclass[$options]{article}
\usepackage[T1]{fontenc}
\usepackage[$page]{geometry}
\usepackage{booktabs,graphicx}
\begin{document}
$inputs
\end{document}
""")
