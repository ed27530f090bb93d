"""Odd files of a folder cost themselves only: they are named or counted, and the others are indexed."""

from __future__ import annotations

import os
import tracemalloc

import pytest

from rrid_edge.embedding import pipeline
from rrid_edge.embedding.tuning import EmbeddingStats
from rrid_edge.engines.fake import FakeEngine, fake_spec
from rrid_edge.errors import OutputError, UsageError
from rrid_edge.gallery.indexing.facts import FactReader
from rrid_edge.gallery.indexing.queried import FolderState, folder_state
from rrid_edge.gallery.indexing.settings import IndexSettings
from rrid_edge.gallery.indexing.sparing import store_each
from rrid_edge.gallery.indexing.sync import index_folder, refuse_empty
from rrid_edge.gallery.local.store import LocalGallery
from support.exif import Tag, exif_block, orientation_tag, turned_picture, with_exif
from support.pictures import noise, save_crops

SPEC = fake_spec(block_width=4)


@pytest.fixture
def folder(tmp_path):
    save_crops(tmp_path / "crops", 6)
    return tmp_path / "crops"


@pytest.fixture
def gallery(folder):
    with LocalGallery.create(folder / ".rrid-edge", SPEC) as store:
        yield store


def index(folder, gallery, **settings):
    return index_folder(folder, gallery, FakeEngine(SPEC), IndexSettings(**settings))


def names(gallery):
    return {row.path for row in gallery.rows()}


def test_odd_metadata_a_huge_file_and_other_formats_cost_themselves_only(folder, gallery):
    odd = exif_block([orientation_tag(6), Tag(0x0128, 1, 1, b"\2\0\0\0")])
    (folder / "odd.jpg").write_bytes(with_exif(turned_picture(), "JPEG", odd))
    (folder / "drawing.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n")
    (folder / "photo.heic").touch()
    noise(1).save(folder / "UPPER.JPG")
    noise(2).save(folder / "e.jfif", "JPEG")
    noise(3).save(folder / "clip.jpg")
    os.truncate(folder / "clip.jpg", 40 << 30)
    tracemalloc.start()
    report = index(folder, gallery)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert report.added == 9
    assert {"odd.jpg", "UPPER.JPG", "e.jfif"} < names(gallery)
    assert [(path, reason.split(";")[0]) for path, reason in report.failed] == [
        ("clip.jpg", "40 GiB, too large"),
        ("drawing.jpg", "a PostScript file (EPS), which is not read"),
    ]
    assert report.endings == {".heic": 1}
    assert peak < 64 << 20
    again = index(folder, gallery)
    assert (again.added, again.unchanged, len(again.failed)) == (0, 9, 2)


@pytest.fixture
def linked(folder, tmp_path):
    """The folder with a link inside, and two that lead out of it."""
    for name in ("a.jpg", "b.jpg"):
        noise(7).save(tmp_path / name)
    (folder / "inside.jpg").symlink_to(sorted(folder.glob("*.jpg"))[0].name)
    (folder / "out_a.jpg").symlink_to(tmp_path / "a.jpg")
    (folder / "out_b.jpg").symlink_to(tmp_path / "b.jpg")
    return folder


def test_links_that_lead_out_are_read_only_if_asked(linked, gallery):
    report = index(linked, gallery)
    assert (report.added, report.outside) == (7, ("out_a.jpg", "out_b.jpg"))
    assert "inside.jpg" in names(gallery)
    followed = index(linked, gallery, follow_links=True)
    assert (followed.added, followed.outside) == (2, ())


def test_rows_of_links_stay_when_they_are_not_followed_any_more(linked, gallery):
    index(linked, gallery, follow_links=True)
    report = index(linked, gallery)
    assert (report.removed, report.unexamined, report.rows) == (0, 2, 9)
    assert folder_state(linked, gallery) == FolderState(unexamined=2, outside=("out_a.jpg", "out_b.jpg"))
    assert folder_state(linked, gallery, follow_links=True) == FolderState()
    (linked / "out_a.jpg").unlink()
    assert (index(linked, gallery).removed, len(names(gallery))) == (1, 8)


def test_an_empty_folder_says_what_was_left_out(tmp_path):
    (tmp_path / "crops").mkdir()
    for name in ("a.heic", "b.heic", "c.avif"):
        (tmp_path / "crops" / name).touch()
    with LocalGallery.create(tmp_path / "index", SPEC) as gallery:
        report = index(tmp_path / "crops", gallery)
    expected = r"no images in it \(left out: 3 files with other endings \(\.heic 2, \.avif 1\)\).*JPEG, PNG"
    with pytest.raises(UsageError, match=expected):
        refuse_empty(tmp_path / "crops", report)


def failing(real, is_bad, error):
    def replaced(*arguments, **options):
        if is_bad(*arguments):
            raise error
        return real(*arguments, **options)

    return replaced


@pytest.mark.parametrize("error", [RuntimeError("no such thing"), UsageError("refused"), MemoryError()])
def test_a_fact_that_cannot_be_read_costs_its_file_only(folder, gallery, monkeypatch, error):
    bad = sorted(folder.glob("*.jpg"))[2].name
    monkeypatch.setattr(FactReader, "row", failing(FactReader.row, lambda _self, path, _file: path == bad, error))
    report = index(folder, gallery)
    assert (report.added, report.rows) == (5, 5)
    reason = (
        "refused" if isinstance(error, UsageError) else f"{type(error).__name__}{': no such thing' * bool(error.args)}"
    )
    assert report.failed == ((bad, reason),)


def test_a_row_that_cannot_be_stored_costs_itself_only(folder, gallery, monkeypatch):
    bad = sorted(folder.glob("*.jpg"))[2].name

    def is_bad(_self, rows, *_vectors):
        return any(row.path == bad for row in rows)

    real = LocalGallery.add
    monkeypatch.setattr(LocalGallery, "add", failing(real, is_bad, OverflowError("int too large")))
    report = index(folder, gallery)
    assert (report.added, report.rows, report.failed) == (5, 5, ((bad, "OverflowError: int too large"),))
    monkeypatch.setattr(LocalGallery, "add", real)
    assert index(folder, gallery).added == 1
    for path in folder.glob("*.jpg"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    monkeypatch.setattr(LocalGallery, "update", failing(LocalGallery.update, is_bad, OverflowError("int too large")))
    touched = index(folder, gallery)
    assert (touched.changed, touched.failed) == (0, ((bad, "OverflowError: int too large"),))
    monkeypatch.setattr(LocalGallery, "update", failing(LocalGallery.update, is_bad, OverflowError("int too large")))
    renamed = index(folder, gallery, pattern=r"(?P<camera>\d)_00")
    assert (renamed.reread, renamed.failed[0]) == (5, (bad, "OverflowError: int too large"))


def test_a_full_disk_still_ends_the_run(folder, gallery, monkeypatch):
    monkeypatch.setattr(LocalGallery, "add", failing(LocalGallery.add, lambda *_: True, OutputError("disk full")))
    with pytest.raises(OutputError, match="disk full"):
        index(folder, gallery)


def test_items_are_stored_one_by_one_only_if_that_can_help():
    calls = []

    def store(items):
        calls.append(list(items))
        if 3 in items:
            raise ValueError("three")

    assert store_each(store, [1, 2]) == []
    assert store_each(store, [1, 3, 5]) == [(3, "ValueError: three")]
    assert calls == [[1, 2], [1, 3, 5], [1], [3], [5]]
    with pytest.raises(ValueError, match="three"):
        store_each(store, [3] * 16)
    with pytest.raises(KeyboardInterrupt):
        store_each(lambda _items: (_ for _ in ()).throw(KeyboardInterrupt()), [1])


def test_one_image_that_the_engine_cannot_compute_costs_itself_only(folder):
    paths = sorted(folder.glob("*.jpg"))
    broken = pipeline._decode(pipeline.fetch_file(paths[2]), SPEC.height_px, SPEC.width_px).pixels

    class Engine(FakeEngine):
        def run(self, images):
            if any((image == broken).all() for image in images):
                raise RuntimeError("bad alloc")
            return super().run(images)

    stats = EmbeddingStats()
    batches = list(pipeline.embed_files(Engine(SPEC), paths, stats=stats))
    assert [facts.path for batch in batches for facts in batch.files] == [*paths[:2], *paths[3:]]
    assert [failed for batch in batches for failed in batch.failed] == [
        (paths[2], "cannot be computed (RuntimeError: bad alloc)")
    ]
    good = list(pipeline.embed_files(FakeEngine(SPEC), [*paths[:2], *paths[3:]]))
    assert (batches[0].descriptors == good[0].descriptors).all()


def test_an_engine_that_computes_nothing_ends_the_run(folder):
    class Engine(FakeEngine):
        def run(self, images):
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        list(pipeline.embed_files(Engine(SPEC), sorted(folder.glob("*.jpg"))))


@pytest.mark.parametrize(
    ("pattern", "names", "told"),
    [
        (r"cam(?P<camera>\d+)_(?P<time>\d+)", "cam2_2026112517301512345{}.jpg", ("2", True, None)),
        (r"cam(?P<camera>\d+)_(?P<time>\d+)", "cam2_99999999999999999999{}.jpg", ("2", False, None)),
        (r"sn(?P<camera>\d+)_", "sn9911223344556677889{}_1.jpg", ("9911223344556677889{}", False, None)),
        (r"c(?P<camera>-?\d+)_f(?P<frame>\d+)", "c-7_f1844674407370955161{}.jpg", ("-7", False, None)),
        (r"c(?P<camera>\d+)_f(?P<frame>\d+)", "c0_f461168601842738790{}.jpg", ("0", False, 461168601842738790)),
    ],
    ids=["long time", "no time", "serial number", "long frame", "frame of 62 bits"],
)
def test_numbers_of_any_length_in_names_are_indexed(tmp_path, pattern, names, told):
    """A number that fits no field is not told, or is a name. Times keep their order."""
    crops = tmp_path / "crops"
    crops.mkdir()
    for index in range(4):
        noise(index).save(crops / names.format(index))
    with LocalGallery.create(tmp_path / "index", SPEC) as gallery:
        report = index_folder(crops, gallery, FakeEngine(SPEC), IndexSettings(pattern=pattern))
        rows = gallery.rows()
    assert (report.added, report.failed) == (4, ())
    camera, has_time, frame = told
    assert [row.camera for row in rows] == [camera.format(index) for index in range(4)]
    times = [row.time for row in rows]
    assert all(time is not None for time in times) if has_time else times == [None] * 4
    assert times == sorted(times, key=lambda time: time or 0)
    if frame is None:
        assert [row.frame for row in rows] == [None] * 4
    else:
        assert next(row.frame for row in rows) == frame * 10


@pytest.mark.parametrize(
    "moment_s", [10_413_792_000, 2**40, -1, -(2**31), 0], ids=["2300", "far", "1969", "1901", "1970"]
)
def test_files_of_any_time_are_indexed_and_unchanged_afterwards(folder, gallery, moment_s):
    odd = sorted(folder.glob("*.jpg"))[3]
    os.utime(odd, (moment_s, moment_s))
    report = index(folder, gallery, time_from="mtime")
    assert (report.added, report.failed) == (6, ())
    (time,) = [row.time for row in gallery.rows() if row.path == odd.name]
    assert time == int(odd.stat().st_mtime) * 1_000_000
    assert index(folder, gallery).unchanged == 6
