"""Show that the verdict of a parity check does not depend on the sample: engines x sample sizes x seeds.

Samples of whole people are drawn from a test split, and each verdict is counted. Healthy engines must pass and damaged
ones must fail in every sample. float16 and bfloat16 are emulated by rounding every result, because not every CPU
computes in them. A damage of a bfloat16 or int8 engine is its damage in float32 added to the engine's own error.

Descriptors take minutes; ``--cache FOLDER`` keeps them for the next run.

Run: python benchmarks/verdicts.py runs/demo/best.safetensors --data demo-large --int8 demo-large/models/rrid.int8.onnx
"""

from __future__ import annotations

import argparse
import collections
import tempfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from common import watched
from emulation import Brain, Half
from rrid_edge.crops.images import load_rgb, read_image
from rrid_edge.engines import FakeEngine, open_engine
from rrid_edge.engines.onnxruntime.cpu import MemorySession
from rrid_edge.model.spec import ModelSpec
from rrid_edge.parity.agreement import compare
from rrid_edge.parity.check import check_parity
from rrid_edge.parity.goldens import Goldens
from rrid_edge.parity.layers import MORE_IMAGES, LayerScale, estimate_scales, judge_layers, scale_errors
from rrid_edge.parity.verdict import TOLERANCES, Outcome, judge_cosines
from rrid_edge.parity.wrong_resizes import WRONG_RESIZES
from rrid_edge.ranking.labels import Labels
from rrid_edge.ranking.sampling import sample_people
from rrid_export.branch import InferenceBranch
from rrid_export.layer_scales import layer_directions
from rrid_export.onnx import export_onnx
from rrid_export.source import SourceNetwork, load_source
from rrid_export.torch_engine import TorchEngine
from rrid_train.data.layout import load_dataset
from rrid_train.data.samples import labels_of

Pixels = NDArray[np.uint8]
Descriptors = NDArray[np.float32]
Run = Callable[[Pixels], Descriptors]

SIZES = (200, 500, 1000, 2000)
SCALE = 1.02
LAYER_ROWS = 96
"""Crops whose layer directions are computed; each sample checks the layers on some of them."""


@dataclass(frozen=True)
class Candidate:
    """An engine to judge: its arithmetic, its descriptors (N, D), and whether it is damaged."""

    arithmetic: str
    descriptors: Descriptors
    damaged: bool = False


@dataclass(frozen=True)
class Truth:
    """What engines are judged with: labels and reference of N crops, and directions of layers on some rows."""

    spec: ModelSpec
    labels: Labels
    reference: Descriptors
    layer_rows: NDArray[np.int64]
    layers: tuple[str, ...]
    directions: NDArray[np.float32]


class Cache:
    """Descriptors by name, kept in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, name: str, make: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return the array of this name; make it if it is not kept."""
        path = self._folder / f"{name.replace(' ', '_')}.npy"
        if not path.exists():
            print(f"computing {name}", flush=True)
            np.save(path, make())
        values: NDArray[np.float32] = np.load(path)
        return values


def healthy(source: SourceNetwork, graph: Path, int8: Path | None) -> Iterator[tuple[str, str, Run]]:
    """Yield name, arithmetic and function of each healthy engine."""
    yield "fp32, ONNX Runtime", "fp32", open_engine(graph, "onnxruntime").run
    yield "fp16, emulated", "fp16", by_branch(Half(source.model))
    yield "bf16 but the head, emulated", "bf16", by_branch(Brain(source.model, head=True))
    yield "bf16, emulated", "bf16", by_branch(Brain(source.model))
    if int8 is not None:
        yield "int8, OpenVINO", "int8", open_engine(int8, "openvino").run
        yield "int8, ONNX Runtime", "int8", open_engine(int8, "onnxruntime").run


def damages(graph: Path, without_mirror: Path, nearest: Pixels) -> Iterator[tuple[str, Run]]:
    """Yield name and function of each damage of the float32 network."""
    model = onnx.load(str(graph))
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    layers = [node for node in model.graph.node if node.op_type in ("Conv", "MatMul")]
    weights = [next(name for name in node.input if name in constants) for node in layers]
    last = next(index for index, node in enumerate(layers) if node.op_type == "MatMul")
    for word, index in {"first": 0, "middle": last // 2, "last": last - 1, "head": last}.items():
        yield f"{word} layer x {SCALE}", MemorySession(_scaled(model, constants[weights[index]])).run
    exact = open_engine(graph, "onnxruntime").run
    yield "BGR", lambda pixels: exact(np.ascontiguousarray(pixels[..., ::-1]))
    yield "no mirror", open_engine(without_mirror, "onnxruntime").run
    yield "nearest resize", lambda _pixels: exact(nearest)


def _scaled(model: onnx.ModelProto, tensor: onnx.TensorProto) -> bytes:
    """Serialise the model with one tensor scaled, in stacked matrices only the first one."""
    values = numpy_helper.to_array(tensor).copy()
    part = values[:1] if values.ndim == 3 else values
    part *= np.float32(SCALE)
    kept = onnx.TensorProto()
    kept.CopyFrom(tensor)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    content: bytes = model.SerializeToString()
    tensor.CopyFrom(kept)
    return content


def by_branch(branch: InferenceBranch, batch: int = 16) -> Run:
    """Return a function that runs a PyTorch branch in batches."""
    branch.eval()

    def run(pixels: Pixels) -> Descriptors:
        with torch.inference_mode():
            parts = [branch(torch.from_numpy(pixels[start : start + batch])) for start in range(0, len(pixels), batch)]
        found: Descriptors = torch.cat(parts).numpy()
        return found

    return run


def verdict(truth: Truth, candidate: Candidate, rows: NDArray[np.int64], seed: int) -> tuple[Outcome, str]:
    """Judge one sample as ``rrid-edge parity`` does; batch invariance is left out."""
    tolerance = TOLERANCES[candidate.arithmetic]
    reference, found = truth.reference[rows], candidate.descriptors[rows]
    if not tolerance.exact:
        layers = judge_layers(_layers(truth, candidate, seed))
        if layers.outcome is Outcome.FAILED:
            return layers.outcome, layers.name
    if candidate.damaged:  # rankings take long, and most damages show in the cosines
        few = slice(0, 64)
        agreement = compare(reference[few], found[few], truth.spec.blocks)
        if judge_cosines(agreement, tolerance).outcome is Outcome.FAILED:
            return Outcome.FAILED, "cosines"
    engine = FakeEngine(truth.spec)
    engine.arithmetic = candidate.arithmetic
    images = np.zeros((len(rows), 1, 1, 3), np.uint8)
    goldens = Goldens(images, reference, ("",) * len(rows), truth.spec.fingerprint, truth.labels[rows])
    report = check_parity(engine, goldens, reference_name="PyTorch", descriptors=found, batches=())
    wrong = next((item.name for item in report.criteria if item.outcome is report.outcome), "")
    return report.outcome, "" if report.passed else wrong


def _layers(truth: Truth, candidate: Candidate, seed: int) -> tuple[LayerScale, ...]:
    chosen = np.random.default_rng([seed, 7]).permutation(len(truth.layer_rows))[:MORE_IMAGES]

    def measured(count: int, only: Collection[str] | None) -> list[LayerScale]:
        places = chosen[:count]
        rows, values = truth.layer_rows[places], truth.directions[:, places]
        scales = scale_errors(truth.layers, values, truth.reference[rows], candidate.descriptors[rows])
        return [scale for scale in scales if only is None or scale.layer in only]

    return estimate_scales(measured, len(chosen))


def print_table(truth: Truth, candidates: dict[str, Candidate], seeds: int, sizes: tuple[int, ...]) -> None:
    """Print one row per engine: verdicts per sample size, and the criteria that decided against it."""
    everything = sample_people(truth.labels, len(truth.labels)).rows
    heads = [*(f"{size:,}" for size in sizes), f"all {len(everything):,}"]
    print(f"| engine | {' | '.join(heads)} | not passed because of |\n|{'---|' * (len(heads) + 2)}")
    for name, candidate in candidates.items():
        reasons: collections.Counter[str] = collections.Counter()
        cells = []
        for size in (*sizes, len(everything)):
            outcomes: collections.Counter[Outcome] = collections.Counter()
            for seed in range(seeds if size < len(everything) else 1):
                rows = sample_people(truth.labels, size, seed=seed).rows
                outcome, reason = verdict(truth, candidate, rows, seed)
                outcomes[outcome] += 1
                reasons[reason] += bool(reason)
            cells.append(", ".join(f"{outcomes[outcome]} {outcome.value}" for outcome in Outcome if outcomes[outcome]))
        told = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common() if count)
        print(f"| {name} | {' | '.join(cells)} | {told} |", flush=True)


def main() -> None:
    """Compute descriptors, and print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="dataset with a test split")
    parser.add_argument("--int8", type=Path, help="int8 file of the checkpoint, by rrid-edge calibrate")
    parser.add_argument("--seeds", type=int, default=50, help="samples per size (default: 50)")
    parser.add_argument("--cache", type=Path, help="folder that keeps the descriptors")
    arguments = parser.parse_args()
    source, dataset = load_source(arguments.checkpoint), load_dataset(arguments.data)
    spec, samples = source.spec(flip=True), [*dataset.query, *dataset.gallery]
    size = spec.height_px, spec.width_px
    pixels = np.stack([read_image(sample.path, *size) for sample in samples])
    nearest = np.stack([WRONG_RESIZES["nearest-resize"](load_rgb(sample.path), *size) for sample in samples])
    with tempfile.TemporaryDirectory() as scratch:
        cache = Cache(arguments.cache or Path(scratch))
        graph, without_mirror = Path(scratch) / "rrid.onnx", Path(scratch) / "single.onnx"
        export_onnx(InferenceBranch(source.model).eval(), spec, graph)
        export_onnx(InferenceBranch(source.model, flip=False).eval(), source.spec(flip=False), without_mirror)
        reference = cache.get("reference", lambda: TorchEngine(source).run(pixels))
        rows = np.random.default_rng(0).permutation(len(samples))[:LAYER_ROWS]
        names, directions = (
            layer_directions(graph, pixels[rows[:1]])[0],
            cache.get("directions", lambda: layer_directions(graph, pixels[rows])[1]),
        )
        truth = Truth(spec, labels_of(samples), reference, rows, names, directions)
        candidates = _candidates(cache, pixels, healthy(source, graph, arguments.int8), truth)
        candidates |= _damaged(cache, pixels, damages(graph, without_mirror, nearest), candidates)
    print_table(truth, candidates, arguments.seeds, SIZES)


def _candidates(
    cache: Cache, pixels: Pixels, engines: Iterator[tuple[str, str, Run]], truth: Truth
) -> dict[str, Candidate]:
    found = {}
    for name, arithmetic, run in engines:
        found[name] = Candidate(arithmetic, cache.get(name, lambda run=run: run(pixels)))  # type: ignore[misc]
        cosines = (found[name].descriptors * truth.reference).sum(axis=1)
        print(f"{name}: 1 - mean cosine {1 - cosines.mean():.1e}", flush=True)
    return found


def _damaged(
    cache: Cache, pixels: Pixels, made: Iterator[tuple[str, Run]], engines: dict[str, Candidate]
) -> dict[str, Candidate]:
    """Each damage in float32, and added to the errors of the last bfloat16 and the last int8 engine."""
    exact = next(engine.descriptors for engine in engines.values() if engine.arithmetic == "fp32")
    narrow = {engine.arithmetic: engine for engine in engines.values() if engine.arithmetic in ("bf16", "int8")}
    found = {}
    for name, run in made:
        damaged = cache.get(name, lambda run=run: run(pixels))  # type: ignore[misc]
        found[f"fp32, {name}"] = Candidate("fp32", damaged, damaged=True)
        for arithmetic, engine in narrow.items():
            values = engine.descriptors + damaged - exact
            values /= np.linalg.norm(values, axis=1, keepdims=True)
            found[f"{arithmetic}, {name}"] = Candidate(arithmetic, values, damaged=True)
    return found


if __name__ == "__main__":
    watched(main)
