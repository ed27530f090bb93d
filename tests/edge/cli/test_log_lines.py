"""Lines about long work where stderr is no terminal: their form, and that short work has none."""

from __future__ import annotations

import io
import json
import pkgutil
import re
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from rrid_edge import progress
from rrid_edge.cli.common import ProgressBar
from rrid_edge.cli.log_lines import log_lines, say_between_lines
from rrid_edge.cli.terminal import PlainStream, plain_output
from support.commands import Outcome, rrid_edge

LINE = re.compile(r"\d+:\d\d  \S.*")


def _slowed(monkeypatch: pytest.MonkeyPatch, function: str, pause_s: float = 0.1) -> None:
    """Let a function take long, as seen by a command whose lines come often."""
    real: Callable[..., Any] = pkgutil.resolve_name(function)

    def slow(*arguments: Any, **names: Any) -> Any:
        time.sleep(pause_s)
        return real(*arguments, **names)

    monkeypatch.setattr(function, slow)
    monkeypatch.setattr(progress, "PAUSE_S", 0.02)


def _lines(outcome: Outcome, words: str) -> list[str]:
    """The lines about long work, which must hold ``words``. All are plain text."""
    assert outcome.code == 0, outcome
    assert not set("\r\x1b\b") & set(outcome.err + outcome.out)
    found = [line for line in outcome.err.splitlines() if LINE.fullmatch(line)]
    assert any(words in line for line in found), outcome.err
    return found


def test_indexing_tells_how_far_it_is(desk, monkeypatch):
    _slowed(monkeypatch, "rrid_edge.gallery.indexing.writing.GalleryWriter.take")
    outcome = rrid_edge("index", "gallery", "--model", "rrid.onnx", "--batch", 4, "--json")
    assert json.loads(outcome.out)["added"] == 12
    counted = [line for line in _lines(outcome, "indexing: ") if "indexing" in line]
    form = r"\d+:\d\d  indexing: (\d+ of 12 \(\d+ %\), )?(\d+:\d\d so far|.* (per s|s each), \d+:\d\d left)"
    assert all(re.fullmatch(form, line) for line in counted), counted


@pytest.mark.parametrize(
    ("arguments", "function", "words"),
    [
        (("match", "gallery/0000.png", "gallery"), "rrid_edge.matching.ranking._answered", "searching: "),
        (("gallery", "verify", "gallery"), "rrid_edge.gallery.local.verifying._verify", "checking the index: "),
        (("gallery", "copy", "gallery", "other"), "rrid_edge.gallery.indexing.copying._Copy.batch", "copying: 0 of 12"),
        (("gallery", "export", "gallery", "--output", "d.npz"), "rrid_edge.gallery.exporting.write_array", "working"),
        (("gallery", "compact", "gallery"), "rrid_edge.gallery.local.maintenance.commit", "writing the vectors"),
        (("gallery", "forget", "gallery", "0001.png"), "rrid_edge.gallery.indexing.forgetting._states", "forgetting"),
        (
            ("embed-many", "--no-ray", "--input", "gallery", "--gallery", "g", "--model", "rrid.onnx"),
            "rrid_edge.gallery.bulk.embedding.BatchEmbedder.embed",
            "embedding: 0 of 12",
        ),
        (("doctor",), "rrid_edge.machine.doctor.examine", "rrid-edge doctor is working"),
    ],
    ids=lambda value: value[:2] if isinstance(value, tuple) else None,
)
def test_commands_tell_what_they_do(desk, monkeypatch, arguments, function, words):
    names = {path.name for path in (desk / "gallery").iterdir()}
    assert rrid_edge("index", "gallery", "--model", "rrid.onnx").code == 0
    known = sorted(names)
    given = [word.replace("0000.png", known[0]).replace("0001.png", known[1]) for word in arguments]
    _slowed(monkeypatch, function)
    _lines(rrid_edge(*given), words)


def test_short_work_has_no_such_line(desk):
    for arguments in (("index", "gallery", "--model", "rrid.onnx"), ("gallery", "verify", "gallery")):
        outcome = rrid_edge(*arguments)
        assert outcome.code == 0
        assert not [line for line in outcome.err.splitlines() if LINE.fullmatch(line)]
    assert not [thread for thread in threading.enumerate() if thread.name == "progress"]


def test_the_service_has_no_such_lines(monkeypatch):
    monkeypatch.setattr(progress, "PAUSE_S", 0.01)
    with log_lines("serve"):
        assert progress.reporter_here() is None


def test_no_line_comes_after_a_result(monkeypatch, capsys):
    """A pager shows the result while the command still writes it."""
    monkeypatch.setattr(progress, "PAUSE_S", 0.01)
    with plain_output(), log_lines("gallery"):
        reporter = progress.reporter_here()
        assert reporter is not None
        assert reporter.line() == "0:00  rrid-edge gallery is working"
        print("result")
        assert reporter.line() is None
        with progress.step("drawing"):
            assert reporter.line() == "0:00  drawing: 0:00 so far"
    assert capsys.readouterr().out == "result\n"


def test_a_line_never_comes_in_the_middle_of_another(monkeypatch):
    monkeypatch.setattr(sys, "stderr", PlainStream(written := io.StringIO()))
    sys.stderr.write("begun")
    teller = threading.Thread(target=say_between_lines, args=("0:30  indexing",))
    teller.start()
    time.sleep(0.1)
    sys.stderr.write(" and ended\n")
    teller.join()
    assert written.getvalue() == "begun and ended\n0:30  indexing\n"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_and_no_lines(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", _Terminal())
    with log_lines("index"):
        reporter = progress.reporter_here()
        assert reporter is not None
        with ProgressBar("indexing") as bar:
            bar.start(3)
            assert reporter.is_quiet
        assert not reporter.is_quiet
