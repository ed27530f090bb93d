"""Damaged fields: no search answers them, verification reports them, and indexing mends all that it reports."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from rrid_edge.engines.fake import FakeEngine
from rrid_edge.errors import GalleryError
from rrid_edge.gallery import NewRow
from rrid_edge.gallery.indexing.settings import IndexSettings
from rrid_edge.gallery.indexing.sync import index_folder
from rrid_edge.gallery.local.store import LocalGallery
from support.galleries import SPEC, rows, vectors
from support.pictures import save_crops

REMOVED = 5
FLIPS = 50


@pytest.fixture(scope="module")
def indexed(tmp_path_factory):
    """A folder of crops and its index, of which some crops were removed."""
    root = tmp_path_factory.mktemp("damage")
    files = sorted(save_crops(root / "crops", 40))  # by slot
    with LocalGallery.create(root / "index", SPEC) as store:
        index_folder(root / "crops", store, FakeEngine(SPEC))
        for file in files[:REMOVED]:
            file.unlink()
        index_folder(root / "crops", store, FakeEngine(SPEC), IndexSettings(allow_removals=True))
        store.forget([files[39].name])
        files[39].unlink()
        store.set_unreadable("local", {"broken.jpg": (3, 4)})
    return root


def _content(store):
    found = store.rows()
    return [
        (row.path, row.sha256, row.camera, row.person, vector.tobytes())
        for row, vector in zip(found, store.vectors(found), strict=True)
    ]


def _index(folder, location):
    with LocalGallery.create(location, SPEC) as store:
        index_folder(folder, store, FakeEngine(SPEC), IndexSettings(allow_removals=True))


def _edit(location, statement, *values):
    connection = sqlite3.connect(location / "meta.sqlite")
    changed = connection.execute(statement, values).rowcount
    connection.commit()
    connection.close()
    assert changed > 0


ROW_EDITS = [
    "UPDATE row SET dead = 0 WHERE slot = 2",  # a removed crop comes back
    "UPDATE row SET dead = 1 WHERE slot = 20",  # a crop vanishes
    "UPDATE row SET dead = 5 WHERE slot = 20",
    "UPDATE row SET slot = 4000 WHERE slot = 20",
    "UPDATE row SET slot = 39 WHERE slot = 20",  # the forgotten row's slot
    "UPDATE row SET id = 3 WHERE slot = 20",
    "UPDATE row SET path = 'other.jpg' WHERE slot = 20",
    "UPDATE row SET path = x'ff00' WHERE slot = 2",
    "UPDATE row SET path = NULL WHERE slot = 20",
    "UPDATE row SET source = x'41' WHERE slot = 20",
    "UPDATE row SET source = 7 WHERE slot = 20",
    "UPDATE row SET sha256 = x'00' WHERE slot = 20",
    "UPDATE row SET sha256 = 'text' WHERE slot = 20",
    "UPDATE row SET size = 'text' WHERE slot = 20",
    "UPDATE row SET mtime_ns = mtime_ns + 1 WHERE slot = 20",
    "UPDATE row SET camera = x'39' WHERE slot = 20",
    "UPDATE row SET camera = 3.5 WHERE slot = 20",
    "UPDATE row SET person = NULL WHERE slot = 20",
    "UPDATE row SET time = 5 WHERE slot = 20",
    "UPDATE row SET time = x'05' WHERE slot = 20",
    "UPDATE row SET frame = 2 WHERE slot = 20",
    "UPDATE row SET track = x'41' WHERE slot = 20",
    "UPDATE row SET label = x'41' WHERE slot = 20",
    "UPDATE row SET crc32 = crc32 + 1 WHERE slot = 20",
    "UPDATE row SET check32 = check32 + 1 WHERE slot = 20",
    "UPDATE row SET crc32 = (SELECT crc32 FROM row WHERE slot = 21) WHERE slot = 20",
    "DELETE FROM row WHERE slot = 20",
    "UPDATE info SET value = '20' WHERE key = 'slots'",
    "UPDATE info SET value = '60' WHERE key = 'slots'",
    "UPDATE info SET value = '33' WHERE key = 'rows'",
    "UPDATE info SET value = '1' WHERE key = 'generation'",
    "UPDATE info SET value = '9' WHERE key = 'total'",
    "UPDATE info SET value = '3' WHERE key = 'next_id'",
    "UPDATE info SET value = 'float32' WHERE key = 'dtype'",
    "UPDATE info SET value = '1' WHERE key = 'format'",
    "UPDATE info SET value = '99' WHERE key = 'format'",
    "UPDATE info SET value = '{}' WHERE key = 'spec'",
    "UPDATE info SET value = '00' WHERE key = 'digest_key'",
    "UPDATE info SET value = '1' WHERE key = 'check32'",
    "DELETE FROM info WHERE key = 'check32'",
    "DELETE FROM info WHERE key = 'commit'",
    "DELETE FROM info",
    "UPDATE info_copy SET body = '{' WHERE id = 1",
    "DELETE FROM info_copy",
    "UPDATE kept_out SET copy = x'00'",
    "UPDATE kept_out SET digest = x'00'",
    "UPDATE kept_out SET check32 = 1",
    "UPDATE unreadable SET size = 8",
    "UPDATE unreadable SET size = 'text'",
]


@pytest.mark.parametrize("statement", ROW_EDITS)
def test_an_edited_field_is_reported_never_answered_and_mended(indexed, tmp_path, statement):
    location = tmp_path / "index"
    shutil.copytree(indexed / "index", location)
    with LocalGallery(location) as store:
        expected = _content(store)
        (query,) = store.vectors(store.rows()[:1])
        forgotten = store.kept_out_state()
        assert forgotten
        assert len(expected) == 34
    _edit(location, statement)
    with LocalGallery(location) as store:
        assert set(_content(store)) <= set(expected)
        hits = store.search(query[None], 1000).hits[0]
        found = {(hit.row.path, hit.row.sha256) for hit in hits}
        assert found <= {(path, sha256) for path, sha256, *_ in expected}
        assert store.kept_out_state() == forgotten
        assert not store.verify().sound
    _index(indexed / "crops", location)
    with LocalGallery(location) as store:
        assert store.verify().sound
        assert _content(store) == expected
        assert store.kept_out_state() == forgotten


def test_both_copies_of_the_facts_damaged(indexed, tmp_path):
    location = tmp_path / "index"
    shutil.copytree(indexed / "index", location)
    _edit(location, "UPDATE info SET value = '20' WHERE key = 'slots'")
    _edit(location, "UPDATE info_copy SET body = '{}'")
    size = (location / "vec.0.f16").stat().st_size
    for write in (False, True):
        with pytest.raises(GalleryError, match="both copies of the gallery's facts are damaged"):
            LocalGallery(location, write=write)
    assert (location / "vec.0.f16").stat().st_size == size


def test_flipped_bytes_anywhere_are_mended_by_indexing(indexed, tmp_path):
    """One flipped byte in the catalogue: no wrong row; if verification finds it, indexing mends it or refuses."""
    with LocalGallery(indexed / "index") as store:
        expected = _content(store)
    whole = (indexed / "index" / "meta.sqlite").read_bytes()
    generator = random.Random(0)
    used = [position for position, byte in enumerate(whole) if byte]
    refused = mended = 0
    for number in range(FLIPS):
        position, flip = generator.choice(used), 1 << generator.randrange(8)
        location = tmp_path / str(number)
        shutil.copytree(indexed / "index", location)
        damaged = bytearray(whole)
        damaged[position] ^= flip
        (location / "meta.sqlite").write_bytes(damaged)
        try:
            with LocalGallery(location) as store:
                sound = store.verify().sound
                seen = _content(store)
            assert set(seen) <= set(expected), (position, flip)
            assert seen == expected or not sound, (position, flip)
        except GalleryError:
            sound = False
        try:
            _index(indexed / "crops", location)
        except GalleryError:
            assert not sound
            refused += 1
            continue
        with LocalGallery(location) as store:
            assert store.verify().sound, (position, flip)
            assert _content(store) == expected, (position, flip)
            mended += not sound
    assert mended > 5 * refused


def _cut(data):
    return data[:-500]


def _gone(data):
    return None


def _header(data):
    return b"X" + data[1:]


def _mark(data):
    return data[:57] + bytes([data[57] ^ 1]) + data[58:]


def _vector(data):
    return data[:700] + bytes([data[700] ^ 64]) + data[701:]


@pytest.mark.parametrize("damage", [_cut, _gone, _header, _mark, _vector])
def test_a_damaged_vector_file_is_mended_by_indexing(indexed, tmp_path, damage):
    location = tmp_path / "index"
    shutil.copytree(indexed / "index", location)
    with LocalGallery(location) as store:
        expected = _content(store)
    file = location / "vec.0.f16"
    data = damage(file.read_bytes())
    file.unlink()
    if data is not None:
        file.write_bytes(data)
    _index(indexed / "crops", location)
    with LocalGallery(location) as store:
        assert store.verify().sound
        assert _content(store) == expected


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_no_ordinary_file_in_place_of_the_vectors_is_refused_by_name(indexed, tmp_path, make):
    location = tmp_path / "index"
    shutil.copytree(indexed / "index", location)
    (location / "vec.0.f16").unlink()
    make(location / "vec.0.f16")
    with pytest.raises(GalleryError, match=r"vec\.0\.f16: no ordinary file"), LocalGallery(location) as store:
        store.verify()
    with pytest.raises(GalleryError, match=r"vec\.0\.f16: no ordinary file"):
        _index(indexed / "crops", location)


def test_recovery_never_cuts_committed_vectors(tmp_path):
    """The catalogue lost commits (SQLite dropped the end of its log): the file keeps its length, and slots go on."""
    location = tmp_path / "g"
    with LocalGallery.create(location, SPEC) as store:
        store.add(rows(10), vectors(10))
        store.close()
    shutil.copyfile(location / "meta.sqlite", tmp_path / "old")
    with LocalGallery(location, write=True) as store:
        store.add(rows(5, start=10), vectors(5, seed=1))
    size = (location / "vec.0.f16").stat().st_size
    shutil.copyfile(tmp_path / "old", location / "meta.sqlite")
    with LocalGallery(location) as store:
        assert store.verify().lost == 5
    with LocalGallery(location, write=True) as store:
        assert (location / "vec.0.f16").stat().st_size == size
        assert store.verify().sound
        assert vectors(5, seed=1).astype("<f2")[2].tobytes() not in (location / "vec.0.f16").read_bytes()
        store.add(rows(1, start=10), vectors(1, seed=1))
        assert store.rows_of([rows(1, start=10)[0].path or ""], "local")[0].slot == 15
        np.testing.assert_allclose(store.vectors(store.rows())[0], vectors(1)[0], atol=1e-3)
        assert store.verify().sound


def test_a_damaged_row_without_a_file_is_removed_because_nothing_can_mend_it(tmp_path):
    location = tmp_path / "g"
    with LocalGallery.create(location, SPEC) as store:
        store.add([NewRow(None, camera="a"), *rows(2)], vectors(3))
    data = bytearray((location / "vec.0.f16").read_bytes())
    data[64 + 3] ^= 0x20
    (location / "vec.0.f16").write_bytes(data)
    with LocalGallery(location, write=True) as store:
        assert [row.id for row in store.verify().damaged] == [1]
        assert store.damaged() == []
        assert store.verify().sound
        assert store.info().rows == 2


@pytest.mark.parametrize("statement", [ROW_EDITS[3], ROW_EDITS[6], ROW_EDITS[26]])
def test_forgetting_reaches_vectors_whose_entries_were_damaged(indexed, tmp_path, statement):
    """The entry was deleted or moved to another slot by damage: its vector must not stay without an entry."""
    location = tmp_path / "index"
    shutil.copytree(indexed / "index", location)
    with LocalGallery(location) as store:
        (row,) = (row for row in store.rows() if row.slot == 20)
        secret = store.vectors([row]).astype("<f2").tobytes()
    _edit(location, statement)
    _index(indexed / "crops", location)
    with LocalGallery(location, write=True) as store:
        assert secret in (location / "vec.0.f16").read_bytes()
        assert store.forget([str(row.path)]).rows == 1
        assert secret not in (location / "vec.0.f16").read_bytes()
        assert store.verify().sound
