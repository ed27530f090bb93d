"""The gallery of a query: opened once, written only if its folder has new files, and never robbed of rows."""

from __future__ import annotations

import os
import shutil
import threading

import pytest

from rrid_edge.engines.fake import FakeEngine, fake_spec
from rrid_edge.errors import FingerprintMismatchError, GalleryMissingError, OutputError
from rrid_edge.gallery.indexing import queried
from rrid_edge.gallery.indexing.queried import FolderState, QueriedGallery, folder_state
from rrid_edge.gallery.indexing.settings import IndexSettings
from rrid_edge.gallery.local.store import LocalGallery
from support.galleries import SPEC
from support.pictures import noise, save_crops


@pytest.fixture
def folder(tmp_path):
    save_crops(tmp_path / "crops", 6)
    return tmp_path / "crops"


def _ask(folder, engine=None, model="rrid.onnx"):
    """The gallery of one query, its recorded model, and its number of rows."""
    engine = engine or FakeEngine(SPEC)
    with QueriedGallery(folder, folder / ".rrid-edge") as gallery:
        found = gallery.indexed(folder / model, engine, IndexSettings())
        return found, gallery.model, len(found.gallery.rows())


def _is_not_written(monkeypatch):
    monkeypatch.setattr(queried, "create_store", lambda *_: pytest.fail("opened for writing"))


def test_a_gallery_is_indexed_only_if_its_folder_has_changed(folder, monkeypatch):
    found, model, rows = _ask(folder)
    assert (found.info.rows, found.report.added, model, rows) == (6, 6, None, 6)
    with monkeypatch.context() as patch:
        _is_not_written(patch)
        found, model, rows = _ask(folder)
        assert (found.info.rows, found.report, found.busy, model, rows) == (6, None, False, folder / "rrid.onnx", 6)
        next(folder.glob("*.jpg")).unlink()
        found, _, rows = _ask(folder)
        assert (found.report, found.folder.missing, rows) == (None, 1, 6)
    noise(3).save(folder / "new.jpg")
    found, _, rows = _ask(folder)
    assert (found.info.rows, found.report.added, found.report.removed, found.folder.missing, rows) == (7, 1, 0, 1, 7)


@pytest.mark.parametrize("vanish", [lambda folder: [file.unlink() for file in folder.iterdir()], shutil.rmtree])
def test_a_query_keeps_the_rows_of_an_unmounted_folder_and_says_so(folder, monkeypatch, vanish):
    save_crops(folder / "cam2", 4)
    _ask(folder)
    vanish(folder / "cam2")
    _is_not_written(monkeypatch)
    found, _, rows = _ask(folder)
    assert (rows, found.folder.missing) == (10, 4)
    assert found.remarks == ("4 crops of the index have no file in the folder now; they still answer",)


def test_a_query_in_an_empty_folder_answers(folder):
    _ask(folder)
    for file in folder.glob("*.jpg"):
        file.unlink()
    found, _, rows = _ask(folder)
    assert (rows, found.folder) == (6, FolderState(missing=6))


def test_an_unreadable_picture_does_not_make_each_query_write(folder, monkeypatch):
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 broken")
    found, _, _ = _ask(folder)
    assert [path for path, _ in found.report.failed] == ["broken.jpg"]
    with monkeypatch.context() as patch:
        _is_not_written(patch)
        assert _ask(folder)[0].report is None
    noise(3).save(folder / "broken.jpg")
    assert _ask(folder)[0].report.added == 1


def test_a_gallery_on_media_of_whole_seconds_is_unchanged(folder, monkeypatch):
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 broken")
    _ask(folder)
    for file in folder.glob("*.jpg"):
        seconds = file.stat().st_mtime_ns // 10**9
        os.utime(file, (seconds, seconds))
    _is_not_written(monkeypatch)
    found, _, rows = _ask(folder)
    assert (rows, found.report, found.remarks) == (6, None, ())


def test_a_gallery_that_cannot_be_written_answers_and_says_what_differs(folder, monkeypatch):
    _ask(folder)
    save_crops(folder / "more", 2)
    next(folder.glob("*.jpg")).unlink()

    def refuse(*_arguments):
        raise OutputError("the index cannot be written (Read-only file system)")

    monkeypatch.setattr(queried, "create_store", refuse)
    found, _, rows = _ask(folder)
    assert (rows, found.report, found.folder) == (6, None, FolderState(outdated=2, missing=1))
    assert found.remarks == (
        "the index cannot be written (Read-only file system); searching the 6 crops that are committed",
        "2 new or changed files are not in the index yet",
        "1 crops of the index have no file in the folder now; they still answer",
    )
    shutil.rmtree(folder / ".rrid-edge")
    with pytest.raises(OutputError):
        _ask(folder)


def test_a_disk_that_fills_during_a_query_stops_no_answer(folder, monkeypatch):
    _ask(folder)
    save_crops(folder / "more", 2)

    def refuse(*_arguments, **_options):
        raise OutputError("the index cannot be written (No space left on device)")

    monkeypatch.setattr("rrid_edge.gallery.indexing.sync.index_folder", refuse)
    found, _, rows = _ask(folder)
    assert rows == 6
    assert "No space left" in found.remarks[0]


def test_a_busy_gallery_answers_from_committed_rows(folder):
    _ask(folder)
    save_crops(folder / "more", 2)
    with LocalGallery(folder / ".rrid-edge", write=True):
        found, _, rows = _ask(folder)
    assert (found.busy, found.report, found.info.rows, rows) == (True, None, 6, 6)
    assert found.remarks[0] == "another process is writing the index: searching the 6 crops that are committed"


def test_a_model_of_the_same_fingerprint_is_remembered(folder):
    _ask(folder)
    assert _ask(folder, model="moved/rrid.int8.onnx")[1] == folder / "rrid.onnx"
    found, model, _ = _ask(folder, model="moved/rrid.int8.onnx")
    assert (model, found.report) == (folder / "moved" / "rrid.int8.onnx", None)
    assert found.info.model == "../moved/rrid.int8.onnx"


def test_another_model_is_refused_before_the_comparison_ends(folder, monkeypatch):
    _ask(folder)
    go_on = threading.Event()

    def slow(*arguments):
        assert go_on.wait(20)
        return folder_state(*arguments)

    monkeypatch.setattr(queried, "folder_state", slow)
    try:
        with pytest.raises(FingerprintMismatchError, match="another model"):
            _ask(folder, FakeEngine(fake_spec("other", block_width=4)))
    finally:
        go_on.set()


def test_a_gallery_without_a_folder_is_asked_as_it_is(folder, tmp_path):
    _ask(folder)
    noise(3).save(folder / "new.jpg")
    with QueriedGallery(None, folder / ".rrid-edge") as gallery:
        found = gallery.indexed(folder / "rrid.onnx", FakeEngine(SPEC), IndexSettings())
        assert (found.report, found.source, len(found.gallery.rows())) == (None, "local", 6)
    with pytest.raises(GalleryMissingError):
        QueriedGallery(None, tmp_path / "none")


def test_a_folder_is_compared_once_and_not_before_it_is_asked_for(folder, monkeypatch):
    _ask(folder)
    compared = []

    def spied(*args, **settings):
        compared.append(threading.current_thread().name)
        return folder_state(*args, **settings)

    monkeypatch.setattr(queried, "folder_state", spied)
    with QueriedGallery(folder, folder / ".rrid-edge") as gallery:
        assert compared == []
        noise(3).save(folder / "new.jpg")
        gallery.compare_meanwhile()
        gallery.compare_meanwhile()
        report = gallery.indexed(folder / "rrid.onnx", FakeEngine(SPEC), IndexSettings()).report
        assert report is not None
        assert report.added == 1
    assert len(compared) == 1
    assert compared[0] != threading.current_thread().name


def test_a_query_uses_the_remembered_pattern(folder):
    with LocalGallery.create(folder / ".rrid-edge", SPEC) as gallery:
        gallery.remember({"pattern": "(?P<camera>new)", "time_from": "name"})
    noise(3).save(folder / "new.jpg")
    with QueriedGallery(folder, folder / ".rrid-edge") as gallery:
        found = gallery.indexed(folder / "rrid.onnx", FakeEngine(SPEC), IndexSettings(pattern="market1501"))
        assert found.info.pattern == "(?P<camera>new)"
        assert {row.camera for row in found.gallery.rows()} == {None, "new"}


def test_a_comparison_and_searches_share_one_gallery(folder):
    """Threads wait for each other's transactions, and none fails."""
    _ask(folder)
    failed = []
    with LocalGallery(folder / ".rrid-edge") as gallery:
        queries = gallery.vectors(gallery.rows())

        def work():
            try:
                for _ in range(50):
                    assert folder_state(folder, gallery) == FolderState()
                    assert gallery.info().rows == 6
                    assert len(gallery.search(queries, 3).hits) == 6
            except Exception as error:
                failed.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failed == []
