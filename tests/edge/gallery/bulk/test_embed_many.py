"""Bulk embedding without a cluster: the same rows as `index`, stored once, whatever stops a run."""

from __future__ import annotations

import itertools
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rrid_edge.engines.fake import FakeEngine
from rrid_edge.errors import GalleryUnavailableError, UsageError
from rrid_edge.gallery.bulk.embedding import BatchEmbedder
from rrid_edge.gallery.bulk.inputs import open_input
from rrid_edge.gallery.bulk.known import KnownFiles
from rrid_edge.gallery.bulk.records import BulkSettings
from rrid_edge.gallery.bulk.run import Tally, embed_many, planned, store_outcome
from rrid_edge.gallery.indexing.settings import IndexSettings
from rrid_edge.gallery.indexing.sync import index_folder
from rrid_edge.gallery.opening import create_store, parse_location
from support.galleries import plain
from support.pictures import noise, save_crops

ENGINE = FakeEngine()
_numbers = itertools.count()


@pytest.fixture
def crops(tmp_path):
    """A folder of 40 crops, and one file that is damaged."""
    paths = save_crops(tmp_path / "crops", 40)
    (tmp_path / "crops" / "bad.jpg").write_bytes(paths[0].read_bytes()[:300])
    return tmp_path / "crops"


@pytest.fixture
def table(crops):
    """The same as a table of Parquet, with cameras of its own."""
    paths = sorted(crops.iterdir())
    columns = {"path": [path.name for path in paths], "image": [path.read_bytes() for path in paths]}
    pq.write_table(pa.table({**columns, "camera": ["yard"] * len(paths)}), crops.parent / "t.parquet", row_group_size=9)
    return crops.parent / "t.parquet"


@pytest.fixture(params=["local"])
def gallery(request, tmp_path):
    """An empty gallery of the engine's model: a folder, unless a test asks for Milvus Lite too."""
    place = str(tmp_path / "g")
    if request.param == "lite":
        file = request.getfixturevalue("lite_file")
        place = f"milvus+file:{file}/bulk_{next(_numbers)}"
    with create_store(parse_location(place), ENGINE.spec) as store:
        yield store


class Counting(FakeEngine):
    """Counts the images that it computes, and breaks after some of them."""

    def __init__(self, breaks_after=10**9):
        super().__init__(max_batch=8)
        self.images, self._breaks_after = 0, breaks_after

    def _run_batch(self, images):
        if self.images + len(images) > self._breaks_after:
            raise GalleryUnavailableError("the power is gone")
        self.images += len(images)
        return super()._run_batch(images)


class Follower:
    def __init__(self):
        self.total, self.done, self.names = 0, 0, list[str]()

    def start(self, total):
        self.total = total

    def advance(self, count):
        self.done += count

    def failed(self, name, reason):
        self.names.append(name)


def content(store):
    """Return everything that a gallery says about its rows except their ids."""
    found = store.rows()
    return [(row, vector.tobytes()) for row, vector in zip(plain(found), store.vectors(found), strict=True)]


@pytest.mark.parametrize("gallery", ["local", "lite"], indirect=True)
def test_a_folder_gives_the_rows_of_index(crops, gallery, tmp_path):
    follower = Follower()
    report = embed_many(open_input(str(crops)), gallery, ENGINE, BulkSettings(source="here"), follower)
    assert (report.rows, report.added, report.failures, report.source) == (40, 40, 1, "here")
    assert follower.names == ["bad.jpg"]
    assert follower.done == follower.total == 41
    with create_store(tmp_path / "indexed", ENGINE.spec) as indexed:
        index_folder(crops, indexed, ENGINE, IndexSettings(source="here"))
        assert content(gallery) == content(indexed)
        again = index_folder(crops, gallery, ENGINE, IndexSettings(source="here"))
    assert (again.added, again.changed, again.removed, again.unchanged) == (0, 0, 0, 40)


def test_a_table_gives_its_facts_and_the_same_descriptors(table, crops, gallery, tmp_path):
    report = embed_many(open_input(str(table)), gallery, ENGINE)
    assert (report.rows, report.added, report.failures) == (40, 40, 1)
    assert report.source.endswith("/t.parquet")
    with create_store(tmp_path / "indexed", ENGINE.spec) as indexed:
        index_folder(crops, indexed, ENGINE)
        expected = {row.path: (row.sha256, row.person, row.size) for row in indexed.rows()}
        vectors = dict(zip([row.path for row in indexed.rows()], indexed.vectors(indexed.rows()), strict=True))
    rows = gallery.rows()
    assert {row.path: (row.sha256, row.person, row.size) for row in rows} == expected
    assert {row.camera for row in rows} == {"yard"}
    for row, vector in zip(rows, gallery.vectors(rows), strict=True):
        np.testing.assert_array_equal(vector, vectors[row.path])


@pytest.mark.parametrize("kind", ["folder", "table", "paths"])
def test_a_second_run_embeds_only_what_changed(crops, table, gallery, kind):
    if kind == "paths":
        pq.write_table(
            pa.table({"path": [path.name for path in sorted(crops.glob("*.jpg"))]}), crops.parent / "p.parquet"
        )
    given = {"folder": crops, "table": table, "paths": crops.parent / "p.parquet"}[kind]
    root = str(crops) if kind == "paths" else None
    embed_many(open_input(str(given), root), gallery, ENGINE)
    before = content(gallery)
    engine = Counting()
    again = embed_many(open_input(str(given), root), gallery, engine)
    assert (again.added, again.changed, again.unchanged, engine.images) == (0, 0, 40, 0)
    assert content(gallery) == before
    changed = sorted(crops.glob("*.jpg"))[3]
    touched = sorted(crops.glob("*.jpg"))[5]
    noise(77).save(changed)
    os.utime(touched, ns=(1, 1))
    if kind == "table":
        columns = pq.read_table(table).to_pydict()
        columns["image"][columns["path"].index(changed.name)] = changed.read_bytes()
        pq.write_table(pa.table(columns), table)
    last = embed_many(open_input(str(given), root), gallery, engine)
    assert (last.added, last.changed, last.unchanged, engine.images) == (0, 1, 39, 1)
    assert len(gallery.rows()) == 40


@pytest.mark.parametrize("gallery", ["local", "lite"], indirect=True)
def test_a_run_that_broke_goes_on_where_it_stopped(table, gallery, monkeypatch):
    monkeypatch.setattr("rrid_edge.gallery.indexing.writing.COMMIT_ROWS", 8)
    first, second = Counting(breaks_after=20), Counting()
    with pytest.raises(GalleryUnavailableError):
        embed_many(open_input(str(table)), gallery, first)
    kept = gallery.info().rows
    assert 8 <= kept <= 20
    report = embed_many(open_input(str(table)), gallery, second)
    assert (report.rows, report.added, report.unchanged) == (40, 40 - kept, kept)
    assert second.images == 40 - kept


def test_a_row_that_cannot_be_stored_costs_no_other_one(gallery, crops):
    paths = sorted(crops.glob("0*.jpg"))
    columns = {"path": [path.name for path in paths], "image": [path.read_bytes() for path in paths]}
    pq.write_table(pa.table({**columns, "camera": ["x" * 1001] + ["y"] * 39}), crops.parent / "long.parquet")
    report = embed_many(open_input(str(crops.parent / "long.parquet")), gallery, ENGINE)
    assert (report.rows, report.added, report.failures) == (39, 39, 1)
    assert "camera of 1001 characters" in dict(report.failed)[paths[0].name]


@pytest.mark.parametrize("gallery", ["local", "lite"], indirect=True)
def test_forgotten_and_expired_crops_stay_out(crops, gallery):
    embed_many(open_input(str(crops)), gallery, ENGINE)
    first, second = sorted(crops.glob("0*.jpg"))[:2]
    gallery.forget([first.name])
    gallery.remove([second.name])
    os.utime(second, ns=(10**15, 10**15))
    gallery.remember({"retention_s": "3600"})
    report = embed_many(open_input(str(crops)), gallery, ENGINE)
    assert (report.rows, report.added, report.forgotten, report.expired, report.unchanged) == (38, 0, 1, 1, 38)


def test_what_a_worker_without_a_gallery_embeds_is_stored_by_the_caller(crops, table, gallery):
    """On a cluster, a folder's only writer is the process that started the run."""
    for given in (open_input(str(table)), open_input(str(crops))):
        job = planned(given, gallery, BulkSettings(source="one"))
        worker = BatchEmbedder(job, ENGINE, KnownFiles.of(gallery.rows(["one"])).find)
        tally = Tally("one", Follower())
        for batch in given.batches(16):
            outcome = worker.embed(batch)
            tally.take(store_outcome(gallery, outcome, job))
            tally.take(store_outcome(gallery, worker.embed(batch), job))  # Ray may run a batch again
        report = tally.report(gallery.info())
        assert report.rows == 40
        assert report.failures == 2
    assert report.added == 0  # the table had stored them: the content is the same
    assert len({row.path for row in gallery.rows()}) == 40


def test_the_gallery_decides_how_names_are_read(crops, table, gallery):
    embed_many(open_input(str(table)), gallery, ENGINE, BulkSettings(pattern="none"))
    assert {row.person for row in gallery.rows()} == {None}
    with pytest.raises(UsageError, match="its names are read by the pattern 'none', not 'market1501'"):
        embed_many(open_input(str(table)), gallery, ENGINE, BulkSettings(pattern="market1501"))
    gallery.remember({"time_from": "mtime"})
    with pytest.raises(UsageError, match=r"takes times from 'mtime', which .* cannot tell"):
        embed_many(open_input(str(table)), gallery, ENGINE)
    embed_many(open_input(str(crops)), gallery, ENGINE, BulkSettings(source="folder"))
    assert all(row.time is not None for row in gallery.rows(["folder"]))


def test_a_damaged_vector_is_embedded_again(table, tmp_path):
    with create_store(tmp_path / "g", ENGINE.spec) as store:
        embed_many(open_input(str(table)), store, ENGINE)
        before = content(store)
    (vectors,) = (tmp_path / "g").glob("vec.*")
    raw = bytearray(vectors.read_bytes())
    raw[-3] ^= 255
    vectors.write_bytes(raw)
    with create_store(tmp_path / "g", ENGINE.spec) as store:
        report = embed_many(open_input(str(table)), store, ENGINE)
        assert (report.changed, report.unchanged) == (1, 39)
        assert content(store) == before
