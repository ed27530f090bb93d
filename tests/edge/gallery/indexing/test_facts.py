"""The pattern and the source of times: remembered, and read again for all rows when they change."""

from __future__ import annotations

import os
import socket
from dataclasses import replace

import pytest

from rrid_edge.engines.fake import FakeEngine
from rrid_edge.errors import UsageError
from rrid_edge.gallery.base import NewRow
from rrid_edge.gallery.indexing.facts import default_source
from rrid_edge.gallery.indexing.settings import IndexControl, IndexSettings
from rrid_edge.gallery.indexing.sync import index_folder
from support.memory_store import SPEC, MemoryStore, vectors
from support.pictures import noise, save_crops

QUERY = IndexControl(verify=False, remove=False, expire=False)


class Unused(FakeEngine):
    """Fails if it must embed."""

    def run(self, images):
        pytest.fail("embedded again")


@pytest.fixture
def crops(tmp_path):
    save_crops(tmp_path / "crops", 6)
    noise(1).save(tmp_path / "crops" / "lobby_20261125173015.jpg")
    return tmp_path / "crops"


@pytest.fixture
def gallery(crops):
    store = MemoryStore(SPEC)
    index_folder(crops, store, FakeEngine(SPEC))
    return store


def told(gallery):
    return {row.path: (row.person, row.camera, row.time, row.frame) for row in gallery.rows(["local"]) if row.path}


PATTERN = r"(?P<camera>\w+?)_(?P<time>\d{14})"


def test_a_new_gallery_remembers_how_its_names_were_read(crops, gallery):
    assert (gallery.info().pattern, gallery.info().time_from) == ("auto", "name")
    other = MemoryStore(SPEC)
    index_folder(crops, other, FakeEngine(SPEC), IndexSettings(pattern=PATTERN, time_from="mtime"))
    assert (other.info().pattern, other.info().time_from) == (PATTERN, "mtime")


def test_a_changed_pattern_reads_all_names_again_without_embedding(crops, gallery):
    gallery.add([NewRow(None, camera="door"), NewRow("a_20261125173015.jpg", source="box")], vectors(2))
    foreign = [row for row in gallery.rows() if row.path is None or row.source == "box"]
    labelled = next(row for row in gallery.rows() if row.path and row.path.startswith("lobby"))
    gallery.update([replace(labelled, label="Ann", track="7")])
    assert told(gallery)["0001_c1s1_000000_00.jpg"] == ("0001", "1", None, 0)
    report = index_folder(crops, gallery, Unused(SPEC), IndexSettings(pattern=PATTERN))
    assert (report.reread, report.added, report.changed, report.unchanged) == (7, 0, 0, 7)
    assert told(gallery)["lobby_20261125173015.jpg"] == (None, "lobby", 1_795_627_815_000_000, None)
    assert told(gallery)["0001_c1s1_000000_00.jpg"] == (None, None, None, None)
    (row,) = gallery.rows_by_id([labelled.id])
    assert row.label == "Ann", "what a user confirmed stays"
    assert [row for row in gallery.rows() if row.path is None or row.source == "box"] == foreign
    report = index_folder(crops, gallery, Unused(SPEC))  # not given: the remembered one
    assert (report.reread, gallery.info().pattern) == (0, PATTERN)


def test_new_files_are_read_with_the_remembered_pattern_also_by_a_query(crops, gallery):
    index_folder(crops, gallery, FakeEngine(SPEC), IndexSettings(pattern=PATTERN))
    noise(2).save(crops / "dock_20261125173016.jpg")
    index_folder(crops, gallery, FakeEngine(SPEC), control=QUERY)
    assert told(gallery)["dock_20261125173016.jpg"][1] == "dock"


def test_times_of_files_replace_those_of_names(crops, gallery):
    file = crops / "lobby_20261125173015.jpg"
    os.utime(file, ns=(0, 1_700_000_000_123_456_000))
    index_folder(crops, gallery, FakeEngine(SPEC), IndexSettings(pattern=PATTERN, time_from="mtime"))
    assert told(gallery)[file.name] == (None, "lobby", 1_700_000_000_123_456, None)
    os.utime(file, ns=(0, 1_700_000_001_123_456_000))  # the same picture, touched
    index_folder(crops, gallery, FakeEngine(SPEC))
    assert told(gallery)[file.name][2] == 1_700_000_001_123_456
    file.unlink()
    report = index_folder(crops, gallery, FakeEngine(SPEC), IndexSettings(time_from="exif"), control=QUERY)
    assert told(gallery)[file.name][2] == 1_700_000_001_123_456, "without its file a row keeps its time"
    assert report.missing == 1


def test_rows_that_a_program_named_keep_their_facts_at_the_first_indexing(crops):
    gallery = MemoryStore(SPEC)
    for path in sorted(crops.iterdir()):
        stat = path.stat()
        gallery.add([NewRow(path.name, "0" * 64, stat.st_size, stat.st_mtime_ns, camera="mine")], vectors(1))
    index_folder(crops, gallery, Unused(SPEC))
    assert {camera for _, camera, _, _ in told(gallery).values()} == {"mine"}
    assert gallery.info().pattern == "auto"
    index_folder(crops, gallery, Unused(SPEC), IndexSettings(pattern="none"))
    assert {camera for _, camera, _, _ in told(gallery).values()} == {None}


@pytest.mark.parametrize("settings", [{"pattern": "(?P<camera"}, {"pattern": "x"}, {"time_from": "gps"}])
def test_what_cannot_be_read_is_refused_before_anything_is_written(crops, gallery, settings):
    before = gallery.rows(), gallery.info()
    with pytest.raises(UsageError):
        index_folder(crops, gallery, Unused(SPEC), IndexSettings(**settings))
    assert (gallery.rows(), gallery.info()) == before


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        (r"cam(?P<camera>\d+)_(?P<time>\d+)", "cam2_20261125173015123450.jpg"),
        (r"cam(?P<camera>\d+)_(?P<time>\d+)", "cam2_" + "9" * 200 + ".jpg"),
        (r"sn(?P<camera>\d+)_", "sn99112233445566778890_1.jpg"),
        (r"(?P<frame>\d+)", "99999999999999999999.jpg"),
    ],
)
def test_numbers_that_do_not_fit_stop_nothing(tmp_path, pattern, name):
    (tmp_path / "crops").mkdir()
    noise(1).save(tmp_path / "crops" / name)
    gallery = MemoryStore(SPEC)
    assert index_folder(tmp_path / "crops", gallery, FakeEngine(SPEC), IndexSettings(pattern=pattern)).added == 1


def test_the_source_of_a_folder(tmp_path, gallery):
    info = gallery.info()
    assert default_source(info, tmp_path) == "local"
    assert default_source(replace(info, index_type="flat"), tmp_path) == f"{socket.gethostname()}:{tmp_path.resolve()}"
