"""Measure the first search after opening a gallery and after a commit of 1,000 rows, in this and another process.

The vectors have 15 values, so that reading the rows' columns counts and scoring does not. Another tree of this project
is measured in the same run, turn by turn, if ``--against`` names it: ``git worktree add --detach ../before COMMIT``.
Every number is a median, with the ratio to the other tree. The last line is the share of other programs.

Run: python benchmarks/first_search.py --rows 20000 100000 300000 --against ../before
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from rrid_edge.machine.foreign_cpu import ForeignCpu, in_words
from rrid_edge.machine.processor import processor_name

STEPS = ("open", "first search", "again", "add", "search after it", "other process", "replace", "search after that")

_WORKER = """
import json, sys, time
from pathlib import Path
import numpy as np
from rrid_edge.engines.fake import fake_spec
from rrid_edge.gallery.base import NewRow
from rrid_edge.gallery.local.store import LocalGallery

folder, count, added = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
spec, generator = fake_spec(block_width=1), np.random.default_rng(0)
state = {"next": 0, "gallery": None}

def vectors(number):
    values = generator.standard_normal((number, spec.dimension), dtype=np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)

def add(number, first=None):
    first = state["next"] if first is None else first
    rows = [NewRow(f"{i:07d}.jpg", f"{i:064x}", 1, 1, str(i % 40), None, i, i) for i in range(first, first + number)]
    found = vectors(number)
    begun = time.perf_counter()
    state["gallery"].add(rows, found)
    taken = time.perf_counter() - begun
    state["next"] = max(state["next"], first + number)
    return taken

def timed(work):
    begun = time.perf_counter()
    result = work()
    return result, time.perf_counter() - begun

query = vectors(1)

def search():
    return timed(lambda: state["gallery"].search(query, 10))[1]

def opened(**names):
    if state["gallery"] is not None:
        state["gallery"].close()
    state["gallery"], taken = timed(lambda: LocalGallery(folder, **names))
    return taken

def fill():
    state["gallery"] = LocalGallery.create(folder, spec)
    while state["next"] < count:
        add(min(10_000, count - state["next"]))
    state["gallery"].finish()

for line in sys.stdin:
    asked = line.strip()
    if asked == "fill":
        answer = {"": fill()}
    elif asked == "open":
        answer = {"open": opened(), "first search": search(), "again": search()}
    elif asked == "add":
        answer = {"add": add(added), "search after it": search()}
    elif asked == "replace":
        answer = {"replace": add(100, 5000), "search after that": search()}
    else:
        answer = {"other process": search()}
    print(json.dumps(answer), flush=True)
"""


class _Worker:
    """A process of one tree that answers one line per order."""

    def __init__(self, tree: Path, folder: Path, rows: int, added: int) -> None:
        command = [sys.executable, "-c", _WORKER, str(folder), str(rows), str(added)]
        environment = os.environ | {"PYTHONPATH": str(tree)}
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            command, cwd=tree, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, order: str) -> dict[str, float]:
        """Send an order; return the seconds of its steps."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(order, file=self._process.stdin, flush=True)
        found: dict[str, float] = json.loads(self._process.stdout.readline())
        return found

    def end(self) -> None:
        self._process.communicate()


def measure(trees: list[Path], root: Path, rows: int, rounds: int, added: int) -> list[dict[str, list[float]]]:
    """Return the seconds of each step by round, for each tree."""
    found: list[dict[str, list[float]]] = [defaultdict(list) for _ in trees]
    with contextlib.ExitStack() as stack:
        pairs = [[_Worker(tree, root / str(number), rows, added) for _ in "wr"] for number, tree in enumerate(trees)]
        for worker in (worker for pair in pairs for worker in pair):
            stack.callback(worker.end)
        for writer, _ in pairs:
            writer.ask("fill")
        for _ in range(rounds):
            for seconds, (writer, reader) in zip(found, pairs, strict=True):
                for answer in (reader.ask("open"), writer.ask("add"), reader.ask("search"), writer.ask("replace")):
                    for step, value in answer.items():
                        seconds[step].append(value)
    return found


def main() -> None:
    """Measure and print one table per number of rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000])
    parser.add_argument("--added", type=int, default=1000, help="rows per commit")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--against", type=Path, help="another tree of this project")
    options = parser.parse_args()
    own = Path(__file__).resolve().parents[1]
    trees = [own] if options.against is None else [own, options.against.resolve()]
    print(f"{processor_name()}, medians of {options.rounds} rounds in ms, {options.added} rows per commit")
    for rows in options.rows:
        watch = ForeignCpu()
        with tempfile.TemporaryDirectory() as root:
            found = measure(trees, Path(root), rows, options.rounds, options.added)
            print(f"{rows:,} rows{'' if len(trees) == 1 else '; other tree; ratio'}")
            for step in STEPS:
                middle = [statistics.median(seconds[step]) * 1000 for seconds in found]
                ratio = "" if len(trees) == 1 else f"{middle[1]:>10.2f}{middle[0] / middle[1]:>8.2f}"
                print(f"  {step:<18}{middle[0]:>10.2f}{ratio}")
        print(f"  {in_words(watch.share())}")


if __name__ == "__main__":
    main()
