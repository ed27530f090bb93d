"""Write the form of an adopted network that takes float32 planes, for DeepStream and its like."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any, Final

from onnx import TensorProto, helper

from rrid_edge.engines.onnxruntime.cpu import OnnxRuntimeEngine
from rrid_edge.errors import CheckFailedError, UsageError, item_at_work, printable
from rrid_edge.files import atomic_output
from rrid_edge.model.names import goldens_path, planes_path
from rrid_edge.model.spec import ADOPTED, FLOAT32_NCHW, INPUT_NAME, UINT8_NHWC, ModelSpec
from rrid_edge.model.weights import contract_file, read_checked_spec
from rrid_edge.parity.agreement import row_cosines
from rrid_export.drawn import drawn_patterns
from rrid_export.mistakes import read_network

_ROWS: Final = "rows"
_LEAST_COSINE: Final = 1 - 1e-6


def write_planes(source: Path, folder: Path | None = None) -> Path:
    """Write ``<stem>.nchw[.<precision>].onnx`` of an adopted ONNX file. The network and its fingerprint are the same.

    Args:
        source: the file that takes uint8 pixels, in any precision.
        folder: folder to write to, which gets a copy of the goldens; None takes that of ``source``.

    Returns:
        The file, which was compared with ``source`` on drawn patterns.

    Raises:
        UsageError: the file is not an adopted network, or takes planes already.
        ModelFileError: the file is damaged.
        CheckFailedError: the two files give different descriptors; nothing is written.
        OutputError: the folder cannot be written.
    """
    spec = read_checked_spec(source)
    if spec.family != ADOPTED or spec.input != UINT8_NHWC:
        raise UsageError(
            f"{printable(source)}: family {spec.family}, input {spec.input}: expected an adopted network that takes "
            f"{UINT8_NHWC}"
        )
    target = (folder or source.parent) / planes_path(source).name
    changed = _with_planes(read_network(source), spec)
    with item_at_work(target), atomic_output(target) as partial:
        partial.write_bytes(contract_file(changed.SerializeToString(), spec.with_input(FLOAT32_NCHW)))
        _prove(source, partial, spec)
    goldens, copied = goldens_path(source), goldens_path(target)
    if goldens.is_file() and goldens != copied:
        with atomic_output(copied) as partial:
            shutil.copyfile(goldens, partial)
    return target


def _with_planes(model: Any, spec: ModelSpec) -> Any:  # noqa: ANN401 - protobuf messages
    """The same graph behind a node that brings planes into rows of pixels."""
    result = copy.deepcopy(model)
    graph = result.graph
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == INPUT_NAME:
                node.input[place] = _ROWS
    graph.node.insert(0, helper.make_node("Transpose", [INPUT_NAME], [_ROWS], _ROWS, perm=[0, 2, 3, 1]))
    batch = model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    shape = [batch, *spec.with_input(FLOAT32_NCHW).input_shape]
    graph.input[0].CopyFrom(helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, shape))
    return result


def _prove(source: Path, planes: Path, spec: ModelSpec) -> None:
    images = drawn_patterns(spec).images
    with OnnxRuntimeEngine(source) as one, OnnxRuntimeEngine(planes) as two:
        lowest = float(row_cosines(one.run(images), two.run(images)).min())
    if not lowest >= _LEAST_COSINE:
        raise CheckFailedError(
            f"{printable(source)}: its form with planes gives other descriptors (cosine {lowest:.6f}); nothing was "
            "written"
        )
