"""Permissions: private by default, shared on request; a reader without write permission sees every committed row."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from rrid_edge.gallery.local.store import LocalGallery
from support.galleries import SPEC, rows, vectors

NOBODY = 65534
READER = """
import os, sys
from pathlib import Path
import json, mmap, random, shutil, tempfile, numpy.lib.format, concurrent.futures.thread
from rrid_edge.errors import RridEdgeError
from rrid_edge.gallery.local.store import LocalGallery
os.setgroups([]); os.setgid(65534); os.setuid(65534)  # after the imports: it may not read this Python's folder
try:
    with LocalGallery(Path(sys.argv[1])) as gallery:
        for line in sys.stdin if len(sys.argv) > 2 else [""]:
            print(gallery.info().rows, len(gallery.rows()), gallery.verify().sound, flush=True)
except RridEdgeError as error:
    print(type(error).__name__, error, flush=True)
"""
OPENER = """
import os, sys
from rrid_edge.errors import RridEdgeError
from rrid_edge.gallery.opening import location_of, open_store, store_exists
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    location = location_of(sys.argv[1])
    assert store_exists(location)
    open_store(location)
except RridEdgeError as error:
    print(type(error).__name__, error, flush=True)
"""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="changes the user")


@pytest.fixture
def folder(tmp_path):
    """A folder that other users may enter."""
    for parent in (tmp_path, *tmp_path.parents):
        if parent == Path(tempfile.gettempdir()):
            break
        if parent.stat().st_uid == os.geteuid():
            parent.chmod(0o755)
    return tmp_path / "g"


def modes(folder):
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}


def read_as_nobody(folder, *arguments, **names):
    command = [sys.executable, "-c", textwrap.dedent(READER), str(folder), *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **names)


def answer_to_nobody(folder):
    with read_as_nobody(folder) as process:
        return process.communicate()[0].strip()


@pytest.mark.parametrize(("mode", "file_mode"), [(None, 0o600), (0o750, 0o640), (0o777, 0o666)])
def test_files_are_private_by_default(folder, mode, file_mode, monkeypatch):
    old = os.umask(0o022)
    try:
        with LocalGallery.create(folder, SPEC, **({} if mode is None else {"mode": mode})) as store:
            monkeypatch.setattr("rrid_edge.gallery.local.bounds.TWO_PASS_ROWS", 10)
            store.add(rows(60), vectors(60))
            store.finish()
            store.remove([store.rows()[0].id])
            store.compact()
            found = modes(folder)
    finally:
        os.umask(old)
    assert found.pop("g") == (mode or 0o700)
    assert {"meta.sqlite", "meta.sqlite-wal", "writer.lock", "vec.1.f16", "cache.1.basis"} <= set(found)
    assert set(found.values()) == {file_mode}


@needs_root
def test_a_reader_without_write_permission_sees_all_committed_rows(folder):
    """Beside an open writer whose commits are in the log, after the writer has closed, and across both."""
    with LocalGallery.create(folder, SPEC, mode=0o755) as store:
        store.add(rows(60), vectors(60))
        assert answer_to_nobody(folder) == "60 60 True"
    assert sorted(path.name for path in folder.iterdir()) == [
        "cache.0.0.columns",
        "cache.0.0.names",
        "meta.sqlite",
        "vec.0.f16",
        "writer.lock",
    ]
    assert answer_to_nobody(folder) == "60 60 True"
    with read_as_nobody(folder, "stay") as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def asked():
            print(file=process.stdin, flush=True)
            return process.stdout.readline().strip()

        assert asked() == "60 60 True"
        with LocalGallery(folder, write=True) as store:
            store.add(rows(5, start=60), vectors(5))
            assert asked() == "65 65 True"
            store.compact()
            store.remove([store.rows()[0].id])
            assert asked() == "64 64 True"
        assert asked() == "64 64 True"
        with LocalGallery(folder, write=True) as store:
            store.forget([store.rows()[0].id])
        assert asked() == "63 63 True"
        process.stdin.close()


@needs_root
@pytest.mark.parametrize("name", ["g", "meta.sqlite", "meta.sqlite-wal", "vec.0.f16"])
def test_missing_permission_is_named_in_one_line(folder, name):
    with LocalGallery.create(folder, SPEC, mode=0o755) as store:
        store.add(rows(60), vectors(60))
        path = folder if name == "g" else folder / name
        path.chmod(0o700 if name == "g" else 0o600)
        (line,) = answer_to_nobody(folder).splitlines()
    assert line.startswith("GalleryError ")
    assert name in line
    assert "this user may not" in line
    assert "--rebuild" not in line


@needs_root
def test_a_folder_that_may_not_be_entered_counts_as_an_index(folder):
    """So opening it names the permission, instead of a traceback or a new index."""
    LocalGallery.create(folder / "index", SPEC).close()
    folder.chmod(0o700)
    command = [sys.executable, "-c", textwrap.dedent(OPENER), str(folder / "index")]
    answer = subprocess.run(command, capture_output=True, text=True).stdout
    assert answer.startswith("GalleryError ")
    assert "may not enter this folder" in answer


@pytest.fixture
def read_only_disk(tmp_path):
    """A file system, and a function that makes it read-only."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if os.geteuid() or shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    yield disk, lambda: subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("with_log", [False, True])
def test_a_read_only_file_system(read_only_disk, tmp_path, with_log):
    """With a log on it too: an immutable database would not read the log."""
    disk, make_read_only = read_only_disk
    with LocalGallery.create(tmp_path / "g", SPEC) as store:
        store.add(rows(60), vectors(60))
        if with_log:
            shutil.copytree(tmp_path / "g", disk / "g")
            (disk / "g" / "meta.sqlite-shm").unlink()
    if not with_log:
        shutil.copytree(tmp_path / "g", disk / "g")
    make_read_only()
    with LocalGallery(disk / "g") as store:
        assert len(store.rows()) == store.info().rows == 60
        assert store.verify().sound
        assert len(store.search(vectors(1), 100).hits[0]) == 60
