"""What this machine can do at most: operations per second in each precision, and bytes per second from memory.

A ceiling is the fastest call of the fastest layer, on any installed runtime: four networks of one kind of layer each
(convolutions of 3 x 3 and 1 x 1, a large matrix product), as large as those of the networks that are measured.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rrid_edge.engines.onnxruntime.cpu import import_onnxruntime
from rrid_edge.engines.openvino.engine import openvino_core
from rrid_edge.errors import MissingDependencyError, unforeseen
from rrid_edge.machine.foreign_cpu import Repeats, quietest
from rrid_edge.machine.memory import usable_memory_bytes
from rrid_edge.machine.processor import threads_for, usable_cores
from rrid_edge.model.onnx_writing import model, node

_OPERATIONS: Final = 4_000_000_000
"""About so many per call: 80 ms at 50 Gop/s, 2 ms at 2000."""
_READ_BYTES: Final = 1 << 29
"""Less where little memory is left."""
_HINTS: Final = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}
"""What OpenVINO shall compute in where a layer is not int8."""
_NEEDS: Final = {"bf16": "BF16", "fp16": "FP16", "int8": "INT8"}
"""OpenVINO's names of what a processor may lack."""


@dataclass(frozen=True)
class CeilingSettings:
    """How much to measure.

    Attributes:
        seconds: per precision; each layer gets its part of it, and at least two calls.
        threads: CPU threads; 0 lets the runtime choose.
        repeats: how often to measure again while other programs disturb.
    """

    seconds: float
    threads: int
    repeats: Repeats = field(default_factory=lambda: Repeats(2))


@dataclass(frozen=True)
class Ceiling:
    """The fastest rate of one precision.

    Attributes:
        operations_per_s: multiplications and additions per second.
        layer: the layer that reached it.
        runtime: the runtime that ran it.
    """

    operations_per_s: float
    layer: str
    runtime: str


@dataclass(frozen=True)
class Ceilings:
    """The fastest rates of this machine.

    Attributes:
        compute: by precision, for example ``bf16``. A precision is missing where no runtime computes in it.
        memory_bytes_per_s: bytes per second that all usable cores together read from memory.
        foreign_cpu: share of foreign CPU meanwhile; None if it is not known.
        missing: one line per runtime that was not measured, with the reason.
    """

    compute: Mapping[str, Ceiling]
    memory_bytes_per_s: float
    foreign_cpu: float | None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layer:
    """A network of ``count`` equal layers for one batch.

    Attributes:
        name: what a report calls it.
        batch: images, or rows of a matrix.
        channels: before and after each layer.
        height: of the feature map; 0 for a matrix product.
        width: of the feature map.
        kernel: height and width of the window.
    """

    name: str
    batch: int
    channels: int
    height: int = 0
    width: int = 0
    kernel: int = 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the input."""
        plane = (self.height, self.width) if self.height else ()
        return (self.batch, self.channels, *plane)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of each weight."""
        return (self.channels, self.channels, *((self.kernel, self.kernel) if self.height else ()))

    @property
    def operations(self) -> int:
        """Multiplications and additions of one layer."""
        return 2 * self.batch * max(1, self.height * self.width) * self.channels**2 * self.kernel**2

    @property
    def count(self) -> int:
        """Layers in a row: converting the input then costs little."""
        return max(2, round(_OPERATIONS / self.operations))


LAYERS: Final = (
    Layer("convolution 3 x 3 of 128 channels, 48 x 16", 8, 128, 48, 16, 3),
    Layer("convolution 1 x 1 of 256 channels, 48 x 16", 8, 256, 48, 16),
    Layer("convolution 1 x 1 of 1024 channels, 24 x 8", 4, 1024, 24, 8),
    Layer("matrix product 1024 x 1024 x 1024", 1024, 1024),
)


def measure_ceilings(settings: CeilingSettings) -> Ceilings:
    """Measure all precisions on all installed CPU runtimes, and the memory."""
    missing: list[str] = []
    (compute, rate), share = quietest(lambda: (_compute(settings, missing), memory_bytes_per_s()), settings.repeats)
    return Ceilings(compute, rate, share, tuple(dict.fromkeys(missing)))


def memory_bytes_per_s() -> float:
    """Bytes per second that the usable cores read: the fastest of five passes over memory that no cache holds."""
    cores = usable_cores()
    held = max(1 << 20, min(_READ_BYTES, usable_memory_bytes() // 4))
    parts = np.array_split(np.ones(held // 4, np.int32), cores)
    with ThreadPoolExecutor(cores) as pool:
        return held / min(_elapsed(lambda: list(pool.map(np.max, parts))) for _ in range(5))


def layer_network(layer: Layer, precision: str) -> bytes:
    """The ONNX file of a layer's network. In int8, activations are uint8 between two layers, and weights int8."""
    generator = np.random.default_rng(0)
    constants: dict[str, NDArray[Any]] = {}
    nodes: list[bytes] = []
    last = "images"
    if precision == "int8":
        constants |= {"scale": np.array(0.02, np.float32), "zero": np.array(0, np.uint8)}
        constants |= {"weight_scale": np.array(0.005, np.float32), "weight_zero": np.array(0, np.int8)}
    for number in range(layer.count):
        weight = f"weight{number}"
        if precision == "int8":
            constants[f"{weight}_int8"] = generator.integers(-127, 128, layer.weight_shape).astype(np.int8)
            nodes += [
                node("QuantizeLinear", (last, "scale", "zero"), f"{last}_uint8"),
                node("DequantizeLinear", (f"{last}_uint8", "scale", "zero"), f"{last}_again"),
                node("DequantizeLinear", (f"{weight}_int8", "weight_scale", "weight_zero"), weight),
            ]
            last = f"{last}_again"
        else:
            values = generator.standard_normal(layer.weight_shape, dtype=np.float32)
            constants[weight] = values / np.float32(np.sqrt(values[0].size))
        nodes += [_layer_node(layer, last, weight, f"sum{number}"), node("Relu", (f"sum{number}",), f"out{number}")]
        last = f"out{number}"
    # One value per channel: what leaves the network costs nothing.
    axes = tuple(range(2, len(layer.shape))) or (1,)
    nodes.append(node("ReduceMax", (last,), "result", axes=axes, keepdims=1))
    result = tuple(1 if axis in axes else size for axis, size in enumerate(layer.shape))
    return model(nodes, constants, {"images": layer.shape}, {"result": result})


def _layer_node(layer: Layer, last: str, weight: str, output: str) -> bytes:
    if not layer.height:
        return node("MatMul", (last, weight), output)
    kernel = (layer.kernel, layer.kernel)
    return node("Conv", (last, weight), output, kernel_shape=kernel, pads=(layer.kernel // 2,) * 4)


def _compute(settings: CeilingSettings, missing: list[str]) -> dict[str, Ceiling]:
    found: dict[str, Ceiling] = {}
    for layer, (runtime, open_call) in itertools.product(LAYERS, _runtimes(settings.threads, missing)):
        images = np.random.default_rng(1).random(layer.shape, dtype=np.float32)
        for precision in _HINTS:
            try:
                call = open_call(layer_network(layer, precision), precision, images)
                if call is None:
                    continue
                taken = _fastest_call(call, settings.seconds / len(LAYERS) / 2)
            except Exception as error:  # the runtimes do not say what they raise
                missing.append(f"ceiling of {precision} on {runtime}: {unforeseen(error)}")
                continue
            rate = layer.operations * layer.count / taken
            if precision not in found or rate > found[precision].operations_per_s:
                found[precision] = Ceiling(rate, layer.name, runtime)
    return found


OpenCall = Callable[[bytes, str, NDArray[np.float32]], Callable[[], object] | None]


def _runtimes(threads: int, missing: list[str]) -> Iterator[tuple[str, OpenCall]]:
    """The installed runtimes: how each runs a network in a precision. Without the precision it gives None."""
    for name, opener in (("openvino", _openvino), ("onnxruntime", _onnxruntime)):
        try:
            yield name, opener(threads)
        except MissingDependencyError:
            missing.append(f"ceilings on {name}: not installed")


def _openvino(threads: int) -> OpenCall:
    core = openvino_core()
    abilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")

    def open_call(content: bytes, precision: str, images: NDArray[np.float32]) -> Callable[[], object] | None:
        if precision in _NEEDS and _NEEDS[precision] not in abilities:
            return None
        options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _HINTS[precision]}
        if count := threads_for(threads):
            options["INFERENCE_NUM_THREADS"] = count
        request = core.compile_model(core.read_model(content), "CPU", options).create_infer_request()
        return lambda: request.infer([images], share_inputs=True, share_outputs=True)

    return open_call


def _onnxruntime(threads: int) -> OpenCall:
    runtime = import_onnxruntime()

    def open_call(content: bytes, precision: str, images: NDArray[np.float32]) -> Callable[[], object] | None:
        if precision not in ("fp32", "int8"):
            return None
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads_for(threads)
        options.log_severity_level = 4
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, {"images": images})

    return open_call


def _fastest_call(call: Callable[[], object], seconds: float) -> float:
    call()  # memory is laid out in the first call
    taken = [_elapsed(call) for _ in range(2)]
    while sum(taken) < seconds:
        taken.append(_elapsed(call))
    return min(taken)


def _elapsed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
