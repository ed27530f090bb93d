"""Measure `match` in a cold process on an indexed gallery, stage by stage, beside a lean script on OpenVINO.

It is also compared with loading the engine alone. The gallery holds real files: small JPEG crops, each in its own file.
Its descriptors are drawn, because computing them takes an hour. They are distributed like a trained network's: persons
in 64 dimensions, residuals of length 0.14. One person is the query's.

Run: python benchmarks/startup.py MODEL.onnx [--rows 20000] [--repetitions 7] [--folder DIR]
`--folder` keeps the gallery for the next run. Without it, a temporary folder is used.
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
from dataclasses import replace
from pathlib import Path

import numpy as np

from common import DrawnPersons, independent, jpeg_pictures, watched, write_crops
from rrid_edge.crops.images import read_image
from rrid_edge.crops.naming import name_reader
from rrid_edge.engines import open_engine
from rrid_edge.files import sha256_of_file
from rrid_edge.gallery.base import NewRow
from rrid_edge.gallery.indexing.queried import FolderState, folder_state
from rrid_edge.gallery.local.store import LocalGallery
from rrid_edge.gallery.opening import location_of
from rrid_edge.machine.processor import core_count, processor_name
from rrid_edge.model.onnx_header import read_spec

_PERSONS = 1500

ENGINE_ALONE = """
import json, sys, time
start = time.perf_counter()
import numpy as np
from rrid_edge.crops.naming import name_reader
from rrid_edge.engines import open_engine
from rrid_edge.files import sha256_of_file
with open_engine(sys.argv[1]) as engine:
    opened = time.perf_counter()
    engine.run(np.zeros((1, engine.spec.height_px, engine.spec.width_px, 3), np.uint8))
    print(json.dumps({"open": opened - start, "first image": time.perf_counter() - opened}))
"""

LEAN = """
import sys
import numpy as np
import openvino
from PIL import Image
model, query, descriptors, names, cache = sys.argv[1:]
core = openvino.Core()
core.set_property({"CACHE_DIR": cache})
compiled = core.compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
height, width = (compiled.input(0).partial_shape[axis].get_length() for axis in (1, 2))
image = Image.open(query).convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
scores = np.load(descriptors, mmap_mode="r") @ compiled(np.asarray(image)[None])[0][0]
best = np.argsort(-scores)[:10]
paths = open(names).read().split("\\n")
for rank, row in enumerate(best, 1):
    print(rank, f"{scores[row]:.3f}", paths[row])
"""
"""The leanest script that answers a query: no check, no gallery, float32 descriptors in one array."""

STAGED = """
import importlib, io, contextlib, json, sys, threading, time
start, printed = time.perf_counter(), sys.stdout
sys.argv[:1] = ["rrid-edge", "match"]
from rrid_edge.cli import main
from rrid_edge.cli.startup import quick_start
quick = quick_start("match")
quick.__enter__()
import rrid_edge.cli.app
stages = {"imports of the command line": time.perf_counter() - start}
threads = threading.local()
def watch(module, name, stage):
    owner = importlib.import_module(module)
    *path, name = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    real = getattr(owner, name)
    def timed(*args, **kwargs):
        begin = time.perf_counter()
        nested = threads.__dict__.setdefault("nested", [])
        nested.append(0.0)
        try:
            return real(*args, **kwargs)
        finally:
            taken = time.perf_counter() - begin
            inside = nested.pop()
            if nested:
                nested[-1] += taken
            stages[stage] = stages.get(stage, 0.0) + taken - inside
    setattr(owner, name, timed)
begin = time.perf_counter()
watch("rrid_edge.cli.match", "open_model", "opening the engine")
watch("rrid_edge.embedding.queries", "embed_queries", "decoding and embedding the query")
watch("rrid_edge.cli.match", "print_answer", "printing")
watch("rrid_edge.gallery.indexing.queried", "folder_state", "comparing folder and index, meanwhile")
watch("rrid_edge.matching", "match_all", "searching")
watch("rrid_edge.gallery.local.store", "LocalGallery.__init__", "opening the gallery")
stages["imports of the stages"] = time.perf_counter() - begin
begin = time.perf_counter()
nested = threads.nested = [0.0]
try:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        main()
except SystemExit as leave:
    code = leave.code
stages["the rest"] = time.perf_counter() - begin - nested.pop()
assert code == 0, code
print(json.dumps(stages), file=printed)
"""


def build(folder: Path, model: Path, query: Path, rows: int) -> None:
    """Write ``rows`` small files and their gallery, unless ``folder`` already holds them."""
    location, spec = Path(str(location_of(folder))), read_spec(model)
    if location.is_dir():
        with LocalGallery(location, spec=spec) as gallery:
            if gallery.info().rows == rows and folder_state(folder, gallery) == FolderState():
                return
        raise SystemExit(f"{folder}: holds another gallery; expected {rows} rows of this script; name another --folder")
    new = [row_of(path, number) for number, path in enumerate(write_crops(folder, rows, jpeg_pictures(rows, 16, 32)))]
    with open_engine(model) as engine:
        own = engine.run(read_image(query, spec.height_px, spec.width_px)[None])
    drawn = DrawnPersons.draw(_PERSONS, spec.dimension, spread=0.14, rank=64)
    persons = replace(drawn, centres=np.concatenate([own, drawn.centres[1:]]))
    values = persons.descriptors(np.arange(rows) % _PERSONS, 0)
    with LocalGallery.create(location, spec) as gallery:
        for start in range(0, rows, 1000):
            gallery.add(new[start : start + 1000], values[start : start + 1000])
        gallery.finish()


def row_of(path: Path, number: int) -> NewRow:
    """Return the row of a crop that lies directly in the indexed folder."""
    facts, named = path.stat(), name_reader()(path.name)
    file = (path.name, sha256_of_file(path), facts.st_size, facts.st_mtime_ns)
    return NewRow(*file, named.camera, named.person, frame=number)


def child(code: str, *arguments: object) -> dict[str, float]:
    """Run ``code`` in a fresh Python process. Return the JSON that it printed, and its seconds from start to end."""
    printed, seconds = process("-c", code, *arguments)
    return {**json.loads(printed.splitlines()[-1]), "whole process": seconds}


def process(*arguments: object) -> tuple[str, float]:
    """Run a fresh Python process. Return what it printed, and its seconds from start to end."""
    start = time.perf_counter()
    # As in an installed package: where no bytecode is written, compiling the sources takes a fifth of the time.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(  # noqa: S603 - the same interpreter
        [sys.executable, *map(str, arguments)], check=True, capture_output=True, text=True, env=environment
    )
    return done.stdout, time.perf_counter() - start


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary) / "gallery"
        query = Path(temporary) / "query.jpg"
        query.write_bytes(jpeg_pictures(1, 16, 32, seed=1)[0])
        build(folder, options.model, query, options.rows)
        descriptors, names = Path(temporary) / "descriptors.npy", Path(temporary) / "names.txt"
        np.save(descriptors, independent(options.rows, read_spec(options.model).dimension, 0))
        names.write_text("\n".join(f"{row:06d}.jpg" for row in range(options.rows)))
        script = (options.model, query, descriptors, names, Path(temporary) / "openvino")
        alone, staged, plain, lean = [], [], [], []
        arguments = (query, folder, "--model", options.model)
        for _ in range(options.repetitions + 1):  # the first round fills the caches of files and models
            lean.append(process("-c", LEAN, *script)[1])
            alone.append(child(ENGINE_ALONE, options.model))
            plain.append(process("-m", "rrid_edge.cli", "match", *arguments)[1])
            staged.append(child(STAGED, *arguments))
    print(f"{processor_name()}, {core_count()}, {options.rows:,} rows, {options.repetitions} processes of each")
    pairs = [(process("-c", "pass")[1], process("-c", "import rrid_edge")[1]) for _ in range(options.repetitions)]
    import_ms = statistics.median(own - empty for empty, own in pairs) * 1000
    print(f"\nimport rrid_edge: {import_ms:.0f} ms beyond an empty Python")
    report(alone[1:], staged[1:], plain[1:])
    ratios = [own / other for own, other in zip(plain[1:], lean[1:], strict=True)]
    lean_ms, middle = statistics.median(lean[1:]) * 1000, statistics.median(ratios)
    print(f"lean script {lean_ms:.0f} ms, match {middle:.2f} times that ({min(ratios):.2f} to {max(ratios):.2f})")


def report(alone: list[dict[str, float]], staged: list[dict[str, float]], plain: list[float]) -> None:
    """Print the stages of both, and the ratio of ``match`` to the engine alone. The arguments are in seconds."""
    for title, runs in (("engine alone", alone), ("match, watched", staged)):
        print(f"\n{title}")
        for stage in runs[0]:
            values = sorted(run[stage] * 1000 for run in runs)
            print(f"  {stage:<34}{statistics.median(values):>8.0f} ms   {values[0]:.0f} to {values[-1]:.0f}")
    ratios = [two / one["whole process"] for one, two in zip(alone, plain, strict=True)]
    whole_ms = statistics.median(plain) * 1000
    print(f"\nmatch {whole_ms:.0f} ms, {statistics.median(ratios):.2f} times that of the engine alone", end="")
    print(f" ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    watched(main)
