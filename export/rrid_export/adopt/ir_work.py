"""Adopt an OpenVINO IR: the same graph around the network, made of OpenVINO's operators, and saved as an IR."""

from __future__ import annotations

import hashlib
import importlib
import json
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rrid_edge.engines import Engine
from rrid_edge.engines.openvino.engine import OpenVinoEngine, import_openvino, openvino_core
from rrid_edge.errors import ModelFileError, unforeseen
from rrid_edge.files import atomic_output
from rrid_edge.model.ir_sidecar import IrSidecar
from rrid_edge.model.names import ir_weights_path
from rrid_edge.model.spec import INPUT_NAME, OUTPUT_NAME, ModelSpec
from rrid_export.adopt.facts import Facts
from rrid_export.adopt.foreign import ForeignNetwork, refused
from rrid_export.adopt.graphs import MOST_VALUES
from rrid_export.adopt.identity import fingerprint_of, sha256_of_text

_SMALLEST_LENGTH: Final = 1e-12
_FAR: Final = -(1 << 62)
_INT8: Final = ("FakeQuantize", "FakeConvert")


class IrOriginal:
    """The original IR on OpenVINO's CPU device, in float32.

    Args:
        network: the file.

    Raises:
        MissingDependencyError: openvino is not installed.
        ModelFileError: the runtime refuses the file.
    """

    def __init__(self, network: ForeignNetwork) -> None:
        openvino = import_openvino()
        self._network = network
        self.name = f"the original on openvino {openvino.__version__}, float64 preprocessing"
        self.batch = network.fixed_batch or 1
        self.dtype = network.input.dtype
        try:
            core = openvino_core()
            model = core.read_model(str(network.path))
            self._place = _output_place(model, network.output.name)
            compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
            self._request = compiled.create_infer_request()
        except Exception as error:  # the runtime does not say what it raises
            raise self._refused(error) from error

    def run(self, fed: NDArray[Any]) -> NDArray[Any]:
        """Its output for one batch, (``batch``, D).

        Raises:
            ModelFileError: the runtime cannot compute it.
        """
        try:
            return np.array(self._request.infer({0: fed})[self._place])
        except Exception as error:
            raise self._refused(error) from error

    def refused(self, reason: str) -> ModelFileError:
        """The error for a network that cannot be adopted."""
        return refused(self._network.path, reason)

    def _refused(self, error: Exception) -> Exception:
        path = self._network.path
        return refused(path, f"OpenVINO cannot run it ({unforeseen(error, known=str(path))})")


class IrWork:
    """An IR on its way to an adopted one.

    Args:
        network: the file.
        facts: what the network is fed.

    Attributes:
        is_ir: True.
        precision: how it computes: ``int8`` if it quantises, else ``fp32``.
        identity: fingerprint of the adopted network.
        culprit: the operator that keeps it to one batch size; empty, because such a file is refused here.
        dimension: values of a descriptor as far as the shapes tell; None if they do not.

    Raises:
        ModelFileError: OpenVINO refuses the file, or its batch cannot be made dynamic.
    """

    is_ir = True
    culprit = ""

    def __init__(self, network: ForeignNetwork, facts: Facts) -> None:
        self._openvino, self._network, self._facts = import_openvino(), network, facts
        try:
            self._model = openvino_core().read_model(str(network.path))
            self._place = _output_place(self._model, network.output.name)
        except Exception as error:  # the runtime does not say what it raises
            raise refused(network.path, f"not a valid IR ({unforeseen(error, known=str(network.path))})") from error
        kinds = {op.get_type_name() for op in self._model.get_ordered_ops()}
        self.precision = "int8" if kinds.intersection(_INT8) else "fp32"
        self.identity = fingerprint_of(_digest(self._model, self._model.outputs[self._place]), facts)
        self.dimension = self._any_batch()

    def original(self) -> IrOriginal:
        """The untouched file, ready to run."""
        return IrOriginal(self._network)

    def write(self, path: Path, spec: ModelSpec) -> None:
        """Write the adopted IR: ``.xml``, ``.bin`` and sidecar beside each other."""
        self._openvino.save_model(self._composed(spec.dimension), str(path), compress_to_fp16=False)
        IrSidecar.of(path, spec).write(path)

    def open(self, path: Path) -> Engine:
        """Open the written IR."""
        return OpenVinoEngine(path, precision="fp32")

    def finish(self, partial: Path, target: Path, spec: ModelSpec) -> None:
        """Bring the files beside the network to their place. It follows last, and fits no others."""
        sidecar = IrSidecar.of(partial, spec)
        with atomic_output(ir_weights_path(target)) as weights:
            ir_weights_path(partial).replace(weights)
        sidecar.write(target)

    def _any_batch(self) -> int | None:
        """Give the input any batch of images of one size; returns the values of a descriptor, if they are known."""
        path = self._network.path
        try:
            self._model.reshape({self._model.inputs[0]: self._openvino.PartialShape([-1, *self._facts.fed_shape])})
        except Exception as error:
            raise refused(path, f"{self._in_the_way()}, expected any batch ({unforeseen(error)})") from error
        _check_tensors(path, self._model)
        shape = self._model.outputs[self._place].get_partial_shape()
        if shape[0].is_static:
            raise refused(path, f"{self._in_the_way()}, expected any batch")
        return int(shape[1].get_length()) if shape[1].is_static else None

    def _in_the_way(self) -> str:
        """The first layer whose shape is computed for one batch size only."""
        for op in self._model.get_ordered_ops():
            if op.get_type_name() in ("Reshape", "Broadcast"):
                shape = op.input(1).get_source_output().get_node()
                if shape.get_type_name() == "Constant" and shape.data.size and shape.data.flat[0] > 0:
                    name = op.get_friendly_name()[:100]
                    return f"operator {op.get_type_name()} (layer {name!r}) has a fixed batch"
        return "the output has a fixed batch"

    def _composed(self, dimension: int) -> Any:  # noqa: ANN401 - the package has no types
        """The network with pixels in and descriptors of unit length out; see :mod:`rrid_export.adopt.compose`."""
        openvino, facts, given = self._openvino, self._facts, self._facts.preprocessing
        ops = importlib.import_module("openvino.opset13")
        whole = [facts.height_px, facts.width_px, 3]
        images = ops.parameter([-1, *whole], np.uint8, INPUT_NAME)
        images.output(0).set_names({INPUT_NAME})
        fed = ops.convert(images, "f32")
        if given.color == "bgr":
            fed = ops.gather(fed, _integers([2, 1, 0]), _integers(3))
        scale, shift = facts.scale_and_shift
        fed = ops.subtract(ops.multiply(fed, scale), shift)
        if facts.flip:
            plain = ops.unsqueeze(fed, _integers(1))
            mirrored = ops.slice(plain, *(_integers([value]) for value in (-1, _FAR, -1, 3)))
            fed = ops.reshape(ops.concat([plain, mirrored], 1), _integers([-1, *whole]), special_zero=False)
        if given.layout == "nchw":
            fed = ops.transpose(fed, _integers([0, 3, 1, 2]))
        entry = self._model.inputs[0]
        if self._network.input.dtype == "float16":
            fed = ops.convert(fed, "f16")
        for target in entry.get_target_inputs():
            target.replace_source_output(fed.output(0))
        features = self._model.outputs[self._place].get_node().input_value(0)
        features.add_names({given.features})
        made = _descriptors(ops, ops.convert(features, "f32"), facts, dimension)
        made.output(0).add_names({OUTPUT_NAME})
        result = ops.result(made, OUTPUT_NAME)
        return openvino.Model([result], [images], "rrid-edge")


def _check_tensors(path: Path, model: Any) -> None:  # noqa: ANN401 - no types
    """Refuse tensors of too many values per image, before they are computed."""
    for op in model.get_ordered_ops():
        for output in op.outputs():
            sizes = [axis.get_length() if axis.is_static else 1 for axis in _axes(output.get_partial_shape())]
            if prod(sizes) > MOST_VALUES:
                name = op.get_friendly_name()[:100]
                raise refused(path, f"tensor {name!r} would have {prod(sizes):,} values per image")


def _axes(shape: Any) -> list[Any]:  # noqa: ANN401 - no types
    return [] if shape.rank.is_dynamic else list(shape)


def _descriptors(ops: Any, made: Any, facts: Facts, dimension: int) -> Any:  # noqa: ANN401 - no types
    """Mean of the views and unit length, in float32."""
    if facts.flip:
        made = ops.reduce_sum(ops.reshape(made, _integers([-1, 2, dimension]), special_zero=False), _integers(1))
    if facts.flip or facts.preprocessing.normalise == "l2":
        squares = ops.reduce_sum(ops.multiply(made, made), _integers(1), keep_dims=True)
        made = ops.divide(made, ops.maximum(ops.sqrt(squares), np.float32(_SMALLEST_LENGTH)))
    return made


def _integers(values: int | list[int]) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def _output_place(model: Any, name: str) -> int:  # noqa: ANN401 - as above
    """Position of the output that the IR calls ``name``."""
    for place, output in enumerate(model.outputs):
        maker = output.get_node().input_value(0)
        if name in maker.get_names() | {maker.get_node().get_friendly_name()}:
            return place
    raise ValueError(f"no output {name!r}")


def _digest(model: Any, output: Any) -> str:  # noqa: ANN401 - as above
    """Digest of what an output depends on: operators, attributes and constants, without names."""
    digests: dict[tuple[str, int], str] = {}
    for op in model.get_ordered_ops():
        sources = [one.get_source_output() for one in op.inputs()]
        inputs = [digests[source.get_node().get_friendly_name(), source.get_index()] for source in sources]
        kind = op.get_type_name()
        attributes = {} if kind == "Parameter" else op.get_attributes()
        own = [op.get_type_info().version_id, kind, sorted((key, repr(value)) for key, value in attributes.items())]
        content = hashlib.sha256(op.data.tobytes()).hexdigest() if kind == "Constant" else ""
        for index in range(max(1, op.get_output_size())):
            digests[op.get_friendly_name(), index] = sha256_of_text(json.dumps([own, inputs, content, index]))
    source = output.get_node().input_value(0)
    return digests[source.get_node().get_friendly_name(), source.get_index()]
