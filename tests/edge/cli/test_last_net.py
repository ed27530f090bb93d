"""The last net: an error that nobody foresaw ends a command with code 5 and one line, and leaves a report."""

from __future__ import annotations

import errno
import gc
import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rrid_edge.cli import last_net
from rrid_edge.cli.app import COMMANDS, run
from rrid_edge.errors import UsageError, item_at_work
from rrid_edge.machine import error_reports
from support.commands import Outcome, rrid_edge

CALLS = {
    "demo-data": (("out",), "rrid_train.demo.synthetic.write_demo_data"),
    "prepare": (("market1501", ".", "out"), "rrid_edge.cli.prepare.require"),
    "train": (("--dataset-path", "."), "rrid_train.loop.train"),
    "evaluate": (("m.onnx", "--dataset", "."), "rrid_train.data.layout.load_dataset"),
    "export": (("m.onnx",), "rrid_edge.model.names.kind_of"),
    "adopt": (("m.onnx", "--preset", "torchreid"), "rrid_export.adopt.foreign.read_foreign"),
    "calibrate": (("m.onnx", "--images", "."), "rrid_calib.calibrate.calibrate"),
    "engine": (("adopt", "m.engine", "--onnx", "m.onnx"), "rrid_export.tensorrt.adopting.adopt_plan"),
    "parity": ((), "rrid_edge.model.choice.choose_model"),
    "index": ((".",), "rrid_edge.gallery.opening.location_of"),
    "match": (("q.jpg", "."), "rrid_edge.embedding.queries.query_files"),
    "serve": ((".", "--port", "0"), "rrid_edge.serve.service.location_of"),
    "gallery": (("list", "."), "rrid_edge.gallery.opening.open_store"),
    "embed-many": (("--no-ray", "--input", ".", "--gallery", "g"), "rrid_edge.gallery.bulk.inputs.open_input"),
    "bench": ((), "rrid_edge.model.choice.choose_model"),
    "info": ((), "rrid_edge.model.choice.choose_model"),
    "doctor": ((), "rrid_edge.machine.doctor.examine"),
    "help": (("match",), "rrid_edge.cli.manual._context_of"),
}
"""Arguments of each command, and a function of the library that it calls with them."""


@pytest.fixture(autouse=True)
def _state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


def _reports(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "state" / "rrid-edge" / "errors").glob("rrid-edge-error-*.txt"))


def _break(monkeypatch: pytest.MonkeyPatch, function: str, error: BaseException) -> None:
    def broken(*_arguments: object, **_named: object) -> None:
        with item_at_work("crops/a.jpg"):
            raise error

    monkeypatch.setattr(function, broken)


def _one_line(outcome: Outcome, *words: str) -> None:
    (line,) = outcome.err.splitlines()
    assert outcome.code == 5
    assert line.startswith("rrid-edge: unexpected ")
    assert line.isprintable()
    for word in words:
        assert word in line


def test_the_calls_cover_every_command():
    assert CALLS.keys() == COMMANDS.keys()


@pytest.mark.parametrize("command", CALLS)
def test_an_unforeseen_error_is_one_line_with_a_report(tmp_path, monkeypatch, command):
    arguments, function = CALLS[command]
    _break(monkeypatch, function, RuntimeError("boom\n\x1b[31m"))
    outcome = rrid_edge(command, *arguments)
    (report,) = _reports(tmp_path)
    _one_line(outcome, "RuntimeError while working on crops/a.jpg: boom \\x1b[31m; please send", str(report))
    text = report.read_text()
    for word in (
        "Traceback",
        "in broken",
        "boom",
        "\nitem             crops/a.jpg\n",
        f"rrid-edge {command}",
        "\nnumpy ",
    ):
        assert word in text
    assert report.stat().st_mode & 0o777 == 0o600
    assert report.parent.stat().st_mode & 0o777 == 0o700
    assert all(line.isprintable() for line in text.splitlines())
    debugged = rrid_edge("--debug", command, *arguments)
    assert debugged.code == 5
    assert "Traceback" in debugged.err
    assert "in broken" in debugged.err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RecursionError("deep"),
        EOFError("short"),
        SystemExit(1),
        SystemExit("words"),
        ImportError("no module"),
        ConnectionResetError(errno.ECONNRESET, "reset"),
        OSError("no number"),
        BaseException("of another language"),
    ],
    ids=lambda error: f"{type(error).__name__}-{len(str(error))}",
)
def test_no_kind_of_error_ends_otherwise(monkeypatch, error):
    _break(monkeypatch, "rrid_edge.machine.doctor.examine", error)
    _one_line(rrid_edge("doctor"), type(error).__name__)


def test_errors_of_imports_and_options_are_caught(monkeypatch):
    def broken(*_arguments: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("rrid_edge.cli.app._show_version", broken)
    monkeypatch.setattr("rrid_edge.cli.app.register", broken)
    _one_line(rrid_edge("doctor"), "RuntimeError in rrid-edge doctor: boom")


def test_an_error_while_printing_is_caught(monkeypatch):
    monkeypatch.setattr("rrid_edge.cli.common.print_json", _Unspeakable.__str__)
    monkeypatch.setattr("rrid_edge.cli.doctor.print_json", _Unspeakable.__str__)
    _one_line(rrid_edge("doctor", "--json"), "ZeroDivisionError")
    _break(monkeypatch, "rrid_edge.machine.doctor.examine", _UnspeakableError())
    _one_line(rrid_edge("doctor"), "unexpected _UnspeakableError while working on crops/a.jpg; please send")


class _Unspeakable:
    def __str__(self) -> str:
        return str(1 // 0)


class _UnspeakableError(_Unspeakable, RuntimeError):
    pass


def test_ctrl_c_ends_with_130(monkeypatch):
    _break(monkeypatch, "rrid_edge.machine.doctor.examine", KeyboardInterrupt())
    assert rrid_edge("doctor") == Outcome(130, "", "stopped by SIGINT; no result was written\n")


def test_errors_of_the_file_system_stay_bad_input(tmp_path, monkeypatch):
    _break(monkeypatch, "rrid_edge.machine.doctor.examine", OSError(errno.ENOSPC, "No space left on device", "a\nb"))
    assert rrid_edge("doctor") == Outcome(
        2, "", "rrid-edge: a\\nb: No space left on device; free space, or write elsewhere\n"
    )
    _break(monkeypatch, "rrid_edge.machine.doctor.examine", OSError(errno.ENOSPC, "No space left on device"))
    assert (
        rrid_edge("doctor").err == "rrid-edge: crops/a.jpg: No space left on device; free space, or write elsewhere\n"
    )
    assert _reports(tmp_path) == []


@pytest.mark.parametrize("state", ["file", "no home"])
def test_without_a_report_the_line_says_how_to_see_the_traceback(tmp_path, monkeypatch, state):
    if state == "file":
        (tmp_path / "state").touch()
    else:
        monkeypatch.delenv("XDG_STATE_HOME")
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    _break(monkeypatch, "rrid_edge.machine.doctor.examine", RuntimeError("boom"))
    _one_line(rrid_edge("doctor"), "crops/a.jpg: boom; no report could be written: repeat with --debug")


def test_a_hint_that_fails_costs_the_hint_only(monkeypatch):
    monkeypatch.setattr("rrid_edge.cli.app.ways_to_set", _Unspeakable.__str__)
    _break(monkeypatch, "rrid_edge.machine.doctor.examine", UsageError("wrong", parameter="model"))
    assert rrid_edge("doctor") == Outcome(2, "", "rrid-edge: wrong\n")


def test_the_newest_reports_are_kept(tmp_path, monkeypatch):
    _break(monkeypatch, "rrid_edge.machine.doctor.examine", RuntimeError("boom"))
    folder = tmp_path / "state" / "rrid-edge" / "errors"
    folder.mkdir(parents=True)
    (folder / "other.txt").touch()
    for second in range(error_reports.MOST_REPORTS + 3):
        (folder / f"rrid-edge-error-20200101T0000{second:02}000000-1.txt").touch()
    rrid_edge("doctor")
    names = [path.name for path in _reports(tmp_path)]
    assert len(names) == error_reports.MOST_REPORTS
    assert names[0] == "rrid-edge-error-20200101T000004000000-1.txt"
    assert not names[-1].startswith("rrid-edge-error-2020")
    assert (folder / "other.txt").exists()


def test_reports_and_lines_hold_no_secrets(tmp_path, monkeypatch):
    monkeypatch.setenv("RRID_EDGE_MILVUS_TOKEN", "root:hunter22")
    secret = "Basic cm9vdDpodW50ZXIyMg==, hunter22, "
    secret += "http://me:pass1word@host/x, token='t0ken', {'api_key': 'k3y'}, --password=pa55"
    _break(monkeypatch, "rrid_edge.gallery.opening.open_store", RuntimeError(secret))
    outcome = rrid_edge("gallery", "list", ".")
    monkeypatch.setattr("rrid_edge.gallery.opening.open_store", lambda _location: 1 // 0)
    named = rrid_edge("gallery", "list", "hunter22/\x1b/" + 200 * "x")
    assert "ZeroDivisionError in rrid-edge gallery list ***/\\x1b/xxx" in named.err
    assert "xxx…: integer division" in named.err
    report = _reports(tmp_path)[0]
    for word in ("hunter22", "cm9vdDpodW50ZXIyMg", "pass1word", "t0ken", "k3y", "pa55"):
        assert word not in outcome.err
        assert word not in report.read_text()
    assert "@host/x" in report.read_text()
    assert error_reports.without_secret_options(["--token", "abc", "gallery"]) == ["--token", "***", "gallery"]


def test_an_error_of_a_thread_is_one_line_and_costs_the_command_its_success(tmp_path, monkeypatch):
    def start() -> list[object]:
        thread = threading.Thread(target=lambda: [][1])
        thread.start()
        thread.join()
        return []

    monkeypatch.setattr("rrid_edge.machine.doctor.examine", start)
    _one_line(rrid_edge("doctor"), "IndexError in rrid-edge doctor: list index out of range")
    assert len(_reports(tmp_path)) == 1


def test_an_error_of_a_freed_object_is_one_line(monkeypatch):
    class Fragile:
        def __del__(self) -> None:
            raise RuntimeError("boom\x1b")

    def free() -> list[object]:
        Fragile()
        gc.collect()
        return []

    monkeypatch.setattr("rrid_edge.machine.doctor.examine", free)
    outcome = rrid_edge("doctor")
    assert outcome == Outcome(0, outcome.out, "rrid-edge: ignored while an object was freed: RuntimeError: boom\\x1b\n")


def test_a_net_that_cannot_print_still_ends(monkeypatch):
    class Closed:
        def write(self, _text: str) -> None:
            raise ValueError("I/O operation on closed file")

    monkeypatch.setattr(sys, "stderr", Closed())
    with last_net.LastNet([], lambda _parameters: [], debug=False) as net:
        raise RuntimeError("boom")
    assert net.code == 5


_PROGRAM = """
import sys
import rrid_edge.machine.doctor as doctor
from rrid_edge.cli import main
doctor.examine = lambda: {body}
sys.argv = ["rrid-edge", "doctor"]
main()
"""


def _process(body: str, stdout: object = subprocess.PIPE, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(body=body)],
        stdout=stdout,  # type: ignore[call-overload]
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_a_process_ends_as_its_output_does():
    many = "[doctor.Finding('a', 'ok', 'x' * 99)] * 9999"
    read, write = os.pipe()
    os.close(read)
    closed = _process(many, write)
    os.close(write)
    assert (closed.returncode, closed.stderr) == (141, "")
    with Path("/dev/full").open("w") as full:
        for findings in (many, "[doctor.Finding('a', 'ok', 'x')]"):
            done = _process(findings, full)
            assert (done.returncode, done.stderr) == (
                2,
                "rrid-edge: standard output: No space left on device; free space, or write elsewhere\n",
            )


def test_without_stderr_the_exit_code_still_tells(monkeypatch):
    class Full(io.StringIO):
        def write(self, _text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stderr", Full())
    assert run(["info", "nowhere.onnx"]) == 2
    assert run(["no-such-command"]) == 2
    _break(monkeypatch, "rrid_edge.machine.doctor.examine", RuntimeError("boom"))
    assert run(["--debug", "doctor"]) == 5


def test_an_error_before_the_command_is_caught(tmp_path):
    program = (
        "import sys; from rrid_edge.cli import app, main\n"
        "app.keep_to_share = lambda: 1 // 0\n"
        "sys.argv = ['rrid-edge', 'doctor']; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    _one_line(Outcome(done.returncode, done.stdout, done.stderr), "ZeroDivisionError in rrid-edge doctor")
    assert len(_reports(tmp_path)) == 1


def test_a_damaged_installation_is_one_line(tmp_path):
    program = "import sys; sys.modules['typer'] = None; from rrid_edge.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (5, "", 1)
    assert "typer" in done.stderr
