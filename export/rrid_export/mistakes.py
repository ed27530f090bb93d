"""Copies of an exported network with a common preprocessing mistake built in.

:func:`rrid_edge.parity.diagnosis.diagnose` compares them with an engine that failed parity. Scaling and mirroring are
part of the graph, so no change of the uint8 pixels can imitate mistakes in them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from rrid_edge.engines.onnxruntime.cpu import MemorySession
from rrid_edge.errors import ModelFileError, printable
from rrid_edge.model.onnx_header import read_model_header, read_spec
from rrid_edge.model.preprocessing import Preprocessing
from rrid_edge.model.spec import HOW_MADE, IMAGENET_MEAN, IMAGENET_STD, INPUT_NAME

_MEAN, _STD = np.array(IMAGENET_MEAN, np.float32), np.array(IMAGENET_STD, np.float32)

SCALINGS: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]] = {
    "missing-scaling": (np.full(3, 255, np.float32), np.zeros(3, np.float32)),
    "double-scaling": (np.full(3, 1 / 255, np.float32), np.zeros(3, np.float32)),
    "missing-normalisation": (_STD, 255 * _MEAN),
    "other-normalisation": (2 * _STD, 255 * (_MEAN - _STD)),  # to -1 .. 1
}
"""Mistake -> factor and summand per channel, float32 (3,), for pixel values x of 0 to 255.

Applied before the network's own (x / 255 - mean) / std, they give the values that the mistake would give.
"""


def adopted_scalings(given: Preprocessing) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """The usual mistakes in the scaling of an adopted network, as in :data:`SCALINGS`.

    The network computes (p / scale - mean) / std. What it would do anyway is no mistake and left out: for example the
    missing scaling of a network that takes 0 to 255.

    Args:
        given: what the network is fed.

    Returns:
        Mistake -> factor and summand of red, green and blue, float32 (3,).
    """
    order = slice(None, None, -1 if given.color == "bgr" else 1)
    mean, std = (np.array(values, np.float64)[order] for values in (given.mean, given.std))
    other_mean, other_std = np.array(IMAGENET_MEAN), np.array(IMAGENET_STD)
    plain = {  # factor and summand that make the values which the mistake gives
        "missing-scaling": (1 / std, -mean / std),
        "double-scaling": (1 / (given.scale**2 * std), -mean / std),
        "missing-normalisation": (np.full(3, 1 / given.scale), np.zeros(3)),
        "other-normalisation": (np.full(3, 2 / 255), np.full(3, -1.0)),
        "imagenet-normalisation": (1 / (255 * other_std), -other_mean / other_std),
    }
    if given.scale == 1:
        plain["needless-scaling"] = (1 / (255 * std), -mean / std)
    changes = {
        name: (factor * std * given.scale, (summand * std + mean) * given.scale)
        for name, (factor, summand) in plain.items()
    }
    return {
        name: (factor.astype(np.float32), summand.astype(np.float32))
        for name, (factor, summand) in changes.items()
        if not (np.allclose(factor, 1) and np.allclose(summand, 0))
    }


def mistaken_networks(path: Path) -> dict[str, Callable[[NDArray[np.uint8]], NDArray[np.float32]]]:
    """Build one network per common mistake from an ONNX file.

    Args:
        path: ONNX file of this package, in any precision.

    Returns:
        Mistake -> function from images, uint8 (N, height, width, 3), to descriptors, float32 (N, D). The functions run
        on ONNX Runtime's CPU provider. ``missing-mirror`` is there only if the network averages the mirrored image.
        Of an adopted network, mistakes are those of its own preprocessing.

    Raises:
        ModelFileError: the file cannot be read.
    """
    model = read_network(path)
    spec = read_spec(path)
    scalings = SCALINGS if spec.preprocessing is None else adopted_scalings(spec.preprocessing)
    networks = {name: _runner(_with_scaling(model, *change)) for name, change in scalings.items()}
    if spec.flip and any(_is_mirror(model, node) for node in model.graph.node):
        networks["missing-mirror"] = _runner(_without_mirror(model))
    return networks


def read_network(path: Path) -> Any:  # noqa: ANN401 - a protobuf message
    """Read an ONNX file with its weights.

    Raises:
        ModelFileError: the file cannot be read.
    """
    read_model_header(path)  # refuses weights outside the folder, which onnx would open
    try:
        return onnx.load_model(str(path))
    except Exception as error:  # protobuf's and the system's own classes
        raise ModelFileError(
            f"{printable(path)}: not an ONNX file, or damaged; export it again with: {HOW_MADE}"
        ) from error


def _with_scaling(model: Any, factor: NDArray[np.float32], summand: NDArray[np.float32]) -> Any:  # noqa: ANN401
    result = copy.deepcopy(model)
    graph = result.graph
    position, first = next((position, node) for position, node in enumerate(graph.node) if INPUT_NAME in node.input)
    shape: tuple[int, ...]
    if first.op_type == "Cast":  # of uint8 pixels, whose last axis has the colours
        pixels, scaled, shape = "mistake_pixels", first.output[0], (3,)
        first.output[0] = pixels
        position += 1
    else:  # float32 planes
        pixels, scaled, shape = INPUT_NAME, "mistake_pixels", (3, 1, 1)
        first.input[list(first.input).index(INPUT_NAME)] = scaled
    values = {"mistake_factor": factor.reshape(shape), "mistake_summand": summand.reshape(shape)}
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())
    product, total = (
        onnx.helper.make_node("Mul", [pixels, "mistake_factor"], ["mistake_scaled"]),
        onnx.helper.make_node("Add", ["mistake_scaled", "mistake_summand"], [scaled]),
    )
    graph.node.insert(position, product)
    graph.node.insert(position + 1, total)
    return result


def _without_mirror(model: Any) -> Any:  # noqa: ANN401
    result = copy.deepcopy(model)
    mirror = next(node for node in result.graph.node if _is_mirror(model, node))  # an adopted network may have others
    replacements = {mirror.output[0]: mirror.input[0]}
    for node in result.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = replacements.get(name, name)
    return result


def _is_mirror(model: Any, node: Any) -> bool:  # noqa: ANN401
    """Whether ``node`` reverses an axis: a Slice with a step of -1."""
    if node.op_type != "Slice" or len(node.input) < 5:
        return False
    steps = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name == node.input[4]]
    return bool(steps) and bool((steps[0] == -1).all())


def _runner(model: Any) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:  # noqa: ANN401
    content = model.SerializeToString()
    return lambda images: MemorySession(content).run(images)
