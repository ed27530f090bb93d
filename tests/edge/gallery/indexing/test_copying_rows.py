"""Which rows a copy carries: rows without files, thumbnails, facts, one moment; not what was forgotten."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import asdict, replace

import numpy as np
import pytest

from rrid_edge.errors import GalleryChangedError, GalleryError
from rrid_edge.gallery.base import NewRow
from rrid_edge.gallery.indexing import copying
from rrid_edge.gallery.indexing.copying import copy_gallery
from support.memory_store import SPEC, MemoryStore, vectors
from support.progress import CountedProgress

SHA = "ab" * 32


@pytest.fixture
def source():
    """Ten files of two sources, and six rows without a file, two of which are equal."""
    store = MemoryStore(SPEC)
    files = [NewRow(f"{i % 5}.jpg", f"{i:064x}", i, i, source="ab"[i // 5]) for i in range(10)]
    store.add(files, vectors(10))
    unnamed = [
        NewRow(None, camera="door", time=5 * i, track=str(i), label="Ann", thumbnail=b"jpeg %d" % i) for i in range(4)
    ]
    store.add([*unnamed, replace(unnamed[3], thumbnail=None), NewRow(None)], vectors(6, 1)[[0, 1, 2, 3, 3, 4]])
    store.remember({"pattern": "none", "time_from": "exif", "retention_s": "86400", "model": "../rrid.onnx"})
    store.set_unreadable("a", {"broken.jpg": (5, 6)})
    return store


def content(store):
    """Facts, vectors and thumbnails of all rows, without their ids."""
    rows = store.rows()
    thumbnails = store.thumbnails([row.id for row in rows])
    kept = [{k: v for k, v in asdict(row).items() if k not in ("id", "slot", "generation")} for row in rows]
    values = zip(kept, store.vectors(rows), rows, strict=True)
    return Counter((repr(facts), vector.tobytes(), thumbnails.get(row.id)) for facts, vector, row in values)


def test_every_row_is_copied_once_and_again_not_at_all(source):
    destination = MemoryStore(SPEC)
    report = copy_gallery(source, destination, model="rrid.onnx")
    assert (report.rows, report.copied, report.present) == (16, 16, 0)
    assert content(destination) == content(source)
    info = destination.info()
    assert (info.pattern, info.time_from, info.retention_s, info.model) == ("none", "exif", 86_400, "rrid.onnx")
    assert destination.unreadable("a") == {"broken.jpg": (5, 6)}
    report = copy_gallery(source, destination)
    assert (report.rows, report.copied, report.present) == (16, 0, 16)
    assert content(destination) == content(source)


def without_thumbnails(store):
    return Counter((facts, vector) for facts, vector, _ in content(store).elements())


@pytest.mark.parametrize("stop", range(1, 7))
def test_an_interrupted_copy_doubles_no_row(source, stop, monkeypatch):
    monkeypatch.setattr(copying, "BATCH_ROWS", 3)
    destination = MemoryStore(SPEC)
    with contextlib.suppress(KeyboardInterrupt):
        copy_gallery(source, destination, progress=CountedProgress(interrupted_at=stop))
    report = copy_gallery(source, destination)
    assert report.copied + report.present == 16
    assert content(destination) == content(source)


@pytest.mark.parametrize("extra", [NewRow("x.jpg"), NewRow("1.jpg", source="c"), NewRow(None, camera="other")])
def test_crops_that_the_source_does_not_have_are_refused(source, extra):
    destination = MemoryStore(SPEC)
    destination.add([extra], vectors(1, 7))
    with pytest.raises(GalleryError, match="holds 1 crops that the source does not have"):
        copy_gallery(source, destination)
    assert destination.rows()[0].camera == extra.camera


def test_forgotten_content_does_not_come_back_with_a_copy(source):
    destination = MemoryStore(SPEC)
    copy_gallery(source, destination)
    destination.forget(["1.jpg"])
    report = copy_gallery(source, destination)
    assert (report.rows, report.forgotten) == (14, 2)
    assert "1.jpg" not in {row.path for row in destination.rows()}


class _Torn(MemoryStore):
    """Some of its vectors cannot be read."""

    def __init__(self, error):
        super().__init__(SPEC)
        self._error, self.torn = error, set()

    @contextlib.contextmanager
    def moment(self):
        with super().moment() as moment:
            real = moment.vectors

            def read(rows):
                if self.torn & {row.id for row in rows}:
                    raise self._error
                return real(rows)

            moment.vectors = read  # type: ignore[method-assign]
            yield moment


@pytest.mark.parametrize(("error", "damaged"), [(GalleryError("torn"), 2), (GalleryChangedError("gone"), 0)])
def test_damaged_rows_are_named_and_rows_that_went_meanwhile_are_not(error, damaged):
    source = _Torn(error)
    ids = source.add([NewRow(f"{i}.jpg", SHA) for i in range(6)] + [NewRow(None)], vectors(7))
    source.torn = {ids[2], ids[6]}
    destination = MemoryStore(SPEC)
    report = copy_gallery(source, destination)
    assert (report.copied, len(report.damaged)) == (5, damaged)
    assert report.damaged in ((), (f"#{ids[6]}", "2.jpg"))
    assert len(destination.rows()) == 5


def test_rows_and_vectors_are_of_one_moment(source):
    class Writing(MemoryStore):
        """Another process replaces all rows as soon as they were read."""

        @contextlib.contextmanager
        def moment(self):
            with super().moment() as moment:
                real = moment.rows

                def rows(sources=None):
                    found = real(sources)
                    self.remove([row.id for row in found])
                    self.add([NewRow(row.path, source=row.source) for row in found], vectors(len(found), 9))
                    return found

                moment.rows = rows  # type: ignore[method-assign]
                yield moment

    before = without_thumbnails(source)
    source.__class__ = Writing
    destination = MemoryStore(SPEC)
    copy_gallery(source, destination)
    assert without_thumbnails(destination) == before


def test_an_export_is_of_one_moment(source, tmp_path):
    from rrid_edge.gallery.exporting import export_gallery

    class Changing(MemoryStore):
        """Rows are forgotten while they are read, twice."""

        tries = 0

        @contextlib.contextmanager
        def moment(self):
            with super().moment() as moment:
                self.tries += 1
                if self.tries < 3:
                    moment.vectors = lambda rows: _raise(GalleryChangedError("gone"))  # type: ignore[method-assign]
                yield moment

    source.__class__ = Changing
    assert len(export_gallery(source, tmp_path / "x.npz", sources=["a"])) == 5
    with np.load(tmp_path / "x.npz") as found:
        assert set(found["sources"].tolist()) == {"a"}
        assert np.array_equal(found["descriptors"], source.vectors(source.rows_by_id(found["ids"].tolist())))
    source.tries = -10
    with pytest.raises(GalleryChangedError):
        export_gallery(source, tmp_path / "y.npz")
    assert not (tmp_path / "y.npz").exists()


def _raise(error):
    raise error
