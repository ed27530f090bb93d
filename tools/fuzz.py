"""Damage images and artefacts at random, and check that each is read or refused by name.

Usage: python tools/fuzz.py images --count 50000 --seed 1
       python tools/fuzz.py artefacts --count 5000 --keep failing
       python tools/fuzz.py artefacts --count 500 --kind "foreign onnx" --kind "foreign ir"
       python tools/fuzz.py folders --count 20         # `index` of folders of damaged images
       python tools/fuzz.py images --only 4711         # one case again, with its file in --keep

A case depends on the seed and its number only. A fault is an exception, a crash, a hang, too much memory, a refusal
that does not name the file, a file written elsewhere, or a good picture that is refused. The exit code is 1 if there is
one.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fuzzing.running import Limits, run_apart, work_folder
from fuzzing.watching import FAULT, REFUSED, SOUND, Cases, Result

SHOWN_FAULTS = 40


def main() -> int:
    """Run the cases of the command line. Return 1 if there is a fault."""
    given = _arguments()
    with work_folder() as world:
        return _run(given, _cases(given, world))


def _cases(given: argparse.Namespace, world: Path) -> Cases:
    if given.what == "images":
        from fuzzing.image_cases import ImageCases

        return ImageCases(given.seed, given.count, huge=not given.no_huge)
    if given.what == "folders":
        from fuzzing.folder_cases import FolderCases

        return FolderCases(given.seed, given.count)
    os.environ["XDG_STATE_HOME"] = str(world / "state")
    os.environ["RRID_EDGE_CACHE"] = "off"
    from fuzzing.artefact_cases import ArtefactCases

    return ArtefactCases(given.seed, given.count, world, whole=True, kinds=given.kind)


def _run(given: argparse.Namespace, cases: Cases) -> int:
    numbers = given.only or range(given.start, given.start + given.count)
    start = time.monotonic()
    faults: list[Result] = []

    def hear(result: Result) -> None:
        if result.outcome == FAULT:
            faults.append(result)
            if len(faults) <= SHOWN_FAULTS:
                print(f"{result.kind} {result.number}: {result.detail}".encode(errors="backslashreplace").decode())
            if given.keep is not None:
                folder = given.keep / f"{given.what}-{given.seed}-{result.number}"
                folder.mkdir(parents=True, exist_ok=True)
                cases.save(result.number, folder)

    results = run_apart(cases, numbers, Limits(given.hang_s, given.peak_mib), given.jobs, hear)
    print(summary(results))
    seconds = time.monotonic() - start
    print(f"{len(results)} {given.what} of seed {given.seed} in {seconds:.0f} s: {len(faults)} faults")
    if faults:
        again = " ".join(str(result.number) for result in faults[:10])
        kinds = "".join(f" --kind {shlex.quote(kind)}" for kind in given.kind)
        print(f"again: python tools/fuzz.py {given.what} --seed {given.seed}{kinds} --keep FOLDER --only {again}")
    return bool(faults)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("images", "folders", "artefacts"))
    parser.add_argument("--count", type=int, default=1000, help="number of cases")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=int, default=0, help="number of the first case")
    parser.add_argument("--only", type=int, nargs="+", help="numbers of cases to run again")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes")
    parser.add_argument("--kind", action="append", default=[], help="artefacts: only this kind; repeatable")
    parser.add_argument("--no-huge", action="store_true", help="images: leave out those of very many pixels")
    parser.add_argument("--keep", type=Path, help="write the files of faults into this folder")
    parser.add_argument("--hang-s", type=float, default=20.0, help="seconds that a case may take")
    parser.add_argument("--peak-mib", type=float, default=330.0, help="memory that a case may take")
    return parser.parse_args()


def summary(results: Sequence[Result]) -> str:
    """A table with one line per kind."""
    by_kind: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        by_kind[result.kind].append(result)
    lines = [f"{'kind':<18}{'cases':>7}{'sound':>7}{'refused':>9}{'faults':>8}{'slowest':>10}{'(case)':>8}{'peak':>10}"]
    lines += [_line(kind, by_kind[kind]) for kind in sorted(by_kind)]
    return "\n".join([*lines, _line("all", results)])


def _line(kind: str, results: Sequence[Result]) -> str:
    counts = [sum(result.outcome == outcome for result in results) for outcome in (SOUND, REFUSED, FAULT)]
    slowest = max(results, key=lambda result: result.seconds)
    peak = max((result.peak_mib for result in results), default=0.0)
    numbers = f"{len(results):>7}{counts[0]:>7}{counts[1]:>9}{counts[2]:>8}"
    return f"{kind:<18}{numbers}{slowest.seconds:>8.2f} s{slowest.number:>8}{peak:>6.0f} MiB"


if __name__ == "__main__":
    sys.exit(main())
