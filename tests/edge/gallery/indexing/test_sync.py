"""Indexing a folder: what is added, what is removed and what is not, and the rows of others."""

from __future__ import annotations

import os
import shutil

import pytest

from rrid_edge.engines.fake import FakeEngine
from rrid_edge.errors import FolderUnavailableError
from rrid_edge.gallery.base import NewRow
from rrid_edge.gallery.indexing.left_out import is_same_file
from rrid_edge.gallery.indexing.settings import IndexControl, IndexSettings
from rrid_edge.gallery.indexing.sync import index_folder
from support.engines import CountingEngine
from support.memory_store import SPEC, MemoryStore, vectors
from support.pictures import noise, save_crops

QUERY = IndexControl(verify=False, remove=False, expire=False)


@pytest.fixture
def crops(tmp_path):
    save_crops(tmp_path / "crops", 8)
    for camera in ("cam1", "cam2"):
        save_crops(tmp_path / "crops" / camera, 4)
    return tmp_path / "crops"


@pytest.fixture
def gallery(crops):
    """A gallery of the 16 crops, a row without a file, and a row of another source."""
    store = MemoryStore(SPEC)
    index_folder(crops, store, FakeEngine(SPEC))
    store.add([NewRow(None, camera="door"), NewRow("cam1/other.jpg", source="box-2")], vectors(2))
    return store


def run(crops, gallery, control=None, engine=None, **settings):
    return index_folder(crops, gallery, engine or FakeEngine(SPEC), IndexSettings(**settings), control=control)


def paths(gallery, source="local"):
    return {row.path for row in gallery.rows([source]) if row.path}


def others(gallery):
    return [row for row in gallery.rows() if row.path is None or row.source != "local"]


def empty(folder):
    for file in folder.iterdir():
        file.unlink()


@pytest.mark.parametrize("vanish", [empty, shutil.rmtree])
def test_rows_of_a_vanished_sub_folder_stay_until_removals_are_allowed(crops, gallery, vanish):
    (crops / "cam2" / "kept.txt").touch()
    save_crops(crops / "more", 20)
    run(crops, gallery)  # 36 crops: those of cam2 are less than a fifth
    before, foreign = paths(gallery), others(gallery)
    vanish(crops / "cam2")
    save_crops(crops / "new", 1)
    report = run(crops, gallery)
    assert (report.added, report.removed, report.missing) == (1, 0, 4)
    assert report.refused.startswith("cam2/: this folder is gone or empty, and the index holds 4 crops of it: ")
    assert "--" not in report.refused
    assert paths(gallery) == before | {"new/0001_c1s1_000000_00.jpg"}
    report = run(crops, gallery, allow_removals=True)
    assert (report.removed, report.missing, report.refused) == (4, 0, "")
    assert not any(path.startswith("cam2/") for path in paths(gallery))
    assert others(gallery) == foreign


def test_the_outermost_vanished_folder_is_named_with_all_of_its_crops(crops, gallery):
    save_crops(crops / "site" / "door" / "day1", 2)
    save_crops(crops / "site" / "door" / "day2", 1)
    save_crops(crops / "site" / "yard", 30)
    run(crops, gallery)
    shutil.rmtree(crops / "site" / "door")
    assert "site/door/: this folder is gone or empty, and the index holds 3 crops" in run(crops, gallery).refused


def test_single_deleted_files_are_removed_beside_a_vanished_folder(crops, gallery):
    save_crops(crops / "more", 30)
    run(crops, gallery)
    gone = sorted(crops.glob("*.jpg"))[0]
    gone.unlink()
    shutil.rmtree(crops / "cam2")
    report = run(crops, gallery)
    assert (report.removed, report.missing) == (1, 4)
    assert gone.name not in paths(gallery)


@pytest.mark.parametrize(("deleted", "removed"), [(1, 1), (3, 3), (4, 0)])
def test_more_than_a_fifth_of_the_rows_stays(crops, gallery, deleted, removed):
    for file in sorted(crops.glob("*.jpg"))[:deleted]:  # of 16
        file.unlink()
    report = run(crops, gallery)
    assert (report.removed, report.missing) == (removed, deleted - removed)
    assert ("4 of 16 crops are gone, more than a fifth" in report.refused) == (not removed)


def test_files_that_became_unreadable_count_as_vanished(crops, gallery):
    for file in sorted(crops.glob("*.jpg"))[:4]:
        file.write_bytes(b"")
    report = run(crops, gallery)
    assert (len(report.failed), report.removed, len(paths(gallery))) == (4, 0, 16)
    assert "more than a fifth" in report.refused
    assert run(crops, gallery, allow_removals=True).removed == 4


def test_a_query_adds_and_changes_but_never_removes(crops, gallery):
    foreign = others(gallery)
    changed = crops / "cam1" / "0001_c1s1_000000_00.jpg"
    noise(5).save(changed)
    changed_sha = {row.path: row.sha256 for row in gallery.rows()}["cam1/0001_c1s1_000000_00.jpg"]
    shutil.rmtree(crops / "cam2")
    noise(7).save(crops / "new.jpg")
    (crops / "0001_c1s1_000000_00.jpg").write_bytes(b"no image any more")
    before = paths(gallery)
    report = run(crops, gallery, QUERY)
    assert (report.added, report.changed, report.removed, report.missing, report.refused) == (1, 1, 0, 4, "")
    assert paths(gallery) == before | {"new.jpg"}
    assert {row.path: row.sha256 for row in gallery.rows()}["cam1/0001_c1s1_000000_00.jpg"] != changed_sha
    assert others(gallery) == foreign


def test_an_empty_folder_is_refused_and_answers_a_query(crops, gallery):
    shutil.rmtree(crops)
    crops.mkdir()
    with pytest.raises(FolderUnavailableError, match="is a disk not mounted") as refusal:
        run(crops, gallery)
    assert "remove its folder" not in refusal.value.message
    assert len(paths(gallery)) == 16
    assert run(crops, gallery, QUERY).missing == 16
    assert run(crops, gallery, allow_removals=True).removed == 16
    assert len(others(gallery)) == 2


@pytest.mark.parametrize("where", ["cam2", "."])
def test_files_of_a_folder_that_cannot_be_listed_are_not_gone(crops, gallery, monkeypatch, where):
    """As for a user without the permission; root may list everything."""
    real, refused = os.scandir, os.path.normpath(crops / where)
    monkeypatch.setattr(os, "scandir", lambda path: _raise(path) if os.path.normpath(path) == refused else real(path))
    if where == ".":
        with pytest.raises(FolderUnavailableError, match="cannot be listed"):
            run(crops, gallery)
    else:
        report = run(crops, gallery, allow_removals=True)
        assert (report.removed, report.missing, report.unexamined) == (0, 0, 4)
        assert [reason for path, reason in report.skipped if path.rstrip("/").endswith("cam2")] == [
            "this folder cannot be read (Permission denied)"
        ]
    assert len(paths(gallery)) == 16


def _raise(path):
    raise PermissionError(13, "Permission denied", str(path))


def test_files_that_cannot_be_examined_are_not_gone(crops, gallery, monkeypatch):
    """A folder that may be listed but not entered, as after `chmod 444`."""

    class Entry:
        def __init__(self, entry):
            self._entry, self.name, self.path = entry, entry.name, entry.path

        def __getattr__(self, name):
            return getattr(self._entry, name)

        def stat(self, **_options):
            return _raise(self.path) if self.path.startswith(str(crops / "cam2")) else self._entry.stat()

    class Listing:
        def __init__(self, path):
            self._entries = [Entry(entry) for entry in real(path)]

        def __enter__(self):
            return iter(self._entries)

        def __exit__(self, *_error):
            pass

    real = os.scandir
    monkeypatch.setattr(os, "scandir", Listing)
    report = run(crops, gallery, allow_removals=True)
    assert (report.removed, report.unexamined, report.unchanged, len(report.failed)) == (0, 4, 12, 0)
    assert report.skipped == ((str(crops / "cam2"), "its files cannot be examined (Permission denied)"),)
    assert len(paths(gallery)) == 16


def test_a_file_that_the_system_refuses_to_read_keeps_its_row(crops, gallery, monkeypatch):
    from rrid_edge.embedding import pipeline
    from rrid_edge.errors import ImageError
    from rrid_edge.gallery.indexing import left_out

    file = sorted(crops.glob("*.jpg"))[0]
    noise(3).save(file)
    real = pipeline.fetch_file

    def fetch(path):
        if path == file:
            raise ImageError(path, "cannot be read (Input/output error)")
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "fetch_file", fetch)
        patch.setattr(left_out, "sha256_of_file", lambda path: _raise(path))
        report = run(crops, gallery)
    assert (len(report.failed), report.removed) == (1, 0)
    assert run(crops, gallery, QUERY).changed == 1  # tried again as soon as it can be read


def test_an_unreadable_picture_is_tried_again_only_when_it_changes(crops):
    gallery, engine = MemoryStore(SPEC), CountingEngine(SPEC)
    broken = crops / "broken.jpg"
    broken.write_bytes(b"\xff\xd8 broken")
    report = run(crops, gallery, QUERY, engine)
    assert [path for path, _ in report.failed] == ["broken.jpg"]
    embedded = engine.images
    report = run(crops, gallery, QUERY, engine)
    assert (report.failed, report.left_out, report.unchanged) == ((), 1, 16)
    assert len(run(crops, gallery, None, engine).failed) == 1  # an index run always tries
    assert run(crops, gallery, QUERY, engine).failed == ()
    assert engine.images == embedded
    noise(9).save(broken)
    assert run(crops, gallery, QUERY, engine).added == 1
    assert gallery.unreadable("local") == {}


def test_unreadable_files_that_are_gone_are_dropped_from_memory(crops):
    gallery = MemoryStore(SPEC)
    (crops / "broken.jpg").write_bytes(b"\xff\xd8 broken")
    run(crops, gallery)
    assert set(gallery.unreadable("local")) == {"broken.jpg"}
    (crops / "broken.jpg").unlink()
    run(crops, gallery)
    assert gallery.unreadable("local") == {}


@pytest.mark.parametrize(
    ("mtime_ns", "stored_ns", "same"),
    [
        (1_700_000_001_000_000_000, 1_700_000_001_123_456_789, True),  # tar, squashfs, ISO 9660
        (1_700_000_000_000_000_000, 1_700_000_001_123_456_789, True),  # FAT keeps even seconds
        (1_700_000_001_000_000_000, 1_700_000_002_123_456_789, False),
        (1_700_000_002_000_000_000, 1_700_000_001_123_456_789, False),
        (1_700_000_001_100_000_000, 1_700_000_001_123_456_789, False),
        (-5_000_000_000, -4_500_000_000, True),  # before 1970 too, times are cut downwards
    ],
)
def test_times_that_were_cut_to_whole_seconds_are_the_same(mtime_ns, stored_ns, same):
    assert is_same_file((10, mtime_ns), (10, stored_ns)) is same
    assert not is_same_file((11, mtime_ns), (10, stored_ns))


@pytest.mark.parametrize("seconds", [10_413_792_000, 2**33, -1, 9_223_372_036])
def test_odd_file_times_are_indexed_and_stay_unchanged(crops, seconds):
    gallery = MemoryStore(SPEC)
    for file in crops.glob("*.jpg"):
        os.utime(file, (seconds, seconds))
    assert run(crops, gallery).added == 16
    assert (run(crops, gallery).unchanged, run(crops, gallery, time_from="mtime").rows) == (16, 16)


def test_only_rows_of_the_own_source_are_compared_and_removed(crops, gallery):
    empty(crops / "cam2")
    for file in sorted(crops.glob("*.jpg")):
        file.unlink()
    report = run(crops, gallery, source="box-2", allow_removals=True)
    assert (report.added, report.removed) == (4, 1)
    assert len(paths(gallery)) == 16
    assert paths(gallery, "box-2") == paths(gallery) & {path for path in paths(gallery) if path.startswith("cam1/")}


def test_a_stopped_run_removes_and_remembers_nothing_wrong(crops, gallery):
    (crops / "broken.jpg").write_bytes(b"\xff\xd8 broken")
    run(crops, gallery)
    noise(3).save(crops / "new1.jpg")
    report = run(crops, gallery, IndexControl(stop=lambda: True), batch=1)
    assert report.rows >= 18
    assert set(gallery.unreadable("local")) == {"broken.jpg"}
    assert run(crops, gallery).waiting == 0
    assert "new1.jpg" in paths(gallery)


def test_files_that_came_back_during_a_run_keep_their_rows(crops, gallery, tmp_path):
    """Listing and removing may be hours apart: meanwhile a disk was mounted again."""
    gone = sorted(crops.glob("*.jpg"))[:2]
    for file in gone:
        file.rename(tmp_path / file.name)
    noise(8).save(crops / "new.jpg")

    class Mounting(FakeEngine):
        def run(self, images):
            if (tmp_path / gone[0].name).exists():
                (tmp_path / gone[0].name).rename(gone[0])
            return super().run(images)

    assert index_folder(crops, gallery, Mounting(SPEC)).removed == 1
    assert gone[0].name in paths(gallery)
    assert gone[1].name not in paths(gallery)


def test_a_row_whose_picture_a_query_found_unreadable_is_removed_by_the_next_watch(crops, gallery):
    broken = crops / "0001_c1s1_000000_00.jpg"
    broken.write_bytes(b"no image any more")
    assert run(crops, gallery, QUERY).removed == 0
    assert broken.name in paths(gallery)
    report = run(crops, gallery, IndexControl(verify=False))
    assert (report.removed, report.failed, report.left_out) == (1, (), 1)
    assert broken.name not in paths(gallery)
    noise(4).save(broken)
    assert run(crops, gallery, QUERY).added == 1
