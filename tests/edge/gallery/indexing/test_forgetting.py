"""Forgetting crops by name and by condition. If something is unknown, nothing is removed."""

from __future__ import annotations

import hashlib

import pytest

from rrid_edge.engines.fake import FakeEngine
from rrid_edge.errors import UsageError
from rrid_edge.gallery.base import NewRow
from rrid_edge.gallery.indexing.forgetting import ForgetSelection, forget_crops, unforget
from rrid_edge.gallery.indexing.retention import forget_expired, set_retention
from rrid_edge.gallery.indexing.settings import IndexControl, IndexSettings
from rrid_edge.gallery.indexing.sync import index_folder
from support.engines import CountingEngine
from support.memory_store import SPEC, MemoryStore, vectors
from support.pictures import noise, save_crops

DAY_US = 86_400_000_000
NOW_US = 1_800_000_000_000_000


def made_up(count=30):
    """Rows of 5 persons, 3 cameras, 2 sources; every fourth has no file, every third no time."""
    return [
        NewRow(
            None if index % 4 == 0 else f"{index:03d}.jpg",
            "" if index % 4 == 0 else hashlib.sha256(b"%d" % index).hexdigest(),
            mtime_ns=(NOW_US - (count - index) * DAY_US) * 1000,
            camera=f"cam{index % 3}",
            person=f"{index % 5:04d}",
            time=None if index % 3 == 0 else NOW_US - index * DAY_US,
            label="Ann" if index in (7, 8) else None,
            source="box" if index % 2 else "local",
        )
        for index in range(count)
    ]


@pytest.fixture
def gallery():
    store = MemoryStore(SPEC)
    store.add(made_up(), vectors(30))
    return store


def age_us(row):
    return NOW_US - (row.mtime_ns // 1000 if row.time is None else row.time)


@pytest.mark.parametrize(
    ("selection", "meets"),
    [
        ({"person": "0003"}, lambda row: row.person == "0003"),
        ({"person": "Ann"}, lambda row: row.label == "Ann"),
        ({"camera": "cam1"}, lambda row: row.camera == "cam1"),
        ({"source": "box"}, lambda row: row.source == "box"),
        ({"before": NOW_US - 10 * DAY_US}, lambda row: age_us(row) > 10 * DAY_US),
        (
            {"camera": "cam0", "source": "local", "before": NOW_US - 20 * DAY_US},
            lambda row: row.camera == "cam0" and row.source == "local" and age_us(row) > 20 * DAY_US,
        ),
        ({"paths": ("001.jpg", "002.jpg")}, lambda row: row.path in ("001.jpg", "002.jpg")),
        ({"paths": ("001.jpg",), "source": "box"}, lambda row: row.path == "001.jpg"),
        ({"ids": (2, 5), "person": "0003"}, lambda row: row.id in (2, 5) or row.person == "0003"),
    ],
)
def test_crops_are_chosen_by_name_or_by_all_conditions(gallery, selection, meets):
    expected = {row.id for row in gallery.rows() if meets(row)}
    assert 0 < len(expected) < 30
    before = gallery.rows()
    dry = forget_crops(gallery, ForgetSelection(**selection), dry_run=True)
    assert (set(dry.ids), gallery.rows(), gallery.removed()) == (expected, before, [])
    result = forget_crops(gallery, ForgetSelection(**selection))
    assert set(result.ids) == expected
    assert gallery.rows() == [row for row in before if row.id not in expected]
    contents = {row.sha256 for row in before if row.id in expected and row.sha256}
    assert gallery.kept_out({row.sha256 for row in before}) == contents


@pytest.mark.parametrize(
    ("selection", "message", "parameters"),
    [
        ({}, "nothing to forget: give paths or ids", ("paths", "ids", "person", "camera", "source", "before")),
        ({"paths": ("none.jpg",)}, r"none\.jpg: not in the index \(1 such paths\)", ("paths",)),
        ({"paths": ("001.jpg", "none.jpg"), "person": "0004"}, r"none\.jpg: not in the index", ("paths",)),
        ({"paths": ("001.jpg",), "source": "local"}, r"001\.jpg: not in the index", ("paths",)),
        ({"paths": ("001.jpg",), "person": "nobody"}, "person 'nobody' is not in the index", ("person",)),
        ({"ids": (1, 999)}, "id 999 is not in the index", ("ids",)),
        ({"camera": "cam9"}, "camera 'cam9' is not in the index", ("camera",)),
        ({"camera": "cam1", "source": "far"}, "source 'far' is not in the index", ("source",)),
    ],
)
def test_what_is_unknown_is_refused_and_nothing_is_removed(gallery, selection, message, parameters):
    with pytest.raises(UsageError, match=message) as refusal:
        forget_crops(gallery, ForgetSelection(**selection))
    assert refusal.value.parameters == parameters
    assert gallery.info().rows == 30


def test_nothing_old_enough_is_no_mistake(gallery):
    assert forget_crops(gallery, ForgetSelection(before=0)).ids == ()
    assert forget_crops(gallery, ForgetSelection(camera="cam1", before=0)).ids == ()


def test_rows_that_were_removed_earlier_are_reached_by_person_and_by_path(gallery):
    """Pictures deleted, `index` run, then `forget`: the vectors are still stored."""
    of_person = [row for row in gallery.rows() if row.person == "0003"]
    gallery.remove([row.id for row in of_person])
    result = forget_crops(gallery, ForgetSelection(person="0003"))
    assert set(result.ids) == {row.id for row in of_person}
    gallery.remove(["001.jpg"])
    assert len(forget_crops(gallery, ForgetSelection(paths=["001.jpg"])).ids) == 1
    assert gallery.removed() == []


@pytest.fixture
def crops(tmp_path):
    save_crops(tmp_path / "crops", 12)
    return tmp_path / "crops"


@pytest.fixture
def indexed(crops):
    store = MemoryStore(SPEC)
    index_folder(crops, store, FakeEngine(SPEC))
    return store


QUERY = IndexControl(verify=False, remove=False, expire=False)
WATCH = IndexControl(verify=False)


@pytest.mark.parametrize("control", [QUERY, WATCH, IndexControl()])
def test_forgotten_pictures_are_not_embedded_again_until_they_are_unforgotten(crops, indexed, control):
    engine = CountingEngine(SPEC)
    forget_crops(indexed, ForgetSelection(person="0002"))
    (crops / "0002_c1s1_000001_00.jpg").touch()
    report = index_folder(crops, indexed, engine, control=control)
    assert (report.rows, report.added, report.forgotten) == (9, 0, 3)
    (crops / "renamed.jpg").write_bytes(next(crops.glob("0002_*")).read_bytes())
    report = index_folder(crops, indexed, engine, control=control)
    assert (report.rows, report.added, report.forgotten) == (9, 0, 4)
    embedded = engine.images
    report = index_folder(crops, indexed, engine, control=control)
    assert (report.forgotten, engine.images) == (4, embedded), "a file that was forgotten is not decoded each time"
    assert unforget(indexed) == 3
    assert index_folder(crops, indexed, engine, control=control).added == 4


def test_one_picture_is_let_in_again(crops, indexed):
    rows = [row for row in indexed.rows() if row.person == "0002"]
    forget_crops(indexed, ForgetSelection(person="0002"))
    assert unforget(indexed, [rows[0].sha256, "0" * 64]) == 1
    report = index_folder(crops, indexed, FakeEngine(SPEC), control=QUERY)
    assert (report.added, report.forgotten) == (1, 2)


def test_names_of_forgotten_files_are_not_kept(crops, indexed):
    forget_crops(indexed, ForgetSelection(person="0002"))
    index_folder(crops, indexed, FakeEngine(SPEC))
    assert not [key for key in indexed.unreadable("local") if "0002" in key and "_c" in key]


def test_a_file_that_was_overwritten_by_a_forgotten_picture_loses_its_row(crops, indexed):
    forget_crops(indexed, ForgetSelection(person="0002"))
    taken = next(crops.glob("0003_*"))
    taken.write_bytes(next(crops.glob("0002_*")).read_bytes())
    report = index_folder(crops, indexed, FakeEngine(SPEC))
    assert (report.removed, report.rows) == (1, 8)


def test_image_files_are_deleted_if_they_are_the_forgotten_pictures(crops, indexed, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    names = sorted(path.name for path in crops.glob("0002_*"))
    noise(77).save(crops / names[1])  # another picture since it was indexed
    (crops / names[2]).unlink()
    indexed.add([NewRow("../outside/x.jpg", hashlib.sha256(b"x").hexdigest(), person="0002")], vectors(1))
    (outside / "x.jpg").write_bytes(b"x")
    indexed.add([NewRow("far.jpg", person="0002", source="box"), NewRow(None, person="0002")], vectors(2))
    selection = ForgetSelection(person="0002")
    forget_crops(indexed, selection, delete_from=crops, folder_source="local", dry_run=True)
    assert (crops / names[0]).exists()
    result = forget_crops(indexed, selection, delete_from=crops, folder_source="local")
    assert result.deleted == 1
    assert dict(result.files_left) == {
        names[1]: "it is another picture now",
        "../outside/x.jpg": "it lies outside the folder",
        "far.jpg": "its source is box: delete it there",
    }
    assert sorted(path.name for path in crops.glob("0002_*")) == [names[1]]
    assert (outside / "x.jpg").exists()
    assert not [row for row in indexed.rows() if row.person == "0002"]


def test_other_crops_of_the_same_content_are_forgotten_and_named(crops, indexed):
    copied = next(crops.glob("0002_*"))
    (crops / "copy.jpg").write_bytes(copied.read_bytes())
    index_folder(crops, indexed, FakeEngine(SPEC))
    for dry_run in (True, False):
        found = forget_crops(indexed, ForgetSelection(paths=[copied.name]), dry_run=dry_run)
        assert found.same == ("copy.jpg",)
        assert {row.path for row in found.rows} == {copied.name, "copy.jpg"}
    assert not {copied.name, "copy.jpg"} & {row.path for row in indexed.rows()}


def test_retention_forgets_by_capture_time_then_by_file_time(gallery):
    set_retention(gallery, 10 * 86_400)
    rows = gallery.rows()
    report = forget_expired(gallery, gallery.info(), NOW_US)
    expected = [row for row in rows if age_us(row) <= 10 * DAY_US]
    assert len(report.ids) == 30 - len(expected) > 0
    assert gallery.rows() == expected
    assert gallery.kept_out([row.sha256 for row in rows]) == set()
    set_retention(gallery, None)
    assert gallery.info().retention_s is None
    assert forget_expired(gallery, gallery.info(), NOW_US + 10**15).ids == ()


@pytest.mark.parametrize("seconds", [0, -1, 10**12])
def test_a_retention_that_does_not_work_is_refused(gallery, seconds):
    with pytest.raises(UsageError, match="does not work"):
        set_retention(gallery, seconds)


def test_rows_of_unknown_time_are_kept(gallery):
    gallery.add([NewRow(None, camera="x")], vectors(1))
    set_retention(gallery, 1)
    forget_expired(gallery, gallery.info(), NOW_US + 10**15)
    assert [row.camera for row in gallery.rows()] == ["x"]


@pytest.mark.parametrize("control", [IndexControl(), WATCH, QUERY])
def test_expired_files_are_not_indexed_again(crops, indexed, control):
    import os

    engine = CountingEngine(SPEC)
    old = sorted(crops.iterdir())[:5]
    for path in old:
        os.utime(path, (1_000_000_000, 1_000_000_000))
    index_folder(crops, indexed, engine)
    old_ids = [row.id for row in indexed.rows() if row.path in {path.name for path in old}]
    set_retention(indexed, 86_400)
    if control is not QUERY:
        assert index_folder(crops, indexed, engine, control=control).expired == tuple(old_ids)
    os.utime(old[0], (1_000_000_100, 1_000_000_100))
    noise(3).save(crops / "old.jpg")
    os.utime(crops / "old.jpg", (1_000_000_000, 1_000_000_000))
    embedded = engine.images
    report = index_folder(crops, indexed, engine, control=control)
    assert (report.added, engine.images - embedded) == (0, 0)
    assert report.rows == (12 if control is QUERY else 7), "a query removes nothing"
    set_retention(indexed, None)
    assert index_folder(crops, indexed, engine, control=control).added == (1 if control is QUERY else 6)


def test_capture_times_decide_before_file_times(tmp_path):
    """Pictures that were copied today are as old as their names tell."""
    folder = tmp_path / "crops"
    folder.mkdir()
    noise(1).save(folder / "cam1_20200101120000.jpg")
    noise(2).save(folder / "cam1_22990101120000.jpg")
    gallery, engine = MemoryStore(SPEC), CountingEngine(SPEC)
    set_retention(gallery, 86_400)
    settings = IndexSettings(pattern=r"cam(?P<camera>\d+)_(?P<time>\d+)")
    assert index_folder(folder, gallery, engine, settings).left_out == 1
    assert engine.images == 1
