"""Galleries of format 1: read as they are, migrated in one commit, and still format 1 after a kill in the middle."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import zlib

import numpy as np
import pytest

from rrid_edge.engines.fake import fake_spec
from rrid_edge.errors import FingerprintMismatchError, GalleryError
from rrid_edge.gallery import SearchFilter
from rrid_edge.gallery.local import vector_file
from rrid_edge.gallery.local.store import LocalGallery
from rrid_edge.gallery.local.vector_file import VectorFormat
from support.galleries import SPEC, vectors

# The schema as format 1 had it.
SCHEMA = """
CREATE TABLE info (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE row (
    slot INTEGER PRIMARY KEY, path BLOB NOT NULL, sha256 TEXT NOT NULL, size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL, camera INTEGER, person TEXT, time INTEGER, crc32 INTEGER NOT NULL,
    check32 INTEGER NOT NULL, dead INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX live_path ON row (path) WHERE dead = 0;
"""
COUNT = 12
NAMES = [f"{number:04d}.jpg" for number in range(COUNT - 1)] + ["\udcff odd.jpg"]


def old_row(slot):
    """A row as format 1 wrote it: slot, path, sha256, size, mtime, camera, person, time, crc32, check32, dead."""
    crc32 = zlib.crc32(vectors(COUNT).astype("<f2")[slot].tobytes())
    camera, person, time = (None, None, None) if slot % 4 == 0 else (slot % 3, f"{slot % 5:04d}", 100 + slot)
    path = os.fsencode(NAMES[slot])
    values = (slot, f"{slot:064x}", 9, 1000 + slot, camera, person, time, crc32)
    check32 = zlib.crc32(path + repr(values).encode("utf-8", "surrogateescape"))
    return (slot, path, *values[1:], check32, int(slot in (2, 5)))


def make_format_1(folder):
    """Build a gallery of format 1 by hand: 12 slots, two of them dead."""
    folder.mkdir()
    form = VectorFormat(SPEC.dimension, "float16", 0, SPEC.fingerprint)
    vector_file.create(folder / form.file_name, form, 0o644)
    vector_file.append(folder / form.file_name, vectors(COUNT).astype("<f2").tobytes(), vector_file.HEADER_BYTES)
    vector_file.mark_committed(folder / form.file_name, COUNT)
    facts = {"format": "1", "dtype": "float16", "generation": "0", "slots": str(COUNT), "model": "/models/rrid.onnx"}
    facts["spec"] = json.dumps(SPEC.to_metadata())
    connection = sqlite3.connect(folder / "meta.sqlite", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(SCHEMA)
    connection.executemany("INSERT INTO info VALUES (?, ?)", facts.items())
    connection.executemany(f"INSERT INTO row VALUES ({', '.join('?' * 11)})", [old_row(slot) for slot in range(COUNT)])
    connection.close()


@pytest.fixture
def folder(tmp_path):
    make_format_1(tmp_path / "g")
    return tmp_path / "g"


def found_format(folder):
    connection = sqlite3.connect(folder / "meta.sqlite")
    (value,) = connection.execute("SELECT value FROM info WHERE key = 'format'").fetchone()
    connection.close()
    return value


def check(store):
    live = [slot for slot in range(COUNT) if slot not in (2, 5)]
    found = store.rows()
    assert [(row.id, row.slot, row.path, row.source) for row in found] == [
        (slot + 1, slot, NAMES[slot], "local") for slot in live
    ]
    for row in found:
        known = row.slot % 4 != 0
        assert (row.camera, row.person) == ((str(row.slot % 3), f"{row.slot % 5:04d}") if known else (None, None))
        assert (row.time, row.frame) == (None, 100 + row.slot if known else None)
        assert (row.sha256, row.size, row.mtime_ns) == (f"{row.slot:064x}", 9, 1000 + row.slot)
    np.testing.assert_array_equal(store.vectors(found), vectors(COUNT)[live].astype(np.float16).astype(np.float32))
    best = store.search(vectors(COUNT), 1, SearchFilter(since_frame=0))
    expected = [NAMES[slot] for slot in live if slot % 4]
    assert {hits[0].row.path for hits in best.hits} <= set(expected)
    assert best.hits[7][0].row.path == NAMES[7]
    assert best.rows == len(expected)
    assert store.verify().sound
    assert store.info().model == "/models/rrid.onnx"
    assert store.info().rows == len(live)
    assert store.file_stats("local")[NAMES[0]] == (9, 1000)
    assert {row.path for row in store.removed()} == {NAMES[2], NAMES[5]}


def test_it_is_read_as_it_is(folder):
    for _ in range(2):
        with LocalGallery(folder, spec=SPEC) as store:
            check(store)
            with store.moment() as moment:
                assert len(moment.rows()) == moment.info().rows
    assert found_format(folder) == "1"


def test_the_first_opening_for_writing_migrates_it(folder):
    with LocalGallery(folder) as reader:
        check(reader)
        with LocalGallery.create(folder, SPEC) as writer:
            check(writer)
            check(reader)
            assert writer.forget([NAMES[2], NAMES[7]]).rows == 2
        assert len(reader.rows()) == COUNT - 3
    assert found_format(folder) == "2"
    assert vectors(COUNT).astype("<f2")[2].tobytes() not in (folder / "vec.0.f16").read_bytes()
    with LocalGallery(folder, write=True) as writer:
        assert writer.verify().sound
        assert writer.add([], vectors(0)) == []
        assert writer.compact() == 3
        assert writer.verify().sound


def test_another_model_does_not_migrate_it(folder):
    with pytest.raises(FingerprintMismatchError):
        LocalGallery.create(folder, fake_spec("other", block_width=4))
    assert found_format(folder) == "1"


@pytest.mark.parametrize("column", ["path", "sha256", "camera", "person", "time", "crc32", "check32"])
def test_damaged_entries_are_left_out(folder, column):
    connection = sqlite3.connect(folder / "meta.sqlite")
    connection.execute(f"UPDATE row SET {column} = 77 WHERE slot = 3")
    connection.commit()
    connection.close()
    for write in (False, True):
        with LocalGallery(folder, write=write) as store:
            assert 3 not in {row.slot for row in store.rows()}
            assert len(store.rows()) == COUNT - 3
            assert write or not store.verify().sound
    with LocalGallery(folder) as store:
        assert store.verify().sound


VICTIM = """
import os, sys
from pathlib import Path
import rrid_edge.gallery.local.{module} as module
from rrid_edge.gallery.local.store import LocalGallery

def die(*_arguments):
    os.kill(os.getpid(), 9)

module.{name} = die
LocalGallery(Path(sys.argv[1]), write=True)
"""


@pytest.mark.parametrize(("module", "name"), [("format1", "write_facts"), ("database", "commit_now")])
def test_a_kill_in_the_middle_leaves_format_1(folder, module, name):
    program = textwrap.dedent(VICTIM.format(module=module, name=name))
    assert subprocess.run([sys.executable, "-c", program, str(folder)]).returncode == -signal.SIGKILL
    assert found_format(folder) == "1"
    with LocalGallery(folder) as reader:
        check(reader)
    with LocalGallery(folder, write=True) as writer:
        check(writer)
    assert found_format(folder) == "2"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE info SET value = 'many' WHERE key = 'slots'",
        "UPDATE info SET value = '99999999999999999999' WHERE key = 'generation'",
        "UPDATE info SET value = 'float64' WHERE key = 'dtype'",
        "UPDATE info SET value = x'ff' WHERE key = 'dtype'",
        "UPDATE info SET value = '{' WHERE key = 'spec'",
        "UPDATE info SET value = '[]' WHERE key = 'spec'",
        "DELETE FROM info WHERE key = 'dtype'",
        "DELETE FROM info WHERE key = 'slots'",
        "UPDATE info SET key = x'ff' WHERE key = 'dtype'",
    ],
)
def test_damaged_facts_are_refused_in_one_line(folder, statement):
    connection = sqlite3.connect(folder / "meta.sqlite")
    connection.execute(statement)
    connection.commit()
    connection.close()
    for write in (False, True):
        with pytest.raises(GalleryError, match=r"in the catalogue \(.*; restore the folder") as caught:
            LocalGallery(folder, write=write)
        assert caught.value.message.startswith(f"{folder}: damaged ")
