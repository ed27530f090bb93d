"""Following a folder: new, changed and deleted files; files that are still being written; temporary problems."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from rrid_edge.engines.fake import FakeEngine, fake_spec
from rrid_edge.errors import FingerprintMismatchError, GalleryError, UsageError
from rrid_edge.gallery.indexing.retention import set_retention
from rrid_edge.gallery.indexing.settings import IndexSettings
from rrid_edge.gallery.indexing.watch import Settling, WatchSettings, watch_folder
from rrid_edge.gallery.local.store import LocalGallery
from support.commands import refused, rrid_edge
from support.names import save_odd_names
from support.onnx_models import save_tiny_model
from support.pictures import noise, save_crops

SPEC = fake_spec(block_width=4)


def until(true, seconds=120):
    """Wait until ``true()`` returns True."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


class Watcher:
    """A watch in a thread."""

    def __init__(self, folder, settle_s=0.3, rescan_s=60.0, index=IndexSettings()):  # noqa: B008 - it is frozen
        self.location = folder / ".rrid-edge"
        self.reports, self.warnings, self.error = [], [], None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(folder, WatchSettings(settle_s, rescan_s, index)))
        self._thread.start()

    def _run(self, folder, settings):
        try:
            watch_folder(
                folder,
                lambda: LocalGallery.create(self.location, SPEC),
                FakeEngine(SPEC),
                settings,
                stop=self._stop,
                listener=self,
            )
        except Exception as error:
            self.error = error

    def indexed(self, report):
        self.reports.append(report)

    def warn(self, message):
        self.warnings.append(message)

    def names(self):
        try:
            with LocalGallery(self.location) as gallery:
                return [row.path for row in gallery.rows()]
        except GalleryError:  # not there yet
            return []

    def content(self):
        with LocalGallery(self.location) as gallery:
            return {row.path: row.sha256 for row in gallery.rows()}

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self._stop.set()
        self._thread.join(120)
        assert not self._thread.is_alive()


@pytest.fixture
def folder(tmp_path):
    save_crops(tmp_path / "crops", 3)
    return tmp_path / "crops"


def test_new_changed_renamed_and_deleted_files_are_followed(folder):
    with Watcher(folder) as watcher:
        until(lambda: len(watcher.names()) == 3)
        noise(50).save(folder / "new.jpg")
        (folder / "sub").mkdir()
        noise(51).save(folder / "sub" / "deep.png")
        noise(53).save(folder / "sub" / "stays.png")
        until(lambda: {"new.jpg", "sub/deep.png", "sub/stays.png"} <= set(watcher.names()))
        before = watcher.content()["new.jpg"]
        noise(52).save(folder / "new.jpg")
        until(lambda: watcher.content()["new.jpg"] != before)
        (folder / "sub" / "deep.png").rename(folder / "sub" / "renamed.png")
        until(lambda: "sub/renamed.png" in watcher.names() and "sub/deep.png" not in watcher.names())
        (folder / "sub" / "renamed.png").unlink()
        until(lambda: len(watcher.names()) == 5)
    assert watcher.error is None
    assert not watcher.warnings
    assert sum(report.added for report in watcher.reports) == 7
    assert sum(report.removed for report in watcher.reports) == 2
    assert watcher.reports[0].rows == 3


def test_a_file_is_read_only_when_it_is_finished(folder, tmp_path):
    noise(60, 512, 256).save(tmp_path / "whole.jpg", quality=100)
    data = (tmp_path / "whole.jpg").read_bytes()
    with Watcher(folder, settle_s=2.0) as watcher:  # a loaded machine may stand still for a second between two writes
        until(lambda: len(watcher.names()) == 3)
        with (folder / "slow.jpg").open("wb") as stream:
            for start in range(0, len(data), len(data) // 12):
                stream.write(data[start : start + len(data) // 12])
                stream.flush()
                time.sleep(0.15)
                assert "slow.jpg" not in watcher.names()
        until(lambda: "slow.jpg" in watcher.names())
    assert not watcher.warnings
    assert watcher.error is None


def test_a_file_is_finished_when_size_and_time_stay_the_same(tmp_path):
    path = tmp_path / "a.jpg"
    settling = Settling(0.2)
    assert not settling(path)
    path.write_bytes(b"1")
    ahead = time.time() + 3600  # another machine's clock: only what is seen here counts
    os.utime(path, (ahead, ahead))
    assert not settling(path)
    time.sleep(0.25)
    path.write_bytes(b"12")
    os.utime(path, (ahead, ahead))
    assert not settling(path)
    time.sleep(0.25)
    assert settling(path)
    os.utime(path, (1, 1))  # long finished, never seen before
    assert Settling(0.2)(path)


def test_an_unreadable_file_is_reported_once_and_stops_nothing(folder):
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 broken")
    with Watcher(folder, settle_s=0.0) as watcher:
        until(lambda: len(watcher.names()) == 3)
        for number in range(3):
            noise(70 + number).save(folder / f"{number}.png")
            until(lambda number=number: f"{number}.png" in watcher.names())
    assert len(watcher.warnings) == 1
    assert watcher.warnings[0].startswith("left out broken.jpg: ")
    assert len(watcher.reports[0].failed) == 1
    assert sum(len(report.failed) for report in watcher.reports) == 1


def test_an_unmounted_folder_empties_no_index(folder, tmp_path):
    with Watcher(folder, settle_s=0.0) as watcher:
        until(lambda: len(watcher.names()) == 3)
        away = tmp_path / "away"
        folder_of_crops = sorted(folder.glob("*.jpg"))
        away.mkdir()
        for path in folder_of_crops:
            path.rename(away / path.name)
        until(lambda: any("is a disk not mounted?" in warning for warning in watcher.warnings))
        assert len(watcher.names()) == 3
        for path in away.iterdir():
            path.rename(folder / path.name)
        noise(90).save(folder / "new.jpg")
        until(lambda: len(watcher.names()) == 4)
    assert len(watcher.warnings) <= 2, "a run between the first and the last rename finds more than a fifth gone"
    assert watcher.error is None
    assert sum(report.removed for report in watcher.reports) == 0


def test_rows_of_a_vanished_sub_folder_stay_and_the_watch_goes_on(folder):
    save_crops(folder / "cam2", 2)
    with Watcher(folder, settle_s=0.0) as watcher:
        until(lambda: len(watcher.names()) == 5)
        shutil.rmtree(folder / "cam2")
        until(lambda: watcher.warnings)
        noise(91).save(folder / "new.jpg")
        until(lambda: "new.jpg" in watcher.names())
        assert len(watcher.names()) == 6
    assert "cam2/: this folder is gone or empty" in watcher.warnings[-1]
    assert watcher.warnings[-1].endswith("; still watching")
    assert len(watcher.warnings) == len(set(watcher.warnings))
    assert watcher.error is None
    with Watcher(folder, settle_s=0.0, index=IndexSettings(allow_removals=True)) as watcher:
        until(lambda: len(watcher.names()) == 4)
    assert watcher.warnings == []


def test_forgotten_pictures_stay_out_of_a_watch(folder):
    with Watcher(folder, settle_s=0.0) as watcher:
        until(lambda: len(watcher.names()) == 3)
    with LocalGallery(folder / ".rrid-edge", write=True) as gallery:
        forgotten = gallery.rows()[0]
        gallery.forget([forgotten.id])
    with Watcher(folder, settle_s=0.0, rescan_s=0.1) as watcher:
        (folder / forgotten.path).touch()
        (folder / "renamed.jpg").write_bytes((folder / forgotten.path).read_bytes())
        noise(92).save(folder / "new.jpg")
        until(lambda: "new.jpg" in watcher.names())
        time.sleep(1)
        assert forgotten.sha256 not in watcher.content().values()
    assert watcher.error is None


def test_expired_crops_are_forgotten_by_a_watch(folder):
    old = sorted(folder.glob("*.jpg"))[:2]
    for path in old:
        os.utime(path, (1_000_000_000, 1_000_000_000))
    with Watcher(folder, settle_s=0.0) as watcher:
        until(lambda: len(watcher.names()) == 3)
    with LocalGallery(folder / ".rrid-edge", write=True) as gallery:
        set_retention(gallery, 86_400)
    with Watcher(folder, settle_s=0.0) as watcher:
        until(lambda: len(watcher.names()) == 1)
    assert [len(report.expired) for report in watcher.reports] == [2]
    assert not watcher.warnings


def test_the_watch_waits_for_another_writer(folder):
    with LocalGallery.create(folder / ".rrid-edge", SPEC), Watcher(folder, settle_s=0.0) as watcher:
        until(lambda: watcher.warnings)
        assert "another process is writing this index" in watcher.warnings[0]
        assert watcher.names() == []
    with Watcher(folder, settle_s=0.0) as watcher:
        until(lambda: len(watcher.names()) == 3)
    assert not watcher.warnings


def test_a_gallery_of_another_model_ends_the_watch(folder):
    LocalGallery.create(folder / ".rrid-edge", fake_spec("other", block_width=4)).close()
    with Watcher(folder) as watcher:
        until(lambda: watcher.error)
    assert isinstance(watcher.error, FingerprintMismatchError)


@pytest.mark.parametrize("settings", [{"settle_s": -1}, {"rescan_s": 0}, {"settle_s": float("nan")}])
def test_settings_that_do_not_work(settings):
    with pytest.raises(UsageError, match="does not work"):
        WatchSettings(**settings)


def test_the_command_follows_until_it_is_stopped(folder, tmp_path):
    model = save_tiny_model(tmp_path / "rrid.onnx")
    command = [sys.executable, "-m", "rrid_edge.cli", "index", str(folder), "--model", str(model)]
    with subprocess.Popen(
        [*command, "--runtime", "onnxruntime", "--watch", "--settle", "0", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["added"] == 3
        noise(80).save(folder / "late.png")
        assert json.loads(process.stdout.readline())["rows"] == 4
        process.send_signal(signal.SIGTERM)
        _, warnings = process.communicate(timeout=60)
    assert process.returncode == 0
    assert warnings.splitlines()[-1] == "stopped; indexed crops are committed"
    with LocalGallery(folder / ".rrid-edge") as gallery:
        assert gallery.info().rows == 4
        assert gallery.info().model == "../../rrid.onnx"


def test_without_watchfiles_the_extra_is_named(folder, tmp_path, monkeypatch):
    model = save_tiny_model(tmp_path / "rrid.onnx")
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        outcome = rrid_edge("index", folder, "--model", model, "--watch")
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), handlers, strict=True):
            signal.signal(number, handler)
    refused(outcome, 3, "watchfiles", "pip install 'rrid-edge[watch]'")
    assert len(outcome.err.splitlines()) == 1  # nothing says that the folder is followed
    assert not (folder / ".rrid-edge").exists()


def test_what_is_left_out_is_said_once_and_other_files_go_on(folder, tmp_path):
    (folder / "a.heic").touch()
    noise(1).save(tmp_path / "private.jpg")
    (folder / "out.jpg").symlink_to(tmp_path / "private.jpg")
    (folder / "drawing.jpg").write_bytes(b"%!PS-Adobe-3.0")
    with Watcher(folder) as watcher:
        until(lambda: len(watcher.names()) == 3)
        noise(2).save(folder / "new.jpg")
        until(lambda: len(watcher.names()) == 4)
        (folder / "b.heic").touch()
        noise(3).save(folder / "newer.jpg")
        until(lambda: len(watcher.warnings) > 3)
    assert watcher.error is None
    assert [line.split(";")[0] for line in watcher.warnings] == [
        "left out drawing.jpg: a PostScript file (EPS), which is not read",
        "left out: 1 link to files outside the folder (out.jpg)",
        "left out: 1 file with other endings (.heic 1)",
        "left out: 2 files with other endings (.heic 2)",
    ]


def test_a_run_pauses_for_others_and_tells_its_progress(folder):
    save_crops(folder, 40)
    counts, pauses, starts = [], [], []

    class Counted:
        def start(self, total):
            starts.append(total)

        def advance(self, count):
            counts.append(count)

    class Pausing(Watcher):
        def _run(self, folder, settings):
            def pause():
                pauses.append(True)
                return len(pauses) <= 2

            index = dataclasses.replace(settings.index, batch=4, workers=1)
            super()._run(folder, dataclasses.replace(settings, index=index, pause=pause, progress=Counted()))

    with Pausing(folder) as watcher:
        until(lambda: len(watcher.names()) == 40)
    assert starts[0] == 40
    assert 0 < starts[1] < 40  # the first run ended early, and left the rest to the next
    assert sum(counts) == 40


def test_an_error_that_nobody_foresaw_does_not_end_a_watch(folder, monkeypatch):
    real, calls = LocalGallery.info, []

    def info(gallery):
        calls.append(1)
        if len(calls) < 4:
            raise RuntimeError("a bad hour")
        return real(gallery)

    monkeypatch.setattr("rrid_edge.gallery.local.store.LocalGallery.info", info)
    with Watcher(folder, rescan_s=0.2) as watcher:
        until(lambda: watcher.reports)
    assert watcher.error is None
    assert watcher.warnings == ["RuntimeError: a bad hour; still watching"]


@pytest.mark.parametrize("answers", [0, 1])
def test_a_watch_that_hears_nothing_goes_on_by_comparing(folder, monkeypatch, answers):
    """The thread that listens may fail at once, or after it has reported something."""

    class Odd:
        tries = 0

        def watch(self, *_folder, **_settings):
            Odd.tries += 1
            yield from [set()] * answers
            raise ValueError("no such event") if Odd.tries < 9 else SystemExit

    monkeypatch.setattr("rrid_edge.gallery.indexing.listening.import_watchfiles", Odd)
    monkeypatch.setattr("threading.excepthook", lambda _arguments: None)
    with Watcher(folder, rescan_s=0.2) as watcher:
        until(lambda: watcher.warnings)
        noise(1).save(folder / "new.jpg")
        until(lambda: "new.jpg" in watcher.names())
    assert watcher.error is None
    (warning,) = watcher.warnings
    assert "does not report changes in this folder" in warning
    assert Odd.tries == (9 if answers else 5)


def test_names_of_any_bytes_are_followed(folder):
    with Watcher(folder) as watcher:
        until(lambda: len(watcher.names()) == 3)
        expected = save_odd_names(next(folder.glob("*.jpg")), folder)
        until(lambda: {os.fsencode(name) for name in watcher.names()} >= expected)
        (folder / "latin1_\udce9\udcff.jpg").unlink()
        until(lambda: "latin1_\udce9\udcff.jpg" not in watcher.names())
    assert watcher.error is None
    assert not watcher.warnings


def test_a_folder_whose_name_is_no_utf8_is_compared(folder):
    odd = folder.rename(folder.with_name("g\udce9"))
    with Watcher(odd, rescan_s=0.2) as watcher:
        until(lambda: len(watcher.names()) == 3)
        noise(1).save(odd / "new.jpg")
        until(lambda: "new.jpg" in watcher.names())
    assert watcher.error is None
    (warning,) = watcher.warnings
    assert warning.endswith("does not report changes in this folder; they are found by comparing it every 0.2 seconds")
