"""Answer searches of a gallery for ``gallery_search.py --against``: one process per version of the package.

Started by that script with PYTHONPATH set to a source tree. Each line of standard input has a number of queries per
search and a number of searches; the answer is a line with the seconds of each search. Not a script of its own.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Queries = NDArray[np.float32]
TOP_K = 10


class Tree:
    """A process that searches with the package of one source tree, in a gallery that it makes itself.

    Args:
        tree: root of the source tree.
        folder: of the new gallery.
        vectors: file of its rows, float16 (N, D).
        queries: file of the queries, float32 (Q, D).
    """

    def __init__(self, tree: Path, folder: Path, vectors: Path, queries: Path) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - this file itself
            [sys.executable, __file__, str(folder), str(vectors), str(queries)],
            env={"PYTHONPATH": str(tree)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.search(1, 1)  # waits until the gallery is made

    def search(self, count: int, repetitions: int) -> list[float]:
        """Return the seconds of some searches with ``count`` queries each."""
        if self._process.stdin is None or self._process.stdout is None:
            raise ValueError("the process has no pipes")
        print(count, repetitions, file=self._process.stdin, flush=True)
        return [float(seconds) for seconds in self._process.stdout.readline().split()]

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def timed(search: Callable[[Queries], object], queries: Queries, count: int, repetitions: int) -> list[float]:
    """Return the seconds of some searches with ``count`` queries each, in turn over all queries; two are not timed."""
    seconds = []
    for repetition in range(-2, repetitions):
        start = repetition % (len(queries) // count) * count
        begun = time.perf_counter()
        search(queries[start : start + count])
        seconds.append(time.perf_counter() - begun)
    return seconds[2:]


def serve(folder: Path, vectors: Path, queries: Path) -> None:
    """Make a gallery, then search whenever a line asks for it."""
    from rrid_edge.engines.fake import fake_spec
    from rrid_edge.gallery import NewRow
    from rrid_edge.gallery.local.store import LocalGallery

    rows, asked = np.load(vectors, mmap_mode="r"), np.load(queries)
    with LocalGallery.create(folder, fake_spec(block_width=rows.shape[1] // 15)) as gallery:
        for start in range(0, len(rows), 8192):
            part = rows[start : start + 8192].astype(np.float32)
            numbers = range(start, start + len(part))
            gallery.add([NewRow(f"{number:08d}.jpg", f"{number:064x}", 1, 1) for number in numbers], part)
        gallery.finish()
    with LocalGallery(folder) as gallery:
        for line in sys.stdin:
            count, repetitions = map(int, line.split())
            print(*timed(lambda part: gallery.search(part, TOP_K), asked, count, repetitions), flush=True)


if __name__ == "__main__":
    serve(*map(Path, sys.argv[1:]))
