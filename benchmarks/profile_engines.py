"""Show where an engine's time goes: shares per kind of operator, and the slowest layers, at batch 1 and 64.

Uses ONNX Runtime's own profile and OpenVINO's counters per layer. Profiling itself takes time, so compare the shares,
not the sums.

Run: python benchmarks/profile_engines.py MODEL.onnx [--batches 1 64] [--threads 2] [--top 8]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common import watched
from rrid_edge.engines.onnxruntime.cpu import import_onnxruntime
from rrid_edge.engines.openvino.engine import openvino_core
from rrid_edge.machine.processor import processor_name
from rrid_edge.model.onnx_header import read_spec
from rrid_edge.model.spec import INPUT_NAME, OUTPUT_NAME

_REPETITIONS = 5


@dataclass(frozen=True)
class Layer:
    """One executed node.

    Attributes:
        name: name of the node in the runtime's optimised graph.
        kind: operator, or the runtime's kernel.
        milliseconds: mean time per call.
    """

    name: str
    kind: str
    milliseconds: float


def profile_onnxruntime(path: Path, images: NDArray[np.uint8], threads: int) -> list[Layer]:
    """Return the layers of ONNX Runtime's CPU provider."""
    runtime = import_onnxruntime()
    with tempfile.TemporaryDirectory() as folder:
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "profile")
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for _ in range(_REPETITIONS + 1):
            session.run([OUTPUT_NAME], {INPUT_NAME: images})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return layers_of_events(events, skip=1)


def layers_of_events(events: list[dict[str, Any]], *, skip: int) -> list[Layer]:
    """Return the mean kernel time per node in ONNX Runtime's trace, without the first ``skip`` calls."""
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[event["name"].removesuffix("_kernel_time"), event["args"]["op_name"]].append(event["dur"] / 1000)
    return [Layer(name, kind, float(np.mean(values[skip:]))) for (name, kind), values in times.items()]


def profile_openvino(path: Path, images: NDArray[np.uint8], threads: int) -> list[Layer]:
    """Return the layers of OpenVINO on the CPU, in the precision that it chooses."""
    core = openvino_core()
    settings = {"PERFORMANCE_HINT": "LATENCY", "PERF_COUNT": True, "INFERENCE_NUM_THREADS": threads}
    request = core.compile_model(core.read_model(str(path)), "CPU", settings).create_infer_request()
    request.infer({0: images})
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for _ in range(_REPETITIONS):
        request.infer({0: images})
        for node in request.profiling_info:
            kind = f"{node.node_type} ({node.exec_type})"
            times[node.node_name, kind].append(node.real_time.total_seconds() * 1000)
    return [Layer(name, kind, float(np.mean(values))) for (name, kind), values in times.items()]


def table(layers: list[Layer], top: int) -> str:
    """Return the shares per kind, then the ``top`` slowest layers."""
    total = sum(layer.milliseconds for layer in layers)
    kinds: dict[str, list[float]] = defaultdict(list)
    for layer in layers:
        kinds[layer.kind].append(layer.milliseconds)
    lines = []
    for kind, values in sorted(kinds.items(), key=lambda item: -sum(item[1]))[:top]:
        lines.append(f"  {sum(values) / total:>6.1%}  {sum(values):>9.2f} ms  {len(values):>4} x  {kind}")
    lines.append(f"  the {top} slowest of {len(layers)} layers ({total:.1f} ms):")
    lines += [
        f"  {layer.milliseconds / total:>6.1%}  {layer.milliseconds:>9.2f} ms  {layer.kind}  {layer.name[:70]}"
        for layer in sorted(layers, key=lambda layer: -layer.milliseconds)[:top]
    ]
    return "\n".join(lines)


def main() -> None:
    """Profile both runtimes at every batch size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--top", type=int, default=8)
    options = parser.parse_args()
    spec = read_spec(options.model)
    print(f"{processor_name()}, {options.threads} threads, {spec.backbone} {spec.height_px} x {spec.width_px}")
    for batch in options.batches:
        shape = (batch, spec.height_px, spec.width_px, 3)
        images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        for title, profile in (("ONNX Runtime", profile_onnxruntime), ("OpenVINO", profile_openvino)):
            print(f"\n{title}, batch {batch}")
            print(table(profile(options.model, images, options.threads), options.top))


if __name__ == "__main__":
    watched(main)
