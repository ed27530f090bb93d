"""A gallery that was made for a folder that is refused then is removed; one that holds anything stays."""

from __future__ import annotations

import pytest

from rrid_edge.engines.fake import FakeEngine, fake_spec
from rrid_edge.errors import UsageError
from rrid_edge.gallery.indexing.sync import index_folder
from rrid_edge.gallery.indexing.undoing import undone_if_refused
from rrid_edge.gallery.local.store import LocalGallery
from rrid_edge.gallery.opening import create_store, open_store
from support.pictures import save_crops

SPEC = fake_spec(block_width=4)


def _refused(location, use=lambda _gallery: None, kind=UsageError):
    """Make a gallery, use it, and end with an error."""

    def work():
        with undone_if_refused(location):
            with create_store(location, SPEC) as gallery:
                use(gallery)
            raise kind("refused")

    with pytest.raises(kind, match="refused"):
        work()


def test_the_folders_that_were_made_go_too(tmp_path):
    _refused(tmp_path / "deep" / "er" / "index")
    assert list(tmp_path.iterdir()) == []


def test_other_files_in_the_folder_stay(tmp_path):
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "note.txt").write_text("mine")
    _refused(tmp_path / "index")
    assert [path.name for path in (tmp_path / "index").iterdir()] == ["note.txt"]


def test_a_gallery_with_rows_stays(tmp_path):
    save_crops(tmp_path / "crops", 2)
    _refused(tmp_path / "index", lambda gallery: index_folder(tmp_path / "crops", gallery, FakeEngine(SPEC)))
    with open_store(tmp_path / "index") as gallery:
        assert gallery.info().rows == 2


def test_an_empty_gallery_that_was_there_before_stays(tmp_path):
    LocalGallery.create(tmp_path / "index", SPEC).close()
    _refused(tmp_path / "index")
    with open_store(tmp_path / "index") as gallery:
        assert gallery.info().rows == 0


def test_a_gallery_that_has_forgotten_rows_stays(tmp_path):
    crops = save_crops(tmp_path / "crops", 1)

    def use(gallery):
        index_folder(tmp_path / "crops", gallery, FakeEngine(SPEC))
        gallery.forget([crops[0].name], keep_out=True)
        gallery.compact()

    _refused(tmp_path / "index", use)
    with open_store(tmp_path / "index") as gallery:
        assert gallery.info().rows == 0


def test_a_gallery_that_another_writer_took_stays(tmp_path):
    others = []

    def use(gallery):
        gallery.close()
        others.append(open_store(tmp_path / "index", write=True))

    _refused(tmp_path / "index", use)
    assert others[0].info().rows == 0
    others[0].close()


def test_other_errors_remove_nothing(tmp_path):
    _refused(tmp_path / "index", kind=RuntimeError)
    open_store(tmp_path / "index").close()
