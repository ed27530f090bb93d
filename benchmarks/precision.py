"""Measure the error of each precision in descriptors and rankings, and which parts of the network need float32.

Prints three tables, measured on the test split of a dataset. The reference is the trained network in PyTorch float32,
with image and mirrored image in two passes.

- ``islands``: the inference branch with every operation's result rounded to float16, except in the parts that a row
  names. A CPU computes float16 files in float32, so their results would look too good.
- ``bfloat16``: the ONNX model cut into parts on OpenVINO, some in bfloat16. Needs a CPU that supports bfloat16.
- ``engines``: the files that export and calibration write, on every runtime of this machine.

Run: python benchmarks/precision.py runs/demo/best.safetensors --data demo
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import numpy as np
import onnx
import onnx.utils
import torch
from numpy.typing import NDArray

from common import watched
from emulation import Half
from rrid_calib.calibrate import calibrate
from rrid_calib.settings import CalibrationSettings
from rrid_edge.crops.images import read_image
from rrid_edge.engines import open_engine
from rrid_edge.engines.base import Engine
from rrid_edge.engines.openvino.engine import openvino_core
from rrid_edge.parity.agreement import Agreement, compare
from rrid_edge.ranking.metrics import RankingMetrics, evaluate_ranking
from rrid_export.branch import InferenceBranch
from rrid_export.onnx import export_onnx
from rrid_export.source import SourceNetwork, load_source
from rrid_export.torch_engine import TorchEngine
from rrid_train.data.layout import Dataset, load_dataset
from rrid_train.data.samples import labels_of

Pixels = NDArray[np.uint8]
Descriptors = NDArray[np.float32]


ISLANDS: dict[str, dict[str, float]] = {
    "none: all float16": {"scaling": False, "norm": False},
    "scaling": {"norm": False},
    "norm": {"scaling": False},
    "scaling, norm (kept)": {},
    "scaling, norm, first convolution": {"stem": True},
    "scaling, norm, head": {"head": True},
    "scaling; features 16 times larger": {"norm": False, "gain": 16.0},
    "scaling, norm; features 16 times larger": {"gain": 16.0},
}


class Measure:
    """Compares descriptors of a test split with the reference."""

    def __init__(self, dataset: Dataset, height_px: int, width_px: int, blocks: tuple[str, ...]) -> None:
        self.dataset, self.blocks = dataset, blocks
        samples = [*dataset.query, *dataset.gallery]
        self.pixels: Pixels = np.stack([read_image(sample.path, height_px, width_px) for sample in samples])

    def ranking(self, descriptors: Descriptors) -> RankingMetrics:
        """Return the accuracy of queries against the gallery."""
        queries = len(self.dataset.query)
        query, gallery = descriptors[:queries].astype(np.float64), descriptors[queries:].astype(np.float64)
        labels = labels_of(self.dataset.query), labels_of(self.dataset.gallery)
        return evaluate_ranking(2 - 2 * query @ gallery.T, *labels)

    def row(self, name: str, reference: Descriptors, found: Descriptors, share: float | None = None) -> list[str]:
        """Return one line of a table. ``share`` is the file's size as a share of the float32 file."""
        size = "" if share is None else f"{share:.1%}"
        if not np.isfinite(found).all():
            return [name, "not finite", "", "", "", "", "", size]
        agreement: Agreement = compare(reference, found, self.blocks)
        before, after = self.ranking(reference), self.ranking(found)
        return [
            name,
            f"{1 - agreement.min_cosine:.1e}",
            f"{1 - agreement.mean_cosine:.1e}",
            f"{agreement.top1_agreement:.2%}",
            "yes" if agreement.top10_identical else f"{agreement.top10_agreement:.2%}",
            f"{100 * (after.mean_ap - before.mean_ap):+.3f}",
            f"{100 * (after.cmc[1] - before.cmc[1]):+.3f}",
            size,
        ]


HEAD = [
    "",
    "1 - min cosine",
    "1 - mean cosine",
    "top-1",
    "same top ten",
    "mAP change",
    "rank-1 change",
    "file",
]


def islands(source: SourceNetwork, measure: Measure, reference: Descriptors) -> Iterable[list[str]]:
    """Yield one row per choice of parts in float32."""
    for name, options in ISLANDS.items():
        branch = Half(source.model, **options).eval()  # type: ignore[arg-type]
        yield measure.row(name, reference, _by_branch(branch, measure.pixels))


class Parts:
    """The exported model on OpenVINO, cut after every stage of the backbone.

    Args:
        model: the ONNX file of a ResNet-18 or ResNet-50 network.
    """

    NAMES = ("stem and stage 1", "stage 2", "stage 3", "stage 4 and pooling", "head")

    def __init__(self, model: Path) -> None:
        graph = onnx.shape_inference.infer_shapes(onnx.load(str(model)))
        weights = {item.name for item in graph.graph.initializer}
        sums = {node.output[0] for node in graph.graph.node if node.op_type == "Add" and not weights & set(node.input)}
        blocks = [node.output[0] for node in graph.graph.node if node.op_type == "Relu" and node.input[0] in sums]
        counts = {8: (2, 2, 2), 16: (3, 4, 6)}[len(blocks)]
        pooled = [node.output[0] for node in graph.graph.node if node.op_type == "MaxPool"][-1]
        cuts = ["images", *(blocks[index - 1] for index in np.cumsum(counts)), pooled, "descriptors"]
        extractor = onnx.utils.Extractor(graph)
        self._parts = [
            extractor.extract_model([start], [end]).SerializeToString() for start, end in itertools.pairwise(cuts)
        ]

    def run(self, pixels: Pixels, narrow: Collection[str], batch: int = 16) -> Descriptors:
        """Return descriptors (N, D), with the parts named in ``narrow`` in bfloat16 and the others in float32."""
        core = openvino_core()
        requests = [
            core.compile_model(part, "CPU", {"INFERENCE_PRECISION_HINT": "bf16" if name in narrow else "f32"})
            for name, part in zip(self.NAMES, map(core.read_model, self._parts), strict=True)
        ]
        found = []
        for start in range(0, len(pixels), batch):
            values = pixels[start : start + batch]
            for request in requests:
                values = request(values)[0]
            found.append(values)
        return np.concatenate(found)


def bfloat16(source: SourceNetwork, measure: Measure, reference: Descriptors, folder: Path) -> Iterable[list[str]]:
    """Yield one row per part in bfloat16, then rows of several parts in bfloat16."""
    path = folder / "parts.onnx"
    export_onnx(InferenceBranch(source.model).eval(), source.spec(flip=True), path)
    parts, everything = Parts(path), set(Parts.NAMES)
    for name in Parts.NAMES:
        yield measure.row(f"bfloat16: {name}", reference, parts.run(measure.pixels, {name}))
    yield measure.row("bfloat16: everything", reference, parts.run(measure.pixels, everything))
    yield measure.row("all but the head (kept)", reference, parts.run(measure.pixels, everything - {"head"}))
    narrow = everything - {"head", "stem and stage 1"}
    yield measure.row("all but head, stem and stage 1", reference, parts.run(measure.pixels, narrow))


def engines(
    source: SourceNetwork, measure: Measure, reference: Descriptors, data: Path, folder: Path
) -> Iterable[list[str]]:
    """Yield one row per file and runtime."""
    spec = source.spec(flip=True)
    full, half = folder / "rrid.onnx", folder / "rrid.fp16.onnx"
    export_onnx(InferenceBranch(source.model).eval(), spec, full)
    export_onnx(InferenceBranch(source.model).eval().to_half(), spec.with_precision("fp16"), half)
    calibrated = calibrate(full, data, CalibrationSettings(), reference=TorchEngine(source), say=print)
    int8, cpu = calibrated.portable.model, calibrated.cpu.model
    ways: dict[str, tuple[Path, Callable[[Path], Engine]]] = {
        "fp32, ONNX Runtime": (full, lambda path: open_engine(path, "onnxruntime")),
        "fp32, OpenVINO": (full, lambda path: open_engine(path, "openvino", precision="fp32")),
        "bf16, OpenVINO": (full, lambda path: open_engine(path, "openvino", precision="bf16")),
        "fp16, ONNX Runtime (computes in float32)": (half, lambda path: open_engine(path, "onnxruntime")),
        "int8, ONNX Runtime": (int8, lambda path: open_engine(path, "onnxruntime")),
        "int8, OpenVINO": (int8, lambda path: open_engine(path, "openvino")),
        "int8 for CPUs, ONNX Runtime": (cpu, lambda path: open_engine(path, "onnxruntime")),
        "int8 for CPUs, OpenVINO": (cpu, lambda path: open_engine(path, "openvino")),
        "int8 for CPUs, the rest in bf16": (cpu, lambda path: open_engine(path, "openvino", precision="bf16")),
    }
    for name, (path, opened) in ways.items():
        with opened(path) as engine:
            share = path.stat().st_size / full.stat().st_size
            yield measure.row(name, reference, engine.run(measure.pixels), share)


def _by_branch(branch: InferenceBranch, pixels: Pixels, batch: int = 16) -> Descriptors:
    with torch.inference_mode():
        parts = [branch(torch.from_numpy(pixels[start : start + batch])) for start in range(0, len(pixels), batch)]
    descriptors: Descriptors = torch.cat(parts).numpy()
    return descriptors


def _print(title: str, rows: Iterable[list[str]]) -> None:
    lines = [[title, *HEAD[1:]], ["---"] * len(HEAD), *rows]
    print("\n".join(f"| {' | '.join(line)} |" for line in lines), end="\n\n", flush=True)


def main() -> None:
    """Measure and print the tables as Markdown. Changes of mAP and rank-1 are in percentage points."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, default=Path("demo"), help="dataset with a test split (default: demo)")
    tables = ("islands", "bfloat16", "engines")
    parser.add_argument("--table", choices=tables, action="append", help="table to print, repeatable (default: all)")
    arguments = parser.parse_args()
    source = load_source(arguments.checkpoint)
    dataset = load_dataset(arguments.data)
    spec = source.spec(flip=True)
    measure = Measure(dataset, spec.height_px, spec.width_px, spec.blocks)
    with TorchEngine(source) as engine:
        reference = engine.run(measure.pixels)
    before = measure.ranking(reference)
    print(f"{source.describe()}; {len(measure.pixels)} crops, mAP {before.mean_ap:.4f}, rank-1 {before.cmc[1]:.4f}\n")
    wanted = arguments.table or tables
    with tempfile.TemporaryDirectory() as folder:
        if "islands" in wanted:
            _print("parts in float32", islands(source, measure, reference))
        if "bfloat16" in wanted and "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            _print("OpenVINO", bfloat16(source, measure, reference, Path(folder)))
        if "engines" in wanted:
            _print("engine", engines(source, measure, reference, arguments.data, Path(folder)))


if __name__ == "__main__":
    watched(main)
