"""What stopped work kept: notes of the innermost block, and files that really are where they were to be."""

from __future__ import annotations

import signal

import pytest

from rrid_edge.cli.signals import STOPPING, told_of
from rrid_edge.files import write_text
from rrid_edge.stopping import (
    Results,
    TerminatedError,
    collecting_results,
    going_on,
    kept_if_stopped,
    kept_of,
    note_result,
    stopped_and_told,
    writing_files_only,
)


@going_on("run it again")
@kept_if_stopped(lambda: "outer")
@kept_if_stopped(lambda: "3 stored")
def _work(error: type[BaseException]) -> None:
    raise error("stop")


def _stopped(error: type[KeyboardInterrupt] = KeyboardInterrupt) -> KeyboardInterrupt:
    with pytest.raises(error) as caught:
        _work(error)
    return caught.value


def test_the_innermost_block_tells_what_is_kept():
    assert kept_of(_stopped()) == "3 stored; run it again"
    assert kept_of(KeyboardInterrupt()) is None
    with pytest.raises(ValueError, match="stop") as caught:
        _work(ValueError)
    assert not vars(caught.value)


def test_the_line_names_the_signal():
    assert told_of(_stopped(), Results()) == ("stopped by SIGINT; 3 stored; run it again", 130)
    assert told_of(_stopped(TerminatedError), Results()) == ("stopped by SIGTERM; 3 stored; run it again", 143)
    assert told_of(KeyboardInterrupt(), Results(are_all=False)) == ("stopped by SIGINT", 130)
    assert told_of(stopped_and_told(KeyboardInterrupt()), Results()) == ("", 130)
    assert told_of(ValueError("no signal"), Results()) is None


def test_a_library_that_exits_after_a_signal_is_stopped_too(monkeypatch):
    assert told_of(SystemExit(15), Results()) is None
    monkeypatch.setattr(STOPPING, "seen", signal.SIGTERM)
    assert told_of(SystemExit(15), Results(are_all=False)) == ("stopped by SIGTERM", 143)
    assert told_of(ValueError("of a handler that saves"), Results()) is None
    monkeypatch.setattr(STOPPING, "number", signal.SIGINT)
    assert told_of(ValueError("of a worker that broke"), Results()) == ("stopped by SIGINT; no result was written", 130)


def test_the_line_names_files_that_are_complete(tmp_path):
    results = Results()
    assert told_of(KeyboardInterrupt(), results) == ("stopped by SIGINT; no result was written", 130)
    with collecting_results(results):
        write_text(tmp_path / "a\n.txt", "1")
        with collecting_results(None):
            write_text(tmp_path / "cache.txt", "1")
        (tmp_path / "partial").write_text("2")
        note_result(tmp_path / "b.txt", tmp_path / "partial")  # stopped before the file is renamed
    write_text(tmp_path / "later.txt", "1")
    assert results.written() == [tmp_path / "a\n.txt"]
    expected = f"stopped by SIGINT; written are {tmp_path}/a\\n.txt; run the same command again for the rest"
    assert told_of(KeyboardInterrupt(), results) == (expected, 130)
    (tmp_path / "partial").rename(tmp_path / "b.txt")
    assert results.written() == [tmp_path / "a\n.txt", tmp_path / "b.txt"]
    with collecting_results(results):
        for number in range(5):
            write_text(tmp_path / f"{number}", "")
    told = told_of(KeyboardInterrupt(), results)
    assert told is not None
    assert f"{tmp_path}/2 and 2 more; run" in told[0]


def test_a_command_that_reads_a_gallery_says_that_nothing_was_written():
    results = Results(are_all=False)
    with pytest.raises(KeyboardInterrupt), collecting_results(results), writing_files_only():
        raise KeyboardInterrupt
    assert told_of(KeyboardInterrupt(), results) == ("stopped by SIGINT; no result was written", 130)
