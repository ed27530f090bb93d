"""What `match` costs in a cold process on an indexed gallery, stage by stage, beside loading the engine alone.

The gallery is of real files (small JPEG crops, each its own file). Its descriptors are drawn, without an hour of computing,
to lie as a trained network's do: identities in 64 dimensions, one of them the query's, with residuals of length 0.14.

Run: python benchmarks/startup.py MODEL.onnx [--rows 20000] [--repetitions 7] [--folder DIR]
The folder keeps the gallery for the next run; without it a temporary one is used.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rrid_edge.crops.images import read_image
from rrid_edge.engines import open_engine
from rrid_edge.gallery.base import NewRow
from rrid_edge.gallery.indexing.sync import out_of_step
from rrid_edge.gallery.local.store import LocalGallery
from rrid_edge.gallery.opening import location_of
from rrid_edge.machine.processor import core_count, processor_name
from rrid_edge.model.onnx_header import read_spec

ENGINE_ALONE = """
import json, sys, time
start = time.perf_counter()
import numpy as np
from rrid_edge.engines import open_engine
with open_engine(sys.argv[1]) as engine:
    opened = time.perf_counter()
    engine.run(np.zeros((1, engine.spec.height_px, engine.spec.width_px, 3), np.uint8))
    print(json.dumps({"open": opened - start, "first image": time.perf_counter() - opened}))
"""

STAGED = """
import importlib, io, contextlib, json, sys, threading, time
start = time.perf_counter()
from rrid_edge.cli.app import main
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
watch("rrid_edge.cli.match", "_print_result", "printing")
watch("rrid_edge.gallery.indexing.sync", "out_of_step", "comparing folder and index, meanwhile")
watch("rrid_edge.matching", "match_all", "searching")
watch("rrid_edge.gallery.local.store", "LocalGallery.__init__", "opening the gallery")
stages["imports of the stages"] = time.perf_counter() - begin
begin = time.perf_counter()
nested = threads.nested = [0.0]
sys.argv[:1] = ["rrid-edge", "match"]
try:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        main()
except SystemExit as leave:
    code = leave.code
stages["the rest"] = time.perf_counter() - begin - nested.pop()
assert code == 0, code
print(json.dumps(stages))
"""


def build(folder: Path, model: Path, query: Path, rows: int) -> None:
    """A gallery of ``rows`` small files with its index, unless it is there already."""
    location, spec = location_of(folder), read_spec(model)
    if location.is_dir():
        with LocalGallery(location, spec=spec) as gallery:
            if gallery.info().rows == rows and not out_of_step(folder, gallery):
                return
        raise SystemExit(f"{folder}: another gallery is there; name another --folder")
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    new = [write_crop(folder, index, generator) for index in range(rows)]
    with open_engine(model) as engine:
        own = engine.run(read_image(query, spec.height_px, spec.width_px)[None])[0]
    values = drawn_descriptors(own, rows, generator)
    with LocalGallery.create(location, spec) as gallery:
        for start in range(0, rows, 1000):
            gallery.add(new[start : start + 1000], values[start : start + 1000])
        gallery.refresh_projection()


def drawn_descriptors(own: NDArray[np.float32], rows: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """Descriptors (rows, D) of unit length of 1,500 people, the first of whom is the one of ``own`` (D,)."""
    basis = generator.standard_normal((64, len(own))).astype(np.float32)
    people = generator.standard_normal((1500, 64)).astype(np.float32) @ basis
    people /= np.linalg.norm(people, axis=1, keepdims=True)
    people[0] = own
    noise = generator.standard_normal((rows, len(own))).astype(np.float32) * np.float32(0.14 / np.sqrt(len(own)))
    values = people[np.arange(rows) % 1500] + noise
    unit: NDArray[np.float32] = values / np.linalg.norm(values, axis=1, keepdims=True)
    return unit


def write_crop(folder: Path, index: int, generator: np.random.Generator) -> NewRow:
    """One crop of noise, 16 x 32 pixels, under a name of Market-1501's kind."""
    name = f"{index % 1500 + 1:04d}_c{index % 6 + 1}s1_{index:06d}_00.jpg"
    stream = io.BytesIO()
    Image.fromarray(generator.integers(0, 256, (32, 16, 3), dtype=np.uint8)).save(stream, "JPEG", quality=80)
    path = folder / name
    path.write_bytes(stream.getvalue())
    facts = path.stat()
    digest = hashlib.sha256(stream.getvalue()).hexdigest()
    return NewRow(name, digest, facts.st_size, facts.st_mtime_ns, index % 6 + 1, f"{index % 1500 + 1:04d}", index)


def child(code: str, *arguments: object) -> dict[str, float]:
    """What a fresh Python process that runs ``code`` printed as JSON, and the seconds from its start to its end."""
    printed, seconds = process("-c", code, *arguments)
    return {**json.loads(printed.splitlines()[-1]), "whole process": seconds}


def process(*arguments: object) -> tuple[str, float]:
    """What a fresh Python process prints, and the seconds from its start to its end."""
    start = time.perf_counter()
    done = subprocess.run(  # noqa: S603 - this very interpreter
        [sys.executable, *map(str, arguments)], check=True, capture_output=True, text=True
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
        write_crop(Path(temporary), 0, np.random.default_rng(1))
        next(Path(temporary).glob("0001_*.jpg")).rename(query)
        build(folder, options.model, query, options.rows)
        alone, staged, plain = [], [], []
        arguments = (query, folder, "--model", options.model)
        for _ in range(options.repetitions + 1):  # the first round fills the caches of files and models
            alone.append(child(ENGINE_ALONE, options.model))
            plain.append(process("-m", "rrid_edge.cli", "match", *arguments)[1])
            staged.append(child(STAGED, *arguments))
    alone, staged, plain = alone[1:], staged[1:], plain[1:]
    print(f"{processor_name()}, {core_count()}, {options.rows:,} rows, {options.repetitions} processes of each")
    for title, runs in (("engine alone", alone), ("match, watched", staged)):
        print(f"\n{title}")
        for stage in runs[0]:
            values = sorted(run[stage] * 1000 for run in runs)
            print(f"  {stage:<34}{statistics.median(values):>8.0f} ms   {values[0]:.0f} to {values[-1]:.0f}")
    ratios = [two / one["whole process"] for one, two in zip(alone, plain, strict=True)]
    whole_ms = statistics.median(plain) * 1000
    print(f"\nmatch {whole_ms:.0f} ms; of the engine alone: {statistics.median(ratios):.2f}", end="")
    print(f" ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
