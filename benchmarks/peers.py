"""Compare the package with its peers in one run: the same JPEG crops to descriptors on disk.

Each peer runs in a process of its own. The table shows the whole process, the work after loading, peak memory, the
process for a single crop (cold start), and the rate in 10^9 operations per second. The networks differ, so only that
rate compares them; a multiply-add is two operations. `lean` is a script of twenty lines on OpenVINO, on the same file.
timm, torchreid and boxmot (with its extra [openvino]) run where their environments are given. Their weights are random:
speed does not depend on them.

Run: python benchmarks/peers.py MODEL.onnx [--crops 240] [--env timm=VENV] [--env torchreid=VENV] [--env boxmot=VENV]
     [--batch 8] [--threads 0] [--repetitions 3]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from common import jpeg_pictures, table_row, watched, write_crops
from rrid_edge.machine.processor import core_count, processor_name
from rrid_edge.model.operations import work_of

WORK = Path(__file__).with_name("peer_work.py")
OWN = ("lean", "package")
OTHERS = ("timm", "torchreid", "boxmot")


@dataclass(frozen=True)
class Settings:
    """What every peer gets."""

    model: Path
    batch: int
    threads: int


@dataclass(frozen=True)
class Run:
    """One process of a peer.

    Attributes:
        what: network, size and runtime.
        operations: per crop, in 10^9.
        process_s: from start to end of the process.
        work_s: of it after loading.
        peak_mib: largest resident memory.
    """

    what: str
    operations: float
    process_s: float
    work_s: float
    peak_mib: float


def interpreter(place: Path) -> Path:
    """The Python of an environment, which is given as its folder or as the program itself."""
    return place / "bin" / "python" if place.is_dir() else place


def run(peer: str, python: Path, crops: Path, settings: Settings, folder: Path) -> Run:
    """Run one process of a peer.

    Raises:
        RuntimeError: it failed; the message is its last line.
    """
    output = folder / f"{peer}-{time.monotonic_ns()}.npy"
    arguments = (peer, crops, output, settings.model, settings.batch, settings.threads)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    done = subprocess.run(  # noqa: S603 - the user's own environments
        [str(python), str(WORK), *map(str, arguments)], capture_output=True, text=True, env=environment, check=False
    )
    process_s = time.perf_counter() - start
    if done.returncode != 0:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
    told = json.loads(done.stdout.splitlines()[-1])
    operations = told["operations"] or work_of(settings.model).operations / 1e9
    return Run(told["what"], operations, process_s, told["work_s"], told["peak_mib"])


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--crops", type=int, default=240)
    parser.add_argument("--env", action="append", default=[], metavar="PEER=VENV", help=f"of {', '.join(OTHERS)}")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    given = dict(item.partition("=")[::2] for item in options.env)
    if unknown := set(given) - set(OTHERS):
        parser.error(f"unknown peer {', '.join(sorted(unknown))}; expected {', '.join(OTHERS)}")
    pythons = {name: Path(sys.executable) for name in OWN} | {name: interpreter(Path(given[name])) for name in given}
    settings = Settings(options.model.absolute(), options.batch, options.threads)
    for name in OTHERS:
        if name not in given:
            print(f"skipped {name}: no environment; give one with --env {name}=VENV")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        whole = write_crops(folder / "crops", options.crops, jpeg_pictures(min(200, options.crops)))[0].parent
        single = write_crops(folder / "one", 1, jpeg_pictures(1))[0].parent
        found: dict[str, list[tuple[Run, Run]]] = {name: [] for name in pythons}
        for number in range(options.repetitions + 1):  # the first round fills the caches of files and models
            for name, python in list(pythons.items()):
                try:
                    pair = run(name, python, whole, settings, folder), run(name, python, single, settings, folder)
                except (OSError, RuntimeError) as error:
                    print(f"skipped {name}: {error}")
                    del pythons[name], found[name]
                else:
                    found[name] += [pair] if number else []
    print(
        f"{processor_name()}, {core_count()}, {options.crops} crops, {options.repetitions} processes of each, medians"
    )
    report(found, options.crops)
    return 0


def report(found: dict[str, list[tuple[Run, Run]]], crops: int) -> None:
    """Print one row per peer. Ratios are to the lean script."""
    print(table_row(("peer", "process s", "work s", "crops/s", "Gop/crop", "Gop/s", "of lean", "MiB", "one crop s")))
    print(table_row(["---"] * 9))
    rates = {}
    for name, pairs in found.items():
        whole, cold = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        work_s = statistics.median(run.work_s for run in whole)
        rates[name] = crops * whole[0].operations / work_s
        process_s = statistics.median(run.process_s for run in whole)
        peak_mib = statistics.median(run.peak_mib for run in whole)
        ratio = f"{rates[name] / rates['lean']:.2f}" if "lean" in rates else ""
        cells = (name, f"{process_s:.2f}", f"{work_s:.2f}", f"{crops / work_s:.1f}", f"{whole[0].operations:.1f}")
        cold_s = statistics.median(run.process_s for run in cold)
        print(table_row((*cells, f"{rates[name]:.0f}", ratio, f"{peak_mib:.0f}", f"{cold_s:.2f}")))
    for name, pairs in found.items():
        print(f"{name}: {pairs[0][0].what}")


if __name__ == "__main__":
    watched(main)
