"""Kills indexing and compaction with SIGKILL at random times, and checks the gallery after each kill.

The test suite kills a few times. ``python tools/kill_index.py 200`` kills 200 times.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import numpy as np

from rrid_edge.crops.images import read_image
from rrid_edge.engines.fake import FakeEngine, fake_spec
from rrid_edge.files import sha256_of_file
from rrid_edge.gallery.indexing.sync import index_folder
from rrid_edge.gallery.local.store import LocalGallery
from support.pictures import noise, save_crops

SPEC = fake_spec(block_width=4)
CROPS = 120

_VICTIM = """
import sys, time
from pathlib import Path
import rrid_edge.gallery.indexing.sync as sync
import rrid_edge.gallery.indexing.writing as writing
from rrid_edge.engines.fake import FakeEngine, fake_spec
from rrid_edge.gallery.local.store import LocalGallery

class Slow(FakeEngine):
    def _run_batch(self, images):
        time.sleep(0.004)
        return super()._run_batch(images)

writing.COMMIT_ROWS = 4
spec = fake_spec(block_width=4)
with LocalGallery.create(Path(sys.argv[2]), spec) as gallery:
    print("open", flush=True)
    sync.index_folder(Path(sys.argv[1]), gallery, Slow(spec, max_batch=4), sync.IndexSettings(batch=4))
    print("indexed", flush=True)
    gallery.compact()
    print("compacted", flush=True)
"""


def kill_and_check(root: Path, *, kills: int, seed: int) -> Counter[str]:
    """Kill ``kills`` index runs. Return the number of kills while indexing, while compacting, and after both.

    Checks after each kill that the gallery opens and that no crop is lost. Every row's vector must fit its checksum and
    the crop's content. When a run has finished indexing, the folder is changed, so that the next run has work.
    """
    folder, location = root / "crops", root / "index"
    save_crops(folder, CROPS)
    generator = random.Random(seed)
    count, struck = 0, Counter[str]()
    for number in range(kills):
        stage = killed_at(folder, location, generator.uniform(0, 0.25))
        struck[stage] += 1
        with LocalGallery(location) as gallery:
            assert gallery.verify().sound, (number, seed)
            assert gallery.info().rows >= count, (number, seed)
            count = gallery.info().rows
            _check_vectors(gallery, folder)
        if stage != "indexing":
            for path in generator.sample(sorted(folder.glob("*.jpg")), CROPS // 2):
                noise(generator.randrange(1 << 30)).save(path)
    with LocalGallery.create(location, SPEC) as gallery:
        assert index_folder(folder, gallery, FakeEngine(SPEC)).rows == CROPS
        assert gallery.verify().sound
        _check_vectors(gallery, folder, complete=True)
    return struck


def killed_at(folder: Path, location: Path, delay_s: float) -> str:
    """Start a run, kill it after ``delay_s`` seconds, and return what it was doing."""
    command = [sys.executable, "-c", textwrap.dedent(_VICTIM), str(folder), str(location)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        time.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
        said = process.stdout.read()
    return "indexing" if "indexed" not in said else "compacting" if "compacted" not in said else "after all"


def _check_vectors(gallery: LocalGallery, folder: Path, *, complete: bool = False) -> None:
    """Check that every row whose file is unchanged has the vector of its pixels."""
    engine = FakeEngine(SPEC)
    rows = [row for row in gallery.rows() if sha256_of_file(folder / row.path) == row.sha256]
    assert not complete or len(rows) == len(list(folder.iterdir()))
    if rows:
        pixels = np.stack([read_image(folder / row.path, SPEC.height_px, SPEC.width_px) for row in rows])
        np.testing.assert_array_equal(gallery.vectors(rows), engine.run(pixels).astype(np.float16).astype(np.float32))
