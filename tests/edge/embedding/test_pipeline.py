"""Tests of files to descriptors: no lost or swapped results, bounded memory, slow and broken files, ended threads."""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from rrid_edge.crops.images import read_image
from rrid_edge.embedding import pipeline as module
from rrid_edge.embedding import process as decoding_process
from rrid_edge.embedding import reading as decoding
from rrid_edge.embedding import tuning as pace
from rrid_edge.embedding.pipeline import embed_files
from rrid_edge.embedding.reading import ReadAhead
from rrid_edge.embedding.tuning import BatchSizeTuner, EmbeddingStats, WorkerTuner
from rrid_edge.engines import FakeEngine
from rrid_edge.errors import ClosedError, GpuFaultError, ImageError
from support.exif import Tag, exif_block, orientation_tag, with_exif
from support.pictures import noise, save_crops


@pytest.fixture(autouse=True)
def no_thread_left():
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
        assert not thread.is_alive()


def test_every_file_gets_its_own_descriptor(tmp_path):
    paths = save_crops(tmp_path, 23)
    with FakeEngine(max_batch=5) as engine:
        batches = list(embed_files(engine, paths, workers=4, batch=5))
        alone = np.concatenate([engine.run(read_image(path, 192, 64)[None]) for path in paths])
    indices = np.concatenate([batch.indices for batch in batches])
    assert sorted(indices) == list(range(23))
    assert [facts.path for batch in batches for facts in batch.files] == [paths[index] for index in indices]
    np.testing.assert_allclose(np.concatenate([batch.descriptors for batch in batches]), alone[indices], atol=1e-6)
    facts = batches[0].files[0]
    content = paths[indices[0]].read_bytes()
    assert (facts.sha256, facts.size) == (hashlib.sha256(content).hexdigest(), len(content))


def test_broken_files_are_reported(tmp_path):
    paths = save_crops(tmp_path, 6)
    paths[2].write_text("words")
    paths[5].unlink()
    batches = list(embed_files(FakeEngine(), paths, batch=3))
    assert sum(len(batch.files) for batch in batches) == 4
    assert {path for batch in batches for path, _ in batch.failed} == {paths[2], paths[5]}
    assert all(len(batch.descriptors) == len(batch.files) == len(batch.indices) for batch in batches)


def test_no_files_and_only_broken_ones(tmp_path):
    assert list(embed_files(FakeEngine(), [])) == []
    (tmp_path / "a.jpg").write_text("words")
    (batch,) = embed_files(FakeEngine(), [tmp_path / "a.jpg"])
    assert batch.descriptors.shape == (0, 240)


def test_a_hanging_file_comes_last_and_keeps_nobody_waiting(tmp_path, monkeypatch):
    paths = save_crops(tmp_path, 30)
    release, real = threading.Event(), module.fetch_file
    monkeypatch.setattr(decoding, "PARTIAL_BATCH_AFTER_S", 0.05)
    monkeypatch.setattr(module, "fetch_file", lambda path: (path not in paths[:3] or release.wait(20), real(path))[1])
    seen = []
    for batch in embed_files(FakeEngine(), paths, workers=2, batch=4):  # three files hang, with two threads
        seen += [facts.path for facts in batch.files]
        if len(seen) == 27:
            release.set()
    assert set(seen[:27]) == set(paths[3:])
    assert set(seen) == set(paths)


@pytest.mark.parametrize("files", [40, 400])
def test_live_images_are_bounded_whatever_the_number_of_files(tmp_path, monkeypatch, files):
    paths = save_crops(tmp_path, 8) * (files // 8)
    lock, live, most = threading.Lock(), 0, 0
    real = module._decode

    class Counted(module._Decoded):
        def __del__(self):
            nonlocal live
            with lock:
                live -= 1

    def decode(*arguments):
        nonlocal live, most
        found = real(*arguments)
        with lock:
            live += 1
            most = max(most, live)
        return Counted(found.facts, found.pixels)

    monkeypatch.setattr(module, "_decode", decode)
    for _ in embed_files(FakeEngine(), paths, workers=4, batch=2):
        time.sleep(0.001)
    assert live == 0
    assert 2 <= most <= 3 * 2 + 2  # the window, and the batch that is assembled


def test_an_error_of_the_engine_ends_all_threads(tmp_path):
    class Broken(FakeEngine):
        def _run_batch(self, images):
            raise RuntimeError("no power")

    with pytest.raises(RuntimeError, match="no power"):
        list(embed_files(Broken(), save_crops(tmp_path, 40), workers=3, batch=4))


def test_an_engine_that_another_thread_closes_ends_the_stream_in_one_line(tmp_path):
    paths, engine, before = save_crops(tmp_path, 40), FakeEngine(), threading.active_count()
    stream = embed_files(engine, paths, workers=2, batch=4)
    first = next(stream)
    closing = threading.Thread(target=engine.close)
    closing.start()
    closing.join(10)
    with pytest.raises(ClosedError, match="the engine fake was closed"):
        list(stream)
    assert threading.active_count() == before
    np.testing.assert_array_equal(first.descriptors, FakeEngine().run(_pixels(first)))


def test_streams_of_several_threads_share_an_engine(tmp_path):
    folders = [save_crops(tmp_path / str(number), 10, persons=number + 1) for number in range(4)]
    with FakeEngine(max_batch=4) as engine, ThreadPoolExecutor(4) as pool:
        streams = pool.map(lambda paths: list(embed_files(engine, paths, workers=1)), folders)
        for batches in streams:
            assert sum(len(batch.files) for batch in batches) == 10
            for batch in batches:
                np.testing.assert_array_equal(batch.descriptors, FakeEngine().run(_pixels(batch)))


def test_a_failure_ends_the_stream_that_met_it_and_no_other(tmp_path):
    class Failing(FakeEngine):
        def _run_batch(self, images):
            if threading.current_thread().name == "unlucky":
                raise GpuFaultError("the GPU fell off the bus")
            return super()._run_batch(images)

    engine, paths, met = Failing(), save_crops(tmp_path, 12), []

    def embed() -> None:
        try:
            list(embed_files(engine, paths, workers=1, batch=4))
        except GpuFaultError as error:
            met.append(error)

    unlucky = threading.Thread(target=embed, name="unlucky")
    unlucky.start()
    assert sum(batch.done for batch in embed_files(engine, paths, workers=1, batch=4)) == 12
    unlucky.join(20)
    assert len(met) == 1


def _pixels(batch):
    return np.stack([read_image(facts.path, 192, 64) for facts in batch.files])


@pytest.mark.parametrize("error", [MemoryError("full"), RuntimeError("full"), OSError("full")])
def test_any_error_in_a_thread_costs_its_file_only(tmp_path, monkeypatch, error):
    paths, real = save_crops(tmp_path, 10), module._decode

    def decode(fetched, *shape):
        if fetched.facts.path == paths[3]:
            raise error
        return real(fetched, *shape)

    monkeypatch.setattr(module, "_decode", decode)
    batches = list(embed_files(FakeEngine(), paths, workers=2))
    assert sorted(facts.path for batch in batches for facts in batch.files) == sorted({*paths} - {paths[3]})
    ((path, reason),) = [failure for batch in batches for failure in batch.failed]
    assert path == paths[3]
    assert f"{type(error).__name__}: full" in reason


def test_an_interrupt_in_a_thread_reaches_the_caller(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_decode", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt("now")))
    with pytest.raises(KeyboardInterrupt, match="now"):
        list(embed_files(FakeEngine(), save_crops(tmp_path, 10)))


def test_leaving_early_ends_all_threads(tmp_path):
    stream = embed_files(FakeEngine(), save_crops(tmp_path, 40), workers=2, batch=2)
    next(stream)
    stream.close()


def test_the_next_batch_is_put_together_while_the_engine_works(tmp_path, monkeypatch):
    assembled, real = threading.Semaphore(0), module._assemble

    def assemble(*given):
        batch = real(*given)
        assembled.release()
        return batch

    monkeypatch.setattr(module, "_assemble", assemble)

    class Waiting(FakeEngine):
        def run(self, images):
            assert assembled.acquire(timeout=10)  # this batch
            assert assembled.acquire(timeout=10)  # and already the next one, or the end of the files
            assembled.release()
            return super().run(images)

    assert sum(len(batch.files) for batch in embed_files(Waiting(), save_crops(tmp_path, 12), batch=4)) == 12


def test_closing_ends_a_wait(tmp_path):
    paths, release = save_crops(tmp_path, 2), threading.Event()
    ahead = ReadAhead(paths, lambda path: release.wait(20), str, threads=1, window=2)
    waiting = threading.Thread(target=ahead.take, args=(2,))
    waiting.start()
    threading.Timer(0.1, release.set).start()
    ahead.close()
    waiting.join(5)
    assert not waiting.is_alive()


def test_results_come_in_order_where_nothing_is_late(tmp_path):
    paths = save_crops(tmp_path, 9)
    with ReadAhead(paths, lambda path: path, lambda path: path.name, threads=1, window=4) as ahead:
        taken = [item for _ in range(3) for item in ahead.take(3)]
        assert ahead.take(3) == []
    assert taken == [(place, path.name) for place, path in enumerate(paths)]


def test_image_errors_are_results():
    def refuse(path):
        raise ImageError(path, "no")

    with ReadAhead([Path("a")], refuse, str, threads=1, window=1) as ahead:
        ((place, error),) = ahead.take(8)
    assert place == 0
    assert isinstance(error, ImageError)


def test_the_fastest_batch_is_kept_once_all_were_tried():
    choice = BatchSizeTuner(32, 10_000)
    speed = {8: 1.0, 16: 1.5, 32: 1.2}  # images per second; the first call of each size is ten times slower
    tried: list[int] = []
    for _ in range(20):
        size = choice.size
        choice.record(size, size / speed[size] * (1 if size in tried else 10))
        tried.append(size)
    assert sorted(set(tried)) == [8, 16, 32]
    assert tried[9:] == [16] * 11
    assert choice.largest == 32


@pytest.mark.parametrize(("largest", "files", "fixed", "size"), [(32, 50, None, 16), (4, 9999, None, 4), (8, 9, 20, 8)])
def test_batch_without_a_choice(largest, files, fixed, size):
    choice = BatchSizeTuner(largest, files, fixed)
    assert choice.size == choice.largest == size


def test_threads_are_added_while_the_engine_waits():
    choice = WorkerTuner(6)
    assert [choice.starved(*times) for times in ((1, 1), (0.001, 1), (1, 1))] == [False, False, True]
    assert [choice.more_threads() for _ in range(3)] == [2, 2, 0]
    assert choice.threads == 6
    assert WorkerTuner(8, 3).more_threads() == 0


def test_processes_take_over_where_threads_hold_each_other_up():
    small, large = 0.0003, 0.07  # seconds: a crop, and a picture of 12 megapixels
    assert WorkerTuner(16).processes(small, 10**6) == 0
    choice = WorkerTuner(16, processes=True)
    assert choice.processes(large, 10**6) == 0
    assert choice.processes(small, 500) == 0
    assert choice.processes(small, 10**6) == 4  # with two, this process gets a file every 0.15 ms
    assert choice.processes(small, 10**6) == 0  # they have started already
    assert [choice.more_threads() for _ in range(3)] == [4, 8, 0]  # never more threads than cores
    assert WorkerTuner(16, processes=True).processes(0.002, 10**6) == 16
    assert WorkerTuner(16, 6, processes=True).processes(small, 10**6) == 6
    assert WorkerTuner(2, processes=True).processes(0.0002, 10**6) == 2
    assert WorkerTuner(1, processes=True).processes(0.001, 10**6) == 0


def test_processes_give_the_same_descriptors(tmp_path, monkeypatch):
    """The results equal those of threads, with the same reasons for broken files. No process is left."""
    paths = save_crops(tmp_path, 150)
    (tmp_path / "0001_c1s1_000000_00.jpg").write_bytes(b"words")
    paths[7].write_bytes(paths[7].read_bytes()[:500])
    paths[140].write_bytes(paths[140].read_bytes()[:700])
    expected = by_path(embed_files(FakeEngine(), paths, batch=4))
    monkeypatch.setattr(pace, "MIN_FILES_FOR_PROCESSES", 10)
    monkeypatch.setattr(pace, "_GIL_S_PER_FILE", 1.0)
    started, stats = remember_processes(monkeypatch), EmbeddingStats()
    slow = SlowFetch(monkeypatch)
    assert by_path(embed_files(FakeEngine(), paths, batch=4, workers=3, stats=stats)) == expected
    assert len(expected[1]) == 3
    assert stats.workers == len(started) == 3
    assert slow.after_start > 0  # the processes did some of the work
    assert all(process.poll() is not None for process in started)


def test_what_a_killed_process_leaves_is_decoded_here(tmp_path, monkeypatch):
    paths = save_crops(tmp_path, 60)
    expected = by_path(embed_files(FakeEngine(), paths, batch=4))
    monkeypatch.setattr(pace, "MIN_FILES_FOR_PROCESSES", 10)
    monkeypatch.setattr(pace, "_GIL_S_PER_FILE", 1.0)
    started = remember_processes(monkeypatch, then=lambda process: process.kill())
    SlowFetch(monkeypatch)
    assert by_path(embed_files(FakeEngine(), paths, batch=4, workers=2)) == expected
    assert started


def test_without_processes_threads_go_on(tmp_path, monkeypatch):
    paths = save_crops(tmp_path, 60)
    expected = by_path(embed_files(FakeEngine(), paths, batch=4))
    monkeypatch.setattr(pace, "MIN_FILES_FOR_PROCESSES", 10)
    monkeypatch.setattr(pace, "_GIL_S_PER_FILE", 1.0)
    monkeypatch.setattr(decoding_process, "_SERVE", "raise SystemExit")
    SlowFetch(monkeypatch)
    stats = EmbeddingStats()
    assert by_path(embed_files(FakeEngine(), paths, batch=4, workers=2, stats=stats)) == expected
    assert stats.workers == 2


def test_all_threads_without_a_decoder_leave_when_few_with_one_come():
    @contextlib.contextmanager
    def decoder():
        yield lambda path: "theirs"

    paths = [Path(str(index)) for index in range(3000)]

    def fetch(path):
        time.sleep(0.0005)
        return path

    with ReadAhead(paths, fetch, str, threads=7, window=32) as ahead:
        ahead.take(16)
        ahead.replace_threads(2, decoder)
        seen = [item for _ in range(60) for _, item in ahead.take(16)]
        while set(seen[-64:]) != {"theirs"} and len(seen) < 2900:  # a thread may be late with its last file
            seen += [item for _, item in ahead.take(16)]
        assert ahead.threads == 2
        assert set(seen[-64:]) == {"theirs"}


def test_a_thread_that_hangs_is_replaced_by_one_with_its_own_decoder(monkeypatch):
    monkeypatch.setattr(decoding, "PARTIAL_BATCH_AFTER_S", 0.05)
    started, release = threading.Event(), threading.Event()
    begun: list[threading.Thread] = []

    def fetch(path):
        assert started.wait(20)
        if begun[0] is threading.current_thread() and not release.is_set():
            release.wait(20)
        return path

    @contextlib.contextmanager
    def decoder():
        begun.append(threading.current_thread())
        started.set()
        yield lambda path: f"theirs {path}"

    paths = [Path(str(index)) for index in range(40)]
    with ReadAhead(paths, fetch, str, threads=1, window=4) as ahead:
        ahead.replace_threads(1, decoder)
        found: list[tuple[int, str | ImageError]] = []
        while len(found) < 39:
            found += ahead.take(2)
        assert len(begun) == 2
        assert ahead.threads == 1  # only the last replacement counts
        release.set()
        found += ahead.take(2)
    assert sorted(place for place, _ in found) == list(range(40))
    assert str(found[-1][1]).startswith("theirs")


def test_a_process_decodes_as_the_contract_says(tmp_path):
    files = {name: tmp_path / f"picture.{name}" for name in ("jpg", "png", "webp", "bmp")}
    for file in files.values():
        noise(3, 90, 41).save(file)
    noise(4).convert("CMYK").save(tmp_path / "cmyk.jpg")
    with decoding_process.DecodingProcess(60, 20) as process:
        for file in files.values():
            np.testing.assert_array_equal(process.decode(file.read_bytes(), file), read_image(file, 60, 20))
        with pytest.raises(ImageError, match="CMYK colours") as refused:
            process.decode((tmp_path / "cmyk.jpg").read_bytes(), tmp_path / "cmyk.jpg")
        assert refused.value.path == tmp_path / "cmyk.jpg"
        odd = with_exif(noise(6, 90, 41), "JPEG", exif_block([orientation_tag(6), Tag(0x0128, 1, 1, b"\2\0\0\0")]))
        (tmp_path / "odd.jpg").write_bytes(odd)
        np.testing.assert_array_equal(process.decode(odd, files["jpg"]), read_image(tmp_path / "odd.jpg", 60, 20))
        with pytest.raises(ImageError, match="a PostScript file"):
            process.decode(b"%!PS-Adobe-3.0", files["jpg"])
        large = noise(5, 2000, 3000)
        large.save(tmp_path / "large.bmp")  # 18 MB, more than a pipe holds
        expected = read_image(tmp_path / "large.bmp", 60, 20)
        np.testing.assert_array_equal(process.decode((tmp_path / "large.bmp").read_bytes(), files["bmp"]), expected)


def by_path(batches):
    """Return the descriptors of the files that were read, and the reasons of the others, by path."""
    good: dict[Path, bytes] = {}
    failed: dict[Path, str] = {}
    for batch in batches:
        good |= {facts.path: row.tobytes() for facts, row in zip(batch.files, batch.descriptors, strict=True)}
        failed |= dict(batch.failed)
    return good, failed


def remember_processes(monkeypatch, then=lambda process: None):
    """Return a list that gets every process started from now on."""
    started, real = [], subprocess.Popen

    def start(*given, **named):
        process = real(*given, **named)
        started.append(process)
        return process

    monkeypatch.setattr(subprocess, "Popen", start)
    ready = decoding_process.DecodingProcess.__enter__

    def enter(self):
        then(self._process)
        return ready(self)

    monkeypatch.setattr(decoding_process.DecodingProcess, "__enter__", enter)
    return started


class SlowFetch:
    """Makes every fetch take 10 ms, and up to 0.3 s until the threads' own decoders are ready.

    So the engine waits for images. Most files are still left when the processes have started, even on a slow machine.
    """

    def __init__(self, monkeypatch):
        self.after_start, real = 0, module.fetch_file
        ready, decode, own = threading.Event(), decoding_process.DecodingProcess.decode, module._process_decoder

        def fetch(path):
            ready.wait(0.3)  # less than PARTIAL_BATCH_AFTER_S: no thread counts as hung
            time.sleep(0.01)
            return real(path)

        def counted(process, content, path):
            self.after_start += 1
            return decode(process, content, path)

        @contextlib.contextmanager
        def noticed(*shape):
            with own(*shape) as decoder:
                ready.set()
                yield decoder

        monkeypatch.setattr(module, "fetch_file", fetch)
        monkeypatch.setattr(module, "_process_decoder", noticed)
        monkeypatch.setattr(decoding_process.DecodingProcess, "decode", counted)


def test_the_gauge_tells_what_happened(tmp_path):
    stats = EmbeddingStats()
    list(embed_files(FakeEngine(), save_crops(tmp_path, 10), workers=2, batch=4, stats=stats))
    assert (stats.images, stats.batch, stats.workers) == (10, 4, 2)
    assert stats.computed_s > 0
    assert stats.waited_s > 0
