"""Temporary files of killed writers: the next writer removes them, but never those of a living one."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import SafetensorError

from rrid_edge import files
from rrid_edge.errors import CheckFailedError, OutputError
from rrid_edge.files import atomic_output, scratch_folder, workplace, write_text


def _say(descriptor: int) -> None:
    os.write(descriptor, b"!")


def _killed_while(work: Callable[[Callable[[], None]], None], delay_s: float = 0.0) -> None:
    """Run ``work`` in a child process, and kill it ``delay_s`` seconds after it called the function it is given."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            work(lambda: _say(writing))
            signal.pause()
        finally:
            os._exit(1)
    os.close(writing)
    assert os.read(reading, 1) == b"!"
    os.close(reading)
    time.sleep(delay_s)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _killed_while_writing(path: Path) -> None:
    def work(ready: Callable[[], None]) -> None:
        with atomic_output(path) as partial:
            partial.write_bytes(b"half")
            partial.with_name(".tmp-of-a-library").write_bytes(b"half")
            (partial.parent / "sub" / "folder").mkdir(parents=True)
            ready()
            signal.pause()

    _killed_while(work)


def _names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_the_next_writer_of_any_file_in_a_folder_removes_what_killed_ones_left(tmp_path):
    targets = [tmp_path / "one.txt", tmp_path / "two.json", tmp_path / "other" / "three"]
    for target in targets:
        write_text(target, "old")
        _killed_while_writing(target)
    assert len(list(tmp_path.glob(".*"))) == 1  # the second writer removed what the first had left
    assert [target.read_text() for target in targets] == ["old"] * 3
    write_text(tmp_path / "four", "new")
    assert not list(tmp_path.glob(".*"))
    assert len(list((tmp_path / "other").glob(".*"))) == 1
    write_text(targets[2], "new")
    assert _names(tmp_path) == ["four", "one.txt", "other", "other/three", "two.json"]
    assert targets[2].read_text() == "new"


def test_kills_at_random_moments_leave_nothing_and_no_half_file(tmp_path):
    target, generator = tmp_path / "file", random.Random(1)
    write_text(target, "0" * 1000)

    def work(ready: Callable[[], None]) -> None:
        ready()
        for number in range(1, 10**9):
            write_text(target, str(number % 10) * 1000)

    for _ in range(25):
        _killed_while(work, generator.uniform(0, 0.01))
        assert len(set(target.read_text())) == 1
        assert len(target.read_text()) == 1000
    write_text(target, "end")
    assert _names(tmp_path) == ["file"]


def test_a_living_writer_keeps_its_files_and_succeeds(tmp_path):
    target = tmp_path / "file"
    with atomic_output(target) as slow:
        slow.write_text("slow")
        for text in ("first", "second"):
            write_text(target, text)
            write_text(tmp_path / "other", text)
        with atomic_output(target) as fast:
            fast.write_text("fast")
            assert slow.read_text() == "slow"
        assert target.read_text() == "fast"
    assert target.read_text() == "slow"
    assert _names(tmp_path) == ["file", "other"]


def test_a_living_writer_in_another_process_keeps_its_files(tmp_path):
    target = tmp_path / "file"
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(writing)
            with atomic_output(target) as partial:
                partial.write_text("of the child")
                os.read(reading, 1)  # until the parent closes its end
        finally:
            os._exit(0)
    while not list(tmp_path.glob(".*/file")):
        time.sleep(0.001)
    write_text(target, "of the parent")
    assert len(list(tmp_path.glob(".*/file"))) == 1
    os.close(writing)
    os.waitpid(child, 0)
    os.close(reading)
    assert target.read_text() == "of the child"
    assert _names(tmp_path) == ["file"]


def test_many_writers_of_one_file_never_mix(tmp_path):
    target, failures = tmp_path / "file", []

    def work(letter: str) -> None:
        try:
            for _ in range(20):
                with atomic_output(target) as partial, partial.open("w") as stream:
                    for _ in range(10):
                        stream.write(letter * 100)
                        stream.flush()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if target.exists():
            text = target.read_text()
            assert len(text) == 1000
            assert len(set(text)) == 1
    assert not failures
    assert _names(tmp_path) == ["file"]


def test_a_kill_while_cleaning_leaves_what_the_next_writer_removes(tmp_path, monkeypatch):
    """The lock file goes last. A folder without a lock and with content is nobody's, and stays."""
    for last in (0, 1, 2, 3):
        _killed_while_writing(tmp_path / "file")
        place = next(iter(tmp_path.glob(".*")))
        order: list[Path] = []
        with monkeypatch.context() as patched:
            real = Path.unlink

            def counted(path: Path, missing_ok: bool = False, *, real=real, order=order, last=last) -> None:
                if len(order) == last:
                    raise KeyboardInterrupt
                order.append(path)
                real(path, missing_ok)

            patched.setattr(Path, "unlink", counted)
            if last < 3:
                with pytest.raises(KeyboardInterrupt):
                    files._clear(place)
            else:
                patched.setattr(Path, "rmdir", lambda _path: None)
                files._clear(place)
        assert place.exists()
        write_text(tmp_path / "file", "x")
        assert _names(tmp_path) == ["file"]
    stranger = tmp_path / ".rrid-edge-x.partial"
    stranger.mkdir()
    (stranger / "mine.txt").write_text("no lock beside it")
    write_text(tmp_path / "file", "x")
    assert _names(tmp_path) == [".rrid-edge-x.partial", ".rrid-edge-x.partial/mine.txt", "file"]


def test_links_in_a_left_over_are_not_followed(tmp_path):
    victim = tmp_path / "victim"
    write_text(victim / "kept", "x")
    _killed_while_writing(tmp_path / "out" / "file")
    place = next(iter((tmp_path / "out").glob(".*")))
    (place / "link").symlink_to(victim, target_is_directory=True)
    (tmp_path / "out" / ".rrid-edge-link.partial").symlink_to(victim, target_is_directory=True)
    write_text(tmp_path / "out" / "file", "x")
    assert not place.exists()
    assert _names(victim) == ["kept"]


def test_without_locks_files_are_written_and_nothing_is_removed(tmp_path, monkeypatch):
    _killed_while_writing(tmp_path / "file")

    def refuse(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr("fcntl.flock", refuse)
    write_text(tmp_path / "file", "x")
    assert (tmp_path / "file").read_text() == "x"
    assert len(list(tmp_path.glob(".*"))) == 1


def test_a_scratch_folder_of_a_killed_process_goes_too(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def work(ready: Callable[[], None]) -> None:
        with scratch_folder() as folder:
            (folder / "copy.sqlite").write_bytes(b"x")
            ready()
            signal.pause()

    _killed_while(work)
    assert len(_names(tmp_path)) == 3
    with scratch_folder() as folder, scratch_folder() as other:
        assert {folder.parent, other.parent} == {tmp_path}
        assert folder.stat().st_mode & 0o077 == 0
        (folder / "file").write_bytes(b"y")
        assert len(list(tmp_path.iterdir())) == 2
    assert not _names(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pytest.raises(OutputError, match="none: cannot be written \\(No such file or directory\\)"), scratch_folder():
        pass


@pytest.mark.parametrize(
    "error",
    [
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("unexpected pos 704 vs 598"),  # of torch.save, which hides the reason
    ],
    ids=["safetensors", "system", "torch"],
)
def test_a_full_disk_is_one_line_whatever_the_library_says(tmp_path, error):
    def write() -> None:
        with atomic_output(tmp_path / "file"):
            raise error

    if isinstance(error, RuntimeError):
        with pytest.raises(RuntimeError, match="unexpected pos"):
            write()
        error.__context__ = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OutputError, match=r"file: cannot be written \(No space left on device\); give a path"):
        write()
    assert not _names(tmp_path)


def test_a_library_that_fails_on_a_full_disk_failed_for_that_reason(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: usage._replace(free=4096))
    with pytest.raises(OutputError, match="No space left on device"), atomic_output(tmp_path / "file"):
        raise RuntimeError("iostream error")
    with pytest.raises(CheckFailedError, match=r"^it is wrong$"), atomic_output(tmp_path / "file"):
        raise CheckFailedError("it is wrong")


def test_a_workplace_that_others_remove_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    real, made = tempfile.mkdtemp, []

    def removed_twice(suffix: str, prefix: str, folder: Path) -> str:
        made.append(real(suffix, prefix, folder))
        if len(made) < 3:
            Path(made[-1]).rmdir()
        return str(made[-1])

    monkeypatch.setattr("tempfile.mkdtemp", removed_twice)
    with workplace(tmp_path) as place:
        assert [str(place)] == made[2:]
