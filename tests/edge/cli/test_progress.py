"""The progress bar of long commands is drawn on a terminal only."""

import io
import sys

import pytest

from rrid_edge.cli.common import ProgressBar


class _Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("total", [3, None])
def test_a_terminal_shows_the_bar_with_its_label(monkeypatch, total):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal := _Terminal())
    with ProgressBar("copying crops") as bar:
        bar.start(total)
        bar.advance(2)
    assert "copying crops" in terminal.getvalue()


@pytest.mark.parametrize(("stream", "total"), [(io.StringIO, 3), (_Terminal, 0)])
def test_nothing_is_drawn_without_a_terminal_or_without_work(monkeypatch, stream, total):
    monkeypatch.setattr(sys, "stderr", stderr := stream())
    with ProgressBar("copying crops") as bar:
        bar.start(total)
        bar.advance(0)
    assert stderr.getvalue() == ""
