"""The gallery of a query: opened once, and written only if its folder has changed."""

from __future__ import annotations

import threading

import pytest

from rrid_edge.engines.fake import FakeEngine, fake_spec
from rrid_edge.errors import FingerprintMismatchError
from rrid_edge.gallery.indexing import queried
from rrid_edge.gallery.indexing.queried import QueriedGallery
from rrid_edge.gallery.indexing.sync import IndexSettings, needs_indexing
from rrid_edge.gallery.local.store import LocalGallery
from support.galleries import SPEC
from support.pictures import save_crops


@pytest.fixture
def folder(tmp_path):
    save_crops(tmp_path / "crops", 6)
    return tmp_path / "crops"


def _ask(folder, engine=None):
    """The gallery of one query, its recorded model, and its number of rows."""
    engine = engine or FakeEngine(SPEC)
    with QueriedGallery(folder, folder / ".rrid-edge") as gallery:
        found = gallery.indexed(folder / "rrid.onnx", engine, IndexSettings())
        return found, gallery.model, len(found.gallery.rows())


def test_a_gallery_is_indexed_only_if_its_folder_has_changed(folder, monkeypatch):
    found, model, rows = _ask(folder)
    assert (found.info.rows, found.report.added, model, rows) == (6, 6, None, 6)
    with monkeypatch.context() as patch:
        patch.setattr(queried, "create_store", lambda *_: pytest.fail("opened for writing"))
        found, model, rows = _ask(folder)
    assert (found.info.rows, found.report, found.busy, model, rows) == (6, None, False, folder / "rrid.onnx", 6)
    next(folder.glob("*.jpg")).unlink()
    found, _, rows = _ask(folder)
    assert (found.info.rows, found.report.removed, rows) == (5, 1, 5)


def test_a_busy_gallery_answers_from_committed_rows(folder):
    _ask(folder)
    save_crops(folder / "more", 2)
    with LocalGallery(folder / ".rrid-edge", write=True):
        found, _, rows = _ask(folder)
    assert (found.busy, found.report, found.info.rows, rows) == (True, None, 6, 6)


def test_another_model_is_refused_before_the_comparison_ends(folder, monkeypatch):
    _ask(folder)
    go_on = threading.Event()

    def slow(*arguments):
        assert go_on.wait(20)
        return needs_indexing(*arguments)

    monkeypatch.setattr(queried, "needs_indexing", slow)
    try:
        with pytest.raises(FingerprintMismatchError, match="another model"):
            _ask(folder, FakeEngine(fake_spec("other", block_width=4)))
    finally:
        go_on.set()


def test_a_comparison_and_searches_share_one_gallery(folder):
    """Threads wait for each other's transactions, and none fails."""
    _ask(folder)
    failed = []
    with LocalGallery(folder / ".rrid-edge") as gallery:
        queries = gallery.vectors(gallery.rows())

        def work():
            try:
                for _ in range(50):
                    assert not needs_indexing(folder, gallery)
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
