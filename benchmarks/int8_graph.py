"""Compare the int8 forms of a float32 model and NNCF's graph: accuracy in exact arithmetic, rate in each runtime.

Ranges and weights come from crops of the training split, accuracy from crops of other people. It is measured without
int8 kernels (rounded values in float32), so no processor's saturation disturbs it. The rate is that of this processor,
as a ratio to the first row in the same run. NNCF is a yardstick: give the Python of an environment that has it.

Run: python benchmarks/int8_graph.py rrid.onnx --data demo --nncf /path/to/venv/bin/python
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from common import table_row, watched
from rrid_calib.crops import choose_check, find_crops, read_crops
from rrid_calib.forms import MethodResult
from rrid_calib.graph import Form
from rrid_calib.layers import int8_layers, read_graph
from rrid_calib.ranges import METHODS, collect, ranges_of
from rrid_calib.rounding import empty_moments, rounded_weights
from rrid_edge.engines.openvino.engine import openvino_core
from rrid_edge.machine.processor import processor_name
from rrid_edge.model.onnx_header import read_spec
from rrid_edge.parity.agreement import compare

Pixels = NDArray[np.uint8]
_NNCF = """
import sys, numpy, openvino, nncf
source, crops, result = sys.argv[1:]
pixels = numpy.load(crops)
data = nncf.Dataset([pixels[index : index + 1] for index in range(len(pixels))])
openvino.save_model(nncf.quantize(openvino.Core().read_model(source), data, subset_size=len(pixels)), result)
print(nncf.__version__)
"""
"""NNCF's defaults: preset performance, symmetric weights, correction of biases."""
HEAD = ("graph", "1 - min cosine", "1 - mean cosine", "top-1", "OpenVINO", "ONNX Runtime", "file")


def forms(source: Path, pixels: Pixels, method: str) -> dict[str, bytes]:
    """Every form, for TensorRT (signed) and for CPUs, from one calibration; serialised."""
    model = read_graph(source)
    layers = int8_layers(model)
    moments = empty_moments(model)
    names = [tensor for layer in layers for tensor in layer.tensors]
    ranges = ranges_of(collect(model, names, pixels, watch=moments.add), method)
    heads = tuple(layer.name for layer in layers if layer.head)
    plain = Form("int8", ranges, rounded_weights(model, moments), signed=True)
    fine = replace(plain, name="fine head", two_step_layers=heads)
    made = (plain, fine, replace(fine, name="float residuals", float_residuals=True))
    both = [replace(form, signed=signed) for form in made for signed in (True, False)]
    return {f"{form.name}{'' if form.signed else ', for CPUs'}": form.build(model).SerializeToString() for form in both}


def nncf_graph(python: str, source: Path, pixels: Pixels, folder: Path) -> tuple[str, Path]:
    """NNCF's graph of the model, made by another environment: its name with the version, and the file."""
    crops, path = folder / "crops.npy", folder / "nncf.xml"
    np.save(crops, pixels)
    command = [python, "-c", _NNCF, str(source), str(crops), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - the caller's choice
    if done.returncode:
        sys.exit(f"NNCF does not run in {python}: {done.stderr.strip().splitlines()[-1]}")
    return f"NNCF {done.stdout.strip().splitlines()[-1]}", path


def in_openvino(model: bytes | Path, threads: int, *, exact: bool = False) -> Callable[[Pixels], Any]:
    """A function that runs a model; ``exact`` leaves FakeQuantize in float32."""
    core = openvino_core()
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    if exact:
        settings["LP_TRANSFORMS_MODE"] = "OFF"
    request = core.compile_model(core.read_model(model), "CPU", settings).create_infer_request()
    return lambda pixels: np.array(request.infer({0: pixels})[0])


def in_onnxruntime(model: bytes, threads: int, *, exact: bool = False) -> Callable[[Pixels], Any]:
    """A function that runs a model; ``exact`` computes in float32 with rounded values."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    if exact:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(None, {"images": pixels})[0]


def exactly(graph: bytes | Path, threads: int) -> Callable[[Pixels], Any]:
    """A function that runs a graph in exact arithmetic: an ONNX model, or an IR."""
    in_runtime = in_onnxruntime if isinstance(graph, bytes) else in_openvino
    return in_runtime(graph, threads, exact=True)  # type: ignore[arg-type]  # each takes its own kind


def in_batches(run: Callable[[Pixels], Any], pixels: Pixels) -> NDArray[np.float32]:
    """Descriptors of all crops, 8 at a time: float32 (N, D)."""
    return np.concatenate([run(pixels[start : start + 8]) for start in range(0, len(pixels), 8)])


def seconds(runs: dict[str, Callable[[Pixels], Any]], pixels: Pixels, repetitions: int) -> dict[str, float]:
    """Shortest time of each function, taken in turns."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repetitions + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run(pixels)
            times[name].append(time.perf_counter() - start)
    return {name: min(values[1:]) for name, values in times.items()}


def accuracy(name: str, expected: NDArray[np.float32], run: Callable[[Pixels], Any], pixels: Pixels) -> MethodResult:
    """Compare a model with the float32 model on these crops."""
    found = in_batches(run, pixels)
    told = compare(expected, found, ("all",))
    return MethodResult(name, False, "", told.min_cosine, told.mean_cosine, told.top1_agreement)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="float32 ONNX file")
    parser.add_argument("--data", type=Path, required=True, help="dataset, of which the training split is used")
    parser.add_argument("--nncf", help="Python of an environment with nncf and openvino; without it, NNCF is left out")
    parser.add_argument("--crops", type=int, default=200, help="crops to calibrate on, and as many to measure on")
    parser.add_argument("--method", choices=METHODS, default="minmax")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=7)
    return parser.parse_args()


def main() -> None:
    """Print one table."""
    options = _options()
    spec, content = read_spec(options.model), options.model.read_bytes()
    check, others = choose_check(find_crops(options.data), options.crops, 0)
    pixels, measured = (
        read_crops(crops[: options.crops], spec.height_px, spec.width_px).pixels for crops in (others, check)
    )
    graphs: dict[str, bytes | Path] = dict(forms(options.model, pixels, options.method))
    with tempfile.TemporaryDirectory() as folder:
        if options.nncf:
            name, path = nncf_graph(options.nncf, options.model, pixels, Path(folder))
            graphs[name] = path
        else:
            print("NNCF is left out: give --nncf PYTHON of an environment that has it")
        exact = in_onnxruntime(content, options.threads)
        expected = in_batches(exact, measured)
        fast = {name: in_openvino(graph, options.threads) for name, graph in graphs.items()}
        other = {
            name: in_onnxruntime(item, options.threads) for name, item in graphs.items() if isinstance(item, bytes)
        }
        times = [seconds(runs, measured[: options.batch], options.repetitions) for runs in (fast, other)]
        print(
            f"{processor_name()}, {options.threads} threads, batch {options.batch}; {spec.backbone}, {options.method}"
        )
        print(table_row(HEAD), table_row(["---"] * len(HEAD)), sep="\n")
        for name, graph in graphs.items():
            size = len(graph) if isinstance(graph, bytes) else graph.with_suffix(".bin").stat().st_size
            told = accuracy(name, expected, exactly(graph, options.threads), measured)
            rates = [f"{next(iter(one.values())) / one[name]:.2f}" if name in one else "" for one in times]
            cells = [f"{1 - told.min_cosine:.1e}", f"{1 - told.mean_cosine:.1e}", f"{told.top1_agreement:.1%}"]
            print(table_row([name, *cells, *rates, f"{size / len(content):.1%}"]), flush=True)


if __name__ == "__main__":
    watched(main)
