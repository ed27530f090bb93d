"""Files that were copied or touched are compared by content and not embedded again."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from rrid_edge.engines.fake import FakeEngine
from rrid_edge.gallery.indexing.settings import IndexControl
from rrid_edge.gallery.indexing.sync import index_folder
from support.engines import CountingEngine
from support.memory_store import SPEC, MemoryStore
from support.pictures import noise, save_crops


@pytest.fixture
def crops(tmp_path):
    save_crops(tmp_path / "crops", 6)
    return tmp_path / "crops"


@pytest.fixture
def gallery(crops):
    store = MemoryStore(SPEC)
    index_folder(crops, store, FakeEngine(SPEC))
    return store


def _touch(folder):
    for number, file in enumerate(sorted(folder.iterdir())):
        os.utime(file, ns=(0, 1_600_000_000_123_456_789 + number))


def test_copied_files_keep_their_descriptors_and_are_not_embedded(crops, gallery):
    before = gallery.rows()
    _touch(crops)
    engine = CountingEngine(SPEC)
    report = index_folder(crops, gallery, engine)
    assert engine.images == 0
    assert (report.unchanged, report.changed, report.waiting) == (6, 0, 0)
    found = gallery.rows()
    assert [row.mtime_ns for row in found] == [1_600_000_000_123_456_789 + number for number in range(6)]
    assert [replace(row, mtime_ns=0) for row in found] == [replace(row, mtime_ns=0) for row in before]
    assert index_folder(crops, gallery, engine, control=IndexControl(verify=False)).unchanged == 6


def test_changed_and_damaged_crops_among_them_are_embedded(crops, gallery, monkeypatch):
    """One picture is another one of the same size, one is unreadable now, and one stored vector is damaged."""
    _touch(crops)
    first, second, third, *_ = sorted(crops.iterdir())
    size = first.stat().st_size
    noise(77).save(first)
    first.write_bytes((first.read_bytes() + bytes(size))[:size])
    second.write_bytes(bytes(second.stat().st_size))
    damaged = [row for row in gallery.rows() if row.path == third.name]
    monkeypatch.setattr(gallery, "damaged", lambda: damaged)
    engine = CountingEngine(SPEC)
    report = index_folder(crops, gallery, engine)
    assert [path for path, _ in report.failed] == [second.name]
    assert report.changed == 2
    assert report.unchanged == 3
    assert engine.images >= 2


def test_a_stop_leaves_the_rest_for_a_later_run(crops, gallery):
    _touch(crops)
    report = index_folder(crops, gallery, CountingEngine(SPEC), control=IndexControl(stop=lambda: True))
    assert report.waiting == 5
    assert sum(row.mtime_ns >= 1_600_000_000_000_000_000 for row in gallery.rows()) >= 1
    assert index_folder(crops, gallery, CountingEngine(SPEC)).waiting == 0
