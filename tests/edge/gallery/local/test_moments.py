"""Moments, threads, other processes: one committed state per answer, no false alarm, no row with another's vector."""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from rrid_edge.engines.fake import fake_spec
from rrid_edge.errors import ClosedError, GalleryBusyError, GalleryChangedError, GalleryMissingError, UsageError
from rrid_edge.gallery import NewRow
from rrid_edge.gallery.local import vector_file
from rrid_edge.gallery.local.folder import remove_index
from rrid_edge.gallery.local.store import LocalGallery
from support.galleries import SPEC, rows, vectors

SECONDS = 3


@pytest.fixture
def store(folder):
    with LocalGallery.create(folder, SPEC) as gallery:
        gallery.add(rows(50), vectors(50))
        yield gallery


def check_vectors(reader, found):
    """Check that every row has its own vector: rows(n)[i] has vectors(n)[i], whatever n is."""
    expected = vectors(200).astype(np.float16).astype(np.float32)
    numbers = [int(row.sha256, 16) for row in found]
    np.testing.assert_array_equal(reader.vectors(found), expected[numbers])


def change(store):
    """Remove ten rows, add 20, and compact."""
    store.remove([row.id for row in store.rows()[:10]])
    store.add(rows(20, start=100), vectors(200)[100:120])
    store.compact()


def test_a_moment_outlives_a_compaction(folder):
    with LocalGallery.create(folder, SPEC) as store:
        store.add(rows(50), vectors(200)[:50])
        with LocalGallery(folder) as reader:
            with reader.moment() as moment:
                before, answer = moment.rows(), moment.search(vectors(200)[:5], 10)
                change(store)
                assert moment.rows() == before
                assert moment.search(vectors(200)[:5], 10) == answer
                assert (moment.info().generation, moment.info().rows) == (0, 50)
                check_vectors(moment, before)
                check_vectors(moment, store.rows_by_id([row.id for row in before]))
            check_vectors(reader, reader.rows())
            ids = {now.id for now in reader.rows()}
            check_vectors(reader, [row for row in before if row.id in ids])
            assert reader.info().generation == 1


def test_rows_of_an_ended_moment_and_of_a_closed_gallery(store):
    with store.moment() as moment:
        moment.rows()
    with pytest.raises(ClosedError, match="was closed"):
        moment.rows()
    with store.moment() as moment:
        store.close()
        assert len(moment.rows()) == 50  # what is held stays until its end
        assert len(moment.search(vectors(1), 3).hits[0]) == 3


def test_verify_between_a_commit_and_its_mark(store, folder, monkeypatch):
    """Another process commits between the two things that a verification reads."""
    real = vector_file.committed_rows
    writes: list[object] = []

    def between(path):
        marked = real(path)
        if not writes:
            writes.append(store.add(rows(20, start=100), vectors(200)[100:120]))
        return marked

    monkeypatch.setattr(vector_file, "committed_rows", between)
    with LocalGallery(folder) as reader:
        assert reader.verify().sound
        assert writes


def test_verify_while_rows_are_forgotten(store, folder, monkeypatch):
    """A row is overwritten after the verification has read the catalogue, and before it reads the vectors."""
    real = vector_file.damaged_slots
    forgotten: list[object] = []

    def between(checksums, stored):
        if not forgotten:
            forgotten.append(store.forget([store.rows()[3].id]))
        return real(checksums, stored)

    monkeypatch.setattr(vector_file, "damaged_slots", between)
    with LocalGallery(folder) as reader:
        assert reader.verify().sound
        assert forgotten


def _export(reader):
    """Check vectors one by one: those of rows that are forgotten meanwhile are refused."""
    expected = vectors(200).astype(np.float16).astype(np.float32)
    with reader.moment() as moment:
        for row in moment.rows()[:30]:
            with contextlib.suppress(GalleryChangedError):
                np.testing.assert_array_equal(moment.vectors([row])[0], expected[int(row.sha256, 16)])


def _search(reader):
    expected = vectors(200).astype(np.float16).astype(np.float32) @ vectors(200)[0]
    for hit in reader.search(vectors(200)[:1], 30).hits[0]:
        assert abs(hit.score - expected[int(hit.row.sha256, 16)]) < 1e-5


def _verify(reader):
    result = reader.verify()
    assert result.sound, result


def _write_something(writer, number):
    first = 10 * (number % 18)
    writer.add(rows(20, start=first), vectors(200)[first : first + 20])
    writer.remove([row.id for row in writer.rows()[:2]])
    if number % 3 == 0:
        writer.forget([row.id for row in writer.rows()[5:7]])
    if number % 5 == 4:
        writer.compact()


def test_a_writer_beside_readers(folder):
    """One writer adds, replaces, forgets, removes and compacts beside readers that search, read, and verify."""
    LocalGallery.create(folder, SPEC).close()
    done = threading.Event()

    def read(use) -> int:
        reads = 0
        with LocalGallery(folder) as reader:
            while not done.is_set():
                use(reader)
                reads += 1
        return reads

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read, use) for use in (_export, _search, _verify)]
        with LocalGallery(folder, write=True) as writer:
            start, number = time.monotonic(), 0
            while time.monotonic() - start < SECONDS:
                _write_something(writer, number)
                number += 1
        done.set()
        assert min(reader.result() for reader in readers) > 3


def test_eight_threads_share_one_gallery(store):
    """Each thread adds rows of its own and finds them; at the end all rows are there, with their own vectors."""
    faults: list[Exception] = []

    def work(number: int) -> None:
        try:
            for step in range(8):
                index = 60 + number * 8 + step
                (id_,) = store.add(
                    [NewRow(None, track=str(index), camera=str(number))], vectors(200)[index : index + 1]
                )
                hit = store.search(vectors(200)[index : index + 1], 1).hits[0][0]
                assert (hit.row.id, hit.row.track) == (id_, str(index))
                (row,) = store.rows_by_id([id_])
                assert abs(float(store.vectors([row])[0] @ vectors(200)[index]) - 1) < 1e-2
                store.cameras()
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert store.info().rows == 50 + 64
    assert store.cameras()["3"] >= 8
    assert store.verify().sound
    assert len({row.id for row in store.rows()}) == 114


def test_misuse_and_busy_moments_are_one_line_without_advice_to_remove(store, folder):
    with LocalGallery(folder) as reader, pytest.raises(UsageError, match="open for reading") as reading:
        reader.add(rows(1), vectors(1))
    with pytest.raises(GalleryBusyError) as busy:
        LocalGallery(folder, write=True)
    store.close()
    with pytest.raises(ClosedError) as closed:
        store.add(rows(1), vectors(1))
    for refusal in (reading, busy, closed):
        assert not any(word in refusal.value.message for word in ("remove", "rebuild", "\n", "--"))


def test_an_interrupted_call_leaves_the_gallery_usable(store, monkeypatch):
    """Ctrl-C while a commit is written."""

    def interrupt(*_arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("rrid_edge.gallery.local.store.add_rows", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.add(rows(5, start=50), vectors(5))
    store.add(rows(5, start=100), vectors(200)[100:105])
    assert store.info().rows == 55
    assert store.verify().sound


def test_a_reader_follows_commits_and_a_rebuilt_index(store, folder):
    """Decoded vectors are taken over from commit to commit, but never from a file to another one."""
    known = vectors(200)
    with LocalGallery(folder) as reader:
        for count in (50, 60, 90, 91):
            have = len(reader.rows())
            if count > have:
                store.add(rows(count - have, start=have), known[have:count])
            for _ in range(3):  # the second search decodes all rows, and keeps them
                best = reader.search(known[have - 1 : count], 1).hits
                assert [int(hits[0].row.sha256, 16) for hits in best[1:]] == list(range(have, count))
        store.close()
        remove_index(folder)
        with LocalGallery.create(folder, SPEC) as rebuilt:
            rebuilt.add(rows(100), known[100:])
            best = reader.search(known[100:], 1).hits
            assert [int(hits[0].row.sha256, 16) for hits in best] == list(range(100))
        remove_index(folder)
        with pytest.raises(GalleryMissingError):
            reader.rows()
        LocalGallery.create(folder, fake_spec("other", block_width=4)).close()
        with pytest.raises(GalleryChangedError, match="rebuilt with another model"):
            reader.search(known[:1], 1)
