"""kill -9 at random moments of indexing and compacting, and what is left each time.

The test suite kills a few times. The long form: ``python tools/kill_index.py 200``.
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
    """Kill an index run so often; says how often it was killed while indexing, while compacting, and after all.

    After each kill the gallery opens, every row's vector fits its checksum and is that of the crop's content, and no crop has
    gone. The folder changes whenever the index has caught up, so that there is always work to interrupt.
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
    """Start a run, kill it after ``delay_s``, and say what it was doing."""
    command = [sys.executable, "-c", textwrap.dedent(_VICTIM), str(folder), str(location)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        time.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
        said = process.stdout.read()
    return "indexing" if "indexed" not in said else "compacting" if "compacted" not in said else "after all"


def _check_vectors(gallery: LocalGallery, folder: Path, *, complete: bool = False) -> None:
    """Every row whose file is still what was indexed has the vector that its pixels give."""
    engine = FakeEngine(SPEC)
    rows = [row for row in gallery.rows() if sha256_of_file(folder / row.path) == row.sha256]
    assert not complete or len(rows) == len(list(folder.iterdir()))
    if rows:
        pixels = np.stack([read_image(folder / row.path, SPEC.height_px, SPEC.width_px) for row in rows])
        np.testing.assert_array_equal(gallery.vectors(rows), engine.run(pixels).astype(np.float16).astype(np.float32))
