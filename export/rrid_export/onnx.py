"""Writing the inference branch as one ONNX file, and checking what was written before anybody gets to see it."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, version_converter

from rrid_edge.engines.onnxruntime.cpu import OnnxRuntimeEngine
from rrid_edge.errors import CheckFailedError, printable
from rrid_edge.files import atomic_output
from rrid_edge.model.spec import INPUT_NAME, OUTPUT_NAME, ModelSpec
from rrid_edge.parity.agreement import row_cosines
from rrid_export.branch import InferenceBranch

OPSET = 17
"""Operator set of the file: the newest that TensorRT 8.6 reads; 10, 11, ONNX Runtime and OpenVINO read it too."""

_TRACED_OPSET = 18
_TRACED_BATCH = 2
_CHECKED_BATCHES = (1, 3, 5)
_VALUE_TOLERANCE = 1e-5
_HALF_COSINE = 0.999


def export_onnx(
    branch: InferenceBranch, spec: ModelSpec, path: Path, *, accept: Callable[[Path], None] | None = None
) -> None:
    """Write ``branch`` as an ONNX file that keeps the model contract, and check it.

    Args:
        branch: in evaluation mode, in the precision of ``spec``.
        spec: becomes the file's metadata.
        path: the final name; nothing appears there unless every check passes.
        accept: a further check of the written file, which raises where it fails.

    Raises:
        CheckFailedError: a check on the written file failed: names, then axes, then shapes, then values at batches that
            were not traced.
        OutputError: the file cannot be written.
    """
    model = _trace(branch)
    model.producer_name, model.producer_version = "rrid-edge", spec.version
    onnx.helper.set_model_props(model, spec.to_metadata())
    with atomic_output(path) as partial:
        onnx.save_model(model, str(partial))
        check_onnx(partial, spec, branch)
        if accept is not None:
            accept(partial)


def check_onnx(path: Path, spec: ModelSpec, branch: InferenceBranch) -> None:
    """Check an ONNX file against the contract and against PyTorch, in the order names, axes, shapes, values.

    Raises:
        CheckFailedError: the first check that failed.
    """
    onnx.checker.check_model(str(path), full_check=True)
    graph = onnx.load_model(str(path), load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    _check(
        "names",
        ([value.name for value in inputs], [value.name for value in graph.output]),
        ([INPUT_NAME], [OUTPUT_NAME]),
    )
    axes = [value.type.tensor_type.shape.dim[0].HasField("dim_param") for value in (inputs[0], graph.output[0])]
    _check("axes (batch dynamic)", axes, [True, True])
    shapes = [_shape(value) for value in (inputs[0], graph.output[0])]
    expected = [
        (TensorProto.UINT8, [spec.height_px, spec.width_px, 3]),
        (TensorProto.FLOAT, [spec.dimension]),
    ]
    _check("shapes and types", shapes, expected)
    _check_values(path, spec, branch)


def _check_values(path: Path, spec: ModelSpec, branch: InferenceBranch) -> None:
    """Values at batches that were not traced: equal in float32, near in float16 (compared with float16 in PyTorch)."""
    generator = np.random.default_rng(0)
    with OnnxRuntimeEngine(path) as engine:
        for batch in _CHECKED_BATCHES:
            images = generator.integers(0, 256, (batch, spec.height_px, spec.width_px, 3), dtype=np.uint8)
            found, expected = engine.run(images), run_branch(branch, images)
            difference = float(np.abs(found - expected).max())
            cosine = float(row_cosines(found, expected).min())
            good = difference <= _VALUE_TOLERANCE if spec.precision == "fp32" else cosine >= _HALF_COSINE
            if not good:
                raise CheckFailedError(
                    f"the exported file answers otherwise than PyTorch at batch {batch}: largest difference {difference:.2e}, "
                    f"minimum cosine {cosine:.6f}; nothing was kept: try other torch and onnx versions"
                )


def run_branch(branch: InferenceBranch, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Descriptors of uint8 images (B, height, width, 3) by the branch in PyTorch: float32 (B, D)."""
    with torch.inference_mode():
        result: NDArray[np.float32] = branch(torch.from_numpy(images)).numpy()
    return result


def _check(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise CheckFailedError(
            f"the exported file breaks the model contract in its {what}: expected {expected}, found {found}; nothing was "
            "kept: try other torch and onnx versions"
        )


def _shape(value: Any) -> tuple[int, list[int]]:  # noqa: ANN401 - a protobuf message
    tensor = value.type.tensor_type
    return tensor.elem_type, [axis.dim_value for axis in tensor.shape.dim[1:]]


def _trace(branch: InferenceBranch) -> Any:  # noqa: ANN401 - a protobuf message
    """The ONNX model of the branch, in :data:`OPSET`."""
    config = branch.config
    images = torch.zeros(_TRACED_BATCH, config.height_px, config.width_px, 3, dtype=torch.uint8)
    with _quiet():
        program = torch.onnx.export(
            branch,
            (images,),
            dynamo=True,
            opset_version=_TRACED_OPSET,
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=65_536)},),
            verbose=False,
        )
    assert program is not None
    # The exporter knows operator sets from 18 on; the official converter takes the graph down to 17.
    model = version_converter.convert_version(program.model_proto, OPSET)
    _drop_traces(model)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def _drop_traces(model: Any) -> None:  # noqa: ANN401 - a protobuf message
    """Remove what the exporter noted about the machine that traced: source lines and paths."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
    del model.functions[:]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's remarks are for its developers: what matters to users is checked afterwards."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def describe(path: Path) -> str:
    """One line on a written file: size and number of graph nodes."""
    nodes = len(onnx.load_model(str(path), load_external_data=False).graph.node)
    return f"{printable(path)}: {path.stat().st_size / 1e6:.1f} MB, {nodes} nodes, operator set {OPSET}"
