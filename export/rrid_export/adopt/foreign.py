"""Read a network of another program, and refuse what cannot be adopted before anything runs it."""

from __future__ import annotations

import graphlib
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Final, TypeVar

from rrid_edge.errors import ModelFileError, UsageError, printable
from rrid_edge.files import sha256_of_file
from rrid_edge.model.names import IR_SUFFIX, ONNX_SUFFIX, Kind, kind_of
from rrid_edge.model.onnx_graph import GraphNode, OnnxGraph, read_graph
from rrid_edge.model.onnx_header import OnnxHeader, TensorInfo, read_model_header

NETWORKS: Final = (ONNX_SUFFIX, IR_SUFFIX)
"""Endings of the files that may be adopted."""
OLDEST_OPSET: Final = 9
_FLOATS: Final = ("float32", "float16")
_CONTROL: Final = ("If", "Loop", "Scan", "SequenceMap")
_MOST_IMAGES: Final = 1024
MOST_VALUES_PER_IMAGE: Final = 1 << 22
"""Values of one image: 1,182 x 1,182 px."""
_MOST_FED_VALUES: Final = 1 << 24
"""Values of one batch of a fixed size: 170 images of 256 x 128 px. In float64 they take 128 MiB."""
SMALLEST_SIDE_PX: Final = 16
LARGEST_SIDE_PX: Final = 16_384
_MOST_NODES: Final = 10_000
"""Larger graphs take minutes to prepare. An OSNet has 400 nodes, a quantised ResNet-50 500."""
MOST_WEIGHT_BYTES: Final = 1 << 31
_BYTES: Final = {"float64": 8, "int64": 8, "uint64": 8, "float32": 4, "int32": 4, "uint32": 4, "float16": 2}
REMEDY: Final = "export the network again from its own program"
_SHOWN: Final = 100
Node = TypeVar("Node", bound=Hashable)


@dataclass(frozen=True)
class ForeignNetwork:
    """A network of another program that may be adopted.

    Attributes:
        path: the ONNX file, or the ``.xml`` file of an OpenVINO IR.
        sha256: sha256 of the file, hex; of an IR, over both files.
        opset: its operator set; 0 for an IR, whose operators have one each.
        input: its only input, float32 or float16 of rank 4.
        output: the output with the descriptors, of rank 2.
    """

    path: Path
    sha256: str
    opset: int
    input: TensorInfo
    output: TensorInfo

    @property
    def fixed_batch(self) -> int | None:
        """The batch size that the file declares; None if it is dynamic."""
        return self.input.shape[0] if isinstance(self.input.shape[0], int) and self.input.shape[0] > 0 else None


def read_foreign(path: Path, *, input_name: str | None = None, output_name: str | None = None) -> ForeignNetwork:
    """Read an ONNX file or an OpenVINO IR of another program.

    Args:
        path: the file.
        input_name: name of the network's input; None takes the only one.
        output_name: name of the output with the descriptors; None takes the only one of rank 2.

    Raises:
        UsageError: the file does not exist, belongs to this package already, or a name must be chosen.
        ModelFileError: the file cannot be adopted. The message names what is in the way.
    """
    if kind_of(path) is Kind.CHECKPOINT:
        raise UsageError(
            f"{printable(path)}: this is a checkpoint; adopt takes an ONNX file or an OpenVINO IR (.xml): export the "
            "network from its own program first",
            parameter="model",
        )
    if kind_of(path) is Kind.IR:
        from rrid_export.adopt.ir_reading import read_ir

        return read_ir(path, input_name=input_name, output_name=output_name)
    header = read_model_header(path, remedy=REMEDY)
    if any(key.startswith("rrid.") for key in header.metadata):
        raise UsageError(f"{printable(path)}: this is a model of rrid-edge already; use it as it is", parameter="model")
    graph = read_graph(path, remedy=REMEDY)
    _check_operators(path, header, graph)
    _check_order(path, graph)
    _check_weights(path, graph)
    return ForeignNetwork(
        path,
        sha256_of_file(path),
        header.opset,
        choose_input(path, header.inputs, input_name),
        choose_output(path, header.outputs, output_name),
    )


def refused(path: Path, reason: str) -> ModelFileError:
    """The error for a network that cannot be adopted.

    Args:
        path: the file.
        reason: what is wrong and what was expected.
    """
    return ModelFileError(f"{printable(path)}: it cannot be adopted: {printable(reason)}; {REMEDY}")


def _check_operators(path: Path, header: OnnxHeader, graph: OnnxGraph) -> None:
    if header.opset < OLDEST_OPSET:
        raise refused(path, f"operator set {header.opset}, expected {OLDEST_OPSET} or newer")
    check_number(path, len(graph.nodes), "operators")
    check_number(path, len(graph.constants), "weights")
    if graph.functions:
        raise refused(path, f"{graph.functions} local functions, expected plain operators")
    if graph.sparse:
        raise refused(path, f"{graph.sparse} sparse weights, expected dense ones")
    for node in graph.nodes:
        name = printable(f"{node.domain}.{node.operator}" if node.domain else node.operator)[:_SHOWN]
        if node.domain not in ("", "ai.onnx"):
            raise refused(path, f"custom operator {name}, expected operators of ONNX")
        if node.operator in _CONTROL:
            raise refused(path, f"operator {name} has graphs of its own, expected one plain graph")


def check_number(path: Path, number: int, what: str) -> None:
    """Refuse a graph with too many operators or weights.

    Raises:
        ModelFileError: there are too many.
    """
    if number > _MOST_NODES:
        raise refused(path, f"{number:,} {what}, expected {_MOST_NODES:,} at most")


def _check_order(path: Path, graph: OnnxGraph) -> None:
    """Refuse nodes in a cycle, and tensors with two makers."""
    makers: dict[str, int] = {}
    for index, node in enumerate(graph.nodes):
        for name in filter(None, node.outputs):
            if name in makers or name in graph.constants:
                raise refused(path, f"tensor {name[:_SHOWN]!r} is made twice")
            makers[name] = index
    needs = {index: {makers[name] for name in node.inputs if name in makers} for index, node in enumerate(graph.nodes)}
    if cycle := cycle_in(needs):
        node = graph.nodes[min(cycle)]
        raise refused(path, f"{_named(node)} waits for its own output, expected a graph without cycles")


def cycle_in(needs: Mapping[Node, Collection[Node]]) -> tuple[Node, ...]:
    """Nodes that wait for each other; empty if all can be computed.

    Args:
        needs: the nodes that each node waits for.
    """
    try:
        graphlib.TopologicalSorter(needs).prepare()
    except graphlib.CycleError as error:
        return tuple(error.args[1])
    return ()


def _check_weights(path: Path, graph: OnnxGraph) -> None:
    """Refuse weights that claim more than the largest ONNX file holds."""
    total = 0
    for name, constant in graph.constants.items():
        total += prod(constant.shape) * _BYTES.get(constant.dtype, 1)
        if min(constant.shape, default=0) < 0 or total > MOST_WEIGHT_BYTES:
            raise refused(
                path, f"weights {name[:_SHOWN]!r} claim the shape {list(constant.shape)[:8]}, expected 2 GB at most"
            )


def _named(node: GraphNode) -> str:
    return f"node {(node.name or node.outputs[0])[:_SHOWN]!r} ({node.operator[:_SHOWN]})"


def choose_input(path: Path, inputs: Sequence[TensorInfo], name: str | None) -> TensorInfo:
    """The only input of a network.

    Args:
        path: the file.
        inputs: all inputs.
        name: what the caller calls it, if anything.

    Raises:
        UsageError: the input has another name.
        ModelFileError: there are several, or it takes no images.
    """
    if len(inputs) != 1:
        found = ", ".join(tensor.name for tensor in inputs[:4]) or "none"
        raise refused(path, f"{len(inputs)} inputs ({found[:_SHOWN]}), expected one, for the images")
    tensor = inputs[0]
    if name not in (None, tensor.name):
        raise UsageError(f"{printable(path)}: no input {name!r}; its input is {tensor.name!r}", parameter="input")
    if tensor.dtype not in _FLOATS or len(tensor.shape) != 4:
        raise refused(path, f"{_told('input', tensor)}, expected float32 or float16 of 4 axes")
    if isinstance(tensor.shape[0], int) and not 0 < tensor.shape[0] <= _MOST_IMAGES:
        raise refused(path, f"a fixed batch of {tensor.shape[0]:,} images, expected 1 to {_MOST_IMAGES:,}, or any")
    _check_sides(path, tensor)
    return tensor


def _check_sides(path: Path, tensor: TensorInfo) -> None:
    """Refuse fixed sizes that no image has."""
    batch, *axes = (size if isinstance(size, int) and size >= 0 else None for size in tensor.shape)
    if axes[0] not in (3, None) and axes[2] not in (3, None):
        raise refused(path, f"{_told('input', tensor)}, expected 3 channels on axis 1 or 3")
    sides = axes[1:] if axes[0] == 3 else axes[:2] if axes[2] == 3 else ()
    if any(side is not None and not SMALLEST_SIDE_PX <= side <= LARGEST_SIDE_PX for side in sides):
        limits = f"{SMALLEST_SIDE_PX} to {LARGEST_SIDE_PX:,}"
        raise refused(path, f"{_told('input', tensor)}, expected {limits} rows and columns")
    values = prod(size for size in axes if size is not None)
    if values > MOST_VALUES_PER_IMAGE:
        raise refused(path, f"{_told('input', tensor)}, expected {MOST_VALUES_PER_IMAGE:,} values per image at most")
    if values * (batch or 1) > _MOST_FED_VALUES:
        raise refused(path, f"{_told('input', tensor)}, expected {_MOST_FED_VALUES:,} values per call at most")


def choose_output(path: Path, outputs: Sequence[TensorInfo], name: str | None) -> TensorInfo:
    """The named output, or the only one of rank 2.

    Args:
        path: the file.
        outputs: all outputs.
        name: name of the one with the descriptors; None takes the only one of rank 2.

    Raises:
        UsageError: no output has this name, or several have rank 2.
        ModelFileError: the output holds no descriptors.
    """
    candidates = [tensor for tensor in outputs if tensor.dtype in _FLOATS and len(tensor.shape) == 2]
    if name is not None:
        candidates = [tensor for tensor in outputs if tensor.name == name]
        if not candidates:
            found = ", ".join(tensor.name for tensor in outputs[:8])
            raise UsageError(f"{printable(path)}: no output {name!r}; its outputs are {found}", parameter="output")
    if len(candidates) > 1:
        found = ", ".join(tensor.name for tensor in candidates[:8])
        raise UsageError(
            f"{printable(path)}: {len(candidates)} outputs may be the descriptors ({printable(found[:_SHOWN])}): "
            "choose one",
            parameter="output",
        )
    if not candidates or candidates[0].dtype not in _FLOATS or len(candidates[0].shape) != 2:
        told = ", ".join(_told("output", tensor) for tensor in (candidates or outputs)[:3]) or "no output"
        raise refused(path, f"{told}, expected float32 (batch, values)")
    return candidates[0]


def _told(what: str, tensor: TensorInfo) -> str:
    axes = ", ".join("?" if axis is None else str(axis) for axis in tensor.shape)
    return f"{what} {tensor.name[:_SHOWN]!r} is {tensor.dtype} ({axes})"
