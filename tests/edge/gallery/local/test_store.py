"""The local gallery: commits, kills, full disks, flipped bits, snapshots, and search against a slow obvious search."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from rrid_edge.engines.fake import FakeEngine, fake_spec
from rrid_edge.errors import FingerprintMismatchError, GalleryError, OutputError, UsageError
from rrid_edge.gallery import GalleryStore, NewRow, SearchFilter
from rrid_edge.gallery.base import ForgetReport
from rrid_edge.gallery.indexing.settings import IndexSettings
from rrid_edge.gallery.indexing.sync import index_folder
from rrid_edge.gallery.local.store import LocalGallery
from support.galleries import plain
from support.killing import kill_and_check, killed_at
from support.pictures import noise, save_crops

SPEC = fake_spec(block_width=4)  # 60 values a descriptor


def vectors(count: int, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((count, SPEC.dimension)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def rows(count: int, start: int = 0) -> list[NewRow]:
    return [
        NewRow(f"{index:05d}.jpg", f"{index:064x}", 100 + index, index, str(index % 3), f"{index % 7:04d}", index)
        for index in range(start, start + count)
    ]


@pytest.fixture
def store(tmp_path):
    with LocalGallery.create(tmp_path / "g", SPEC) as gallery:
        yield gallery


def test_keeps_the_contract(store):
    assert isinstance(store, GalleryStore)


def test_rows_and_vectors_come_back(store, tmp_path):
    store.add(rows(10), vectors(10))
    store.close()
    with LocalGallery(tmp_path / "g", spec=SPEC) as gallery:
        found = gallery.rows()
        assert plain(found) == rows(10)
        np.testing.assert_array_equal(gallery.vectors(found), vectors(10).astype(np.float16).astype(np.float32))
        assert gallery.info().rows == gallery.info().slots == 10


def _slow_search(stored, names, query, top_k):
    scores = [
        (-float(np.float32(row.astype(np.float64) @ query.astype(np.float64))), name)
        for row, name in zip(stored, names, strict=True)
    ]
    return [(name, -score) for score, name in sorted(scores)[:top_k]]


def test_search_equals_the_slow_one(store):
    store.add(rows(300), vectors(300))
    stored = vectors(300).astype(np.float16)
    queries = vectors(9, seed=5)
    names = [row.path for row in rows(300)]
    for batch in (queries, queries[:1]):  # many queries and one take different ways
        for query, hits in zip(batch, store.search(batch, 12).hits, strict=True):
            assert [(hit.row.path, hit.score) for hit in hits] == _slow_search(stored, names, query, 12)


def test_ties_are_ordered_by_path(store):
    same = np.repeat(vectors(1), 30, axis=0)
    store.add(rows(30)[::-1], same)
    hits = store.search(same[:1], 5).hits[0]
    assert [hit.row.path for hit in hits] == [f"{index:05d}.jpg" for index in range(5)]


def test_filters(store):
    store.add(rows(60), vectors(60))
    query = vectors(1, seed=9)
    for search_filter, passes in (
        (SearchFilter(cameras=frozenset({"1"})), lambda row: row.camera == "1"),
        (SearchFilter(not_cameras=frozenset({"1"})), lambda row: row.camera != "1"),
        (SearchFilter(since=10, until=20), lambda row: 10 <= row.time <= 20),
        (SearchFilter(not_files=frozenset({("local", "00003.jpg")})), lambda row: row.path != "00003.jpg"),
    ):
        found = store.search(query, 100, search_filter)
        assert {hit.row.path for hit in found.hits[0]} == {row.path for row in rows(60) if passes(row)}
        assert found.rows == len(found.hits[0])


def test_a_path_stored_again_replaces_its_row(store):
    store.add(rows(5), vectors(5))
    store.add(rows(1), vectors(1, seed=3))
    assert store.info().rows == 5
    np.testing.assert_allclose(store.vectors(store.rows()[:1]), vectors(1, seed=3), atol=1e-3)


def test_compaction_keeps_every_answer(store, tmp_path):
    store.add(rows(40), vectors(40))
    store.remove([row.path for row in rows(20)])
    before = store.search(vectors(1, seed=2), 50)
    assert store.compact() == 20
    after = store.search(vectors(1, seed=2), 50)
    assert [(hit.row.path, hit.score) for hit in before.hits[0]] == [(hit.row.path, hit.score) for hit in after.hits[0]]
    assert store.info().slots == 20
    assert sorted(path.name for path in (tmp_path / "g").glob("vec.*")) == ["vec.1.f16"]
    assert not store.verify().damaged


def test_forgetting_overwrites_the_vectors(store, tmp_path):
    store.add(rows(8), vectors(8))
    secret = vectors(8).astype("<f2")[3].tobytes()
    file = tmp_path / "g" / "vec.0.f16"
    assert secret in file.read_bytes()
    assert store.forget(["00003.jpg"]) == ForgetReport(1)
    assert secret not in file.read_bytes()
    store.close()
    catalogue = b"".join(path.read_bytes() for path in (tmp_path / "g").glob("meta.sqlite*"))
    assert b"00003.jpg" not in catalogue
    assert b"00004.jpg" in catalogue


def test_one_writer_any_number_of_readers(store, tmp_path):
    with pytest.raises(GalleryError, match="another process is writing this index"):
        LocalGallery(tmp_path / "g", write=True)
    with LocalGallery(tmp_path / "g") as reader:
        store.add(rows(3), vectors(3))
        assert reader.info().rows == 3


def test_another_model_is_refused(store, tmp_path):
    with pytest.raises(FingerprintMismatchError, match=r"indexed with another model.*--rebuild") as refusal:
        LocalGallery(tmp_path / "g", spec=fake_spec("other", block_width=4))
    assert refusal.value.exit_code == 4


def test_a_torn_tail_is_cut(store, tmp_path):
    store.add(rows(4), vectors(4))
    store.close()
    file = tmp_path / "g" / "vec.0.f16"
    size = file.stat().st_size
    with file.open("ab") as stream:
        stream.write(b"torn")
    with LocalGallery(tmp_path / "g") as reader:  # a reader maps what was committed
        assert len(reader.search(vectors(1), 9).hits[0]) == 4
    with LocalGallery(tmp_path / "g", write=True) as writer:
        assert file.stat().st_size == size
        writer.add(rows(2, start=4), vectors(2, seed=1))
        assert not writer.verify().damaged


def test_a_cut_or_foreign_vector_file_is_refused(store, tmp_path):
    store.add(rows(4), vectors(4))
    store.close()
    file = tmp_path / "g" / "vec.0.f16"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(GalleryError, match="the vector file is cut off"):
        LocalGallery(tmp_path / "g")
    file.write_bytes(b"X" + whole[1:])
    with pytest.raises(GalleryError, match="header is damaged or foreign"):
        LocalGallery(tmp_path / "g")
    file.unlink()
    with pytest.raises(GalleryError, match="lacks its vector file"):
        LocalGallery(tmp_path / "g")


def test_a_flipped_bit_in_a_vector_is_found_and_never_served(store, tmp_path):
    store.add(rows(6), vectors(6))
    store.close()
    file = tmp_path / "g" / "vec.0.f16"
    data = bytearray(file.read_bytes())
    data[64 + 2 * 120 + 7] ^= 0x40  # in the third row
    file.write_bytes(data)
    with LocalGallery(tmp_path / "g") as gallery:
        assert [row.path for row in gallery.verify().damaged] == ["00002.jpg"]
        assert "00002.jpg" not in [hit.row.path for hit in gallery.search(vectors(3)[2:], 6).hits[0]]


def test_every_kind_of_damage_to_the_catalogue_is_found(store, tmp_path):
    """A flipped byte in the database raises a GalleryError, or verification finds it, or it does not change the rows.

    No row is ever another than the stored ones.
    """
    store.add(rows(40), vectors(40))
    store.close()
    file = tmp_path / "g" / "meta.sqlite"
    whole = file.read_bytes()
    expected = [(row.path, row.sha256, row.camera, row.crc32) for row in rows_of(tmp_path / "g")]
    found = 0
    for position in random.Random(0).sample(range(len(whole)), 150):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        file.write_bytes(damaged)
        try:
            with LocalGallery(tmp_path / "g") as gallery:
                seen = [(row.path, row.sha256, row.camera, row.crc32) for row in gallery.rows()]
                sound = gallery.verify().sound
        except GalleryError as error:
            found += "\n" not in error.message
        else:
            assert set(seen) <= set(expected), position
            assert seen == expected or not sound, position
            found += not sound
    assert found > 20


def test_every_kind_of_damage_to_the_log_is_found(tmp_path):
    """SQLite silently drops commits after a damaged page of its WAL. Verification finds that; indexing repairs it."""
    crops = tmp_path / "crops"
    save_crops(crops, 12)
    location = tmp_path / "g"
    with LocalGallery.create(location, SPEC) as store:
        index_folder(crops, store, FakeEngine(SPEC))
        expected = [(row.path, row.sha256, row.crc32) for row in store.rows()]
        killed = tmp_path / "killed"
        shutil.copytree(location, killed)  # the state after a kill: commits are still in the WAL
    whole = (killed / "meta.sqlite-wal").read_bytes()
    found = 0
    for position in random.Random(1).sample(range(len(whole)), 60):
        folder = tmp_path / str(position)
        shutil.copytree(killed, folder)
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        (folder / "meta.sqlite-wal").write_bytes(damaged)
        (folder / "meta.sqlite-shm").unlink(missing_ok=True)
        with LocalGallery(folder) as gallery:
            verification = gallery.verify()
            seen = [(row.path, row.sha256, row.crc32) for row in gallery.rows()]
        assert verification.sound == (seen == expected), position
        if not verification.sound:
            found += 1
            assert verification.lost == len(expected) - len(seen)
            with LocalGallery.create(folder, SPEC) as gallery:
                index_folder(crops, gallery, FakeEngine(SPEC))
                assert gallery.verify().sound
                assert [(row.path, row.sha256, row.crc32) for row in gallery.rows()] == expected
    assert found > 20


def test_a_flipped_bit_in_the_mark_is_no_loss(store, tmp_path):
    store.add(rows(5), vectors(5))
    store.close()
    file = tmp_path / "g" / "vec.0.f16"
    data = bytearray(file.read_bytes())
    data[57] ^= 0x80
    file.write_bytes(data)
    with LocalGallery(tmp_path / "g") as gallery:
        assert gallery.verify().sound


def rows_of(folder):
    with LocalGallery(folder) as gallery:
        gallery.verify()
        return gallery.rows()


def test_newer_format(store, tmp_path):
    with store._writer.commit() as (_, facts):
        facts["format"] = "99"
    store.close()
    with pytest.raises(GalleryError, match="index format 99 is newer"):
        LocalGallery(tmp_path / "g")


@pytest.mark.parametrize("call", ["pwrite", "fdatasync"])
def test_a_failed_write_loses_no_commit(store, tmp_path, monkeypatch, call):
    store.add(rows(5), vectors(5))

    def refuse(*_arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, call, refuse)
        with pytest.raises(OutputError, match=r"No space left on device.*committed rows are kept"):
            store.add(rows(5, start=5), vectors(5, seed=1))
    with LocalGallery(tmp_path / "g", write=True) as again:
        assert again.info().rows == 5
        assert not again.verify().damaged
        again.add(rows(5, start=5), vectors(5, seed=1))
        assert again.info().rows == 10


@pytest.fixture
def small_disk(tmp_path):
    """The folder of a small file system, and a function that sets its size in KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if os.geteuid() or shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")

    def resize(size_kib):
        subprocess.run(["mount", "-o", f"remount,size={size_kib}k", str(disk)], check=True)

    yield disk, resize
    subprocess.run(["umount", "-l", str(disk)], check=True)


def _fill(location, spec):
    """Add rows until the disk is full; returns the number committed."""
    committed = 0
    with pytest.raises(OutputError, match=r"\A[^\n]*[nN]o space left[^\n]*\Z"):  # noqa: PT012, SIM117
        with LocalGallery.create(location, spec) as gallery:
            while True:
                gallery.add(rows(8, start=committed), np.repeat(vectors(8), 16, axis=1) / np.float32(4))
                committed += 8
    return committed


def test_a_real_full_disk_loses_no_commit(small_disk, tmp_path):
    """The disk fills at different times: while vectors are written, while the catalogue grows or is created."""
    disk, resize = small_disk
    wide = fake_spec(block_width=64)
    crops = tmp_path / "crops"
    save_crops(crops, 60)
    refused_at = set()
    for size_kib in range(64, 420, 12):
        resize(size_kib)
        location = disk / "index"
        committed = _fill(location, wide)
        refused_at.add(committed)
        resize(2048)
        with LocalGallery.create(location, wide) as gallery:
            assert gallery.info().rows == committed
            assert gallery.verify().sound
            settings = IndexSettings(allow_removals=True)
            assert index_folder(crops, gallery, FakeEngine(wide), settings).rows == 60
        shutil.rmtree(location)
    assert len(refused_at) > 5


def test_a_reader_never_sees_a_half_batch(tmp_path):
    """While a writer adds, removes and compacts, a reader sees committed counts only, and no error."""
    folder = tmp_path / "g"
    LocalGallery.create(folder, SPEC).close()
    faults: list[object] = []
    done = threading.Event()

    def read() -> None:
        with LocalGallery(folder) as reader:
            while not done.is_set():
                try:
                    count = len(reader.search(vectors(1), 10_000).hits[0])
                    if count % 250:
                        faults.append(count)
                except Exception as error:
                    faults.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    with LocalGallery(folder, write=True) as writer:
        for number in range(20):
            writer.add(rows(250, start=250 * number), vectors(250, seed=number))
            if number % 5 == 4:
                writer.remove([row.path or "" for row in rows(250, start=250 * (number - 2))])
                writer.compact()
    done.set()
    thread.join()
    assert not faults


# --- the gallery follows its folder -------------------------------------------------------------------------------


def _index(folder, location=None):
    engine = FakeEngine(SPEC)
    with LocalGallery.create(location or folder / ".rrid-edge", SPEC) as gallery:
        return index_folder(folder, gallery, engine, IndexSettings(allow_removals=True))


def _content(folder, location=None):
    with LocalGallery(location or folder / ".rrid-edge") as gallery:
        assert not gallery.verify().damaged
        found = gallery.rows()
        return {
            row.path: (row.sha256, row.camera, row.person, vector.tobytes())
            for row, vector in zip(found, gallery.vectors(found), strict=True)
        }


def test_added_changed_removed_unchanged(tmp_path):
    folder = tmp_path / "crops"
    paths = save_crops(folder, 6)
    first = _index(folder)
    assert (first.added, first.rows, first.unchanged) == (6, 6, 0)
    noise(77).save(paths[0])
    paths[1].unlink()
    os.utime(paths[2])  # touched, not changed
    save_crops(folder / "sub", 1)
    second = _index(folder)
    assert (second.added, second.changed, second.removed, second.unchanged, second.rows) == (1, 1, 1, 4, 6)
    third = _index(folder)
    assert (third.added, third.changed, third.removed, third.unchanged) == (0, 0, 0, 6)


def test_odd_names_broken_files_links_and_pipes(tmp_path):
    folder = tmp_path / "crops"
    save_crops(folder, 2)
    odd = [os.fsencode(folder) + b"/a\nb.jpg", os.fsencode(folder) + b"/\xff\xfe.jpg"]
    for name in odd:
        noise(1).save(os.fsdecode(name), "JPEG")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 broken")
    (folder / ".hidden.jpg").write_bytes(b"")
    (folder / "loop").symlink_to(folder)
    (folder / "dangling.jpg").symlink_to(folder / "nothing.jpg")
    os.mkfifo(folder / "pipe.jpg")
    report = _index(folder)
    assert report.rows == 4
    assert [name for name, _ in report.failed] == ["broken.jpg"]
    assert {Path(name).name: reason for name, reason in report.skipped} == {
        "loop": "a link to a folder is not followed",
        "dangling.jpg": "a broken link",
        "pipe.jpg": "no ordinary file",
    }
    assert {os.fsencode(folder / name) for name in _content(folder)} >= set(odd)


def test_a_file_that_becomes_unreadable_is_removed_from_the_index(tmp_path):
    folder = tmp_path / "crops"
    paths = save_crops(folder, 3)
    _index(folder)
    paths[0].write_bytes(b"broken")
    report = _index(folder)
    assert (report.removed, report.rows, len(report.failed)) == (1, 2, 1)


def test_a_damaged_row_is_embedded_again(tmp_path):
    folder = tmp_path / "crops"
    save_crops(folder, 3)
    _index(folder)
    before = _content(folder)
    file = folder / ".rrid-edge" / "vec.0.f16"
    data = bytearray(file.read_bytes())
    data[70] ^= 1
    file.write_bytes(data)
    assert _index(folder).changed == 1
    assert _content(folder) == before


def test_not_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with LocalGallery.create(tmp_path / "g", SPEC) as gallery:
        for path in (tmp_path / "file", tmp_path / "none"):
            with pytest.raises(UsageError, match="give a folder of image files"):
                index_folder(path, gallery, FakeEngine(SPEC))


@pytest.mark.parametrize("seed", range(6))
def test_an_index_is_a_function_of_its_folder(tmp_path, seed):
    """After any sequence of adds, changes, renames, removals, index runs and kills, the index equals a new one."""
    folder = tmp_path / "crops"
    generator = random.Random(seed)
    save_crops(folder, 3)
    for step in range(12):
        present = sorted(folder.glob("*.jpg"))
        action = generator.choice(["add", "change", "rename", "remove", "index", "kill"])
        if action == "add" or not present:
            noise(1000 * seed + step).save(folder / f"{step:04d}_c{step % 4}s1_000000_00.jpg")
        elif action == "change":
            noise(5000 + 100 * seed + step).save(generator.choice(present))
        elif action == "rename":
            generator.choice(present).rename(folder / f"{step + 100:04d}_c1s1_000000_00.jpg")
        elif action == "remove" and len(present) > 1:
            generator.choice(present).unlink()
        elif action == "kill":
            killed_at(folder, folder / ".rrid-edge", generator.uniform(0, 0.02))
        else:
            _index(folder)
    _index(folder)
    _index(folder, tmp_path / "fresh")
    assert _content(folder) == _content(folder, tmp_path / "fresh")


@pytest.mark.slow
def test_kills_at_random_times_lose_no_commit(tmp_path):
    """kill -9 while indexing: every committed row verifies, the count never falls, the last run completes."""
    kill_and_check(tmp_path, kills=8, seed=int(time.time()))
