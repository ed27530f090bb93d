"""Kills indexing, compaction, forgetting and copying with SIGKILL, and checks the galleries after each kill.

Most kills are aimed: the process kills itself at its n-th write, synchronisation, commit or deletion. Others come at a
random time. The test suite kills a few times; ``python tools/kill_index.py 500`` kills 500 times.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path
from unittest.mock import patch

import numpy as np

from rrid_edge.crops.images import read_image
from rrid_edge.engines.fake import FakeEngine, fake_spec
from rrid_edge.files import sha256_of_file
from rrid_edge.gallery.indexing.copying import copy_gallery
from rrid_edge.gallery.indexing.settings import IndexSettings
from rrid_edge.gallery.indexing.sync import index_folder
from rrid_edge.gallery.local.store import LocalGallery
from support.columns import is_followed
from support.pictures import noise, save_crops

SPEC = fake_spec(block_width=4)
CROPS = 60
STAGES = ("index", "compact", "forget", "copy")
MOST_WRITES = {"index": 110, "compact": 100, "forget": 90, "copy": 130}
"""About as many writes as each stage makes."""
SMALL = {
    "rrid_edge.gallery.local.bounds.TWO_PASS_ROWS": 10,
    "rrid_edge.gallery.local.nested.BLOCK": 16,
    "rrid_edge.gallery.local.projection.BLOCK": 16,
    "rrid_edge.gallery.local.search._FEWEST_ROWS": 5,
    "rrid_edge.gallery.local.bounded.QUERY_BYTES": 0,
    "rrid_edge.gallery.local.bounded._WORTH": 1e9,
}
"""So few crops have bounds, in several blocks, and are searched with them."""

_VICTIM = """
import importlib, json, os, sys, time
from pathlib import Path
import rrid_edge.gallery.indexing.copying as copying
import rrid_edge.gallery.indexing.sync as sync
import rrid_edge.gallery.indexing.writing as writing
from rrid_edge.engines.fake import FakeEngine, fake_spec
from rrid_edge.gallery.local import database, mapped
from rrid_edge.gallery.local.store import LocalGallery

for name, value in json.loads(sys.argv[6]).items():
    module, attribute = name.rsplit(".", 1)
    setattr(importlib.import_module(module), attribute, value)
folder, location, copy, stage, last_write = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:6]
left = int(last_write)

def counted(module, name):
    real = getattr(module, name)
    def call(*arguments, **names):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), 9)
        return real(*arguments, **names)
    setattr(module, name, call)

class Slow(FakeEngine):
    def _run_batch(self, images):
        time.sleep(0.004 if left < 0 else 0)
        return super()._run_batch(images)

writing.COMMIT_ROWS = copying.BATCH_ROWS = 8
spec = fake_spec(block_width=4)
if left > 0:
    for name in ("pwrite", "fdatasync", "fsync", "ftruncate"):
        counted(os, name)
    for name in ("unlink", "replace", "rmdir"):
        counted(Path, name)
    counted(database, "commit_now")
    counted(mapped, "_overwrite")
with LocalGallery.create(location, spec) as gallery:
    print("open", flush=True)
    if stage == "index":
        settings = sync.IndexSettings(batch=4, allow_removals=True)
        sync.index_folder(folder, gallery, Slow(spec, max_batch=4), settings)
    elif stage == "compact":
        gallery.compact()
    elif stage == "forget":
        gallery.forget(json.loads((folder.parent / "names.json").read_text()))
    else:
        with LocalGallery.create(copy, spec) as destination:
            copying.copy_gallery(gallery, destination)
print("done", flush=True)
"""


def kill_and_check(root: Path, *, kills: int, seed: int) -> Counter[str]:
    """Kill ``kills`` runs. Return the number of runs by stage, and of those that ended before they were killed.

    Checks after each kill that the gallery is sound before anything is repaired, and that no committed crop is lost.
    Then the stage is run again: it must finish, and leave no file behind.
    """
    with contextlib.ExitStack() as stack:
        for name, value in SMALL.items():
            stack.enter_context(patch(name, value))
        victims = _Victims(root, random.Random(seed))
        killed = 0
        while killed < kills:
            try:
                killed += victims.kill_one()
            except AssertionError as error:
                raise AssertionError(f"kill {killed} of seed {seed}") from error
        return victims.struck


class _Victims:
    def __init__(self, root: Path, generator: random.Random) -> None:
        self.folder, self.location, self.copy = root / "crops", root / "index", root / "copy"
        self.generator, self.struck = generator, Counter[str]()
        save_crops(self.folder, CROPS)
        self._index()

    def _index(self) -> None:
        with LocalGallery.create(self.location, SPEC) as gallery:
            index_folder(self.folder, gallery, FakeEngine(SPEC), IndexSettings(allow_removals=True))

    def kill_one(self) -> bool:
        """Kill one run of a random stage, check, and run the stage again; return whether it was killed in time."""
        stage = self.generator.choice(STAGES)
        names = self._prepare(stage)
        with LocalGallery(self.location) as gallery:
            before = {row.path: row for row in gallery.rows()}
            chosen = [before[name] for name in names]
            secrets = [vector.astype("<f2").tobytes() for vector in gallery.vectors(chosen)]
            secrets += [bounds for row in chosen for bounds in _bounds_by_slot(gallery).get(row.slot, ())]
        aimed = self.generator.random() < 0.8
        write = self.generator.randint(1, MOST_WRITES[stage]) if aimed else -1
        arguments = (str(self.folder), str(self.location), str(self.copy), stage, str(write))
        killed = _run(arguments, None if aimed else self.generator.uniform(0, 0.15))
        self.struck[stage if killed else f"{stage} (ended)"] += 1
        with LocalGallery(self.location) as gallery:
            assert gallery.verify().sound
            assert is_followed(self.location)
            _check_answers(gallery)
            after = {row.path: row for row in gallery.rows()}
            _check_vectors(gallery, self.folder)
        present = {path.name for path in self.folder.iterdir()}
        lost = {path for path in before if path in present} - after.keys()
        assert not lost or (stage == "forget" and lost == set(names))
        self._repeat(stage, names, secrets, forgotten=bool(lost))
        return killed

    def _prepare(self, stage: str) -> list[str]:
        """Change the folder, or choose crops to forget; return their names."""
        files = sorted(self.folder.glob("*.jpg"))
        with LocalGallery(self.location) as gallery:
            indexed = sorted(row.path or "" for row in gallery.rows())
        if stage == "forget":
            names = self.generator.sample(indexed, 3)
            (self.folder.parent / "names.json").write_text(json.dumps(names))
            return names
        if stage == "index":
            for path in self.generator.sample(files, CROPS // 3):
                noise(self.generator.randrange(1 << 30)).save(path)
        elif stage == "compact":
            with LocalGallery(self.location, write=True) as gallery:
                gallery.remove(self.generator.sample(indexed, 2))
        elif self.generator.random() < 0.5 and self.copy.exists():
            shutil.rmtree(self.copy)
        return []

    def _repeat(self, stage: str, names: list[str], secrets: list[bytes], *, forgotten: bool) -> None:
        if stage == "forget":
            with LocalGallery(self.location, write=True) as gallery:  # this finishes what was begun
                if forgotten:
                    self._check_erased(names, secrets)
                gallery.forget(names)
                assert not {row.path for row in gallery.rows()} & set(names)
            self._check_erased(names, secrets)
            for name in names:  # their contents are kept out
                noise(self.generator.randrange(1 << 30)).save(self.folder / name)
        elif stage == "compact":
            with LocalGallery(self.location, write=True) as gallery:
                gallery.compact()
                assert gallery.info().slots == gallery.info().rows
        elif stage == "copy":
            self._copy_again()
        self._index()
        with LocalGallery(self.location) as gallery:
            assert gallery.verify().sound
            assert is_followed(self.location)
            _check_vectors(gallery, self.folder, complete=True)
            _check_answers(gallery, mode="two-pass")
        _check_files(self.location)

    def _check_erased(self, names: list[str], secrets: list[bytes]) -> None:
        data = b"".join(path.read_bytes() for path in self.location.iterdir())
        assert not any(secret in data for secret in secrets)
        with LocalGallery(self.location) as gallery:
            assert not {bounds for pair in _bounds_by_slot(gallery).values() for bounds in pair} & set(secrets)
        assert not any(name.encode() in data for name in names)

    def _copy_again(self) -> None:
        if self.copy.exists() and (self.copy / "meta.sqlite").exists():
            with LocalGallery(self.copy) as destination:
                assert destination.verify().sound
        else:
            shutil.rmtree(self.copy, ignore_errors=True)
        with LocalGallery(self.location) as source:
            try:
                with LocalGallery.create(self.copy, SPEC) as destination:
                    _empty_of_others(source, destination)
                    copy_gallery(source, destination)
                    assert _content(destination) == _content(source)
            finally:
                _check_files(self.copy)


def _empty_of_others(source: LocalGallery, destination: LocalGallery) -> None:
    """Remove crops of an older copy that the source no longer holds."""
    known = {(row.path, row.sha256) for row in source.rows()}
    destination.remove([row.id for row in destination.rows() if (row.path, row.sha256) not in known])


def _content(gallery: LocalGallery) -> dict[str | None, tuple[str, bytes]]:
    rows = gallery.rows()
    vectors = gallery.vectors(rows)
    return {row.path: (row.sha256, vector.tobytes()) for row, vector in zip(rows, vectors, strict=True)}


def _check_files(location: Path) -> None:
    """Check that no file is left of runs that were killed."""
    names = sorted(path.name for path in location.iterdir())
    known = re.compile(r"meta\.sqlite(-wal|-shm)?|vec\.\d+\.f16|cache\.[\d.]+\.\w+|writer\.lock")
    assert all(known.fullmatch(name) for name in names), names
    for kind in ("vec", "columns", "names", "basis", "first", "second"):
        pattern = r"vec\..*" if kind == "vec" else rf"cache\..*\.{kind}"
        assert sum(re.fullmatch(pattern, name) is not None for name in names) == 1, names


def _bounds_by_slot(gallery: LocalGallery) -> dict[int, tuple[bytes, bytes]]:
    """The first and second level of every slot that has bounds, as bytes."""
    with gallery._reader.held() as snapshot:
        bounds = snapshot.state.view(snapshot.connection).bounds
        if bounds is None:
            return {}
        first = bounds._first.transpose(0, 2, 1).reshape(-1, bounds.levels.first + 1)
        return {slot: (first[slot].tobytes(), bounds._second[slot].tobytes()) for slot in range(bounds.rows)}


def _check_answers(gallery: LocalGallery, mode: str | None = None) -> None:
    """Check that searches find the best scores of all rows."""
    rows = gallery.rows()
    vectors = gallery.vectors(rows)
    result = gallery.search(vectors[:5], 10)
    assert mode in (None, result.mode)
    for query, hits in zip(vectors, result.hits, strict=False):
        expected = np.sort([float(np.float32(vector.astype(float) @ query.astype(float))) for vector in vectors])[::-1]
        assert [hit.score for hit in hits] == expected[:10].tolist()


def killed_at(folder: Path, location: Path, delay_s: float) -> bool:
    """Start an indexing run and kill it after ``delay_s`` seconds; return whether it was still running."""
    return _run((str(folder), str(location), "", "index", "-1"), delay_s)


def _run(arguments: tuple[str, ...], delay_s: float | None) -> bool:
    """Run a victim; return whether it was killed."""
    command = [sys.executable, "-c", textwrap.dedent(_VICTIM), *arguments, json.dumps(SMALL)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if delay_s is not None:
            assert process.stdout.readline() == "open\n"
            time.sleep(delay_s)
            process.send_signal(signal.SIGKILL)
        said = process.stdout.read()
    assert process.returncode in (0, -signal.SIGKILL), process.returncode
    return "done" not in said


def _check_vectors(gallery: LocalGallery, folder: Path, *, complete: bool = False) -> None:
    """Check that every row whose file is unchanged has the vector of its pixels."""
    engine = FakeEngine(SPEC)
    rows = [row for row in gallery.rows() if row.path and sha256_of_file(folder / row.path) == row.sha256]
    assert not complete or len(rows) == len(list(folder.iterdir()))
    if rows:
        images = [read_image(folder / (row.path or ""), SPEC.height_px, SPEC.width_px) for row in rows]
        expected = engine.run(np.stack(images)).astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(gallery.vectors(rows), expected)
