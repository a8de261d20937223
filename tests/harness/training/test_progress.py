"""What the terminal shows of a training run, as a terminal emulator's text and as lines of a file."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from harness.training import progress
from harness.training.progress import Terminal

SPEC = SimpleNamespace(title="log [/x] seed 0")


def shown(is_terminal: bool, monkeypatch) -> tuple[Terminal, io.StringIO]:
    """A watcher, and what it writes to a terminal or a file."""
    monkeypatch.setattr(progress, "PLAIN_INTERVAL_SECONDS", -1.0)
    written = io.StringIO()
    terminal = Terminal()
    terminal._console = Console(file=written, force_terminal=is_terminal, highlight=False, width=120)
    return terminal, written


@pytest.mark.parametrize("is_terminal", [True, False], ids=["terminal", "file"])
def test_before_the_first_steps_no_loss_is_shown_and_after_them_the_loss(is_terminal, monkeypatch):
    terminal, written = shown(is_terminal, monkeypatch)
    terminal.start(SPEC, 0, 1000)
    at_first = written.getvalue()
    terminal.advance(400, 0.51234, 2345.6)
    if terminal._bar is not None:
        terminal._bar.refresh()
    terminal.finish()
    text = re.sub(r"\x1b\[[0-9?;]*[a-zA-Z]", "", written.getvalue())
    assert "nan" not in text
    assert ("log [/x] seed 0" in at_first) == is_terminal
    assert "loss" not in at_first
    assert "loss 0.5123, 2,346 samples/s" in text


@pytest.mark.parametrize("is_terminal", [True, False], ids=["terminal", "file"])
def test_of_runs_at_once_one_line_says_how_far_each_is(is_terminal, monkeypatch):
    terminal, written = shown(is_terminal, monkeypatch)
    one, other = terminal.beside_others(), terminal.beside_others()
    one.start(SPEC, 0, 1000)
    other.start(SimpleNamespace(title="log b"), 500, 1000)
    one.advance(400, 0.5, 2000.0)
    if one._line._live is not None:
        one._line._live.refresh()
    other.note("[1/2] log c: AUC 0.7")
    one.finish()
    other.advance(750, 0.5, 2000.0)
    if one._line._live is not None:
        one._line._live.refresh()
    other.finish()
    terminal.note("the end")
    text = re.sub(r"\x1b\[[0-9?;]*[a-zA-Z]", "", written.getvalue())
    assert "2 running: log [/x] seed 0 40%, log b 50%" in text
    assert "1 running: log b 75%" in text
    assert text.index("[1/2] log c: AUC 0.7") < text.index("1 running: log b 75%")
    assert text.splitlines()[-1].strip() == "the end"


def test_runs_at_once_that_are_written_to_a_file_are_told_now_and_then(monkeypatch):
    terminal, written = shown(False, monkeypatch)
    monkeypatch.setattr(progress, "PLAIN_INTERVAL_SECONDS", 1000.0)
    for run in [terminal.beside_others() for _ in range(3)]:
        run.start(SPEC, 0, 1000)
        run.advance(400, 0.5, 2000.0)
        run.finish()
    assert written.getvalue() == ""
