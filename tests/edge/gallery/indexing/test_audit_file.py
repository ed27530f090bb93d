"""The audit log under several writers, full disks and rotation."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

import pytest

from rrid_edge.gallery.indexing import audit_file
from rrid_edge.gallery.indexing.audit_file import append_line


def _numbers(file):
    return [json.loads(line)["n"] for line in file.read_text("utf-8").splitlines()]


def _logs(file):
    """The logs from the oldest to the newest."""
    old = [file.with_name(f"{file.name}.{number}") for number in range(9, 0, -1)]
    return [path for path in [*old, file] if path.exists()]


def _line(number):
    return (json.dumps({"n": number, "pad": "x" * 80}) + "\n").encode()


def _append_many(file, first, count, largest):
    audit_file.LARGEST_BYTES = largest
    for number in range(first, first + count):
        append_line(file, _line(number), 0o600, durable=False)


def test_a_full_log_is_rotated_and_five_old_ones_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(audit_file, "LARGEST_BYTES", 2 * len(_line(10)))
    file = tmp_path / "audit.jsonl"
    for number in range(10, 30):
        append_line(file, _line(number), 0o640)
    names = [path.name for path in _logs(file)]
    assert names == [f"audit.jsonl.{number}" for number in (5, 4, 3, 2, 1)] + ["audit.jsonl"]
    assert [number for log in _logs(file) for number in _numbers(log)] == list(range(18, 30))
    assert {path.stat().st_mode & 0o777 for path in _logs(file)} == {0o640}


def test_the_bound_is_ten_mebibytes():
    assert (audit_file.LARGEST_BYTES, audit_file.OLD_FILES) == (10 * 1024 * 1024, 5)


def test_a_line_larger_than_the_bound_stands_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(audit_file, "LARGEST_BYTES", 10)
    file = tmp_path / "audit.jsonl"
    append_line(file, _line(1), 0o600)
    append_line(file, _line(2), 0o600)
    assert [_numbers(log) for log in _logs(file)] == [[1], [2]]


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_several_writers_lose_and_split_no_line(tmp_path, monkeypatch, kind):
    file, largest = tmp_path / "audit.jsonl", 90 * len(_line(1000))
    monkeypatch.setattr(audit_file, "LARGEST_BYTES", largest)
    firsts = [1000, 2000, 3000, 4000]
    if kind == "threads":
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda first: _append_many(file, first, 100, largest), firsts))
    else:
        children = [
            get_context("fork").Process(target=_append_many, args=(file, first, 100, largest)) for first in firsts
        ]
        for child in children:
            child.start()
        for child in children:
            child.join()
    found = [number for log in _logs(file) for number in _numbers(log)]
    assert sorted(found) == [first + number for first in firsts for number in range(100)]
    assert len(_logs(file)) == 5
    for first in firsts:  # each writer's lines are in its order
        own = [number for number in found if first <= number < first + 1000]
        assert own == sorted(own)


def test_a_log_that_cannot_be_renamed_grows(tmp_path, monkeypatch):
    monkeypatch.setattr(audit_file, "LARGEST_BYTES", 10)
    file = tmp_path / "audit.jsonl"
    append_line(file, _line(1), 0o600)

    def refuse(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(file), "replace", refuse)
    append_line(file, _line(2), 0o600)
    assert _numbers(file) == [1, 2]


def test_a_line_cut_by_a_power_failure_does_not_spoil_the_next(tmp_path):
    file = tmp_path / "audit.jsonl"
    file.write_bytes(_line(1) + b'{"n": 2, "pa')
    append_line(file, _line(3), 0o600)
    assert file.read_bytes() == _line(1) + b'{"n": 2, "pa\n' + _line(3)


def test_a_full_disk_leaves_no_half_line(tmp_path, monkeypatch):
    file = tmp_path / "audit.jsonl"
    append_line(file, _line(1), 0o600)
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:20]))
    with pytest.raises(OSError, match="No space left"):
        append_line(file, _line(2), 0o600)
    assert file.read_bytes() == _line(1)


def test_a_lock_that_is_never_given_back_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(audit_file, "_LOCK_WAIT_S", 0.01)
    file = tmp_path / "audit.jsonl"
    with audit_file._locked(file, 0o600), pytest.raises(BlockingIOError):
        append_line(file, _line(1), 0o600)
