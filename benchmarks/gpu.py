"""Compare TensorRT FP16 on an NVIDIA GPU with torch.compile fp16 channels-last, ONNX Runtime CUDA and the hardware.

Measures p50, p99 and images per second per batch size, and the minimum cosine with PyTorch in float32. TensorRT runs
with CUDA graphs on and off. Two ceilings are measured too: a large fp16 matrix product, and copies from pinned memory.
The table gives each engine's share of both. Without a GPU, the program prints an error and ends with exit code 3.

Run: python benchmarks/gpu.py MODELS_FOLDER CHECKPOINT [--batches 1 8 32 128] [--repetitions 200]
MODELS_FOLDER holds what `rrid-edge export CHECKPOINT --fp16` wrote: rrid.onnx, rrid.fp16.onnx, rrid.fp16.engine.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from common import watched
from rrid_edge.bench.copying import copy_bytes_per_s
from rrid_edge.engines import Engine, open_engine
from rrid_edge.engines.cuda import Cuda
from rrid_edge.engines.tensorrt.engine import TensorRTEngine
from rrid_edge.errors import RridEdgeError
from rrid_edge.machine.timing import Timing, interleave
from rrid_edge.parity.agreement import row_cosines
from rrid_export.branch import InferenceBranch
from rrid_export.source import SourceNetwork, load_source
from rrid_export.torch_engine import TorchEngine
from rrid_export.yardsticks import CompiledTorchEngine

_MATRIX = 8192


def operations_per_image(source: SourceNetwork) -> int:
    """Count the multiplications and additions of one image with its mirrored view, in the exported graph."""
    branch = InferenceBranch(source.model).eval()
    spec = source.spec()
    images = torch.zeros((1, spec.height_px, spec.width_px, 3), dtype=torch.uint8)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        branch(images)
    return int(counter.get_total_flops())


def matrix_ceiling(size: int = _MATRIX, *, device: str = "cuda", dtype: torch.dtype = torch.float16) -> float:
    """Return the operations per second of a square matrix product: the fastest of 12 calls."""
    left, right = (torch.randn((size, size), device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(12):
        start = time.perf_counter()
        torch.matmul(left, right)
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def engines(folder: Path, checkpoint: Path, largest: int) -> tuple[dict[str, Engine], list[str]]:
    """Open all engines that run here. Also return, per engine that does not, the reason."""
    ways: dict[str, Callable[[], Engine]] = {
        "torch.compile fp16": lambda: CompiledTorchEngine(load_source(checkpoint), device="cuda", max_batch=largest),
        "ONNX Runtime CUDA fp16": lambda: open_engine(folder / "rrid.fp16.onnx", "onnxruntime-cuda", max_batch=largest),
        "ONNX Runtime CUDA fp32": lambda: open_engine(folder / "rrid.onnx", "onnxruntime-cuda", max_batch=largest),
        "TensorRT FP16, graphs off": lambda: TensorRTEngine(folder / "rrid.fp16.engine", graphs=False),
        "TensorRT FP16, graphs on": lambda: TensorRTEngine(folder / "rrid.fp16.engine"),
    }
    opened: dict[str, Engine] = {}
    passed_over = []
    for name, way in ways.items():
        try:
            opened[name] = way()
        except RridEdgeError as error:
            passed_over.append(f"{name}: {error.message}")
    return opened, passed_over


@dataclass(frozen=True)
class Ceilings:
    """The fastest rates of the hardware, and what one image needs.

    Attributes:
        operations_per_s: operations per second of a large matrix product.
        copied_bytes_per_s: bytes per second copied from pinned memory to the device.
        operations: operations of one image with its mirrored view.
        image_bytes: size of one image.
    """

    operations_per_s: float
    copied_bytes_per_s: float
    operations: int
    image_bytes: int


def line(name: str, batch: int, timing: Timing, cosine: float, ceilings: Ceilings) -> str:
    """Return one row: the times, and the shares of the two ceilings at this rate of images."""
    rate = batch / timing.median
    computed = rate * ceilings.operations / ceilings.operations_per_s
    copied = rate * ceilings.image_bytes / ceilings.copied_bytes_per_s
    return (
        f"| {batch} | {name} | {timing.percentile_ms(50):.3f} | {timing.percentile_ms(99):.3f} | {timing.spread:.0%} "
        f"| {rate:.0f} | {computed:.1%} | {copied:.1%} | {cosine:.6f} |"
    )


def measure(opened: dict[str, Engine], images: NDArray[np.uint8], repetitions: int) -> dict[str, Timing]:
    """Time all engines in turns on one batch, after five warm-up calls in which TensorRT captures its graphs."""
    ways = {name: (lambda engine=engine: engine.run(images)) for name, engine in opened.items()}
    return interleave(ways, repetitions=repetitions, warm_up=5, budget_s=60)


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--repetitions", type=int, default=200)
    options = parser.parse_args()
    try:
        cuda = Cuda()
        cuda.select_device()
    except RridEdgeError as error:
        print(f"gpu: {error.message}", file=sys.stderr)
        return error.exit_code
    source = load_source(options.checkpoint)
    spec, operations = source.spec(), operations_per_image(source)
    ceiling, copy = matrix_ceiling(), copy_bytes_per_s(cuda, 64 << 20)
    opened, passed_over = engines(options.models, options.checkpoint, max(options.batches))
    generator = np.random.default_rng(0)
    print(
        f"{cuda.device().name}: fp16 matrix product {ceiling / 1e12:.0f} TFLOP/s, copy to device {copy / 1e9:.1f} GB/s"
    )
    print(f"{spec.backbone} {spec.height_px} x {spec.width_px}, mirrored: {operations / 1e9:.2f} GFLOP per image\n")
    print("| batch | engine | p50 ms | p99 ms | spread | images/s | of matrix | of copy | minimum cosine |")
    print("|---|---|---|---|---|---|---|---|---|")
    with TorchEngine(source, device="cuda") as reference:
        for batch in options.batches:
            images = generator.integers(0, 256, (batch, spec.height_px, spec.width_px, 3), dtype=np.uint8)
            expected = reference.run(images)
            ceilings = Ceilings(ceiling, copy, operations, images[0].nbytes)
            for name, timing in measure(opened, images, options.repetitions).items():
                cosine = float(row_cosines(expected, opened[name].run(images)).min())
                print(line(name, batch, timing, cosine, ceilings), flush=True)
    for engine in opened.values():
        engine.close()
    for reason in passed_over:
        print(f"not measured: {reason}")
    return 0


if __name__ == "__main__":
    watched(main)
