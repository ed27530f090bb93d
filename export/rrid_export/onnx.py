"""Export the inference branch as one ONNX file. The file gets its final name only after all checks passed."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, version_converter

from rrid_edge.engines.base import model_input
from rrid_edge.engines.onnxruntime.cpu import OnnxRuntimeEngine
from rrid_edge.errors import CheckFailedError, printable
from rrid_edge.files import atomic_output
from rrid_edge.model.operator_rules import NEWEST_OPSET, check_operators
from rrid_edge.model.spec import INPUT_NAME, OUTPUT_NAME, ModelSpec
from rrid_edge.model.weights import contract_file
from rrid_edge.parity.agreement import row_cosines
from rrid_edge.progress import step
from rrid_export.branch import InferenceBranch
from rrid_export.onnx_weights import put_weights, take_weights

OPSET = NEWEST_OPSET
"""Operator set of the file: the newest one that TensorRT 8.6 to 11, ONNX Runtime and OpenVINO all read."""

_TRACED_OPSET = 18
_TRACED_BATCH = 2
_CHECKED_BATCHES = (1, 3, 5)
_ELEMENT_TYPES = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}
_FLOAT32_TOLERANCE = 1e-5
_FLOAT16_MIN_COSINE = 0.999


Verdict = TypeVar("Verdict")


@overload
def export_onnx(branch: InferenceBranch, spec: ModelSpec, path: Path) -> None: ...


@overload
def export_onnx(
    branch: InferenceBranch, spec: ModelSpec, path: Path, *, accept: Callable[[Path], Verdict]
) -> Verdict: ...


def export_onnx(
    branch: InferenceBranch, spec: ModelSpec, path: Path, *, accept: Callable[[Path], object] = lambda _path: None
) -> object:
    """Write ``branch`` as an ONNX file that keeps the model contract, and check it.

    Args:
        branch: the branch in evaluation mode, in the precision and the form of input of ``spec``.
        spec: facts of the model; they become the file's metadata.
        path: the file to write. It appears only if every check passes.
        accept: another check of the written file; it gets the temporary path and raises if it fails.

    Returns:
        What ``accept`` returned.

    Raises:
        CheckFailedError: a check of the written file failed; see :func:`check_onnx`.
        OutputError: the file cannot be written.
    """
    with atomic_output(path) as partial:  # before the trace, so that a folder that cannot be written costs no time
        model = trace_branch(branch)
        model.producer_name, model.producer_version = "rrid-edge", spec.version
        partial.write_bytes(contract_file(model.SerializeToString(), spec))
        check_onnx(partial, spec, branch)
        return accept(partial)


@step("checking the ONNX file")
def check_onnx(path: Path, spec: ModelSpec, branch: InferenceBranch) -> None:
    """Check an ONNX file against the model contract and against ``branch`` in PyTorch.

    The checks run in this order: names, dynamic axes, types and shapes, operators (what the parsers of all supported
    TensorRT versions read), values at batch sizes that were not traced.

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
    _check("dynamic batch axes", axes, [True, True])
    shapes = [_shape(value) for value in (inputs[0], graph.output[0])]
    expected = [
        (_ELEMENT_TYPES[spec.input_dtype], list(spec.input_shape)),
        (TensorProto.FLOAT, [spec.dimension]),
    ]
    _check("types and shapes", shapes, expected)
    check_operators(path)
    _check_values(path, spec, branch)


def _check_values(path: Path, spec: ModelSpec, branch: InferenceBranch) -> None:
    """Compare values at batch sizes that were not traced: by difference in float32, by cosine in float16."""
    generator = np.random.default_rng(0)
    with OnnxRuntimeEngine(path) as engine:
        for batch in _CHECKED_BATCHES:
            images = generator.integers(0, 256, (batch, spec.height_px, spec.width_px, 3), dtype=np.uint8)
            found, expected = engine.run(images), run_branch(branch, images)
            difference = float(np.abs(found - expected).max())
            cosine = float(row_cosines(found, expected).min())
            if spec.precision == "fp32":
                passed, expectation = difference <= _FLOAT32_TOLERANCE, f"a difference of at most {_FLOAT32_TOLERANCE}"
            else:
                passed, expectation = cosine >= _FLOAT16_MIN_COSINE, f"a cosine of at least {_FLOAT16_MIN_COSINE}"
            if not passed:
                raise CheckFailedError(
                    f"the exported file differs from PyTorch at batch {batch}: largest difference {difference:.2e}, "
                    f"minimum cosine {cosine:.6f}, expected {expectation}; nothing was written; try other versions of "
                    "torch and onnx"
                )


def run_branch(branch: InferenceBranch, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Run ``branch`` in PyTorch: uint8 images (B, height, width, 3) to float32 descriptors (B, D)."""
    with torch.inference_mode():
        result: NDArray[np.float32] = branch(torch.from_numpy(model_input(images, branch.form))).numpy()
    return result


def _check(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise CheckFailedError(
            f"the exported file breaks the model contract: {what} are {found}, expected {expected}; nothing was "
            "written; try other versions of torch and onnx"
        )


def _shape(value: Any) -> tuple[int, list[int]]:  # noqa: ANN401 - a protobuf message
    tensor = value.type.tensor_type
    return tensor.elem_type, [axis.dim_value for axis in tensor.shape.dim[1:]]


@step("tracing the network")
def trace_branch(branch: InferenceBranch) -> Any:  # noqa: ANN401 - a protobuf message
    """Trace the branch to an ONNX model in :data:`OPSET`."""
    config = branch.config
    pixels = np.zeros((_TRACED_BATCH, config.height_px, config.width_px, 3), np.uint8)
    images = torch.from_numpy(model_input(pixels, branch.form))
    with _quiet_exporter():
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
    model = program.model_proto
    weights = take_weights(model)  # each step below would copy them several times
    # The exporter writes operator set 18 or newer; onnx's own converter then converts to 17.
    model = version_converter.convert_version(model, OPSET)
    _remove_machine_details(model)
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    put_weights(model, weights)
    return model


def _remove_machine_details(model: Any) -> None:  # noqa: ANN401 - a protobuf message
    """Remove source lines and paths of this machine, which the exporter writes into the model."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
    del model.functions[:]


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence the exporter's log and warnings; :func:`check_onnx` checks the result."""
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
    """Describe a written file in one line: size in MB, number of graph nodes, operator set."""
    nodes = len(onnx.load_model(str(path), load_external_data=False).graph.node)
    return f"{printable(path)}: {path.stat().st_size / 1e6:.1f} MB, {nodes} nodes, operator set {OPSET}"
