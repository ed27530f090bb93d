"""Control characters of names, files and servers never reach a terminal, whichever command prints them."""

from __future__ import annotations

import io
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from rrid_edge.cli.common import ProgressBar, print_json, say, show
from rrid_edge.cli.terminal import PlainStream, plain, plain_output
from rrid_edge.engines.fake import fake_spec
from rrid_edge.gallery.base import NewRow
from rrid_edge.gallery.opening import open_store
from rrid_edge.json_text import name_of_text, text_of_name
from rrid_edge.machine.doctor import Finding
from support.commands import Outcome, rrid_edge
from support.onnx_models import save_tiny_model
from support.pictures import noise

HOSTILE = "[red]\x1b[31m\x9b31m\x07\r\x7f\u202e\u2066\u2028\u2029\u0085\ufeff\U000e0041\nFORGED"
"""C0, C1, DEL, marks of direction, line separators, a byte order mark, a tag, and a line of its own."""
NAME = os.fsdecode(b"\xff") + HOSTILE
"""The name of a file, with a byte that is no UTF-8."""
COMMANDS = [
    *(
        ("demo-data", "--people", "0"),
        ("prepare",),
        ("train",),
        ("evaluate",),
        ("export",),
        ("calibrate",),
        ("parity",),
        ("index",),
    ),
    *(("match",), ("bench",), ("info",), ("doctor",), ("gallery",), ()),
    *(("gallery", name) for name in ("list", "verify", "compact", "export", "copy", "forget", "unforget", "retention")),
]


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def _harmless(outcome: Outcome) -> Outcome:
    text = outcome.out + outcome.err
    assert [char for char in text if not char.isprintable() and char != "\n"] == []
    assert [line for line in text.splitlines() if line.startswith("FORGED")] == []
    return outcome


@pytest.fixture(autouse=True)
def desk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: "-".join(command) or "none")
def test_arguments_that_are_refused(command):
    for arguments in (["--" + NAME], [NAME], [NAME, NAME, NAME]):
        outcome = _harmless(rrid_edge(*command, *arguments))
        assert outcome.code in (2, 3, 4), outcome


def _gallery() -> str:
    """A gallery whose every text is hostile."""
    folder = Path(f"crops{NAME}")
    folder.mkdir()
    noise(0).save(folder / f"a{os.fsdecode(bytes([255]))}.png")
    (folder / f"{NAME}.png").write_bytes(b"no picture")
    model = save_tiny_model(Path(f"m{HOSTILE}.onnx"), replace(fake_spec(), training_data=HOSTILE, backbone="a\x1b\x9b"))
    _harmless(rrid_edge("index", folder, "--model", model, "--source", HOSTILE))
    with open_store(folder / ".rrid-edge", write=True) as gallery:
        row = NewRow(None, camera="c" + HOSTILE, person=HOSTILE, label=HOSTILE, track=HOSTILE, source="x" + HOSTILE)
        gallery.add([row], np.eye(1, 240, dtype=np.float32))
    return str(folder)


def _commands(folder: str, model: str) -> list[tuple[str, ...]]:
    return [
        ("info", model),
        ("info", model, "--json"),
        ("parity", model),
        ("calibrate", model, "--images", "."),
        ("export", model),
        ("evaluate", model, "--dataset", folder),
        ("index", folder),
        ("index", folder, "--watch", "--model", folder),
        ("prepare", "folders", folder, f"out{NAME}"),
        ("train", "--dataset-path", folder),
        ("gallery", "retention", folder),
        ("gallery", "verify", folder),
        ("gallery", "forget", folder, "--person", HOSTILE, "--dry-run"),
        ("gallery", "export", folder, f"e{NAME}.npz"),
        ("gallery", "copy", folder, f"copy{NAME}"),
    ]


def test_names_that_are_answers(monkeypatch):
    folder = _gallery()
    listed = _harmless(rrid_edge("gallery", "list", folder))
    assert listed.code == 0
    assert "\\x1b[31m" in listed.out
    _harmless(rrid_edge("gallery", "list", folder, "--json"))
    query = f"{folder}/a{os.fsdecode(bytes([255]))}.png"
    for options in ((), ("--json",), ("--explain", "--sheet", f"s{NAME}.png", "--report", f"r{NAME}.html")):
        assert _harmless(rrid_edge("match", query, folder, *options)).code == 0
    for command in _commands(folder, f"m{HOSTILE}.onnx"):
        _harmless(rrid_edge(*command))
    monkeypatch.setattr("rrid_edge.machine.doctor.examine", lambda: [Finding(HOSTILE, "ok", HOSTILE, HOSTILE)])
    assert "\\x1b" in _harmless(rrid_edge("doctor")).out
    assert json.loads(_harmless(rrid_edge("doctor", "--json")).out)[0]["name"] == HOSTILE


def test_every_line_is_one_line(capsys):
    say(HOSTILE)
    show(HOSTILE)
    printed = capsys.readouterr()
    assert printed.out == printed.err
    assert printed.out.count("\n") == 1
    assert "\\nFORGED\n" in printed.out


def test_json_keeps_every_character_as_an_escape(capsys):
    value = {NAME: [NAME, "caf\u00e9 \u4eba \U0001f9cd"]}
    print_json(value)
    printed = capsys.readouterr().out
    told = text_of_name(NAME)
    assert json.loads(printed) == {told: [told, "caf\u00e9 \u4eba \U0001f9cd"]}
    assert name_of_text(told) == NAME
    assert "\\u009b31m" in printed
    assert "\\udb40\\udc41" in printed
    assert "caf\u00e9 \u4eba \U0001f9cd" in printed
    assert all(line.isprintable() for line in printed.splitlines())


def test_text_without_control_characters_is_unchanged():
    for text in ("", "\n", "a\n\nb ", "caf\u00e9 \u4eba \U0001f9cd [red]"):
        assert plain(text) == text


def test_a_bar_is_drawn_and_lines_beside_it_are_plain(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr(sys, "stdout", Terminal())
    before = sys.stdout, sys.stderr
    with plain_output(), ProgressBar("copying[red]") as bar:
        bar.start(3)
        print("a\x1b[35mb\x1b]0;title\x07", file=sys.stderr)
        bar.advance(3)
    assert (sys.stdout, sys.stderr) == before
    drawn = terminal.getvalue()
    assert "copying[red]" in drawn
    assert "a\\x1b[35mb\\x1b]0;title\\x07" in drawn
    assert "\x1b[" in drawn  # of the bar


class _Target(NamedTuple):
    stream: io.TextIOWrapper
    content: io.BytesIO


def _target(encoding: str) -> _Target:
    content = io.BytesIO()
    return _Target(io.TextIOWrapper(content, encoding=encoding), content)


@pytest.mark.parametrize(
    ("encoding", "expected"), [("ascii", b"\\xe9 \\u4eba\\x9b"), ("latin-1", b"\xe9 \\u4eba\\x9b")]
)
def test_a_terminal_of_few_characters_gets_escapes(encoding, expected):
    target = _target(encoding)
    stream = PlainStream(target.stream)
    assert stream.write("\u00e9 \u4eba\x9b") == 4
    stream.flush()
    stream.close()
    assert target.content.getvalue() == expected
    assert not target.stream.closed


def test_a_process_without_output_prints_nothing():
    stream = PlainStream(None)
    print("text", file=stream, flush=True)
    assert not stream.isatty()
    with pytest.raises(io.UnsupportedOperation):
        stream.fileno()
