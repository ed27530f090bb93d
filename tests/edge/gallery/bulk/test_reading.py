"""Each crop of a run is read at most once, whatever changed."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rrid_edge.embedding.pipeline import Fetched
from rrid_edge.engines.fake import FakeEngine
from rrid_edge.gallery.base import NewRow
from rrid_edge.gallery.bulk import reading
from rrid_edge.gallery.bulk.embedding import BatchEmbedder
from rrid_edge.gallery.bulk.files import LocalFiles, RemoteFiles
from rrid_edge.gallery.bulk.inputs import open_input
from rrid_edge.gallery.bulk.known import KnownFiles
from rrid_edge.gallery.bulk.reading import BatchReader
from rrid_edge.gallery.bulk.records import BulkSettings, CropBatch, Outcome
from rrid_edge.gallery.bulk.run import embed_many, planned
from rrid_edge.gallery.opening import create_store
from support.pictures import noise, save_crops

ENGINE = FakeEngine()
ROW = NewRow("c", "", 1, 1), np.ones(2, np.float32)


@pytest.fixture
def gallery(tmp_path):
    with create_store(tmp_path / "g", ENGINE.spec) as store:
        yield store


@pytest.fixture
def folder(tmp_path):
    save_crops(tmp_path / "crops", 12)
    return tmp_path / "crops"


@pytest.fixture(params=["listing", "table of paths"])
def given(request, folder):
    """Opens the crops of an address."""
    if request.param == "listing":
        return lambda: open_input(folder.as_uri())
    names = [path.name for path in sorted(folder.iterdir())]
    pq.write_table(pa.table({"path": names}), folder.parent / "t.parquet")
    return lambda: open_input((folder.parent / "t.parquet").as_uri(), folder.as_uri())


@pytest.fixture
def reads(monkeypatch):
    """How often each file of an address is read."""
    counted, fetch = Counter[str](), RemoteFiles.fetch

    def counting(self, name, path, state=None):
        counted[name] += 1
        return fetch(self, name, path, state)

    monkeypatch.setattr(RemoteFiles, "fetch", counting)
    return counted


def change(folder):
    """Change one crop to another size and one within its size, touch one, and damage one; return their names."""
    other, same, touched, damaged = sorted(folder.iterdir())[2:6]
    noise(77).save(other)
    size = same.stat().st_size
    noise(5).resize((8, 8)).save(same, quality=30)
    content = same.read_bytes()
    assert len(content) < size
    same.write_bytes(content.ljust(size, b"\0"))  # a JPEG may be followed by anything
    damaged.write_bytes(b"\0" * damaged.stat().st_size)
    for path in (same, touched, damaged):
        os.utime(path, ns=(10**18, 10**18))
    return {path.name for path in (other, same, touched, damaged)}


@pytest.mark.parametrize("held_bytes", [reading.HELD_BYTES, 0])
def test_changed_files_of_an_address_are_read_once(given, folder, gallery, reads, monkeypatch, held_bytes):
    monkeypatch.setattr(reading, "HELD_BYTES", held_bytes)
    embed_many(given(), gallery, ENGINE)
    assert reads == Counter(path.name for path in folder.iterdir())
    changed = change(folder)
    reads.clear()
    report = embed_many(given(), gallery, ENGINE)
    assert (report.rows, report.added, report.changed, report.unchanged, report.failures) == (12, 0, 2, 9, 1)
    assert reads == Counter(changed)


def test_a_worker_without_a_gallery_reads_once_too(folder, gallery, reads):
    embed_many(open_input(folder.as_uri()), gallery, ENGINE, BulkSettings(source="one"))
    changed = change(folder)
    reads.clear()
    crops = open_input(folder.as_uri())
    job = planned(crops, gallery, BulkSettings(source="one"))
    (batch,) = crops.batches()
    outcome = BatchEmbedder(job, ENGINE, KnownFiles.of(gallery.rows(["one"])).find).embed(batch)
    assert (len(outcome.rows), outcome.unchanged, len(outcome.failed), outcome.done) == (2, 9, 1, 12)
    assert reads == Counter(changed)


def test_bytes_are_held_within_the_bound(gallery, folder, monkeypatch):
    """Twelve files of other content, compared by it, come in parts of which only the last file passes the bound."""
    embed_many(open_input(folder.as_uri()), gallery, ENGINE)
    stored = {row.path: replace(row, sha256="0" * 64, mtime_ns=1) for row in gallery.rows()}
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    monkeypatch.setattr(reading, "HELD_BYTES", sum(sorted(sizes.values())[:5]))
    crops = open_input(folder.as_uri())
    (batch,) = crops.batches()
    reader = BatchReader(batch, crops.files, folder)
    found = []
    for part in reader.parts(stored):
        assert part.unchanged == 0
        assert sum(sizes[name] for name in part.outdated[:-1]) <= reading.HELD_BYTES
        found += [reader.fetch(folder / name).facts.path for name in part.outdated]
    assert found == [folder / name for name in batch.names]


def test_a_file_whose_row_has_a_wrong_size_counts_as_unchanged(gallery, folder):
    """It grew while it was read: the row has the old size and the new content."""
    embed_many(open_input(folder.as_uri()), gallery, ENGINE)
    rows = gallery.rows()
    gallery.update([replace(rows[0], size=1), *rows[1:]])
    for unchanged in (12, 12):
        report = embed_many(open_input(folder.as_uri()), gallery, ENGINE)
        assert (report.added, report.changed, report.unchanged, report.failures) == (0, 0, unchanged, 0)
    assert [(row.path, row.sha256, row.size) for row in gallery.rows()] == [
        (row.path, row.sha256, row.size) for row in rows
    ]


def test_crops_of_a_table_need_no_file(tmp_path):
    batch = CropBatch(["a.jpg"], {"a.jpg": b"bytes"})
    fetched = BatchReader(batch, LocalFiles(tmp_path), tmp_path).fetch(tmp_path / "a.jpg")
    assert fetched == Fetched.of(tmp_path / "a.jpg", b"bytes", 5, 0)


def test_outcomes_add_up():
    first = Outcome(1, 2, 3, 4, 5, (("a", "bad"),), (ROW,))
    assert first + Outcome(added=1, failed=(("b", "worse"),)) == Outcome(
        2, 2, 3, 4, 5, (("a", "bad"), ("b", "worse")), (ROW,)
    )
