"""The commit thread: embedded crops are not lost, its errors reach the caller, and it ends."""

from __future__ import annotations

import errno
import threading
import time

import pytest

from rrid_edge.engines import FakeEngine
from rrid_edge.errors import OutputError
from rrid_edge.gallery.indexing import writing
from rrid_edge.gallery.indexing.settings import IndexSettings
from rrid_edge.gallery.indexing.sync import index_folder
from rrid_edge.gallery.local import vector_file as vectors
from rrid_edge.gallery.local.store import LocalGallery
from support.pictures import save_crops


@pytest.fixture
def crops(tmp_path):
    save_crops(tmp_path / "crops", 24)
    return tmp_path / "crops"


def _rows(location) -> int:
    with LocalGallery(location) as gallery:
        return gallery.info().rows


class _Stopping(FakeEngine):
    """Raises an error after some batches."""

    def __init__(self, error: BaseException, batches: int) -> None:
        super().__init__()
        self.error, self.left = error, batches

    def run(self, images):
        if not self.left:
            raise self.error
        self.left -= 1
        return super().run(images)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("fault")])
def test_embedded_crops_are_committed_after_an_error_or_ctrl_c(tmp_path, crops, error):
    with (
        _Stopping(error, 3) as engine,
        LocalGallery.create(tmp_path / "index", engine.spec) as gallery,
        pytest.raises(type(error)),
    ):
        index_folder(crops, gallery, engine, IndexSettings(batch=4))
    assert _rows(tmp_path / "index") == 12
    assert not [thread for thread in threading.enumerate() if thread.name == "commit"]
    with FakeEngine() as unstopped, LocalGallery.create(tmp_path / "index", unstopped.spec) as gallery:
        report = index_folder(crops, gallery, unstopped)
    assert (report.rows, report.added, report.unchanged) == (24, 12, 12)


def test_a_full_disk_reaches_the_caller_and_loses_no_commit(tmp_path, crops, monkeypatch):
    real, calls = vectors.append, []

    def append(path, data, position):
        calls.append(position)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, data, position)

    monkeypatch.setattr(writing, "COMMIT_ROWS", 4)
    monkeypatch.setattr(vectors, "append", append)
    with FakeEngine() as engine, pytest.raises(OutputError, match="No space left"):
        index_folder(crops, LocalGallery.create(tmp_path / "index", engine.spec), engine, IndexSettings(batch=4))
    assert _rows(tmp_path / "index") == 8


def test_a_slow_disk_does_not_stop_the_engine(tmp_path, crops, monkeypatch):
    """The engine continues while the first commit waits."""
    real, release, seen = vectors.append, threading.Event(), []
    monkeypatch.setattr(writing, "COMMIT_ROWS", 4)
    monkeypatch.setattr(vectors, "append", lambda *arguments: (release.wait(20), real(*arguments))[1])

    class Watched(FakeEngine):
        def run(self, images):
            seen.append(len(images))
            if sum(seen) >= 16:
                release.set()
            return super().run(images)

    with Watched() as engine, LocalGallery.create(tmp_path / "index", engine.spec) as gallery:
        assert index_folder(crops, gallery, engine, IndexSettings(batch=4)).rows == 24


def test_embedded_crops_are_committed_while_a_file_hangs(tmp_path, crops, monkeypatch):
    from rrid_edge.embedding import pipeline as module
    from rrid_edge.embedding import reading as decoding

    late = sorted(crops.iterdir())[5]
    release, real = threading.Event(), module.fetch_file
    monkeypatch.setattr(decoding, "PARTIAL_BATCH_AFTER_S", 0.05)
    monkeypatch.setattr(writing, "_IDLE_S", 0.05)
    monkeypatch.setattr(module, "fetch_file", lambda path: (path != late or release.wait(20), real(path))[1])
    location = tmp_path / "index"
    found: list[int] = []

    def look() -> None:
        while not found or found[-1] < 23:
            time.sleep(0.05)
            found.append(_rows(location))
        release.set()

    with FakeEngine() as engine, LocalGallery.create(location, engine.spec) as gallery:
        watcher = threading.Thread(target=look)
        watcher.start()
        report = index_folder(crops, gallery, engine, IndexSettings(batch=4))
        watcher.join()
    assert found[-1] == 23
    assert report.rows == 24
    assert report.batch == 4
